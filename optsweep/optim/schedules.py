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


def linear_warmup(num_steps: int, warmup_steps: int = 0, final_scale: float = 0.0) -> Schedule:
    """Ramp linearly to 1, then fall in a straight line to ``final_scale``.

    With T = num_steps, W = warmup_steps, s = final_scale, at tick t (0-based):

        t <  W:  (t + 1) / W
        t >= W:  s + (1 - s) (T - t) / (T - W)

    Raises:
        InputError: If not 0 <= warmup_steps < num_steps.

    Source: Bergsma et al. 2025, arXiv:2502.15938, "straight to zero".

    >>> [linear_warmup(6, warmup_steps=2)(t) for t in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    _check_warmup(num_steps, warmup_steps)

    def multiplier(t: int) -> float:
        if t < warmup_steps:
            return (t + 1) / warmup_steps
        return final_scale + (1 - final_scale) * (num_steps - t) / (num_steps - warmup_steps)

    return multiplier


def warmup_stable_decay(
    num_steps: int,
    warmup_fraction: float = 0.05,
    decay_fraction: float = 0.2,
    final_scale: float = 0.0,
    decay: str = "linear",
) -> Schedule:
    """Ramp linearly to 1, stay there, and fall to ``final_scale`` at the end.

    With T = num_steps, W and D its fractions, rounded, and x = (t - T + D) / D, at tick t:

        t <  W:      (t + 1) / W
        t >= T - D:  s + (1 - s) (1 - x), or with decay="sqrt" s + (1 - s) (1 - sqrt(x))
        else:        1

    Raises:
        InputError: If the fractions are not in [0, 1] or make more than 1, or the decay has
            another name.

    Source: Hu et al. 2024, arXiv:2404.06395; the root: Hägele et al. 2024, arXiv:2405.18392.

    >>> schedule = warmup_stable_decay(8, warmup_fraction=0.25, decay_fraction=0.5)
    >>> [schedule(t) for t in range(8)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    for name, value in (("warmup_fraction", warmup_fraction), ("decay_fraction", decay_fraction)):
        if not 0 <= value <= 1:
            raise InputError(f"scheduler.{name}={value}: expected a number in [0, 1]")
    if warmup_fraction + decay_fraction > 1:
        raise InputError(
            f"scheduler: a warm-up of {warmup_fraction} and a decay of {decay_fraction} do not fit "
            "into the run; expected fractions that make at most 1"
        )
    if decay not in ("linear", "sqrt"):
        raise InputError(f"scheduler.decay={decay}: expected linear or sqrt")
    num_warmup, num_decay = round(warmup_fraction * num_steps), round(decay_fraction * num_steps)

    def multiplier(t: int) -> float:
        if t < num_warmup:
            return (t + 1) / num_warmup
        past = t - num_steps + num_decay
        if past < 0:
            return 1.0
        done = past / num_decay
        return final_scale + (1 - final_scale) * (1 - (done**0.5 if decay == "sqrt" else done))

    return multiplier


def inverse_sqrt(num_steps: int, warmup_steps: int = 1) -> Schedule:
    """Ramp linearly to 1, then fall with the square root of time.

    With W = warmup_steps, at tick t (0-based): min((t + 1) / W, sqrt(W / (t + 1))).

    Raises:
        InputError: If not 0 < warmup_steps < num_steps.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 5.3, where 1 is the largest rate.

    >>> [inverse_sqrt(9, warmup_steps=2)(t) for t in (0, 1, 7)]
    [0.5, 1.0, 0.5]
    """
    _check_warmup(num_steps, warmup_steps)
    if not warmup_steps:
        raise InputError("scheduler.warmup_epochs=0: expected a warm-up, from whose end it falls")
    return lambda t: min((t + 1) / warmup_steps, math.sqrt(warmup_steps / (t + 1)))


def _check_warmup(num_steps: int, warmup_steps: int) -> None:
    if not 0 <= warmup_steps < num_steps:
        raise InputError(
            f"scheduler: a warm-up of {warmup_steps} does not fit into a run of {num_steps}; "
            "it has to be shorter than the run"
        )
