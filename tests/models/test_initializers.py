"""Initial weights: their distribution, and what they are drawn from."""

import math

import pytest
import torch

from optsweep.config.schema import MLPConfig
from optsweep.models import initializers
from optsweep.models.initializers import (
    default,
    gaussian,
    kaiming,
    orthogonal,
    xavier,
)
from optsweep.models.mlp import StackedMLP

INITIALIZERS = [default, gaussian, kaiming, orthogonal, xavier]
NUM_OUTPUTS, NUM_INPUTS = 128, 784
N = NUM_OUTPUTS * NUM_INPUTS  # 100,352 weights

# Sample statistics of n values are compared within five standard errors, which a correct
# draw exceeds with probability 6e-7; the seed is fixed, so it never does by chance:
#   mean      sigma / sqrt(n)
#   variance  sigma^2 sqrt((k - 1) / n) with kurtosis k: 3 for a normal, 9/5 for a uniform
STANDARD_ERRORS = 5


def generator_of(seed):
    return torch.Generator().manual_seed(seed)


def draw(initializer, shape=(NUM_OUTPUTS, NUM_INPUTS), seed=0, **settings):
    """Weight and bias of a layer as the initializer leaves them, starting from the default."""
    generator = generator_of(seed)
    weight, bias = torch.empty(shape), torch.empty(shape[0])
    default(weight, bias, generator)
    initializer(weight, bias, generator, **settings)
    return weight, bias


def assert_moments(values, std, kurtosis):
    n = values.numel()
    values = values.double()
    assert values.mean().item() == pytest.approx(0, abs=STANDARD_ERRORS * std / math.sqrt(n))
    error = math.sqrt((kurtosis - 1) / n)
    assert values.var().item() == pytest.approx(std**2, rel=STANDARD_ERRORS * error)


def assert_uniform(values, bound):
    assert values.abs().max() <= bound
    # Of n uniform values the largest is below bound (1 - 20 / n) with probability e^-20.
    assert values.abs().max() > bound * (1 - 20 / values.numel())
    assert_moments(values, std=bound / math.sqrt(3), kurtosis=9 / 5)


def assert_normal(values, std):
    assert_moments(values, std, kurtosis=3)
    # Beyond two sigma lies p = 4.55 % of a normal; the share's standard error is
    # sqrt(p (1 - p) / n). A uniform of the same variance has nothing there.
    p = math.erfc(math.sqrt(2))
    outside = (values.abs() > 2 * std).double().mean().item()
    assert outside == pytest.approx(
        p, abs=STANDARD_ERRORS * math.sqrt(p * (1 - p) / values.numel())
    )


def test_default_is_uniform_in_one_over_root_of_fan_in():
    weight, bias = draw(default)
    assert_uniform(weight, 1 / math.sqrt(NUM_INPUTS))
    assert_uniform(bias, 1 / math.sqrt(NUM_INPUTS))


@pytest.mark.parametrize("std", [0.01, 0.3])
def test_gaussian_is_normal_with_zero_bias(std):
    weight, bias = draw(gaussian, std=std)
    assert_normal(weight, std)
    assert not bias.any()


def test_gaussian_has_the_report_s_spread_by_default():
    assert torch.equal(draw(gaussian)[0], draw(gaussian, std=0.01)[0])


def test_gaussian_without_spread_is_zero():
    assert not draw(gaussian, std=0)[0].any()


def test_xavier_is_uniform_and_leaves_the_bias():
    weight, bias = draw(xavier)
    assert_uniform(weight, math.sqrt(6 / (NUM_INPUTS + NUM_OUTPUTS)))
    assert_uniform(bias, 1 / math.sqrt(NUM_INPUTS))


def test_kaiming_is_normal_with_zero_bias():
    weight, bias = draw(kaiming)
    assert_normal(weight, math.sqrt(2 / NUM_INPUTS))
    assert not bias.any()


@pytest.mark.parametrize("shape", [(128, 784), (56, 128), (10, 56), (32, 32), (64, 16)])
def test_orthogonal_has_orthogonal_rows_or_columns_of_length_root_two(shape):
    weight, bias = draw(orthogonal, shape)
    weight = weight.double()
    gram = weight @ weight.T if shape[0] <= shape[1] else weight.T @ weight
    # A QR decomposition in float32 is orthogonal to a few times 1.2e-7.
    torch.testing.assert_close(gram, 2 * torch.eye(min(shape)).double(), atol=1e-5, rtol=0)
    assert not bias.any()


def test_gaussian_refuses_a_negative_spread():
    with pytest.raises(ValueError, match=r"std=-0.1: expected a number >= 0"):
        draw(gaussian, std=-0.1)


@pytest.mark.parametrize("initializer", INITIALIZERS)
class TestDraws:
    def test_from_the_generator_alone(self, initializer):
        torch.manual_seed(1)
        one = draw(initializer)
        state = torch.get_rng_state()
        torch.manual_seed(2)
        other = draw(initializer)
        assert all(map(torch.equal, one, other))
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)  # the global one was left alone

    def test_seeds_differ(self, initializer):
        weight, _ = draw(initializer, seed=0)
        other, _ = draw(initializer, seed=1)
        assert (weight != other).double().mean() > 0.99
        # A correlation of n independent pairs has standard error 1 / sqrt(n).
        correlation = torch.corrcoef(torch.stack([weight.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < STANDARD_ERRORS / math.sqrt(N)

    def test_layers_of_a_network_differ(self, initializer):
        config = MLPConfig(hidden_sizes=(64, 64, 64))
        stack = StackedMLP(config, [0], initializer, 64, 10, torch.device("cpu"))
        assert not torch.equal(stack.weights[0], stack.weights[1])
        assert not torch.equal(stack.weights[1], stack.weights[2])

    def test_a_seed_does_not_depend_on_its_stack(self, initializer):
        def parameters(seeds):
            config = MLPConfig(hidden_sizes=(20, 10))
            stack = StackedMLP(config, seeds, initializer, 30, 5, torch.device("cpu"))
            return [stack.detach() for _, stack in stack.named_parameters()]

        alone = parameters([7])
        for index, seeds in enumerate([[7, 8, 9], [5, 7], [1, 2, 7]]):
            position = seeds.index(7)
            assert position == [0, 1, 2][index]
            for one, stacked in zip(alone, parameters(seeds), strict=True):
                assert torch.equal(one[0], stacked[position])


@pytest.mark.parametrize("shape", [(128, 784), (10, 56)])
def test_default_is_the_reset_of_pytorch_s_linear_layer(shape):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = torch.nn.Linear(shape[1], shape[0])
    weight, bias = torch.empty(shape), torch.empty(shape[0])
    default(weight, bias, generator_of(3))
    assert torch.equal(weight, layer.weight)
    assert torch.equal(bias, layer.bias)


# A convolution with a kernel of 5 x 5 from 32 channels to 64: each output sees 800 inputs, each
# input 1600 outputs. 51,200 weights.
CONVOLUTION = (64, 32, 5, 5)
FAN_IN, FAN_OUT = 32 * 5 * 5, 64 * 5 * 5


class TestConvolutions:
    """The fans count the kernel's pixels."""

    def test_default_is_the_reset_of_pytorch_s_convolution(self):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            layer = torch.nn.Conv2d(32, 64, 5)
        weight, bias = torch.empty(CONVOLUTION), torch.empty(64)
        default(weight, bias, generator_of(3))
        assert torch.equal(weight, layer.weight)
        assert torch.equal(bias, layer.bias)
        assert_uniform(weight, 1 / math.sqrt(FAN_IN))

    def test_xavier(self):
        assert_uniform(draw(xavier, CONVOLUTION)[0], math.sqrt(6 / (FAN_IN + FAN_OUT)))

    def test_kaiming(self):
        assert_normal(draw(kaiming, CONVOLUTION)[0], math.sqrt(2 / FAN_IN))

    def test_gaussian(self):
        assert_normal(draw(gaussian, CONVOLUTION)[0], 0.01)

    def test_orthogonal(self):
        rows = draw(orthogonal, CONVOLUTION)[0].flatten(1).double()
        torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(64).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_a_layer_may_have_no_bias(initializer):
    weight = torch.full((8, 4), torch.nan)
    initializer(weight, None, generator_of(0))
    assert weight.isfinite().all()


def test_every_initializer_is_tested():
    functions = vars(initializers).values()
    public = {
        f
        for f in functions
        if getattr(f, "__module__", "") == initializers.__name__ and not f.__name__.startswith("_")
    }
    assert public == set(INITIALIZERS)
