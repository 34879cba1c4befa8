"""The learning rate range test: the loss while the rate grows at every step.

Source: Smith 2017, arXiv:1506.01186, section 3.3. Departure: the range is cut into pieces, each
for a member of a stack that begins with the untrained network and raises its own rate over its
own piece. So all of the range is tried in as many steps as one piece has, and a high rate is not
credited with what lower ones have learnt before. One piece is Smith's own test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from optsweep.config.checks import Blaming
from optsweep.data.tensors import Split, epoch_orders, load_dataset
from optsweep.models import Stack, build_stack
from optsweep.optim.curvature import Diagonals, Hutchinson
from optsweep.optim.resolved import ResolvedOptimizer
from optsweep.optim.stacks import set_mode, set_rate, take_step, wanted
from optsweep.training.plan import Plan


@dataclass(frozen=True)
class RateRange:
    """What a test has measured.

    Attributes:
        rates: (P, T), the rate of each piece's steps.
        losses: (P, S, T), mean loss of the step's batch before the step, for every seed.
    """

    rates: np.ndarray
    losses: np.ndarray


def rising_rates(low: float, high: float, num_pieces: int, num_steps: int) -> np.ndarray:
    """Rates (P, T) that grow by the same factor from step to step and from piece to piece.

    >>> rising_rates(1.0, 1000.0, 1, 4).round(6).tolist()
    [[1.0, 10.0, 100.0, 1000.0]]
    >>> rising_rates(1.0, 1000.0, 2, 2).round(6).tolist()
    [[1.0, 10.0], [100.0, 1000.0]]
    """
    return np.geomspace(low, high, num_pieces * num_steps).reshape(num_pieces, num_steps)


def measure_range(plan: Plan, rates: np.ndarray, on_step: Callable[[int], None]) -> RateRange:
    """Train a stack with a network for each piece and seed, at rates that rise with every step.

    Args:
        plan: The cell; its schedule and its number of epochs have no part in this.
        rates: (P, T).
        on_step: Told how many steps are done.

    Raises:
        InputError: If the data are missing or corrupt, or the optimizer refuses the network.
    """
    config, work = plan.config, plan.work
    num_pieces, num_steps = rates.shape
    train = load_dataset(config.dataset, work.device, work.dtype).train
    stack = build_stack(
        work.model,
        plan.initializer,
        [*config.seeds] * num_pieces,
        work.input_shape,
        work.num_classes,
        work.device,
        work.dtype,
    )
    optimizers = [_Member(work.optimizer, stack, index) for index in range(stack.num_seeds)]
    stack.train(True)
    losses = np.full((num_steps, stack.num_seeds), np.nan)
    batches = _batches(plan, train, num_pieces)
    for step in range(num_steps):
        estimates = optimizers[0].wanted()  # all are as far as the first
        means, diagonals = _backward(stack, *next(batches), estimates)
        losses[step] = means.cpu().numpy()
        for index, optimizer in enumerate(optimizers):
            optimizer.step(float(rates[index // config.num_seeds, step]), diagonals)
        on_step(step + 1)
    shape = (num_steps, num_pieces, config.num_seeds)
    return RateRange(rates, losses.reshape(shape).transpose(1, 2, 0))


class _Member:
    """The optimizer of one network of a stack, with a rate of its own."""

    def __init__(self, optimizer: ResolvedOptimizer, stack: Stack, index: int) -> None:
        self._stacks = [tensor for _, tensor in stack.named_parameters()]
        self._index = slice(index, index + 1)
        names = [name for name, _ in stack.named_parameters()]
        self._own = [nn.Parameter(tensor.detach()[self._index]) for tensor in self._stacks]
        self._optimizer = optimizer.build([*zip(names, self._own, strict=True)])
        with Blaming("optimizer"):
            set_mode(self._optimizer, training=True)

    def wanted(self) -> list[Hutchinson]:
        """What its next step wants to know of the stack's second derivatives."""
        stack_of: dict[Tensor, Tensor] = dict(zip(self._own, self._stacks, strict=True))
        return [
            replace(request, parameters=[stack_of[each] for each in request.parameters])
            for request in wanted(self._optimizer)
        ]

    def step(self, rate: float, diagonals: Diagonals) -> None:
        """Take a step with the stack's gradients; a group's rate stays its multiple of the base."""
        own_diagonals: dict[Tensor, Tensor] = {}
        for own, tensor in zip(self._own, self._stacks, strict=True):
            own.grad = None if tensor.grad is None else tensor.grad[self._index]
            if tensor in diagonals:
                own_diagonals[own] = diagonals[tensor][self._index]
        set_rate(self._optimizer, rate)
        with Blaming("optimizer"):
            take_step(self._optimizer, own_diagonals)


def _batches(plan: Plan, train: Split, num_pieces: int) -> Iterator[tuple[Split, Tensor]]:
    """The examples, and which of them each network sees in the next step: (P · S, B)."""
    config, epoch = plan.config, 0
    while True:
        epoch += 1
        orders = epoch_orders(config.seeds, epoch, len(train), plan.work.device)
        for first in range(0, len(train), config.trainer.batch_size):
            chosen = orders[:, first : first + config.trainer.batch_size]
            yield train, chosen.repeat(num_pieces, 1)


def _backward(
    stack: Stack, train: Split, chosen: Tensor, estimates: Sequence[Hutchinson]
) -> tuple[Tensor, Diagonals]:
    """Give the stack its gradients, and tell every network's loss and what is wanted beside."""
    done = []

    def losses_of_parts() -> Iterator[Tensor]:
        for part in stack.parts:
            own = chosen[part.start : part.stop]
            images = train.images.index_select(0, own.flatten())
            logits = stack.forward(images.view(*own.shape, *train.images.shape[1:]), part)
            labels = train.labels[own]
            losses = functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), reduction="none"
            )
            means = losses.view(labels.shape).mean(1)
            done.append(means.detach())
            yield means.sum()

    with Blaming("model"):
        diagonals = stack.backward(losses_of_parts(), estimates)
    return torch.cat(done), diagonals
