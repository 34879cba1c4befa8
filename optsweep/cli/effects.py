"""Settings that change nothing where they stand, and cells of a grid that train the same."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from optsweep.cli.cell_loader import folders_of
from optsweep.cli.composition import plan, stacking_of
from optsweep.cli.grids import Cell
from optsweep.cli.overrides import settings_of, shown
from optsweep.cli.sweepers import is_trained_here
from optsweep.config import identity
from optsweep.config.checks import InputError
from optsweep.config.schema import Config, MLPConfig

if TYPE_CHECKING:
    from optsweep.optim.resolved import ResolvedOptimizer

# Keys whose effect only a plan of the cell tells.
_PLANNED = ("optimizer.decay_biases_and_norms", "scheduler.interval", "scheduler.milestones")
# Keys of Hydra's that a single cell has no use for.
_OF_SWEEPS = ("hydra.launcher", "hydra.sweep.", "hydra.sweeper")


def check_effects(config: DictConfig, cells: Sequence[Cell]) -> None:
    """Refuse what the user gives and what changes nothing in any cell.

    Args:
        config: The composed configuration of the whole, with its `hydra` node.
        cells: All of its cells.

    Raises:
        InputError: It names the override, and why it has no effect.
    """
    if stacking_of(config) == "on" and (reason := _why_no_stacks(config)):
        raise InputError(f"stack_cells=on: without effect, for {reason}")
    nodes = config.hydra.sweeper.get("pairs") or ()
    told = [*map(shown, config.hydra.overrides.task)]
    told += [f"{key}=[…]" for node in nodes for key in node["keys"]]
    for text in told:
        for key in settings_of(text, folders_of(config)).values():
            reasons = [dict(_idle(cell.config, (key,))).get(key) for cell in cells]
            if cells and all(reasons):
                raise InputError(f"{text}: without effect, for {reasons[0]}")


def _why_no_stacks(config: DictConfig) -> str:
    """Why no cells of a sweep can be put together; empty if some may be."""
    if config.hydra.sweeper._target_.endswith(".SearchSweeper"):
        return "a search tells from some trials which the next ones are"
    if not is_trained_here(config):
        return f"{config.hydra.runtime.choices['hydra/launcher']} trains each cell by itself"
    return ""


def refuse_of_sweeps(config: DictConfig) -> None:
    """Refuse what the user gives for a sweep where a single cell is trained.

    Args:
        config: The composed configuration of the cell, with its `hydra` node.

    Raises:
        InputError: It names the override.
    """
    for text in [*config.hydra.overrides.hydra, *config.hydra.overrides.task]:
        key = text.lstrip("+~").partition("=")[0].replace("/", ".")
        if key in ("name", "stack_cells") or key.startswith(_OF_SWEEPS):
            raise InputError(f"{text}: without effect on a single cell; add --multirun")


def repetitions(cells: Sequence[Cell]) -> str:
    """A line that names cells which train the same as others do; empty if there are none."""
    swept = {word.partition("=")[0] for word in _differing([cell.overrides for cell in cells])}
    first: dict[str, Cell] = {}
    repeated = []
    for cell in cells:
        values = identity.deciding_values(cell.config)
        for key, _ in _idle(cell.config, swept):
            group, _, name = key.partition(".")
            values[group].pop(name, None)
        same = first.setdefault(json.dumps(values, sort_keys=True), cell)
        if same is not cell:
            repeated.append((same, cell))
    if not repeated:
        return ""
    one, other = (cell.overrides.split() for cell in repeated[0])
    words = [" ".join(word for word in a if word not in b) for a, b in ((one, other), (other, one))]
    example = " like ".join(words) if any(words) else f"{' '.join(one)}, given twice"
    return f"{len(repeated)} of {len(cells)} cells train the same as others: {example}"


def _differing(overrides: Sequence[str]) -> set[str]:
    """The overrides that not all cells share."""
    words = [frozenset(text.split()) for text in overrides]
    every = frozenset[str]().union(*words)
    return {word for word in every if not all(word in each for each in words)}


def _idle(config: Config, keys: Sequence[str] | set[str]) -> Iterator[tuple[str, str]]:
    """Those of `keys` that change nothing in a cell, each with the reason."""
    found: dict[str, str | bool] = {
        "dataset.val_seed": not config.dataset.val_size and "no examples are held out",
        "model.layernorm_placement": isinstance(config.model, MLPConfig)
        and not config.model.layernorm_position
        and "no layer is normalised",
        "optimizer.lr": "base_lr" in config.scheduler and "scheduler.base_lr takes its place",
        "record.weights": config.record.gradients and "record.gradients=true records them too",
    }
    if any(key in _PLANNED for key in keys):
        found |= _idle_in_plan(config)
    for key, reason in found.items():
        if key in keys and reason:
            yield key, str(reason)


def _idle_in_plan(config: Config) -> dict[str, str | bool]:
    planned = plan(config)
    optimizer, rates = planned.work.optimizer, planned.learning_rates
    milestones = config.scheduler.get("milestones") or []
    decays = any(map(_decays, filter(None, (optimizer, optimizer.rest))))
    constant = bool(np.all(rates == rates.flat[0])) and not planned.cycled
    return {
        "optimizer.decay_biases_and_norms": not decays and "there is no weight decay",
        "scheduler.interval": constant and "the learning rate is constant",
        "scheduler.milestones": bool(milestones)
        and min(milestones) >= rates.size
        and f"there are only {rates.size} {config.scheduler['interval']}s",
    }


def _decays(optimizer: ResolvedOptimizer) -> bool:
    """Whether there is weight decay anywhere."""
    parameter = inspect.signature(optimizer.target).parameters.get("weight_decay")
    default = 0 if parameter is None else parameter.default
    own = [settings.get("weight_decay") for settings in optimizer.groups.values()]
    return any([optimizer.arguments.get("weight_decay", default), *own])
