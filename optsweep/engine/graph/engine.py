"""The engine: tables filled once an epoch, steps that need no host, scores read at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from optsweep.config.checks import Blaming
from optsweep.data.tensors import Split
from optsweep.engine import NOTHING, Scores, Work
from optsweep.engine.graph.networks import network_of
from optsweep.engine.graph.optimizers import capturable
from optsweep.engine.graph.replay import Runner, runner_of
from optsweep.engine.graph.step import Step
from optsweep.engine.reference import ReferenceEngine
from optsweep.models import Stack
from optsweep.optim import states
from optsweep.optim.stacks import StackOptimizer, parts_of

MakeRunner = Callable[[Callable[[], None], int, torch.device], Runner]


def build(work: Work, stack: Stack, train: Split, runner: MakeRunner = runner_of) -> GraphEngine:
    """The engine around a stack and its training split; its steps are taken by a `runner`."""
    network = network_of(stack, train.images.ndim - 1)
    cells = tuple((num_seeds, capturable(optimizer)) for num_seeds, optimizer in work.cells)
    work = replace(work, optimizer=capturable(work.optimizer), cells=cells)
    optimizer = work.build_optimizer(network.named_parameters())
    step = Step(network, optimizer, train, stack.num_seeds, work.batch_size)
    return GraphEngine(stack, optimizer, train, work.batch_size, step, runner)


class GraphEngine(ReferenceEngine):
    """Evaluates as the reference does, and trains by a `Step` that can be captured."""

    name = "torch_graph"

    def __init__(
        self,
        model: Stack,
        optimizer: StackOptimizer,
        train: Split,
        batch_size: int,
        step: Step,
        make_runner: MakeRunner,
    ) -> None:
        """Train `model` on `train` by `step`, which `optimizer` is a part of."""
        super().__init__(model, optimizer, train, batch_size)
        self._one_step = step
        self._make_runner = make_runner
        self._runner = self._new_runner()

    def train_epoch(
        self,
        orders: Tensor | None,
        learning_rates: np.ndarray,
        cycled: Mapping[str, np.ndarray] = NOTHING,
    ) -> Scores:
        """See `Engine.train_epoch`; `supports` lets nothing be cycled here."""
        assert not cycled
        self._set_mode(training=True)
        self._one_step.begin(orders, learning_rates)
        with Blaming("optimizer"):
            self._runner.run(self._one_step.num_full)
            if self._one_step.has_rest:
                self._one_step.rest()
        return self._one_step.scores()

    def restore(self, state: states.State) -> bool:
        """See `Engine.restore`; what was captured belongs to the state before."""
        taken = states.restore(self.optimizer, state)
        device = self.train.images.device
        for part in parts_of(self.optimizer):
            for values in part.state.values():
                for key, value in values.items():
                    if isinstance(value, Tensor):  # counts of steps, too
                        values[key] = value.to(device)
        self._runner = self._new_runner()
        return taken

    def _new_runner(self) -> Runner:
        device = self.train.images.device
        return self._make_runner(self._one_step, self._one_step.num_full, device)
