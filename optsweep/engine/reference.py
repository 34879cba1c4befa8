"""The reference engine: plain PyTorch with autograd, on any device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from optsweep.config.checks import Blaming
from optsweep.config.schema import MLPConfig
from optsweep.data.tensors import Split
from optsweep.engine import NOTHING, Scores, Work
from optsweep.engine.costs import FUSED, torch_mlp_seconds
from optsweep.models import Stack
from optsweep.optim import states
from optsweep.optim.resolved import SWITCHES, ResolvedOptimizer
from optsweep.optim.stacks import (
    StackOptimizer,
    cells_of,
    set_mode,
    set_others,
    set_rate,
    take_step,
    wanted,
)

# Values of one pass without gradients, were it to keep those of all layers: bounds its memory
# to 80 MB in float32. The report's network with ten seeds takes 10,000 images at once.
_EVALUATION_VALUES = 20_000_000


def supports(work: Work) -> str:
    """Why it cannot do the work: never, for all of it can be done here."""
    del work
    return ""


def seconds_per_epoch(work: Work) -> float:
    """What an epoch costs; where no other engine can do the work, any number will do."""
    return torch_mlp_seconds(work) if isinstance(work.model, MLPConfig) else 1.0


def prepare() -> str:
    """Nothing has to be imported, nor is there anything to say."""
    return ""


def build(work: Work, stack: Stack, train: Split) -> ReferenceEngine:
    """The engine around a stack and its training split."""
    if work.device.type == "cpu":
        cells = tuple((num_seeds, _fused(optimizer)) for num_seeds, optimizer in work.cells)
        work = replace(work, optimizer=_fused(work.optimizer), cells=cells)
    optimizer = work.build_optimizer(stack.named_parameters())
    return ReferenceEngine(stack, optimizer, train, work.batch_size)


def _fused(optimizer: ResolvedOptimizer) -> ResolvedOptimizer:
    """The same optimizer by torch's fused kernel, where its class gains by that."""
    rest = None if optimizer.rest is None else _fused(optimizer.rest)
    gains = optimizer.target in FUSED and not SWITCHES & optimizer.arguments.keys()
    return replace(optimizer, rest=rest, switches={"fused": True} if gains else {})


class ReferenceEngine:
    """Autograd and a `torch.optim` optimizer on stacked parameters."""

    name = "torch"

    def __init__(
        self, model: Stack, optimizer: StackOptimizer, train: Split, batch_size: int
    ) -> None:
        """Train `model` with `optimizer` on `train` in batches of `batch_size` examples."""
        self.model = model
        self.optimizer = optimizer
        self.train = train
        self.batch_size = batch_size
        self.num_seeds = model.num_seeds

    def train_epoch(
        self,
        orders: Tensor | None,
        learning_rates: np.ndarray,
        cycled: Mapping[str, np.ndarray] = NOTHING,
    ) -> Scores:
        """See `Engine.train_epoch`. The host waits for the device once, at the end."""
        self._set_mode(training=True)
        num_examples = len(self.train)
        sums = _Sums(self.num_seeds, self.train.images.device)
        num_steps = -(-num_examples // self.batch_size)
        cells = cells_of(self.optimizer)
        table = np.broadcast_to(learning_rates, (len(cells), num_steps)).T.tolist()
        rates = None
        for step in range(num_steps):
            if rates != table[step]:
                rates = table[step]
                for cell, rate in zip(cells, rates, strict=True):
                    set_rate(cell, rate)
            for name, values in cycled.items():
                set_others(self.optimizer, name, values[min(step, len(values) - 1)].tolist())
            first = step * self.batch_size
            sums.add(*self._step(orders, first))
        return sums.scores(num_examples)

    @torch.no_grad()
    def evaluate(self, split: Split) -> Scores:
        """See `Engine.evaluate`."""
        self._set_mode(training=False)
        sums = _Sums(self.num_seeds, split.images.device)
        rows = max(1, _EVALUATION_VALUES // (self.num_seeds * self.model.num_activations))
        for first in range(0, len(split), rows):
            chunk = slice(first, first + rows)
            sums.add(*self._losses(split.images[chunk], split.labels[chunk]))
        return sums.scores(len(split))

    def state(self) -> states.State:
        """See `Engine.state`."""
        return states.state_of(self.optimizer)

    def restore(self, state: states.State) -> bool:
        """See `Engine.restore`."""
        return states.restore(self.optimizer, state)

    def _set_mode(self, training: bool) -> None:
        self.model.train(training)
        with Blaming("optimizer"):
            set_mode(self.optimizer, training)

    def _step(self, orders: Tensor | None, first: int) -> tuple[Tensor, Tensor]:
        """Take the step of the batch that begins at `first`; see `_losses`.

        Where seeds are computed one by one, each has its activations freed before the next:
        ten seeds of lenet would need ten times the memory, and miss the caches.
        """
        done = []

        def losses_of_parts() -> Iterator[Tensor]:
            for part in self.model.parts:
                losses, correct = self._losses(*self._batch(orders, first, part), part)
                done.append((losses.detach(), correct))
                # Seeds share no parameter, so the gradient of the sum is each seed's own.
                yield losses.mean(1).sum()

        with Blaming("model"):
            diagonals = self.model.backward(losses_of_parts(), wanted(self.optimizer))
        with Blaming("optimizer"):
            take_step(self.optimizer, diagonals)
        losses, correct = zip(*done, strict=True)
        return torch.cat(losses), torch.cat(correct)

    def _batch(self, orders: Tensor | None, first: int, part: range) -> tuple[Tensor, Tensor]:
        """Images (P, B, *input_shape) and labels (P, B), or all (N, *input_shape) and (N,)."""
        images, labels = self.train.images, self.train.labels
        if orders is None:
            return images, labels
        chosen = orders[part.start : part.stop, first : first + self.batch_size]
        # images[chosen] takes 4 times as long: 0.12 ms of a step of one ms at b = 256.
        gathered = images.index_select(0, chosen.flatten())
        return gathered.view(*chosen.shape, *images.shape[1:]), labels[chosen]

    def _losses(
        self, images: Tensor, labels: Tensor, part: range | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy (P, B) of P seeds, and whether the prediction is right (P, B)."""
        logits = self.model.forward(images, part)
        labels = labels.expand(logits.shape[:2])
        losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.view(labels.shape), logits.detach().argmax(-1) == labels


class _Sums:
    """Losses and hits of every seed, summed over the batches of an epoch on their device.

    MPS has no float64: there, a batch is summed in float32 and the batches on the host, which
    then waits for each.
    """

    def __init__(self, num_seeds: int, device: torch.device) -> None:
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        place = torch.device("cpu") if device.type == "mps" else device
        self._losses = torch.zeros(num_seeds, dtype=torch.float64, device=place)
        self._correct = torch.zeros(num_seeds, dtype=torch.int64, device=place)

    def add(self, losses: Tensor, correct: Tensor) -> None:
        """Add those of a batch, (S, B)."""
        self._losses += losses.sum(1, dtype=self._dtype).to(self._losses.device)
        self._correct += correct.sum(1).to(self._correct.device)

    def scores(self, num_examples: int) -> Scores:
        """Their averages."""
        return Scores(
            loss=self._losses.cpu().numpy() / num_examples,
            accuracy=self._correct.cpu().numpy() / num_examples,
        )
