"""Engines: what trains a stack for one epoch. All have the interface below.

`reference` is plain PyTorch on any device and is what every other engine is tested against.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from optsweep.data.tensors import Split


class Scores(NamedTuple):
    """Mean loss and accuracy (a fraction) of every seed, both (S,) float64."""

    loss: np.ndarray
    accuracy: np.ndarray


class Engine(Protocol):
    """Trains and evaluates a stack of S networks."""

    name: str

    def train_epoch(self, orders: Tensor | None, learning_rates: np.ndarray) -> Scores:
        """Take the steps of one epoch and wait until they are done.

        Args:
            orders: (S, N) int64, the order in which each seed sees the training
                examples; None if every step sees all of them.
            learning_rates: (1,) for a rate that holds for the epoch, or (steps,).

        Returns:
            Averages over the epoch's own batches, each batch as it was when it was trained on.
        """
        ...

    def evaluate(self, split: Split) -> Scores:
        """Score the present weights on a split."""
        ...
