"""Interventions: training goes on from one point in several ways, on the same examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from optsweep.diagnosis.operators import MeanLoss
from optsweep.diagnosis.readings import BASE, BATCH, FASTER, FREED, KICKED, PROJECTED, SLOWER
from optsweep.diagnosis.subject import Subject
from optsweep.diagnosis.walker import Batches, Curvature, Method, Walker
from optsweep.optim.curvature import Hutchinson

_AVERAGED = 5  # last steps before a horizon over which the loss is averaged, for it may swing


@dataclass(frozen=True)
class Fork:
    """One way to go on.

    Attributes:
        name: Of it.
        rate: Multiplies the learning rate.
        batch: Multiplies the batch size.
        projected: Whether the sharpest directions are taken out of every step.
        kicked: Whether the point is kicked first.
        is_short: Whether it ends at the first horizon, for its steps are dear.
    """

    name: str
    rate: float = 1.0
    batch: int = 1
    projected: bool = False
    kicked: bool = False
    is_short: bool = False


FORKS = (
    Fork(BASE),
    Fork(FASTER, rate=3.0),
    Fork(SLOWER[0], rate=0.3),
    Fork(SLOWER[1], rate=0.1),
    # Eight times as dear a step: 50 of them see as many examples as 400 of the others'.
    Fork(BATCH, batch=8, is_short=True),
    Fork(PROJECTED, projected=True),
    Fork(FREED, rate=3.0, projected=True),
    Fork(KICKED, kicked=True),
)


@dataclass(frozen=True)
class Forked:
    """What became of a fork.

    Attributes:
        losses: The mean loss after some numbers of steps, 0 the first.
        ends: At each horizon, the mean over the last steps before it.
    """

    losses: Mapping[int, float] = field(default_factory=dict)
    ends: Mapping[int, float] = field(default_factory=dict)


def horizons(short: int, steps_per_epoch: int, long: bool = True) -> tuple[int, ...]:
    """After how many steps forks are compared: `short`, and an epoch if that is longer."""
    return (short, steps_per_epoch) if long and steps_per_epoch > short else (short,)


def looks(horizon: int) -> list[int]:
    """The steps after which a fork's loss is taken: 1, 2, 5, 10 and so on, and before its end."""
    rounded = {int(digit * 10**power) for power in range(6) for digit in (1, 2, 5)}
    return sorted({step for step in rounded if step <= horizon} | set(_last(horizon)))


def _last(horizon: int) -> range:
    return range(max(1, horizon - _AVERAGED + 1), horizon + 1)


def run_fork(
    fork: Fork,
    subject: Subject,
    loss: MeanLoss,
    walker: Walker,
    method: Method,
    batches: Batches,
    ends: tuple[int, ...],
    sharpest: Tensor,
    kick: Tensor,
) -> Forked:
    """Let a fork go.

    Args:
        fork: How.
        subject: What is trained.
        loss: By which it is judged.
        walker: At the point it begins; it is not moved.
        method: Of the training.
        batches: The same for all forks.
        ends: Horizons.
        sharpest: (k, P), orthonormal.
        kick: (P,).
    """
    subject, walker = subject.fork(), walker.copy()
    judged = MeanLoss(subject, loss.examples)
    walker.set_rate(method.lr * fork.rate)
    if fork.kicked:
        walker.point += kick
    ends = ends[:1] if fork.is_short else ends
    wanted = set().union(*(looks(end) for end in ends))
    losses = {0: judged.value(walker.point)}
    size = min(method.batch_size * fork.batch, subject.num_examples)
    for step in range(max(ends)):
        chosen = batches.at(step, size)
        gradient = training_gradient(subject, walker.point, chosen)
        if not torch.isfinite(gradient).all():
            break
        curvature = training_curvature(subject, walker.point, chosen)
        walker.step(gradient, sharpest if fork.projected else None, curvature)
        if step + 1 in wanted:
            losses[step + 1] = judged.value(walker.point)
    return Forked(losses, {end: _mean_of_last(losses, end) for end in ends})


def _mean_of_last(losses: Mapping[int, float], end: int) -> float:
    last = [losses.get(step, float("nan")) for step in _last(end)]
    return sum(last) / len(last)


def training_gradient(subject: Subject, point: Tensor, examples: Tensor) -> Tensor:
    """The gradient that a step of training takes, (P,); large batches in pieces."""
    total = torch.zeros_like(point)
    for piece in examples.split(subject.rows):
        leaf = point.detach().requires_grad_()
        loss = subject.losses(leaf, piece, training=True).sum()
        total += torch.autograd.grad(loss, leaf)[0]
    return total / len(examples)


def training_curvature(subject: Subject, point: Tensor, examples: Tensor) -> Curvature:
    """Estimates of the Hessian's diagonal at a step of training, made only if they are wanted."""

    def estimated(request: Hutchinson) -> Tensor:
        seed = int(torch.randint(2**31, ()))  # as dropout, from the caller's random numbers
        generators = [Generator(point.device).manual_seed(seed)]
        own, total = subject.fork(), torch.zeros_like(point)
        for piece in examples.split(subject.rows):
            leaf = point.detach().requires_grad_()
            loss = own.losses(leaf, piece, training=True).sum()
            gradients = torch.autograd.grad(loss, leaf, create_graph=True)
            total += request.diagonals(gradients, [leaf], generators)[0]
        return total / len(examples)

    return estimated
