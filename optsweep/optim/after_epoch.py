"""Schedules that are asked after each epoch, as the training loops of a textbook ask them.

*Dive into Deep Learning* (Zhang et al., d2l.ai, section 12.11) sets the rate behind an epoch, so
that the first epoch runs at the optimizer's own rate whatever the schedule, and its exponential
schedule keeps a state: each call multiplies the rate once more, also calls that only draw it.
Scales are relative to the optimizer's rate, ticks are epochs.
"""

from __future__ import annotations

import math

from optsweep.config.checks import InputError
from optsweep.optim.schedules import Schedule


def factor_after_epoch(
    base_scale: float, factor: float, floor_scale: float, calls_before: int = 0
) -> Schedule:
    """Multiply by ``factor`` at every call, never below ``floor_scale``.

    Multiplier at epoch t: 1 for t = 0, then max(floor_scale, base_scale factor^(calls_before + t)).

    Args:
        base_scale: Where the schedule starts, before its first call.
        factor: Of each call.
        floor_scale: The least multiplier.
        calls_before: How often the schedule has been called before the training, for a picture.

    Raises:
        InputError: If not 0 < factor <= 1.

    >>> [factor_after_epoch(16, 0.5, 2.0)(t) for t in range(5)]
    [1.0, 8.0, 4.0, 2.0, 2.0]
    >>> [factor_after_epoch(16, 0.5, 2.0, calls_before=50)(t) for t in range(3)]
    [1.0, 2.0, 2.0]
    """
    if not 0 < factor <= 1:
        raise InputError(f"scheduler.factor={factor}: expected a number in (0, 1]")

    def multiplier(t: int) -> float:
        return max(floor_scale, base_scale * factor ** (calls_before + t)) if t else 1.0

    return multiplier


def cosine_after_epoch(
    base_scale: float, final_scale: float, max_update: int, warmup_steps: int = 0
) -> Schedule:
    """Ramp from 0 to ``base_scale``, then half a cosine to ``final_scale``, asked after each epoch.

    Multiplier at epoch t: 1 for t = 0, then c(t - 1), where with W = warmup_steps and
    T = max_update:

        c(t) = base_scale t / W for t < W
        c(t) = final_scale + (base_scale - final_scale) (1 + cos(pi (t - W) / (T - W))) / 2
        c(t) = final_scale for t > T

    Raises:
        InputError: If not 0 <= warmup_steps < max_update.

    >>> [round(cosine_after_epoch(3, 1, max_update=2)(t), 3) for t in range(5)]
    [1.0, 3.0, 2.0, 1.0, 1.0]
    >>> [round(cosine_after_epoch(3, 1, max_update=4, warmup_steps=2)(t), 3) for t in range(6)]
    [1.0, 0.0, 1.5, 3.0, 2.0, 1.0]
    """
    if not 0 <= warmup_steps < max_update:
        raise InputError(
            f"scheduler.warmup_steps={warmup_steps}: expected fewer than max_update={max_update}"
        )

    def multiplier(t: int) -> float:
        if t == 0:
            return 1.0
        t -= 1
        if t < warmup_steps:
            return base_scale * t / warmup_steps
        angle = math.pi * min(1.0, (t - warmup_steps) / (max_update - warmup_steps))
        return final_scale + (base_scale - final_scale) * (1 + math.cos(angle)) / 2

    return multiplier
