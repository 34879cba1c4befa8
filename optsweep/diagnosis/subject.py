"""What is examined: a mean loss over examples, as a function of all parameters at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from optsweep.data.tensors import Split

# Values that one pass keeps for its gradients: 40 MB in float32, and a few times that for the
# second derivative. It bounds the memory whatever the number of examples.
VALUES = 10_000_000

Shapes = list[tuple[str, torch.Size]]  # names of parameters and their axes, as a point has them


class Subject(Protocol):
    """A loss of P parameters and N examples.

    Attributes:
        shapes: Of the parameters, whose entries follow one another in a point (P,).
        num_examples: N.
        rows: Examples that one pass may take.
        constant_inputs: Share of the inputs that are the same in all examples.
    """

    shapes: Shapes
    num_examples: int
    rows: int
    constant_inputs: float

    def losses(self, point: Tensor, examples: Tensor, training: bool = False) -> Tensor:
        """The loss of each example, differentiable twice by the point.

        Args:
            point: (P,).
            examples: (B,) int64.
            training: Compute as a step of training does: a batch normalises itself, dropout
                drops. False: as the network is evaluated.

        Returns:
            (B,).
        """
        ...

    def fork(self) -> Subject:
        """One whose training leaves no trace in this one."""
        ...


def split(point: Tensor, shapes: Shapes) -> Iterator[tuple[str, Tensor]]:
    """The parameters in a point, as views."""
    sizes = [math.prod(shape) for _, shape in shapes]
    for (name, shape), piece in zip(shapes, point.split(sizes), strict=True):
        yield name, piece.view(shape)


def chunks(examples: Tensor, rows: int) -> Iterator[Tensor]:
    """Examples in pieces of at most so many."""
    return iter(examples.split(rows))


def constant_inputs(images: Tensor) -> float:
    """The share of the inputs (N, ...) that are the same in all examples."""
    flat = images.flatten(1)
    return float((flat.amax(0) == flat.amin(0)).double().mean())


class NetworkLoss:
    """The cross entropy of one seed's network on its training examples."""

    def __init__(self, network: nn.Module, train: Split, num_activations: int) -> None:
        """Look at `network`, of which a pass keeps so many values of an example."""
        self._network = network
        self._train = train
        trained = {k: p for k, p in network.named_parameters() if p.requires_grad}
        fixed = {k: p for k, p in network.named_parameters() if not p.requires_grad}
        self.shapes: Shapes = [(name, tensor.shape) for name, tensor in trained.items()]
        self._others: Mapping[str, Tensor] = {
            name: tensor.detach().clone()
            for name, tensor in [*fixed.items(), *network.named_buffers()]
        }
        self.start = torch.cat([tensor.detach().flatten() for tensor in trained.values()])
        self.num_examples = len(train)
        self.rows = max(1, VALUES // (num_activations + train.images[0].numel()))
        self.constant_inputs = constant_inputs(train.images)

    def losses(self, point: Tensor, examples: Tensor, training: bool = False) -> Tensor:
        """See `Subject.losses`."""
        tensors = {**dict(split(point, self.shapes)), **self._others}
        examples = examples.to(self._train.labels.device)
        images = self._train.images.index_select(0, examples)
        self._network.train(training)
        logits = functional_call(self._network, tensors, (images,))
        labels = self._train.labels.index_select(0, examples)
        return functional.cross_entropy(logits, labels, reduction="none")

    def fork(self) -> NetworkLoss:
        """See `Subject.fork`."""
        other = copy.copy(self)
        other._others = {name: tensor.clone() for name, tensor in self._others.items()}
        return other
