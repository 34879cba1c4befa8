"""The mean loss over some examples: value, gradient, and products of its Hessian with vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from optsweep.diagnosis.subject import VALUES, Subject, chunks

# Of passes whose graph is kept from one product to the next, which spares half of each.
_KEPT_VALUES = VALUES


class MeanLoss:
    """The mean over `examples` of a subject's losses, computed in pieces of bounded memory."""

    def __init__(self, subject: Subject, examples: Tensor) -> None:
        """Average over these examples, (M,) int64."""
        self.subject = subject
        self.examples = examples

    @torch.no_grad()
    def value(self, point: Tensor) -> float:
        """The mean loss at a point (P,)."""
        sums = [
            self.subject.losses(point, piece).sum(dtype=torch.float64)
            for piece in chunks(self.examples, self.subject.rows)
        ]
        return float(torch.stack(sums).sum()) / len(self.examples)

    def gradient(self, point: Tensor) -> Tensor:
        """Its gradient, (P,)."""
        total = torch.zeros_like(point)
        for piece in chunks(self.examples, self.subject.rows):
            leaf = point.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.subject.losses(leaf, piece).sum(), leaf)
            total += found
        return total / len(self.examples)

    def hessian(self, point: Tensor) -> Hessian:
        """Its Hessian at a point."""
        return Hessian(self.subject, point, self.examples)


class Hessian:
    """Products of the Hessian with vectors, by differentiating the gradient once more.

    The graph of the gradient is kept where it is small enough, since it is the same for every
    vector: ten seconds of an examination become six.
    """

    def __init__(self, subject: Subject, point: Tensor, examples: Tensor) -> None:
        """Of the mean loss over `examples` at `point`."""
        self._subject = subject
        self._point = point.detach()
        self._examples = examples
        pieces = chunks(examples, subject.rows)
        values = len(examples) * (VALUES // subject.rows)
        keeps = values <= _KEPT_VALUES
        self._kept = [self._differentiated(piece) for piece in pieces] if keeps else None

    def __call__(self, vector: Tensor) -> Tensor:
        """The Hessian times a vector (P,)."""
        total = torch.zeros_like(self._point)
        if self._kept is not None:
            for leaf, gradient in self._kept:
                total += _differentiate(gradient, leaf, vector, keep=True)
        else:
            for piece in chunks(self._examples, self._subject.rows):
                leaf, gradient = self._differentiated(piece)
                total += _differentiate(gradient, leaf, vector, keep=False)
        return total / len(self._examples)

    def _differentiated(self, piece: Tensor) -> tuple[Tensor, Tensor]:
        leaf = self._point.clone().requires_grad_()
        loss = self._subject.losses(leaf, piece).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return leaf, gradient


def _differentiate(gradient: Tensor, leaf: Tensor, vector: Tensor, keep: bool) -> Tensor:
    if not gradient.requires_grad:  # of a linear loss
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(
        gradient, leaf, vector, retain_graph=keep, allow_unused=True, materialize_grads=True
    )
    return found
