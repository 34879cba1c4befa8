"""Engines: what trains a stack for one epoch, and what each supports and costs.

`reference` is plain PyTorch on any device, and what every other engine is tested against;
`compiled` has loops of its own for multilayer perceptrons on a CPU; `graph` is PyTorch whose steps
a GPU replays without its host, to be asked for. Each is a module or package with four functions, so
that `choice` can compare them:

- `supports(work)`: why it cannot do the work; empty if it can;
- `seconds_per_epoch(work)`: what an epoch costs there, roughly;
- `prepare()`: import what the next takes; what a user should know of that, in a line;
- `build(work, stack, train)`: the engine, around a stack and its training split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from optsweep.config.schema import MLPConfig, ModuleConfig
from optsweep.data.tensors import Split
from optsweep.optim.stacks import CellwiseOptimizer, StackOptimizer

if TYPE_CHECKING:
    from optsweep.optim.resolved import ResolvedOptimizer

NOTHING: Mapping[str, np.ndarray] = MappingProxyType({})


class Scores(NamedTuple):
    """Mean loss and accuracy (a fraction) of every seed, both (S,) float64."""

    loss: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class Work:
    """What an engine is asked to do.

    Attributes:
        model: The network.
        input_shape: Axes of one example, such as (1, 28, 28).
        num_classes: Of the labels.
        num_examples: Training examples of an epoch.
        batch_size: Examples of a step; the last one of an epoch may have fewer.
        num_seeds: Members of the stack.
        optimizer: Resolved.
        device: Where everything is.
        dtype: Of weights and examples.
        num_threads: Of a CPU.
        cycled: Settings of the optimizer that the schedule changes beside its learning rate.
        cells: Of a stack of several cells the seeds and the optimizer of each; then `optimizer`
            stands for any of them, and `num_seeds` is the sum. Empty: one cell.
    """

    model: MLPConfig | ModuleConfig
    input_shape: tuple[int, ...]
    num_classes: int
    num_examples: int
    batch_size: int
    num_seeds: int
    optimizer: ResolvedOptimizer
    device: torch.device
    dtype: torch.dtype
    num_threads: int
    cycled: tuple[str, ...] = ()
    cells: tuple[tuple[int, ResolvedOptimizer], ...] = ()

    def build_optimizer(self, parameters: Sequence[tuple[str, Tensor]]) -> StackOptimizer:
        """Make the optimizer of a stack's parameters; see `ResolvedOptimizer.build`."""
        if not self.cells:
            return self.optimizer.build(parameters)
        cells = [(num_seeds, optimizer.build) for num_seeds, optimizer in self.cells]
        return CellwiseOptimizer(parameters, cells)


class Engine(Protocol):
    """Trains and evaluates a stack of S networks."""

    name: str

    def train_epoch(
        self,
        orders: Tensor | None,
        learning_rates: np.ndarray,
        cycled: Mapping[str, np.ndarray] = NOTHING,
    ) -> Scores:
        """Take the steps of one epoch and wait until they are done.

        Args:
            orders: (S, N) int64, the order in which each seed sees the training
                examples; None if every step sees all of them.
            learning_rates: (1,) for a rate that holds for the epoch, or (steps,); of several
                cells (cells, 1) or (cells, steps).
            cycled: Of the optimizer's other settings that change, the values in the same form.

        Returns:
            Averages over the epoch's own batches, each batch as it was when it was trained on.
        """
        ...

    def evaluate(self, split: Split) -> Scores:
        """Score the present weights on a split."""
        ...

    def state(self) -> Any:
        """What the next epoch depends on beside the stack, as tensors and plain data.

        Tensors may be the engine's own, which the next epoch changes.
        """
        ...

    def restore(self, state: Any) -> bool:
        """Go on from what the `state` of an engine of this kind was, with the same optimizer.

        Returns:
            Whether it was taken: not if it lacks what these settings of the optimizer gather.
        """
        ...
