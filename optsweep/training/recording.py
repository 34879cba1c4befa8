"""What is kept of weights and gradients after every epoch, to tell why training is slow.

Gradients are those of the mean training loss, without weight decay, over all training
examples and over the first `SUBSET_SIZE` of them: never those of a mini-batch, whose noise
hides what the weights of the moment would need. They are those of the network as it is
evaluated: batch normalization with its running statistics, which makes the gradient of one
example independent of the others, and no dropout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from optsweep.config.schema import RecordConfig
from optsweep.data.tensors import Split
from optsweep.models import Stack

SUBSET_SIZE = 10_000

# The report looks at three weights from the pixels to the first hidden layer and names one of them,
# from pixel 725 to unit 0. The pixel is in the lower right corner of the image, row 25 and column
# 25 of 0 to 27, and not zero in 11.6 % of Fashion-MNIST's training images.
REPORT_COLUMN = 725
UNIT = 0
# Compared with it are the pixels at these ranks of variance, of which 0 is the largest.
_SIGNAL_RANKS = (0.0, 0.25, 0.5)

# Values that one pass keeps for its gradients, over all examples and seeds: 40 MB in float32.
_VALUES = 10_000_000


class Recorder:
    """Collects the rows of gradients.csv; it reads the model and never changes it.

    The quantities, for each seed and epoch, 0 being the untrained network:

    - `weight_norm` and `update_norm` of each parameter, such as `linear1.weight`: Euclidean
      norms of the weights and of their change in this epoch;
    - `gradient_norm` and `subset_gradient_norm` of each parameter, for all training examples
      and for the subset;
    - `weight`, `gradient` and `subset_gradient` of single weights, such as
      `linear1.weight[0,725]`, the weight from pixel 725 to unit 0;
    - `pixel_nonzero_fraction`, at epoch 0 alone: in how many training images the pixel of a
      single weight is not zero.

    Only the first two are there unless gradients are asked for, and single weights only where
    the network's first parameter has a column for each pixel, as an MLP's has.

    Attributes:
        rows: What was recorded so far.
    """

    def __init__(
        self, config: RecordConfig, model: Stack, train: Split, seeds: Sequence[int]
    ) -> None:
        """Record what `config` asks for of a stack with these seeds."""
        self.rows: list[dict[str, Any]] = []
        self._weights = config.weights
        self._gradients = config.gradients
        self._model = model
        self._train = train
        self._seeds = seeds
        self._previous: list[Tensor] = []
        self._columns: list[int] = []
        if self._gradients and _sees_pixels(model, train):
            self._columns = chosen_columns(train.images)

    def resume(self, rows: Sequence[dict[str, Any]]) -> None:
        """Go on after these rows, with a model that is as it was when they were recorded."""
        self.rows = list(rows)
        if self._weights:
            weights = self._model.named_parameters()
            self._previous = [weight.detach().clone() for _, weight in weights]

    def record(self, epoch: int, alive: np.ndarray) -> None:
        """Add the rows of an epoch that has just ended, if anything is to be recorded.

        Args:
            epoch: Its number.
            alive: (S,) bool; seeds that have diverged get no rows.
        """
        if not self._weights:
            return
        names = [name for name, _ in self._model.named_parameters()]
        weights = [weight.detach() for _, weight in self._model.named_parameters()]
        values = _norms("weight_norm", names, weights)
        if self._previous:
            pairs = zip(weights, self._previous, strict=True)
            values |= _norms("update_norm", names, [now - before for now, before in pairs])
        self._previous = [weight.clone() for weight in weights]
        if self._gradients:
            values |= self._single("weight", names[0], weights[0])
            subset, whole = loss_gradients(self._model, self._train)
            for prefix, gradients in (("", whole), ("subset_", subset)):
                values |= _norms(f"{prefix}gradient_norm", names, gradients)
                values |= self._single(f"{prefix}gradient", names[0], gradients[0])
            if epoch == 0:
                images = self._train.images.flatten(1)
                nonzero = torch.count_nonzero(images, dim=0).double() / len(images)
                fractions = nonzero.expand(len(self._seeds), UNIT + 1, -1)
                values |= self._single("pixel_nonzero_fraction", names[0], fractions)
        for index, seed in enumerate(self._seeds):
            if alive[index]:
                for (quantity, parameter), of_seeds in values.items():
                    row = {"seed": seed, "epoch": epoch, "quantity": quantity}
                    self.rows.append(row | {"parameter": parameter, "value": of_seeds[index]})

    def _single(self, quantity: str, name: str, tensor: Tensor) -> _Values:
        """Entries (UNIT, column) of a tensor (S, out, in)."""
        return {
            (quantity, f"{name}[{UNIT},{column}]"): tensor[:, UNIT, column].tolist()
            for column in self._columns
        }


def _sees_pixels(model: Stack, train: Split) -> bool:
    """Whether the first parameter is (S, out, inputs), with a column for each pixel."""
    _, first = model.named_parameters()[0]
    return first.ndim == 3 and first.shape[2] == train.images[0].numel()


def chosen_columns(images: Tensor) -> list[int]:
    """The pixels whose weights are recorded: the report's, then some that carry signal.

    Args:
        images: (N, *input_shape), of which the pixels are counted row by row.
    """
    variances = images.flatten(1).var(0, correction=0)
    ranked = variances.argsort(descending=True, stable=True).tolist()
    signal = [ranked[int(rank * len(ranked))] for rank in _SIGNAL_RANKS]
    report = [REPORT_COLUMN] if len(ranked) > REPORT_COLUMN else []
    return list(dict.fromkeys([*report, *signal]))


def loss_gradients(model: Stack, train: Split) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the mean loss over the subset and over all examples.

    Returns:
        Two lists in the order of `named_parameters`, of tensors (S, ...).
    """
    model = model.twin()
    model.train(False)
    parameters = [parameter for _, parameter in model.named_parameters()]
    total = [torch.zeros_like(parameter) for parameter in parameters]
    subset_size = min(SUBSET_SIZE, len(train))
    subset: list[Tensor] = []
    rows = max(1, _VALUES // (model.num_seeds * model.num_activations))
    for chunk in _chunks(len(train), subset_size, rows):
        logits = model.forward(train.images[chunk])
        labels = train.labels[chunk].expand(logits.shape[:2])
        # Seeds share no parameter, so the gradient of the sum is each seed's own gradient.
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        model.backward([loss])
        for index, parameter in enumerate(parameters):
            if parameter.grad is not None:
                total[index] += parameter.grad
        if chunk.stop == subset_size:
            subset = [sum_ / subset_size for sum_ in total]
    return subset, [sum_ / len(train) for sum_ in total]


def _chunks(num_examples: int, subset_size: int, rows: int) -> Iterator[slice]:
    """Slices of at most `rows` examples, one of which ends where the subset ends."""
    for first, end in ((0, subset_size), (subset_size, num_examples)):
        for start in range(first, end, rows):
            yield slice(start, min(start + rows, end))


_Values = dict[tuple[str, str], list[float]]  # (quantity, parameter) -> a value for every seed


def _norms(quantity: str, names: Sequence[str], tensors: Sequence[Tensor]) -> _Values:
    """Euclidean norms over all axes but the seeds'."""
    return {
        (quantity, name): tensor.flatten(start_dim=1).norm(dim=1).tolist()
        for name, tensor in zip(names, tensors, strict=True)
    }
