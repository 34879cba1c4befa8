"""LARS and LAMB by hand and against an independent package; stacks against seeds alone."""

import inspect
import math

import pytest
import pytorch_optimizer
import torch

from optsweep.config.checks import InputError
from optsweep.optim.layerwise import LAMB, LARS
from optsweep.optim.resolved import ResolvedOptimizer, check_settings, resolve_optimizer
from optsweep.optim.stacks import SeedwiseOptimizer, is_stackable

LAYERWISE = {
    "lars": (LARS, {"lr": 2.0, "trust_coefficient": 0.02}),
    "lars_plain": (LARS, {"lr": 2.0, "momentum": 0.0, "trust_coefficient": 0.02}),
    "lars_decay": (LARS, {"lr": 2.0, "weight_decay": 0.1, "trust_coefficient": 0.02}),
    "lamb": (LAMB, {"lr": 0.1}),
    "lamb_decay": (LAMB, {"lr": 0.1, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
}
STACKABLE = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adam_fused": (torch.optim.Adam, {"fused": True}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adamw": (torch.optim.AdamW, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "adamax": (torch.optim.Adamax, {}),
    "adadelta": (torch.optim.Adadelta, {}),
    "asgd": (torch.optim.ASGD, {}),
    "rprop": (torch.optim.Rprop, {}),
    **LAYERWISE,
}


def optimizer_class(name):
    """A class of torch.optim that older versions of torch lack."""
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no torch.optim.{name}")
    return getattr(torch.optim, name)


def draw_stack(num_seeds, shapes=((4, 3), (4,)), num_steps=10, dtype=torch.float64):
    """Start values, and gradients for every step, for tensors with a leading seed axis."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        return [torch.randn(num_seeds, *s, generator=generator, dtype=dtype) for s in shapes]

    return draw(), [draw() for _ in range(num_steps)]


def train(make, start, gradients):
    """Step from ``start`` along the gradients; the optimizer may overwrite what it is given."""
    parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    optimizer = make(parameters)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def select(tensors, seed):
    return [tensor[seed] for tensor in tensors]


# LARS and LAMB by hand


def test_lars_two_steps_by_hand():
    # One seed, one layer, |w| = 5. Every number below is Algorithm 1 in float arithmetic.
    lr, momentum, beta, eta = 2.0, 0.5, 0.1, 0.01
    start = [torch.tensor([[3.0, 4.0]], dtype=torch.float64)]
    gradients = [[torch.tensor([[1.0, 0.0]], dtype=torch.float64)]] * 2

    rate = eta * 5.0 / (1.0 + beta * 5.0)
    v = [lr * rate * (1.0 + beta * 3.0), lr * rate * (0.0 + beta * 4.0)]
    w = [3.0 - v[0], 4.0 - v[1]]
    norm = math.hypot(*w)
    rate = eta * norm / (1.0 + beta * norm)
    v = [
        momentum * v[0] + lr * rate * (1.0 + beta * w[0]),
        momentum * v[1] + lr * rate * beta * w[1],
    ]
    w = [w[0] - v[0], w[1] - v[1]]

    settings = {"momentum": momentum, "weight_decay": beta, "trust_coefficient": eta}
    (actual,) = train(lambda p: LARS(p, lr=lr, **settings), start, gradients)
    assert actual[0].tolist() == pytest.approx(w, rel=1e-14)


def test_lars_velocity_keeps_the_learning_rate_of_its_step():
    # |w| = 5 and |g| = 1 make rate = 1 with trust_coefficient = 0.2: the first step is g.
    weight = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    optimizer = LARS([weight], lr=1.0, momentum=0.5, trust_coefficient=0.2)
    weight.grad = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    optimizer.step()
    assert weight.tolist() == [[2.0, 4.0]]
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()  # torch.optim.SGD would stand still
    assert weight.tolist() == [[1.5, 4.0]]


def test_lamb_two_steps_by_hand():
    # One seed, one layer, |w| = 5; the two gradients differ.
    lr, beta1, beta2, eps, decay = 0.1, 0.8, 0.9, 0.01, 0.2
    start = [torch.tensor([[3.0, 4.0]], dtype=torch.float64)]
    steps = [[1.0, -2.0], [0.5, 1.0]]
    gradients = [[torch.tensor([step], dtype=torch.float64)] for step in steps]

    # Step 1: m_hat = g and v_hat = g^2.
    u = [1.0 / (1.0 + eps) + decay * 3.0, -2.0 / (2.0 + eps) + decay * 4.0]
    w = [3.0 - lr * 5.0 / math.hypot(*u) * u[0], 4.0 - lr * 5.0 / math.hypot(*u) * u[1]]
    # Step 2.
    m = [beta1 * (1 - beta1) * a + (1 - beta1) * b for a, b in zip(*steps, strict=True)]
    v = [beta2 * (1 - beta2) * a * a + (1 - beta2) * b * b for a, b in zip(*steps, strict=True)]
    m_hat = [x / (1 - beta1 * beta1) for x in m]
    v_hat = [x / (1 - beta2 * beta2) for x in v]
    u = [m_hat[i] / (math.sqrt(v_hat[i]) + eps) + decay * w[i] for i in range(2)]
    ratio = math.hypot(*w) / math.hypot(*u)
    w = [w[i] - lr * ratio * u[i] for i in range(2)]

    settings = {"betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
    (actual,) = train(lambda p: LAMB(p, lr=lr, **settings), start, gradients)
    assert actual[0].tolist() == pytest.approx(w, rel=1e-14)


def test_lars_of_zero_norms_is_plain_sgd():
    # Seed 0: no weights. Seed 1: no gradient, only decay. Seed 2: no gradient and no decay to
    # apply, for the weights are zero as well.
    start = [torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)]
    gradients = [[torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)]]
    settings = {"lr": 0.5, "weight_decay": 0.1, "trust_coefficient": 0.01}
    (actual,) = train(lambda p: LARS(p, **settings), start, gradients)
    # Seed 1: rate = 0.01 * 5 / (0 + 0.1 * 5) = 0.1, so w shrinks by 0.5 * 0.1 * 0.1 = 0.005.
    expected = [-0.5, -1.0, 3.0 * 0.995, 4.0 * 0.995, 0.0, 0.0]
    assert actual.flatten().tolist() == pytest.approx(expected, rel=1e-14)


def test_lars_without_gradient_and_decay_stands_still():
    start = [torch.tensor([[3.0, 4.0]], dtype=torch.float64)]
    (actual,) = train(lambda p: LARS(p, lr=1.0), start, [[torch.zeros(1, 2).double()]])
    assert torch.equal(actual, start[0])


def test_lamb_of_zero_norms_is_adamw():
    # Seed 0: no weights, so the step is lr * g / (|g| + eps) per entry. Seed 1: u = 0.
    start = [torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)]
    gradients = [[torch.tensor([[1.0, -2.0], [0.0, 0.0]], dtype=torch.float64)]]
    (actual,) = train(lambda p: LAMB(p, lr=0.1, eps=0.5), start, gradients)
    assert actual[0].tolist() == pytest.approx([-0.1 / 1.5, 0.2 / 2.5], rel=1e-14)
    assert actual[1].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        (LARS, {"lr": -1.0}, "lr must be at least 0, got -1.0"),
        (LARS, {"lr": math.nan}, "lr must be at least 0, got nan"),
        (LARS, {"lr": 1.0, "momentum": -0.1}, "momentum must be at least 0, got -0.1"),
        (LARS, {"lr": 1.0, "weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        (LARS, {"lr": 1.0, "trust_coefficient": -1}, "trust_coefficient must be at least 0"),
        (LAMB, {"lr": -1.0}, "lr must be at least 0, got -1.0"),
        (LAMB, {"eps": -1.0}, "eps must be at least 0, got -1.0"),
        (LAMB, {"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        (LAMB, {"betas": (1.0, 0.9)}, r"betas must be two numbers in \[0, 1\), got \(1.0, 0.9\)"),
        (LAMB, {"betas": (0.9, -0.1)}, r"got \(0.9, -0.1\)"),
        (LAMB, {"betas": (0.9,)}, r"got \(0.9,\)"),
    ],
)
def test_layerwise_optimizers_refuse_values(target, settings, message):
    with pytest.raises(ValueError, match=message):
        target([torch.zeros(1, 2, requires_grad=True)], **settings)


def test_lars_accepts_momentum_above_one():
    LARS([torch.zeros(1, 2, requires_grad=True)], lr=1.0, momentum=1.5)


@pytest.mark.parametrize("target", [LARS, LAMB])
def test_layerwise_step_runs_the_closure_with_gradients(target):
    weight = torch.tensor([[3.0, 4.0]], requires_grad=True)
    unused = torch.tensor([[1.0]], requires_grad=True)  # stays as it is: it has no gradient
    optimizer = target([weight, unused], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 25.0
    assert optimizer.step() is None
    assert (weight < torch.tensor([[3.0, 4.0]])).all()
    assert unused.item() == 1.0


# Independence of the seeds


@pytest.mark.parametrize("name", LAYERWISE)
@pytest.mark.parametrize("shapes", [((4, 3), (4,)), ((128, 7), ())])
def test_stack_of_three_equals_three_stacks_of_one(name, shapes):
    target, settings = LAYERWISE[name]
    start, gradients = draw_stack(3, shapes)
    for gradient in (tensor for step in gradients for tensor in step):
        gradient[1] *= 100
    stack = train(lambda p: target(p, **settings), start, gradients)
    for seed in (slice(0, 1), slice(1, 2), slice(2, 3)):
        steps = [select(step, seed) for step in gradients]
        alone = train(lambda p: target(p, **settings), select(start, seed), steps)
        # A sum over one row may be taken in another order than over three: rounding only.
        torch.testing.assert_close(select(stack, seed), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERWISE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_diverged_seed_leaves_the_others_bit_identical(name, bad, dtype):
    target, settings = LAYERWISE[name]
    start, gradients = draw_stack(3, ((9, 17), (9,)), dtype=dtype)
    healthy = train(lambda p: target(p, **settings), start, gradients)
    for gradient in gradients[4]:
        gradient[1].fill_(bad)
    diverged = train(lambda p: target(p, **settings), start, gradients)
    for actual, expected in zip(diverged, healthy, strict=True):
        assert actual.dtype == dtype
        assert expected.isfinite().all()
        assert torch.equal(actual[[0, 2]], expected[[0, 2]])
        assert not actual[1].isfinite().any()


@pytest.mark.parametrize("name", LAYERWISE)
def test_layerwise_step_never_asks_for_a_value(name):
    # Tensors on "meta" have no values: whatever would make a host wait for a GPU raises here.
    target, settings = LAYERWISE[name]
    start, gradients = draw_stack(2)
    gradients = [[gradient.to("meta") for gradient in step] for step in gradients]
    (weight, _) = train(lambda p: target(p, **settings), [t.to("meta") for t in start], gradients)
    assert weight.device.type == "meta"


# Against independent packages, whose norms run over whole tensors: a plain tensor of theirs is
# a stack of one of ours. Biases are matrices (n, 1) there, for pytorch_optimizer's LARS leaves
# vectors alone. Both keep the learning rate out of the velocity, so it has to be constant here.


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lars_equals_pytorch_optimizer(momentum, weight_decay):
    peer = pytest.importorskip("pytorch_optimizer", reason="the independent LARS is optional")
    settings = {"lr": 2.0, "momentum": momentum, "weight_decay": weight_decay}
    settings["trust_coefficient"] = 0.02
    start, gradients = draw_stack(1, ((5, 4), (5, 1)))
    actual = train(lambda p: LARS(p, **settings), start, gradients)
    steps = [select(step, 0) for step in gradients]
    expected = train(lambda p: peer.LARS(p, **settings), select(start, 0), steps)
    torch.testing.assert_close(select(actual, 0), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lars_equals_torch_optimizer(momentum):
    # This one adapts only what is decayed, so there is no case without weight decay.
    peer = pytest.importorskip("torch_optimizer", reason="the independent LARS is optional")
    settings = {"lr": 2.0, "momentum": momentum, "weight_decay": 0.1, "trust_coefficient": 0.02}
    start, gradients = draw_stack(1)
    actual = train(lambda p: LARS(p, **settings), start, gradients)
    steps = [select(step, 0) for step in gradients]
    expected = train(lambda p: peer.LARS(p, eps=0.0, **settings), select(start, 0), steps)
    torch.testing.assert_close(select(actual, 0), expected, rtol=1e-12, atol=1e-12)


def train_lamb_peer(make, start, gradients, betas, eps, weight_decay):
    """Steps of a LAMB without bias correction, its settings changed so that it must equal ours.

    With c = sqrt(1 - beta2^t) / (1 - beta1^t), the corrected u is
    c * (m / (sqrt(v) + eps * sqrt(1 - beta2^t)) + weight_decay / c * w), and c cancels in u / |u|.
    """
    parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    optimizer = make(parameters)
    for t, step in enumerate(gradients, start=1):
        root = math.sqrt(1 - betas[1] ** t)
        for group in optimizer.param_groups:
            group["eps"] = eps * root
            group["weight_decay"] = weight_decay * (1 - betas[0] ** t) / root
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lamb_equals_pytorch_optimizer(weight_decay):
    # eps = 0, for this one adds eps to |u| as well; adam_debias leaves the learning rate alone;
    # it clamps |w| to 10, which |w| < 7 does not reach.
    peer = pytest.importorskip("pytorch_optimizer", reason="the independent LAMB is optional")
    settings = {"eps": 0.0, "weight_decay": weight_decay, "betas": (0.9, 0.999)}
    start, gradients = draw_stack(1)
    actual = train(lambda p: LAMB(p, lr=0.05, **settings), start, gradients)
    expected = train_lamb_peer(
        lambda p: peer.Lamb(p, lr=0.05, weight_decouple=False, adam_debias=True),
        select(start, 0),
        [select(step, 0) for step in gradients],
        **settings,
    )
    torch.testing.assert_close(select(actual, 0), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lamb_equals_torch_optimizer(weight_decay):
    peer = pytest.importorskip("torch_optimizer", reason="the independent LAMB is optional")
    settings = {"eps": 0.1, "weight_decay": weight_decay, "betas": (0.8, 0.9)}
    start, gradients = draw_stack(1)
    actual = train(lambda p: LAMB(p, lr=0.05, **settings), start, gradients)
    expected = train_lamb_peer(
        lambda p: peer.Lamb(p, lr=0.05, betas=(0.8, 0.9), clamp_value=1e9),
        select(start, 0),
        [select(step, 0) for step in gradients],
        **settings,
    )
    torch.testing.assert_close(select(actual, 0), expected, rtol=1e-12, atol=1e-12)


# Which optimizers are stackable


@pytest.mark.parametrize("name", STACKABLE)
def test_stackable(name):
    target, settings = STACKABLE[name]
    assert is_stackable(lambda p: target(p, **settings))


@pytest.mark.parametrize("name", ["SophiaH", "AdaHessian"])
def test_stackable_with_second_derivatives(name):
    assert is_stackable(getattr(pytest.importorskip("pytorch_optimizer"), name))


class MixedSophia(pytorch_optimizer.SophiaH):
    """Takes one mean over the second derivatives of all seeds."""

    def step(self, closure=None, hessian=None):
        mixed = hessian and [each.mean().expand_as(each).clone() for each in hessian]
        return super().step(closure, mixed)


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "SparseAdam", "LBFGS"])
def test_not_stackable(name):
    target = optimizer_class(name)
    assert not is_stackable(target)


@pytest.mark.parametrize("lr", [1e-8, 1.0])
def test_adafactor_is_caught_at_any_learning_rate(lr):
    target = optimizer_class("Adafactor")
    assert not is_stackable(lambda p: target(p, lr=lr))


@pytest.mark.parametrize("lr", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam", "DAdaptAdaGrad", "SGDP", "SOAP"])
def test_what_looks_at_all_parameters_is_caught_at_any_learning_rate(name, lr):
    target = getattr(pytest.importorskip("pytorch_optimizer"), name)
    assert not is_stackable(lambda p: target(p, lr=lr))


class CentralizedSGD(torch.optim.SGD):
    """Takes the mean off the gradients of matrices; a stack of biases looks like a matrix."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim > 1:
                    parameter.grad -= parameter.grad.mean(dim=-1, keepdim=True)
        return super().step(closure)


class ClippedSGD(torch.optim.SGD):
    """Clips the norm over all parameters, and so over all seeds, but large norms only."""

    def step(self, closure=None):
        for group in self.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], max_norm=20.0)
        return super().step(closure)


class LateSGD(torch.optim.SGD):
    """Mixes the entries of its tensors, but only in the sixth step."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            if group["step"] == 6:
                for parameter in group["params"]:
                    parameter.data -= parameter.data.mean()


@pytest.mark.parametrize("target", [CentralizedSGD, ClippedSGD, LateSGD, MixedSophia])
def test_what_mixes_seeds_or_counts_axes_is_not_stackable(target):
    assert not is_stackable(lambda p: target(p, lr=0.1))


# One optimizer per seed


@pytest.mark.parametrize(
    ("name", "shapes"), [("Adafactor", ((4, 3), (4,))), ("Muon", ((4, 3), (2, 4)))]
)
def test_seedwise_equals_every_seed_alone(name, shapes):
    target = optimizer_class(name)
    start, gradients = draw_stack(3, shapes)

    def seedwise(parameters):
        return SeedwiseOptimizer(parameters, lambda p: target(p, lr=0.1))

    stack = train(seedwise, start, gradients)
    for seed in range(3):
        steps = [select(step, seed) for step in gradients]
        alone = train(lambda p: target(p, lr=0.1), select(start, seed), steps)
        for actual, expected in zip(select(stack, seed), alone, strict=True):
            assert torch.equal(actual, expected)
            assert not torch.equal(actual, start[0][seed])


def test_seedwise_follows_backward_and_lr():
    stack = torch.ones(2, 3, requires_grad=True)
    idle = torch.ones(2, 1, requires_grad=True)  # never gets a gradient
    optimizer = SeedwiseOptimizer([stack, idle], lambda p: torch.optim.SGD(p, lr=1.0))
    assert len(optimizer.param_groups) == 2
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.param_groups[1]["lr"] = 0.5

    stack.sum().backward()
    optimizer.step()
    assert stack.tolist() == [[0.75] * 3, [0.5] * 3]
    stack.grad = None
    stack.sum().backward()
    stack.grad[1] *= 0.5
    optimizer.step()
    assert stack.tolist() == [[0.5] * 3, [0.25] * 3]
    stack.grad = None  # no gradient, no step; no use of an older one either
    optimizer.step()
    assert stack.tolist() == [[0.5] * 3, [0.25] * 3]
    assert idle.tolist() == [[1.0], [1.0]]


# What a configuration comes to


def built(parameters, target, settings, decay_biases_and_norms):
    """The optimizer of a stack."""
    return ResolvedOptimizer(target, settings, decay_biases_and_norms, 0.1).build(parameters)


def resolved(target, **settings):
    path = f"torch.optim.{target}"
    return resolve_optimizer({"_target_": path, "decay_biases_and_norms": True, **settings})


def named_stack():
    shapes = {"0.weight": (2, 4, 3), "0.bias": (2, 4), "1.scale": (2, 4), "1.weight": (2, 2, 4)}
    return [(name, torch.ones(shape, requires_grad=True)) for name, shape in shapes.items()]


@pytest.mark.parametrize("target", [torch.optim.SGD, torch.optim.AdamW, LARS, LAMB])
@pytest.mark.parametrize("decay_biases_and_norms", [True, False])
def test_biases_and_norms_decay_only_if_asked_to(target, decay_biases_and_norms):
    parameters = named_stack()
    settings = {"lr": 0.1, "weight_decay": 0.5}
    optimizer = built(parameters, target, settings, decay_biases_and_norms)
    assert isinstance(optimizer, target)
    for _, tensor in parameters:
        tensor.grad = torch.zeros_like(tensor)
    optimizer.step()
    shrunk = [name for name, tensor in parameters if (tensor < 1).all()]
    kept = [name for name, tensor in parameters if (tensor == 1).all()]
    assert kept == ([] if decay_biases_and_norms else ["0.bias", "1.scale"])
    assert len(shrunk) + len(kept) == 4


def test_class_default_weight_decay_holds_for_weights_alone():
    optimizer = built(named_stack(), torch.optim.AdamW, {}, False)
    weights, others = optimizer.param_groups
    default = inspect.signature(torch.optim.AdamW).parameters["weight_decay"].default
    assert weights["weight_decay"] == default > 0
    assert others["weight_decay"] == 0
    assert [p.ndim for p in weights["params"]] == [3, 3]
    assert [p.ndim for p in others["params"]] == [2, 2]


def test_one_group_without_weight_decay_or_without_biases():
    (group,) = built(named_stack(), torch.optim.Rprop, {}, False).param_groups
    assert len(group["params"]) == 4
    (group,) = built(named_stack()[:1], torch.optim.SGD, {}, False).param_groups
    assert len(group["params"]) == 1


def test_falls_back_on_one_per_seed():
    target = optimizer_class("Adafactor")
    parameters = named_stack()
    optimizer = built(parameters, target, {"weight_decay": 0.5}, False)
    assert isinstance(optimizer, SeedwiseOptimizer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0, 0.5, 0.0]
    for _, tensor in parameters:
        tensor.grad = torch.zeros_like(tensor)
    optimizer.step()
    assert [(tensor < 1).all().item() for _, tensor in parameters] == [True, False, False, True]


def test_refuses_what_it_cannot_step():
    with pytest.raises(ValueError, match="optimizer LBFGS needs a closure"):
        resolved("LBFGS")
    with pytest.raises(ValueError, match="optimizer SGD has no setting 'betas'"):
        resolved("SGD", betas=[0.9, 0.999])
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        built(named_stack(), torch.optim.SGD, {"lr": -1}, True)


def test_momentum_of_a_class_with_betas_is_the_first_of_them():
    assert resolved("Adamax", momentum=0.5).arguments == {"betas": [0.5, 0.999]}
    assert resolved("SGD", lr=0.1, momentum=0.5).arguments == {"lr": 0.1, "momentum": 0.5}


def test_base_learning_rate_is_the_one_given_or_the_class_s_own():
    assert resolved("Adamax", lr=0.3).lr == 0.3
    assert resolved("Adamax").lr == inspect.signature(torch.optim.Adamax).parameters["lr"].default


def test_weights_are_told_by_their_own_axes():
    """A stacked bias has two axes, as a weight alone; a convolution's weight has five."""
    kernels = [("conv.weight", torch.ones(2, 4, 3, 5, 5)), ("conv.bias", torch.ones(2, 4))]
    weights, others = built(kernels, torch.optim.SGD, {"weight_decay": 0.1}, False).param_groups
    assert [each.ndim for each in weights["params"]] == [5]
    assert [each.ndim for each in others["params"]] == [2]


def test_passes_on_that_muon_refuses_biases():
    target = optimizer_class("Muon")
    with pytest.raises(InputError, match=r"Muon takes 2D parameters alone.*as optimizer=muon"):
        built(named_stack(), target, {}, True)
    weights = [(name, tensor) for name, tensor in named_stack() if tensor.ndim == 3]
    assert isinstance(built(weights, target, {}, True), SeedwiseOptimizer)


def test_check_settings_names_optimizer_and_setting():
    with pytest.raises(ValueError, match="setting") as error:
        check_settings(torch.optim.SGD, {"lr": 0.1, "betas": (0.9, 0.999)})
    assert str(error.value).startswith(
        "optimizer SGD has no setting 'betas'; it has: lr, momentum, dampening, weight_decay,"
        " nesterov"
    )
    for switch in ("params", "self", "foreach", "capturable", "differentiable", "fused"):
        assert switch not in str(error.value)


def test_check_settings_takes_switches_but_not_params():
    check_settings(torch.optim.SGD, {"lr": 0.1, "foreach": True})
    with pytest.raises(ValueError, match="no setting 'params'"):
        check_settings(torch.optim.SGD, {"params": []})


class Lenient(torch.optim.SGD):
    def __init__(self, params, lr=0.1, **kwargs):
        super().__init__(params, lr=lr)


def test_check_settings_refuses_what_kwargs_would_swallow():
    with pytest.raises(ValueError, match=r"Lenient has no setting 'momentum'; it has: lr$"):
        check_settings(Lenient, {"momentum": 0.9})
