"""The learning rates of a run, tabulated before it starts, and what else a schedule changes.

torch's own schedulers are stepped on a dummy optimizer, the schedules of `optim.schedules` are
asked for every tick.
"""

from __future__ import annotations

import inspect
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    LambdaLR,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
)

from optsweep.config.checks import (
    Blaming,
    InputError,
    check_arguments,
    number,
    parameters_of,
)
from optsweep.config.targets import locate

MOST_RATES = 10**8  # which take minutes
# Parameters that mean "the length of the run" in torch's schedulers and in ours.
_RUN_LENGTHS = ("T_max", "total_iters", "total_steps", "num_steps")
_NOT_WORTH_LISTING = ("last_epoch", "verbose")


class Timetable(NamedTuple):
    """What a schedule makes of the settings of an optimizer.

    Attributes:
        rates: (epochs, 1) if the learning rate changes with the epoch, (epochs,
            steps_per_epoch) if it changes with every step.
        cycled: Of every other setting that changes, its values (epochs, ticks) or, of betas,
            (epochs, ticks, their number).
    """

    rates: np.ndarray
    cycled: Mapping[str, np.ndarray]


def timetable(
    scheduler: Mapping[str, Any],
    lr: float,
    epochs: int,
    steps_per_epoch: int,
    others: Mapping[str, Any] | None = None,
) -> Timetable:
    """Tabulate what a schedule changes in a whole run.

    Args:
        scheduler: ``_target_`` (a torch scheduler class or a function of `optim.schedules`),
            ``interval`` (``epoch`` or ``step``) and the settings. Settings that mean the
            run's length default to it; those that end in ``_epochs`` are turned into ticks;
            ``base_lr`` takes the place of ``lr``. ``schedulers`` is a list of the like, each of
            which lasts from milestone to milestone in a `SequentialLR`.
        lr: Base learning rate of the optimizer.
        epochs: Length of the run in epochs.
        steps_per_epoch: Mini-batches of an epoch.
        others: Further settings of the optimizer, such as its momentum or betas.

    Raises:
        InputError: If a setting is unknown or cannot be used in a run of this length.

    Warns:
        UserWarning: If a milestone lies beyond the end of the run.
    """
    settings = dict(scheduler)
    target = settings["_target_"]
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
    ticks = _Ticks(num_ticks, ticks_per_epoch)
    cycled: dict[str, list[Any]] = {}
    if isinstance(schedule, type):
        rates, cycled = _torch_table(settings, lr, ticks, others or {})
    else:
        arguments = _arguments(schedule, settings, ticks)
        with Blaming(f"scheduler {schedule.__name__}"):
            multiplier = schedule(**arguments)
            multipliers = map(float, map(multiplier, range(num_ticks)))
            rates = lr * np.fromiter(multipliers, np.float64, num_ticks)
    if (wrong := ~((rates >= 0) & (rates < math.inf))).any():
        rate = rates[wrong][0]
        raise InputError(f"scheduler {target} gives rate {rate}: expected a finite number >= 0")
    milestones = _arguments(schedule, settings, ticks).get("milestones", ())
    _warn_of_milestones(milestones, num_ticks, scheduler["interval"])

    def table(values: Sequence[Any] | np.ndarray) -> np.ndarray:
        array = np.array(values, dtype=np.float64)
        return array.reshape(epochs, ticks_per_epoch, *array.shape[1:])

    return Timetable(table(rates), {key: table(values) for key, values in cycled.items()})


class _Ticks(NamedTuple):
    """Length of a schedule, and of an epoch."""

    total: int
    per_epoch: int


def _arguments(schedule: Any, given: Mapping[str, Any], ticks: _Ticks) -> dict[str, Any]:
    """What a class or function is called with, beside an optimizer and other schedulers.

    Raises:
        InputError: If a setting is unknown or of another kind.
    """
    settings = {key: value for key, value in given.items() if key != "_target_"}
    parameters = inspect.signature(schedule).parameters
    for name in list(settings):
        if name.endswith("_epochs"):
            value = settings.pop(name)
            if name == "milestone_epochs" and isinstance(value, Sequence):
                settings["milestones"] = [
                    round(number("scheduler.milestone_epochs", each) * ticks.per_epoch)
                    for each in value
                ]
            else:
                number(f"scheduler.{name}", value)
                in_ticks = name.removesuffix("_epochs") + "_steps"
                settings[in_ticks] = round(value * ticks.per_epoch)
    names = [name for name in parameters if name not in ("self", "optimizer")]
    for name in settings:
        if name not in names:
            raise InputError(
                f"scheduler {schedule.__name__} has no setting {name!r}; it has: "
                f"{', '.join(each for each in names if each not in _NOT_WORTH_LISTING)}; "
                "scheduler=PATH begins without those of another option"
            )
    for name in _RUN_LENGTHS:
        if name in parameters:
            settings.setdefault(name, ticks.total)
    check_arguments("scheduler", parameters_of(schedule), settings)
    return settings


class _Still(Optimizer):
    """For schedulers, who look at an optimizer's settings and watch that steps are taken.

    torch's own would import its compiler at a step.
    """

    def __init__(self, lr: float, others: Mapping[str, Any]) -> None:
        super().__init__([torch.zeros(1)], {**others, "lr": lr})

    def step(self, closure: Any = None) -> Any:
        """Do nothing."""


def _torch_table(
    settings: Mapping[str, Any], lr: float, ticks: _Ticks, others: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Learning rates, and the values of every other setting that changes, at every tick."""
    optimizer = _Still(lr, others)
    (group,) = optimizer.param_groups
    before = dict(group)
    name = locate("scheduler", settings["_target_"]).__name__
    rates = np.empty(ticks.total)
    cycled: dict[str, list[Any]] = {}
    with Blaming(f"scheduler {name}"):
        scheduler = _torch_scheduler(settings, optimizer, lr, ticks)
        for tick in range(ticks.total):
            if tick == 1:
                optimizer.step()  # the first is watched for, and each takes as long as a rate
            if tick:
                scheduler.step()
            rates[tick] = group["lr"]
            for key in others:
                if key in cycled:
                    cycled[key].append(group[key])
                elif group[key] != before[key]:
                    cycled[key] = [before[key]] * tick + [group[key]]
    return rates, cycled


def _torch_scheduler(
    settings: Mapping[str, Any], optimizer: Optimizer, lr: float, ticks: _Ticks
) -> LRScheduler:
    """A scheduler of torch's, with those in it, or one of ours as such.

    Raises:
        InputError: If it cannot be built.
    """
    schedule = locate("scheduler", settings["_target_"])
    arguments = _arguments(schedule, settings, ticks)
    with Blaming(f"scheduler {schedule.__name__}"):
        if not isinstance(schedule, type):
            return LambdaLR(optimizer, schedule(**arguments))
        if issubclass(schedule, ReduceLROnPlateau):
            target = settings["_target_"]
            raise InputError(f"scheduler {target} needs a metric; choose a schedule of time alone")
        parameters = inspect.signature(schedule).parameters
        if "max_lr" in parameters:
            arguments.setdefault("max_lr", lr)
        if "schedulers" in arguments:
            lengths = _lengths(schedule, arguments, ticks)
            if issubclass(schedule, ChainedScheduler):
                _refuse_ours(arguments["schedulers"])
            arguments["schedulers"] = [
                _torch_scheduler(each, optimizer, lr, _Ticks(length, ticks.per_epoch))
                for each, length in zip(arguments["schedulers"], lengths, strict=True)
            ]
        if "optimizer" in parameters:
            arguments["optimizer"] = optimizer
        scheduler = schedule(**arguments)
        assert isinstance(scheduler, LRScheduler)
        return scheduler


def _refuse_ours(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what sets a rate of its own where rates are multiplied.

    Raises:
        InputError: If one is no scheduler of torch's.
    """
    for node in nodes:
        if not isinstance(locate("scheduler", node["_target_"]), type):
            raise InputError(
                f"scheduler ChainedScheduler: {node['_target_']} would undo what the others do; "
                "choose torch's own, or SequentialLR"
            )


def _lengths(schedule: type, arguments: Mapping[str, Any], ticks: _Ticks) -> list[int]:
    """How long each of several schedulers lasts."""
    nodes, milestones = arguments["schedulers"], arguments.get("milestones", ())
    if not issubclass(schedule, SequentialLR) or len(milestones) != len(nodes) - 1:
        return [ticks.total] * len(nodes)  # torch tells of missing milestones
    bounds = [0, *milestones, ticks.total]
    return [max(1, end - start) for start, end in itertools.pairwise(bounds)]


def _warn_of_milestones(milestones: Sequence[int], num_ticks: int, interval: str) -> None:
    missed = [each for each in milestones if number("scheduler.milestones", each) >= num_ticks]
    if missed:
        warnings.warn(
            f"scheduler.milestones: {', '.join(map(str, missed))} is never reached in "
            f"{num_ticks} {interval}s",
            stacklevel=3,
        )
