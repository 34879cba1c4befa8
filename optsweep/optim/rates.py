"""The learning rates of a run, tabulated before it starts.

torch's own schedulers are stepped on a dummy optimizer, the schedules of `optim.schedules` are
asked for every tick.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from optsweep.config.checks import (
    Blaming,
    InputError,
    check_arguments,
    number,
    parameters_of,
)
from optsweep.config.targets import locate

# Parameters that mean "the length of the run" in torch's schedulers and in ours.
MOST_RATES = 10**8  # which take minutes
_RUN_LENGTHS = ("T_max", "total_iters", "total_steps", "num_steps")


def learning_rates(
    scheduler: Mapping[str, Any], lr: float, epochs: int, steps_per_epoch: int
) -> np.ndarray:
    """Tabulate the learning rate of a whole run.

    Args:
        scheduler: ``_target_`` (a torch scheduler class or a function of `optim.schedules`),
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
        InputError: If a setting is unknown or cannot be used in a run of this length.

    Warns:
        UserWarning: If a milestone lies beyond the end of the run.
    """
    settings = dict(scheduler)
    target = settings.pop("_target_")
    ticks_per_epoch = steps_per_epoch if settings.pop("interval") == "step" else 1
    num_ticks = epochs * ticks_per_epoch
    if num_ticks > MOST_RATES:
        raise InputError(
            f"scheduler.interval=step, trainer.epochs={epochs}: a rate for each of {num_ticks} "
            f"steps is too long a table; scheduler.interval=epoch, or at most "
            f"{MOST_RATES // steps_per_epoch} epochs"
        )
    schedule = locate("scheduler", target)
    if "base_lr" not in inspect.signature(schedule).parameters:  # CyclicLR has its own
        lr = settings.pop("base_lr", lr)
    _fill_lengths(schedule, settings, num_ticks, ticks_per_epoch)
    check_arguments("scheduler", parameters_of(schedule), settings)
    if isinstance(schedule, type) and issubclass(schedule, LRScheduler):
        if issubclass(schedule, ReduceLROnPlateau):
            raise InputError(f"scheduler {target} needs a metric; choose a schedule of time alone")
        if "max_lr" in inspect.signature(schedule).parameters:
            settings.setdefault("max_lr", lr)
        rates = _torch_rates(schedule, settings, lr, num_ticks)
    else:
        with Blaming(f"scheduler {schedule.__name__}"):
            multiplier = schedule(**settings)
            multipliers = map(float, map(multiplier, range(num_ticks)))
            rates = lr * np.fromiter(multipliers, np.float64, num_ticks)
    if (wrong := ~((rates >= 0) & (rates < math.inf))).any():
        rate = rates[wrong][0]
        raise InputError(f"scheduler {target} gives rate {rate}: expected a finite number >= 0")
    _warn_of_milestones(settings.get("milestones", ()), num_ticks, scheduler["interval"])
    return rates.reshape(epochs, ticks_per_epoch)


def _fill_lengths(
    schedule: Any, settings: dict[str, Any], num_ticks: int, ticks_per_epoch: int
) -> None:
    for name in list(settings):
        if name.endswith("_epochs"):
            number(f"scheduler.{name}", settings[name])
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
) -> np.ndarray:
    optimizer = _Still([torch.zeros(1)], lr=lr)
    (group,) = optimizer.param_groups
    others = {key: value for key, value in group.items() if key not in ("lr", "params")}
    rates = np.empty(num_ticks)
    with Blaming(f"scheduler {schedule.__name__}"):
        scheduler = schedule(optimizer=optimizer, **settings)
        for tick in range(num_ticks):
            if tick == 1:
                optimizer.step()  # the first is watched for, and each takes as long as a rate
            if tick:
                scheduler.step()
            rates[tick] = group["lr"]
            for key, value in others.items():
                if group[key] != value:
                    hint = "; give scheduler.cycle_momentum=false" if key == "momentum" else ""
                    raise InputError(
                        f"scheduler {schedule.__name__} changes {key} too, which stays as it is "
                        f"here{hint}"
                    )
    return rates


def _warn_of_milestones(milestones: Sequence[int], num_ticks: int, interval: str) -> None:
    missed = [each for each in milestones if number("scheduler.milestones", each) >= num_ticks]
    if missed:
        warnings.warn(
            f"scheduler.milestones: {', '.join(map(str, missed))} is never reached in "
            f"{num_ticks} {interval}s",
            stacklevel=3,
        )
