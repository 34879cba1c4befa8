"""What one step is expected to do to the loss, term by term, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from optsweep.diagnosis.lanczos import Product


class Budget(NamedTuple):
    """The expected change of the loss in one step.

    With u what a step adds to the weights,

    E[change] = g^T E[u] + E[u]^T H E[u] / 2 + tr(H Cov[u]) / 2.

    For plain SGD, u = -lr g_b, that is -lr |g|^2 + lr^2 / 2 (g^T H g + tr(H Sigma) / B). Adam's
    preconditioner and momentum, with what it has gathered, are in u, which the optimizer itself
    takes.

    Attributes:
        descent: The first term, below 0 if the step goes down.
        curvature: The second.
        noise: The third; 0 where every step sees all examples.
        measured: The mean change.
    """

    descent: float
    curvature: float
    noise: float
    measured: float

    @property
    def expected(self) -> float:
        """The sum of the terms."""
        return self.descent + self.curvature + self.noise


def descent_budget(gradient: Tensor, product: Product, updates: Tensor, changes: Tensor) -> Budget:
    """Take the terms from what K batches would add.

    Args:
        gradient: (P,) of the mean loss.
        product: Of its Hessian.
        updates: (K, P), each of a batch of its own; a single one is that of all examples.
        changes: (K,) of the loss, as each of them changes it.
    """
    mean = updates.mean(0)
    spread = updates - mean
    count = len(updates)
    # The mean of K updates still has a K-th of their variance, which belongs to the noise.
    squares = [float(each @ product(each)) for each in spread] if count > 1 else [0.0]
    noise = 0.5 * sum(squares) / max(1, count - 1)
    curvature = 0.5 * float(mean @ product(mean)) - noise / count
    return Budget(float(gradient @ mean), curvature, noise, float(changes.double().mean()))


def critical_multiple(
    change: Callable[[float], float], most: float = 1024.0, bisections: int = 4
) -> float:
    """The largest multiple of the actual update, up to `most`, that does not raise the loss.

    Found by doubling or halving, then by bisection of the exponent: within 5 % for a loss that
    rises once. 1 is the edge of stability; 0 if even the smallest multiple raises it.

    Args:
        change: What a multiple of the update changes the mean loss by.
        most: Where the search ends.
        bisections: Steps of it.

    Source: critical sharpness, arXiv:2601.16979, is 2 / (lr * this).

    >>> round(critical_multiple(lambda c: -3 * c + c * c, bisections=10), 2)
    3.0
    """
    low, high = 1.0, 1.0
    if change(1.0) <= 0:
        while change(high) <= 0:
            low, high = high, 2 * high
            if low >= most:
                return most
    else:
        while change(low) > 0:
            low, high = low / 2, low
            if low < 1 / most:
                return 0.0
    for _ in range(bisections):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if change(middle) <= 0 else (low, middle)
    return (low * high) ** 0.5
