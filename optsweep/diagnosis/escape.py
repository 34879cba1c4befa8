"""Ways down that a straight slope does not explain: along negative curvature, and beyond it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

_NUM_RADII = 12  # each half of the one before, from four times the weights' norm
_NUM_RANDOM = 8


class Escape(NamedTuple):
    """The best way down that was found.

    Attributes:
        drop: How much it lowers the loss, and more than the slope at its beginning does, relative
            to the loss; at most 0 wherever the loss is convex.
        kick: (P,), from the point to the way's lowest place.
    """

    drop: float
    kick: Tensor


def radii(point: Tensor) -> list[float]:
    """Distances that are tried, from small to large."""
    largest = 4 * max(1.0, float(point.norm()))
    return [largest / 2**index for index in reversed(range(_NUM_RADII))]


def find_escape(
    value: Callable[[Tensor], float],
    point: Tensor,
    loss: float,
    gradient: Tensor,
    directions: Sequence[Tensor],
) -> Escape:
    """Search along straight lines, both ways.

    Of a way w + t v counts min(L(w) - L(w + t v), L(w) + t g^T v - L(w + t v)): what it lowers,
    and what it lowers beyond its tangent, which no convex function does.

    Args:
        value: The mean loss.
        point: w (P,).
        loss: L(w).
        gradient: g (P,).
        directions: v of length 1; the first one is for a kick if no way leads down.
    """
    sizes = radii(point)
    best = Escape(0.0, directions[0] * sizes[0])
    for direction in directions:
        slope = float(gradient @ direction)
        for sign in (1.0, -1.0):
            for size in sizes:
                there = value(point + sign * size * direction)
                drop = min(loss - there, loss + sign * size * slope - there) / loss
                if drop > best.drop:
                    best = Escape(drop, sign * size * direction)
                elif there > 4 * loss:  # far up the wall
                    break
    return best


def random_directions(point: Tensor, generator: Generator) -> list[Tensor]:
    """Some directions of length 1, for where no eigenvector leads out."""
    drawn = torch.randn(_NUM_RANDOM, len(point), generator=generator, dtype=point.dtype)
    return list((drawn / drawn.norm(dim=1, keepdim=True)).to(point.device))


def slope_drop(
    value: Callable[[Tensor], float], point: Tensor, loss: float, gradient: Tensor
) -> float:
    """How much the loss falls along its negative gradient at best, relative to the loss."""
    length = float(gradient.norm())
    if not length:
        return 0.0
    best = loss
    for size in radii(point):
        there = value(point - gradient * (size / length))
        best = min(best, there)
        if there > 4 * loss:
            break
    return (loss - best) / loss
