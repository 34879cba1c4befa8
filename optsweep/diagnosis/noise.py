"""What mini-batches differ by, and how sharp the loss is along their own gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from optsweep.diagnosis.operators import MeanLoss
from optsweep.diagnosis.subject import Subject


class Noise(NamedTuple):
    """The noise of the gradient.

    Attributes:
        trace: tr Sigma, the variance of one example's gradient, over all parameters.
        error: Standard error of it.
        sharpness: Batch sharpness, E[g_b^T H_b g_b] / E|g_b|^2 over batches b; 0 without gradient.
    """

    trace: float
    error: float
    sharpness: float

    def scale(self, squared_norm: float) -> float:
        """Tr Sigma / |g|^2: a batch of so many examples has as much noise as gradient."""
        return self.trace / squared_norm if squared_norm > 0 else math.inf if self.trace else 0.0


def gradient_noise(
    subject: Subject,
    point: Tensor,
    batches: Sequence[Tensor],
    gradients: Tensor,
    preconditioner: Tensor | None = None,
) -> Noise:
    """Estimate it from K batches of B of the N examples each, drawn without replacement.

    Their variance is tr Sigma / B * (N - B) / (N - 1).

    Args:
        subject: Whose loss.
        point: (P,).
        batches: K of (B,).
        gradients: (K, P), those of the batches.
        preconditioner: (P,), what Adam divides by; batch sharpness is that of what is then the
            Hessian, which its rate is held against.

    Source: McCandlish et al. 2018, arXiv:1812.06162; batch sharpness arXiv:2412.20553.
    """
    num_examples, batch_size = subject.num_examples, len(batches[0])
    directions = gradients if preconditioner is None else gradients / preconditioner
    curved = [
        float(direction @ MeanLoss(subject, batch).hessian(point)(direction))
        for batch, direction in zip(batches, directions, strict=True)
    ]
    total = float((gradients * directions).sum())
    sharpness = sum(curved) / total if total else 0.0
    if len(batches) < 2 or batch_size >= num_examples:
        return Noise(0.0, 0.0, sharpness)
    per_example = batch_size * (num_examples - 1) / (num_examples - batch_size)
    distances = (gradients - gradients.mean(0)).double().square().sum(1)
    distances *= per_example * len(batches) / (len(batches) - 1)
    error = float(distances.std()) / math.sqrt(len(batches))
    return Noise(float(distances.mean()), error, sharpness)


class Signal(NamedTuple):
    """Where a gradient does not reach.

    Attributes:
        dead_units: Largest share, of a layer, of units whose own weights have no gradient at all.
        gradient_ratio: Smallest by largest norm of the gradient of a layer's weights.
        update_ratio: Norm of a step by the norm of the weights.
    """

    dead_units: float
    gradient_ratio: float
    update_ratio: float


def signal(parameters: Sequence[tuple[Tensor, Tensor]], update: Tensor, point: Tensor) -> Signal:
    """Look for units and layers without signal.

    A unit that no example activates has a gradient of exactly 0 in all its weights, whatever the
    kind of layer, and so has one that nothing behind it listens to.

    Args:
        parameters: Of each weight of two or more axes, the weight and its gradient.
        update: (P,) of a step.
        point: (P,).
    """
    dead, norms = 0.0, []
    for _, gradient in parameters:
        rows = gradient.flatten(1).abs().amax(1)
        dead = max(dead, float((rows == 0).double().mean()))
        norms.append(float(gradient.norm()))
    ratio = min(norms) / max(norms) if norms and max(norms) > 0 else 0.0
    weights = float(point.norm())
    return Signal(dead, ratio, float(update.norm()) / weights if weights else math.inf)


def mean_cosine(gradients: Sequence[Tensor]) -> float:
    """Mean cosine between each gradient and the next."""
    pairs = itertools.pairwise(gradients)
    cosines = [float(torch.nn.functional.cosine_similarity(a, b, dim=0)) for a, b in pairs]
    return sum(cosines) / len(cosines) if cosines else 0.0
