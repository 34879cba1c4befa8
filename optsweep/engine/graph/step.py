"""One step of a whole stack, which finds in tables on its device all that differs between steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optsweep.data.tensors import Split
from optsweep.engine import Scores
from optsweep.engine.graph.networks import Network
from optsweep.optim.stacks import RATE_SCALE, StackOptimizer, cells_of

_EXAMPLES, _LABELS = 0, 1  # rows of the table of orders
_LIKELIHOODS, _HITS = 0, 1  # rows of the table of scores


class Step:
    """Called again and again, it trains an epoch: it advances by itself.

    Attributes:
        num_full: Steps of an epoch that have a whole batch, all of which are alike.
        has_rest: Whether one of fewer examples follows them.
    """

    def __init__(
        self,
        network: Network,
        optimizer: StackOptimizer,
        train: Split,
        num_seeds: int,
        batch_size: int,
    ) -> None:
        """Lay out the tables of an epoch on the device of the training examples.

        Args:
            network: What is trained.
            optimizer: Built around the network's parameters; its rate is a table's from now on.
            train: The training examples.
            num_seeds: S.
            batch_size: Examples of a step; all of them if there are no more.
        """
        self._network = network
        self._optimizer = optimizer
        self._train = train
        num_examples, device = len(train), train.images.device
        batch_size = min(batch_size, num_examples)
        self.num_full, rest = divmod(num_examples, batch_size)
        self.has_rest = rest > 0
        self._is_shared = self.num_full == 1 and not rest
        num_steps = self.num_full + self.has_rest
        rows, size = (0, 0) if self._is_shared else (self.num_full, batch_size)
        # Of each step the examples of every seed and their labels, so that one call finds both.
        self._orders = torch.zeros(rows, 2, num_seeds, size, dtype=torch.int64, device=device)
        self._rest = torch.zeros(2, num_seeds, rest, dtype=torch.int64, device=device)
        # torch's fused kernels read a rate as float32 on CUDA; elsewhere none is rounded.
        rate_type = torch.float32 if device.type == "cuda" else torch.float64
        cells = cells_of(optimizer)
        self._rates = torch.zeros(num_steps, len(cells), dtype=rate_type, device=device)
        self._scores = torch.zeros(num_steps, 2, num_seeds, dtype=torch.float64, device=device)
        self._counter = torch.zeros(1, dtype=torch.int64, device=device)
        self._rate, self._score = self._rates[:1].clone(), self._scores[:1].clone()
        self._scaled: dict[float, Tensor] = {}  # a multiple, and the rates of all cells by it
        for index, cell in enumerate(cells):
            for group in cell.param_groups:
                scale = group.get(RATE_SCALE, 1.0)
                rates = self._rate
                if scale != 1:
                    rates = self._scaled.setdefault(scale, torch.zeros_like(rates))
                group["lr"] = rates[0, index]

    def begin(self, orders: Tensor | None, rates: np.ndarray) -> None:
        """Fill the tables for an epoch.

        Args:
            orders: (S, N) int64; None where every step sees all examples.
            rates: (1,) or (steps,); of several cells (cells, 1) or (cells, steps).
        """
        self._counter.zero_()
        table = np.broadcast_to(rates, tuple(reversed(self._rates.shape))).T.copy()
        self._rates.copy_(torch.from_numpy(table))
        if self._is_shared:
            return
        assert orders is not None
        num_full, _, num_seeds, size = self._orders.shape
        full, rest = orders.split([num_full * size, self._rest.shape[-1]], 1)
        examples = self._orders[:, _EXAMPLES]
        examples.copy_(full.view(num_seeds, num_full, size).transpose(0, 1))
        self._orders[:, _LABELS] = self._train.labels[examples]
        self._rest[_EXAMPLES] = rest
        self._rest[_LABELS] = self._train.labels[rest]

    def __call__(self) -> None:
        """Take the next step of a whole batch."""
        if self._is_shared:
            images, labels = self._train.images, self._train.labels
            self._take(images, labels.expand(self._scores.shape[-1], -1))
        else:
            self._take_batch(self._orders.index_select(0, self._counter)[0])

    def rest(self) -> None:
        """Take the step of what is left of the examples."""
        self._take_batch(self._rest)

    def scores(self) -> Scores:
        """Averages over the epoch; the host waits here until its steps are done."""
        sums = self._scores.sum(0).cpu().numpy() / len(self._train)
        return Scores(loss=-sums[_LIKELIHOODS], accuracy=sums[_HITS])

    def _take_batch(self, batch: Tensor) -> None:
        """Take a step on a batch: examples and labels (2, S, B)."""
        images = self._train.images
        chosen = images.index_select(0, batch[_EXAMPLES].flatten())
        self._take(chosen.view(*batch.shape[1:], *images.shape[1:]), batch[_LABELS])

    def _take(self, images: Tensor, labels: Tensor) -> None:
        outcome = self._network.differentiate(images, labels)
        with torch.no_grad():
            for row, values in zip(self._score[0], outcome, strict=True):
                torch.sum(values, 1, dtype=torch.float64, out=row)
            self._scores.index_copy_(0, self._counter, self._score)
            torch.index_select(self._rates, 0, self._counter, out=self._rate)
            for scale, rate in self._scaled.items():
                torch.mul(self._rate, scale, out=rate)
            self._counter.add_(1)
        self._optimizer.step()
