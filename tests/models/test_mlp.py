"""A stack computes what its networks compute one by one."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from optsweep.config.schema import MLPConfig
from optsweep.models.initializers import default, gaussian
from optsweep.models.mlp import StackedMLP

NUM_SEEDS, NUM_EXAMPLES, NUM_INPUTS, NUM_CLASSES = 3, 7, 12, 4
SEEDS = range(5, 5 + NUM_SEEDS)

CONFIGS = {
    "one hidden layer": MLPConfig((9,)),
    "two hidden layers": MLPConfig((9, 6)),
    "equal widths": MLPConfig((4, 4, 4)),
    "norm after the first": MLPConfig((9, 6, 5), (1,), "after"),
    "norm before the second": MLPConfig((9, 6, 5), (2,), "before"),
    "norm after the first and last": MLPConfig((9, 6, 5), (1, 3), "after"),
    "norm before all": MLPConfig((9, 6, 5), (1, 2, 3), "before"),
}


def stack_of(config, dtype=torch.float64, initializer=default):
    device = torch.device("cpu")
    stack = StackedMLP(config, SEEDS, initializer, NUM_INPUTS, NUM_CLASSES, device, dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for scale, shift in stack.norms.values():  # away from 1 and 0, where much goes unseen
            for parameter in (scale, shift):
                noise = torch.randn(parameter.shape, generator=generator, dtype=dtype)
                parameter.add_(noise, alpha=0.1)
    return stack


def network_of(stack: StackedMLP, config: MLPConfig, index: int) -> nn.Sequential:
    """One seed's network as a plain module with copies of its parameters."""
    modules: list[nn.Module] = []
    sizes = [NUM_INPUTS, *config.hidden_sizes]
    for layer, (num_inputs, num_outputs) in enumerate(pairwise(sizes)):
        norm = [nn.LayerNorm(num_outputs)] if layer + 1 in config.layernorm_position else []
        relu = [nn.ReLU()]
        hidden = norm + relu if config.layernorm_placement == "before" else relu + norm
        modules += [nn.Linear(num_inputs, num_outputs), *hidden]
    net = nn.Sequential(*modules, nn.Linear(sizes[-1], NUM_CLASSES)).double()
    with torch.no_grad():
        named = stack.named_parameters()
        for plain, (_, stacked) in zip(net.parameters(), named, strict=True):
            plain.copy_(stacked[index])
    return net


@pytest.fixture(params=CONFIGS)
def config(request) -> MLPConfig:
    return CONFIGS[request.param]


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    shape = (NUM_SEEDS, NUM_EXAMPLES, NUM_INPUTS)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def labels():
    generator = torch.Generator().manual_seed(2)
    return torch.randint(NUM_CLASSES, (NUM_SEEDS, NUM_EXAMPLES), generator=generator)


def test_forward_is_that_of_each_network(config, images):
    stack = stack_of(config)
    logits = stack.forward(images)
    assert logits.shape == (NUM_SEEDS, NUM_EXAMPLES, NUM_CLASSES)
    for index in range(NUM_SEEDS):
        expected = network_of(stack, config, index)(images[index])
        torch.testing.assert_close(logits[index], expected, rtol=1e-12, atol=1e-12)


def test_shared_batch_is_the_batch_repeated(config, images):
    stack = stack_of(config)
    shared = stack.forward(images[0])
    repeated = stack.forward(images[0].expand(NUM_SEEDS, -1, -1))
    torch.testing.assert_close(shared, repeated, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_are_those_of_each_network(config, images, labels, shared):
    stack = stack_of(config)
    logits = stack.forward(images[0] if shared else images)
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    losses.view(labels.shape).mean(1).sum().backward()
    for index in range(NUM_SEEDS):
        net = network_of(stack, config, index)
        batch = images[0 if shared else index]
        functional.cross_entropy(net(batch), labels[index]).backward()
        named = stack.named_parameters()
        for plain, (name, stacked) in zip(net.parameters(), named, strict=True):
            torch.testing.assert_close(
                stacked.grad[index],
                plain.grad,
                rtol=1e-12,
                atol=1e-14,
                msg=lambda text, name=name: f"{name}: {text}",
            )


def test_a_seed_is_not_disturbed_by_another(config, images):
    stack = stack_of(config)
    before = stack.forward(images)
    with torch.no_grad():
        for _, parameter in stack.named_parameters():
            parameter[1] = torch.nan
    after = stack.forward(images)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[2], before[2])
    assert after[1].isnan().all()


def test_gradients_of_a_seed_are_not_disturbed_by_another(config, images, labels):
    def gradients(broken):
        stack = stack_of(config)
        if broken:
            with torch.no_grad():
                for _, parameter in stack.named_parameters():
                    parameter[1] = torch.nan
        logits = stack.forward(images).flatten(0, 1)
        functional.cross_entropy(logits, labels.flatten(), reduction="none").sum().backward()
        return [parameter.grad for _, parameter in stack.named_parameters()]

    for whole, broken in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(whole[[0, 2]], broken[[0, 2]])


def test_parameters_come_in_the_order_of_the_forward_pass():
    stack = stack_of(MLPConfig((9, 6, 5), (1, 3)))
    expected = {
        "linear1.weight": (9, NUM_INPUTS),
        "linear1.bias": (9,),
        "norm1.weight": (9,),
        "norm1.bias": (9,),
        "linear2.weight": (6, 9),
        "linear2.bias": (6,),
        "linear3.weight": (5, 6),
        "linear3.bias": (5,),
        "norm3.weight": (5,),
        "norm3.bias": (5,),
        "linear4.weight": (NUM_CLASSES, 5),
        "linear4.bias": (NUM_CLASSES,),
    }
    named = stack.named_parameters()
    assert [name for name, _ in named] == list(expected)
    for name, parameter in named:
        assert parameter.shape == (NUM_SEEDS, *expected[name])
        assert parameter.is_leaf
        assert parameter.requires_grad
        assert parameter.is_contiguous()


def test_norms_start_as_the_identity():
    config = MLPConfig((9, 6), (2,))
    device = torch.device("cpu")
    stack = StackedMLP(config, SEEDS, default, NUM_INPUTS, NUM_CLASSES, device)
    scale, shift = stack.norms[1]
    assert (scale == 1).all()
    assert (shift == 0).all()


@pytest.mark.parametrize("placement", ["before", "after"])
def test_layer_norm_position_is_seen_in_what_it_normalizes(placement, images):
    """Before, the ReLU still zeroes half of the units; after, it does no longer."""
    config = MLPConfig((200,), (1,), placement)
    device = torch.device("cpu")
    stack = StackedMLP(config, [0], default, NUM_INPUTS, 200, device, torch.float64)
    with torch.no_grad():  # make the logits show the hidden layer
        stack.weights[1].copy_(torch.eye(200))
        stack.biases[1].zero_()
    hidden = stack.forward(images[:1, :5])[0]
    if placement == "before":
        assert (hidden >= 0).all()
        assert 0.2 < (hidden == 0).double().mean() < 0.8
    else:
        torch.testing.assert_close(hidden.mean(1), torch.zeros(5).double(), rtol=0, atol=1e-12)
        # The variance is 1 but for the 1e-5 that layer norm adds to one of about 0.1.
        torch.testing.assert_close(
            hidden.var(1, correction=0), torch.ones(5).double(), rtol=0, atol=1e-3
        )


def test_precision_and_initializer():
    stack = stack_of(MLPConfig((9, 6)), torch.float32, gaussian)
    assert all(parameter.dtype == torch.float32 for _, parameter in stack.named_parameters())
    assert not any(bias.any() for bias in stack.biases)


def test_precision_does_not_change_the_draw():
    config = MLPConfig((9, 6))
    single, double = stack_of(config, torch.float32), stack_of(config, torch.float64)
    for (_, one), (_, other) in zip(
        single.named_parameters(), double.named_parameters(), strict=True
    ):
        assert torch.equal(one.double(), other)
