"""Learning-rate schedules: a table of rates made before training starts.

PyTorch's own schedulers are stepped on a dummy optimizer; schedules that PyTorch lacks
are pure functions from the tick (an epoch or a step, by `scheduler.interval`) to a
multiplier on the base learning rate.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from optsweep.config.targets import locate

Schedule = Callable[[int], float]

# Parameters that mean "the length of the run" in torch's schedulers and in ours.
_RUN_LENGTHS = ("T_max", "total_iters", "total_steps", "num_steps")


def factor(factor: float, floor_scale: float = 0.0) -> Schedule:
    """Multiply by ``factor`` at every tick, never below ``floor_scale``.

    Multiplier at tick t: max(floor_scale, factor^t), both relative to the base rate.

    Raises:
        ValueError: If not 0 < factor <= 1 or not 0 <= floor_scale <= 1.

    >>> [factor(0.5, floor_scale=0.3)(t) for t in range(3)]
    [1.0, 0.5, 0.3]
    """
    if not 0 < factor <= 1:
        raise ValueError(f"scheduler.factor={factor}: expected a number in (0, 1]")
    if not 0 <= floor_scale <= 1:
        raise ValueError(f"scheduler.floor_scale={floor_scale}: expected a number in [0, 1]")
    return lambda t: max(floor_scale, factor**t)


def piecewise(num_steps: int, milestone_fractions: Sequence[float], gamma: float) -> Schedule:
    """Multiply by ``gamma`` at each milestone, given as a fraction of the run.

    Multiplier at tick t of T = num_steps: gamma^(number of fractions f with round(f T) <= t).

    Raises:
        ValueError: If a fraction is not in (0, 1).

    Warns:
        UserWarning: If a milestone falls on the start or the end of the run.

    >>> [piecewise(4, [0.5, 0.75], 0.1)(t) for t in range(4)]
    [1.0, 1.0, 0.1, 0.010000000000000002]
    """
    for fraction in milestone_fractions:
        if not 0 < fraction < 1:
            raise ValueError(
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
        ValueError: If not 0 <= warmup_steps < num_steps.

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
        ValueError: If not 0 <= warmup_steps < num_steps.

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


def learning_rates(
    scheduler: Mapping[str, Any], lr: float, epochs: int, steps_per_epoch: int
) -> np.ndarray:
    """Tabulate the learning rate of a whole run.

    Args:
        scheduler: ``_target_`` (a torch scheduler class or a function of this module),
            ``interval`` (``epoch`` or ``step``) and the settings. Settings that mean the
            run's length default to it; those that end in ``_epochs`` are turned into ticks;
            ``base_lr`` takes the place of ``lr``.
        lr: Base learning rate of the optimizer.
        epochs: Length of the run in epochs.
        steps_per_epoch: Mini-batches of an epoch.

    Returns:
        (epochs, 1) if the rate changes with the epoch, (epochs, steps_per_epoch) if it
        changes with every step.

    Raises:
        ValueError: If a setting is unknown or cannot be used in a run of this length.

    Warns:
        UserWarning: If a milestone lies beyond the end of the run.
    """
    settings = dict(scheduler)
    target = settings.pop("_target_")
    ticks_per_epoch = steps_per_epoch if settings.pop("interval") == "step" else 1
    num_ticks = epochs * ticks_per_epoch
    schedule = locate("scheduler", target)
    if "base_lr" not in inspect.signature(schedule).parameters:  # CyclicLR has its own
        lr = settings.pop("base_lr", lr)
    _fill_lengths(schedule, settings, num_ticks, ticks_per_epoch)
    if isinstance(schedule, type) and issubclass(schedule, LRScheduler):
        if issubclass(schedule, ReduceLROnPlateau):
            raise ValueError(f"scheduler {target} needs a metric; choose a schedule of time alone")
        if "max_lr" in inspect.signature(schedule).parameters:
            settings.setdefault("max_lr", lr)
        rates = _torch_rates(schedule, settings, lr, num_ticks)
    else:
        multiplier = _call(schedule, settings)
        rates = [lr * multiplier(t) for t in range(num_ticks)]
    for rate in rates:
        if not 0 <= rate < math.inf:
            raise ValueError(f"scheduler {target} gives rate {rate}: expected a finite number >= 0")
    _warn_of_milestones(settings.get("milestones", ()), num_ticks, scheduler["interval"])
    return np.array(rates, dtype=np.float64).reshape(epochs, ticks_per_epoch)


def _fill_lengths(
    schedule: Any, settings: dict[str, Any], num_ticks: int, ticks_per_epoch: int
) -> None:
    for name in list(settings):
        if name.endswith("_epochs"):
            ticks = round(settings.pop(name) * ticks_per_epoch)
            settings[name.removesuffix("_epochs") + "_steps"] = ticks
    for name in _RUN_LENGTHS:
        if name in inspect.signature(schedule).parameters:
            settings.setdefault(name, num_ticks)


class _Still(torch.optim.SGD):
    """For schedulers, who watch that steps are taken; torch's own would import its compiler."""

    def step(self, closure: Any = None) -> Any:
        """Do nothing."""


def _torch_rates(
    schedule: type[LRScheduler], settings: dict[str, Any], lr: float, num_ticks: int
) -> list[float]:
    optimizer = _Still([torch.zeros(1)], lr=lr)
    scheduler = _call(schedule, {"optimizer": optimizer, **settings})
    rates = []
    for tick in range(num_ticks):
        if tick:
            optimizer.step()
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def _call(schedule: Any, settings: dict[str, Any]) -> Any:
    try:
        return schedule(**settings)
    except TypeError as error:
        raise ValueError(f"scheduler {schedule.__name__}: {error}") from error


def _check_warmup(num_steps: int, warmup_steps: int) -> None:
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(
            f"scheduler: a warm-up of {warmup_steps} does not fit into a run of {num_steps}; "
            "it has to be shorter than the run"
        )


def _warn_of_milestones(milestones: Sequence[int], num_ticks: int, interval: str) -> None:
    missed = [milestone for milestone in milestones if milestone >= num_ticks]
    if missed:
        warnings.warn(
            f"scheduler.milestones: {', '.join(map(str, missed))} is never reached in "
            f"{num_ticks} {interval}s",
            stacklevel=3,
        )
