"""How much memory a cell takes, told before it is begun: the one home of this estimate.

It counts what grows: the examples, as they are read and as numbers; the order in which each seed
sees them; for every weight of every seed its gradient, its moments and, in PyTorch, what a step
makes on its way; what a pass keeps of a batch; the threads' own room; the table of learning
rates; and what is kept of each epoch. It is there to find what cannot fit, not to fill a memory.

Compared with the peaks of processes, less what they had before: 0.28 GB of 0.29 for the default
network by compiled loops, 0.74 of 0.70 for ten seeds of it by PyTorch in batches of 10,000 with
Adam, 0.46 of 0.51 for two seeds of lenet in batches of 4000.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optsweep.config.schema import Config, MLPConfig
from optsweep.engine import Work
from optsweep.engine.compiled.rules import rule_of

if TYPE_CHECKING:
    from optsweep.optim.resolved import ResolvedOptimizer

PROCESS_BYTES = 500_000_000  # of a process that has loaded everything and trains nothing
_MOMENTS = 2  # of an optimizer that has no rule: Adam's
_EPOCH_BYTES = 2000  # of what is kept of an epoch, and the same for each of its seeds
_CHUNK, _SHARES, _TURNS = 64, 4, 2  # of `compiled.team`, which only its compiler can import


@dataclass(frozen=True)
class Shape:
    """What of a network decides how much memory it takes.

    Attributes:
        num_weights: Of one seed.
        num_activations: Values that a pass keeps of one example of one seed.
        is_at_once: Whether all seeds are computed at once.
    """

    num_weights: int
    num_activations: int
    is_at_once: bool = True


def mlp_shape(work: Work) -> Shape:
    """The shape of a multilayer perceptron."""
    assert isinstance(work.model, MLPConfig)
    sizes = [math.prod(work.input_shape), *work.model.hidden_sizes, work.num_classes]
    weights = sum((inputs + 3) * outputs for inputs, outputs in itertools.pairwise(sizes))
    return Shape(weights, 2 * sum(sizes[1:]))


def bytes_of(config: Config, work: Work, engine: str, shape: Shape, num_rates: int) -> int:
    """Bytes that a cell takes beside an empty process, on the CPU.

    Args:
        config: Of the cell.
        work: Of the cell, of which the seeds and the batch size count.
        engine: Name of the engine.
        shape: Of the network.
        num_rates: Learning rates of its table.
    """
    number, num_inputs = work.dtype.itemsize, math.prod(work.input_shape)
    seeds, batch = work.num_seeds, min(work.batch_size, work.num_examples)
    dataset = config.dataset
    num_read = dataset.num_train + dataset.num_test
    num_kept = work.num_examples + dataset.val_size + dataset.num_test
    data = num_read * num_inputs + num_kept * (num_inputs * number + 8)
    orders = 8 * seeds * work.num_examples * (batch < work.num_examples)
    if engine == "torch_graph":
        orders *= 3  # beside them its table, of examples and labels
    cells = work.cells or [(seeds, work.optimizer)]
    moments = sum(num_seeds * _num_moments(optimizer) for num_seeds, optimizer in cells)
    history = config.trainer.epochs * _EPOCH_BYTES * (1 + seeds) + 8 * num_rates
    weights = number * shape.num_weights * (2 * seeds + moments)
    if engine == "numba":
        assert isinstance(work.model, MLPConfig)
        width, units = work.model.hidden_sizes[0], shape.num_activations
        room = _TURNS * _SHARES * _CHUNK * width + 2 * _CHUNK * units
        return data + orders + history + weights + number * work.num_threads * room
    at_once = seeds if shape.is_at_once else 1
    kept = at_once * batch * (2 * shape.num_activations + num_inputs * (batch < work.num_examples))
    return data + orders + history + weights + number * (seeds * shape.num_weights + kept)


def _num_moments(optimizer: ResolvedOptimizer) -> int:
    rule = rule_of(optimizer.target, optimizer.arguments)
    return _MOMENTS if rule is None else sum(rule.moments)


def what_fits(work: Work, needed: Callable[[Work], int], limit: int, engine: str) -> list[str]:
    """Settings with which the work would fit, each alone; none if no such setting does."""
    ways = [("num_seeds", work.num_seeds, lambda n: replace(work, num_seeds=n))]
    if engine != "numba":
        by_batch = (work.batch_size, lambda n: replace(work, batch_size=n))
        ways.append(("trainer.batch_size", *by_batch))
    found = []
    for key, present, with_value in ways:
        low, high = 0, present  # low fits or is 0, high does not fit
        while high - low > 1:
            middle = (low + high) // 2
            fits = needed(with_value(middle)) <= limit
            low, high = (middle, high) if fits else (low, middle)
        if low:
            found.append(f"{key}={low}")
    return found
