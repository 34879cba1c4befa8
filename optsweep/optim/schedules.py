"""Learning-rate schedules that torch lacks: pure functions from a tick to a multiplier.

A tick is an epoch or a step, by `scheduler.interval`; the multiplier is on the base learning rate.
Every public function here may be named by `scheduler._target_`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

from optsweep.config.checks import InputError

Schedule = Callable[[int], float]


def factor(factor: float, floor_scale: float = 0.0) -> Schedule:
    """Multiply by ``factor`` at every tick, never below ``floor_scale``.

    Multiplier at tick t: max(floor_scale, factor^t), both relative to the base rate.

    Raises:
        InputError: If not 0 < factor <= 1 or not 0 <= floor_scale <= 1.

    >>> [factor(0.5, floor_scale=0.3)(t) for t in range(3)]
    [1.0, 0.5, 0.3]
    """
    if not 0 < factor <= 1:
        raise InputError(f"scheduler.factor={factor}: expected a number in (0, 1]")
    if not 0 <= floor_scale <= 1:
        raise InputError(f"scheduler.floor_scale={floor_scale}: expected a number in [0, 1]")
    return lambda t: max(floor_scale, factor**t)


def piecewise(num_steps: int, milestone_fractions: Sequence[float], gamma: float) -> Schedule:
    """Multiply by ``gamma`` at each milestone, given as a fraction of the run.

    Multiplier at tick t of T = num_steps: gamma^(number of fractions f with round(f T) <= t).

    Raises:
        InputError: If a fraction is not in (0, 1).

    Warns:
        UserWarning: If a milestone falls on the start or the end of the run.

    >>> [piecewise(4, [0.5, 0.75], 0.1)(t) for t in range(4)]
    [1.0, 1.0, 0.1, 0.010000000000000002]
    """
    for fraction in milestone_fractions:
        if not 0 < fraction < 1:
            raise InputError(
                f"scheduler.milestone_fractions={list(milestone_fractions)}: expected "
                "fractions of the run between 0 and 1"
            )
    milestones = [round(fraction * num_steps) for fraction in milestone_fractions]
    if not all(0 < milestone < num_steps for milestone in milestones):
        warnings.warn(
            f"scheduler.milestone_fractions={list(milestone_fractions)}: a run of {num_steps} is "
            "too short for a milestone of its own",
            stacklevel=2,
        )
    return lambda t: gamma ** sum(milestone <= t for milestone in milestones)


def warmup(num_steps: int, warmup_steps: int) -> Schedule:
    """Ramp linearly to 1 over ``warmup_steps`` ticks, then stay: min(1, (t + 1) / W).

    Raises:
        InputError: If not 0 <= warmup_steps < num_steps.

    >>> [warmup(4, warmup_steps=2)(t) for t in range(4)]
    [0.5, 1.0, 1.0, 1.0]
    """
    _check_warmup(num_steps, warmup_steps)
    return lambda t: min(1.0, (t + 1) / warmup_steps) if warmup_steps else 1.0


def cosine_warmup(num_steps: int, warmup_steps: int = 0, final_scale: float = 0.0) -> Schedule:
    """Ramp linearly to 1, then follow half a cosine down to ``final_scale``.

    With T = num_steps, W = warmup_steps, s = final_scale, at tick t (0-based):

        t <  W:  (t + 1) / W
        t >= W:  s + (1 - s) (1 + cos(pi (t - W) / (T - W))) / 2

    Args:
        num_steps: Length of the run in ticks.
        warmup_steps: Length of the ramp in ticks; 0 means none.
        final_scale: Dimensionless multiplier approached at t = T.

    Raises:
        InputError: If not 0 <= warmup_steps < num_steps.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983 (the cosine, without restarts);
    the ramp is ours.

    >>> [round(cosine_warmup(4, warmup_steps=2)(t), 3) for t in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    _check_warmup(num_steps, warmup_steps)

    def multiplier(t: int) -> float:
        if t < warmup_steps:
            return (t + 1) / warmup_steps
        angle = math.pi * (t - warmup_steps) / (num_steps - warmup_steps)
        return final_scale + (1 - final_scale) * (1 + math.cos(angle)) / 2

    return multiplier


def _check_warmup(num_steps: int, warmup_steps: int) -> None:
    if not 0 <= warmup_steps < num_steps:
        raise InputError(
            f"scheduler: a warm-up of {warmup_steps} does not fit into a run of {num_steps}; "
            "it has to be shorter than the run"
        )
