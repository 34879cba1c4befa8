"""Estimates of the Hessian's diagonal: what they are of, when they are wanted, and for whom."""

import pytest
import torch

from optsweep.config.checks import InputError
from optsweep.config.schema import MLPConfig
from optsweep.config.targets import allow_targets
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.optim import resolved
from optsweep.optim.curvature import Hutchinson
from optsweep.optim.resolved import resolve_optimizer
from optsweep.optim.stacks import SeedwiseOptimizer, take_step, wanted

CPU = torch.device("cpu")


def generators(num_seeds):
    return [torch.Generator().manual_seed(seed) for seed in range(num_seeds)]


def matrices(num_seeds, size):
    """Symmetric ones, (S, size, size)."""
    drawn = torch.randn(num_seeds, size, size, generator=generators(1)[0], dtype=torch.double)
    return drawn + drawn.transpose(1, 2)


def estimated(matrix, num_samples, distribution):
    """Estimates of the diagonals of quadratic forms, (S, size)."""
    weights = torch.ones(matrix.shape[:2], dtype=torch.double, requires_grad=True)
    loss = 0.5 * torch.einsum("si,sij,sj->", weights, matrix, weights)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    request = Hutchinson([weights], num_samples, distribution)
    (found,) = request.diagonals(gradients, [weights], generators(len(matrix)))
    return found


def test_signs_as_noise_give_a_diagonal_matrix_exactly():
    diagonal = torch.tensor([[1.0, -2.0, 3.0], [0.0, 10.0, 0.5]], dtype=torch.double)
    assert torch.equal(estimated(torch.diag_embed(diagonal), 1, "rademacher"), diagonal)


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_the_mean_of_many_is_the_diagonal(distribution):
    matrix, num_samples = matrices(2, 5), 4000
    found = estimated(matrix, num_samples, distribution)
    # The variance of z_i (H z)_i is at most |H_i|^2 + H_ii^2, which it is of normal z; 5 sigma.
    bound = (matrix.square().sum(2) + matrix.diagonal(dim1=1, dim2=2).square()) / num_samples
    assert ((found - matrix.diagonal(dim1=1, dim2=2)).abs() < 5 * bound.sqrt()).all()


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_each_seed_draws_its_own_noise(distribution):
    matrix = matrices(3, 5)
    alone = estimated(matrix[:1], 2, distribution)
    torch.testing.assert_close(estimated(matrix, 2, distribution)[:1], alone)
    same = estimated(matrix[:1].expand(3, -1, -1), 2, distribution)
    assert not torch.allclose(same[0], same[1])


def test_a_linear_loss_has_no_curvature():
    weights = torch.ones(2, 3, requires_grad=True)
    gradients = torch.autograd.grad(weights.sum(), weights, create_graph=True)
    request = Hutchinson([weights], 2, "gaussian")
    (found,) = request.diagonals(gradients, [weights], generators(2))
    assert torch.equal(found, torch.zeros(2, 3))


@pytest.mark.parametrize("noise", ["gaussian", "rademacher"])
@pytest.mark.parametrize(("name", "period"), [("SophiaH", 3), ("AdaHessian", 1)])
def test_with_parts_and_samples_it_is_the_package_s(compose, name, period, noise):
    """Parameters in groups, of which a script draws the noise group by group."""
    optimizer = resolve_optimizer(
        compose(
            *[f"optimizer=pytorch_optimizer.{name}", f"+optimizer.update_period={period}"],
            *["+optimizer.num_samples=2", f"+optimizer.hessian_distribution={noise}"],
            *["optimizer.lr=0.1", "weight_decay=0.1", "optimizer.decay_biases_and_norms=false"],
        ).optimizer
    )
    images = torch.randn(20, 6, generator=generators(1)[0], dtype=torch.double)
    stack = build_stack(MLPConfig((5, 4)), default, range(2), (6,), 3, CPU, torch.double)
    plain = torch.nn.Sequential(
        *[torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4), torch.nn.ReLU()],
        torch.nn.Linear(4, 3),
    ).double()
    for theirs, (_, ours) in zip(plain.parameters(), stack.named_parameters(), strict=True):
        theirs.data = ours.detach()[1].clone()
    built = optimizer.build(stack.named_parameters())
    weights = [p for p in plain.parameters() if p.ndim == 2]
    biases = [p for p in plain.parameters() if p.ndim == 1]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    settings = {"update_period": period, "num_samples": 2, "hessian_distribution": noise}
    peer = optimizer.target(groups, lr=0.1, weight_decay=0.1, **settings)
    state = stack.rng_states[1].clone()
    with torch.random.fork_rng():
        torch.set_rng_state(state)
        for _ in range(7):
            losses = stack.forward(images).square().mean((1, 2))
            take_step(built, stack.backward([losses.sum()], wanted(built)))
            loss = plain(images).square().mean()
            gradients = torch.autograd.grad(loss, [*plain.parameters()], create_graph=True)
            for parameter, gradient in zip(plain.parameters(), gradients, strict=True):
                parameter.grad = gradient
            peer.step()
        assert torch.equal(stack.rng_states[1], torch.get_rng_state())
    for theirs, (_, ours) in zip(plain.parameters(), stack.named_parameters(), strict=True):
        torch.testing.assert_close(ours.detach()[1], theirs.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("apart", [False, True], ids=["stacked", "seed by seed"])
def test_only_parameters_of_their_own_are_estimated(compose, apart, monkeypatch):
    """The first optimizer has the hidden weights, and another one all others."""
    if apart:
        monkeypatch.setattr(resolved, "is_stackable", lambda factory, axes: False)
    settings = compose("optimizer=sophia", "optimizer.rest._target_=torch.optim.AdamW").optimizer
    stack = build_stack(MLPConfig((5, 4)), default, range(2), (6,), 3, CPU, torch.double)
    built = resolve_optimizer(settings).build(stack.named_parameters())
    named = dict(stack.named_parameters())
    (request,) = wanted(built)
    assert [each.data_ptr() for each in request.parameters] == [named["linear2.weight"].data_ptr()]
    before = {name: tensor.detach().clone() for name, tensor in named.items()}
    logits = stack.forward(torch.ones(2, 7, 6, dtype=torch.double))
    diagonals = stack.backward([logits.square().sum()], [request])
    assert list(diagonals) == [named["linear2.weight"]]
    take_step(built, diagonals)
    moved = {name: not torch.equal(before[name], named[name]) for name in named}
    assert all(moved.values())
    assert wanted(built) == []  # for ten steps


def test_seed_by_seed_is_as_stacked(compose, monkeypatch):
    optimizer = resolve_optimizer(compose("optimizer=sophia").optimizer)
    found = []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(resolved, "is_stackable", lambda factory, axes: False)
        stack = build_stack(MLPConfig((5, 4)), default, range(3), (6,), 3, CPU, torch.double)
        built = optimizer.build(stack.named_parameters())
        assert isinstance(built, SeedwiseOptimizer) is apart
        images = torch.randn(9, 6, generator=generators(1)[0], dtype=torch.double)
        for _ in range(12):
            losses = stack.forward(images).square().mean((1, 2))
            take_step(built, stack.backward([losses.sum()], wanted(built)))
        found.append([tensor.detach() for _, tensor in stack.named_parameters()])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


class Newton(torch.optim.SGD):
    """Wants to be given second derivatives, and does not say how often."""

    def step(self, closure=None, hessian=None):
        return super().step(closure)


def test_a_class_that_does_not_say_when_it_wants_them_is_refused():
    allow_targets([__name__])
    try:
        with pytest.raises(InputError, match=r"Newton needs second derivatives, and has no .* one"):
            resolve_optimizer({"_target_": f"{__name__}.Newton", "decay_biases_and_norms": True})
    finally:
        allow_targets([])
