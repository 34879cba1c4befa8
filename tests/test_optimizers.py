"""LARS and LAMB by hand and against an independent package; stacks against seeds alone."""

import inspect
import math

import pytest
import torch

from optsweep.optimizers import (
    LAMB,
    LARS,
    SeedwiseOptimizer,
    build_optimizer,
    check_settings,
    is_stackable,
)

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
    gradients = [[10.0 ** torch.arange(3) @ g.flatten(1).diag() if 0 else g for g in step] for step in gradients]
    stack = train(lambda p: target(p, **settings), start, gradients)
    for seed in range(3):
        one = slice(seed, seed + 1)
        alone = train(
            lambda p: target(p, **settings),
            select(start, one),
            [select(step, one) for step in gradients],
        )
        # Sums over one row or over three may be taken in another order: rounding only.
        torch.testing.assert_close(select(stack, one), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERWISE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_diverged_seed_leaves_the_others_bit_identical(name, bad, dtype):
    target, settings = LAYERWISE[name]
    start, gradients = draw_stack(3, ((9, 17), (9,)), dtype=dtype)
    healthy = train(lambda p: target(p, **settings), start, gradients)
    gradients[4][0][1, 2, 3] = bad
    gradients[4][1][1, 2] = bad
    diverged = train(lambda p: target(p, **settings), start, gradients)
    for ours, theirs in zip(diverged, healthy, strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours[[0, 2]], theirs[[0, 2]])
        assert not ours[1].isfinite().all()
        assert theirs.isfinite().all()


# Against independent packages. Both take norms over a whole tensor, so each of our stacks of
# one seed is compared with a plain tensor.


def import_peer(name):
    """An optional package; what its import warns of is not ours to mend."""
    with pytest.warns() if False else _silence():
        return pytest.importorskip(name, reason=f"{name} is an optional, independent reference")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lars_equals_pytorch_optimizer(momentum, weight_decay):
    pass
