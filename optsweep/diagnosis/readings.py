"""What is read at one checkpoint of one seed: numbers that rules can be stated on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# What forks are called.
BASE = "lr x 1"
FASTER = "lr x 3"
SLOWER = ("lr x 0.3", "lr x 0.1")
BATCH = "batch x 8"
PROJECTED = "sharpest out"
FREED = "sharpest out, lr x 3"
KICKED = "kick"


@dataclass(frozen=True)
class Readings:
    """All numbers that a verdict may look at; none of them depends on the loss's unit.

    Attributes:
        loss: Of the examples that are looked at.
        gradient_norm: Of its gradient.
        largest: Largest eigenvalue of its Hessian.
        smallest: Smallest one.
        residual: Largest residual of both.
        flatness: ‖Hg‖ / (max |eigenvalue| ‖g‖), 0 if the gradient lies in the Hessian's kernel.
        bending: g^T H g / ‖g‖²; below 0 where the gradient grows on the way down.
        hessian_gradient: ‖Hg‖ / ‖g‖.
        top_share: Of ‖g‖², that in the directions of the ten largest eigenvalues.
        promise: ‖g‖² / (2 max |eigenvalue| loss), what one step along the gradient could lower
            the loss by if all directions were as curved as the sharpest, relative to the loss.
        decrement: g^T H^+ g / (2 loss), what Newton's method expects to be left, relative to the
            loss; NaN where the gradient is not small, or some curvature is negative.
        slope_drop: What the loss falls by along its negative gradient at best, relative to it.
        escape_drop: See `escape.Escape`.
        extent: max |eigenvalue| max(1, ‖w‖)² / (2 loss): what curvature changes the loss by
            within the weights' own size, relative to it.
        weight_effect: (|g^T v| + |v^T H v|) / loss, with v the weights without biases: what the
            loss feels of the weights' size; NaN if there are none of two or more axes.
        sharpness: Largest eigenvalue, preconditioned as Adam does, by the limit of the rate for
            the full batch: lr λ / 2 without momentum. NaN for an optimizer without a known limit.
        stability: The same where the batch is full, else batch sharpness by its limit. 1 is the
            edge.
        critical_multiple: See `budget.critical_multiple`.
        descent: Of the budget, as are the next three.
        curvature: Expected from curvature.
        noise: Expected from noise.
        measured: What a step changes the loss by.
        noise_scale: tr Σ / ‖g‖².
        noise_scale_error: Its standard error.
        swing: Mean ‖g‖² of this and the next points of the training, by this one's: how far from
            the usual one a single gradient is.
        batch_size: Examples of a step.
        cosine: Mean cosine of successive gradients.
        update_ratio: Norm of a step by that of the weights.
        dead_units: Largest share of dead units in a layer.
        gradient_ratio: Smallest by largest gradient norm of a layer.
        constant_inputs: Share of the inputs that never change.
        falls: Fork -> horizon in steps -> what it lowered the loss by, relative to it; -inf if
            it diverged. `forks` has the forks' names.
    """

    loss: float
    gradient_norm: float = 1.0
    largest: float = 1.0
    smallest: float = 0.0
    residual: float = 0.0
    flatness: float = 0.5
    bending: float = 0.5
    hessian_gradient: float = 0.5
    top_share: float = 0.5
    promise: float = 0.1
    decrement: float = math.nan
    slope_drop: float = 0.1
    escape_drop: float = 0.0
    extent: float = 1.0
    weight_effect: float = math.nan
    sharpness: float = math.nan
    stability: float = math.nan
    critical_multiple: float = 2.0
    descent: float = -0.1
    curvature: float = 0.0
    noise: float = 0.0
    measured: float = 0.0
    noise_scale: float = 0.0
    noise_scale_error: float = 0.0
    swing: float = 1.0
    batch_size: int = 1
    cosine: float = 0.0
    update_ratio: float = 1e-3
    dead_units: float = 0.0
    gradient_ratio: float = 1.0
    constant_inputs: float = 0.0
    falls: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
