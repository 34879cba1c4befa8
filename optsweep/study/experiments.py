"""The experiments of the study, planned: what each would train, and what is done of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from optsweep import runs
from optsweep.cli.composition import config_dir
from optsweep.cli.grids import Cell, Grid, plan_grid
from optsweep.cli.overrides import options
from optsweep.cli.time_left import guess
from optsweep.config.checks import InputError, nearest
from optsweep.sweeps import is_listed

QUICK_ROOT = Path(runs.RUNS_FOLDER) / runs.QUICK_FOLDER
QUICK_NUM_SEEDS = 2
QUICK_TRAIN_SIZE = 5000  # more than the largest mini-batch, 4096
QUICK_EPOCHS_DIVISOR = 2  # leaves 5 of 10 epochs, one more than the longest warm-up
QUICK_VAL_SIZE = 2000
# Seconds of quick runs, by what they took on two cores: in all, beside the training of a cell, and
# of a diagnosis. Composing the cells and the report take as long again.
_QUICK_SECONDS, _QUICK_OVERHEAD, _QUICK_DIAGNOSES = 80, 0.5, 5.0
# Of readings that say little, but of which all figures can be drawn.
_QUICK_DIAGNOSIS = {
    "examples": 128,
    "checkpoints": 2,
    "lanczos_steps": 15,
    "batches": 2,
    "steps": 5,
    "epoch": "false",
}
_COMPARISON = "tuned_comparison"  # searches that begin so have the same spaces


@dataclass(frozen=True)
class Experiment:
    """One file of conf/experiment: how it is started, and the grid that it trains."""

    name: str
    arguments: tuple[str, ...]
    grid: Grid

    @property
    def cells(self) -> dict[str, Cell]:
        """Its cells by name, each once."""
        return {cell.name: cell for cell in self.grid.cells}

    def result(self, cell: Cell, rerun: bool | str = False) -> dict[str, Any] | None:
        """A finished cell's result; a damaged one counts as missing, see also `runs.finished`."""
        try:
            return runs.finished(self.grid.cells_folder / cell.name, cell.config, rerun)
        except InputError:
            return None

    def missing(self) -> dict[str, Cell]:
        """The cells that have still to be trained."""
        return {
            name: cell
            for name, cell in self.cells.items()
            if self.result(cell, self.grid.rerun) is None
        }

    @property
    def is_timed(self) -> bool:
        """Whether its cells are there for the time that a single network takes."""
        from optsweep.study.content import outline  # noqa: PLC0415 - with pandas, which takes long

        asked = next((one for one in outline().questions if one.id == self.name), None)
        single = all(cell.config.num_seeds == 1 for cell in self.grid.cells)
        return asked is not None and asked.is_timed and single

    def is_done(self) -> bool:
        """Tell whether running it would change nothing."""
        rows = [{"cell": cell.name, "overrides": cell.overrides} for cell in self.grid.cells]
        return is_listed(self.grid.folder, rows) and not self.missing()


def plan_experiment(
    name: str, num_seeds: int | None = None, quick: bool = False, settings: Sequence[str] = ()
) -> Experiment:
    """Plan an experiment of the study.

    Args:
        name: Of its file in conf/experiment.
        num_seeds: In place of the file's, unless the file times a single network.
        quick: Fewer seeds, epochs and examples, in a folder of their own.
        settings: Further overrides for all of its cells.

    Raises:
        InputError: If there is no such experiment, or a setting cannot be used.
    """
    names = options("experiment", config_dir())
    if name not in names:
        raise InputError(f"--only {name}: there is no such experiment; {nearest(name, names)}")
    file = yaml.safe_load((config_dir() / "experiment" / f"{name}.yaml").read_text())
    arguments = [f"experiment={name}"]
    if file.get("num_seeds", 1) > 1 and (num_seeds or quick):
        arguments.append(f"num_seeds={num_seeds or QUICK_NUM_SEEDS}")
    if quick:
        epochs = max(1, file.get("trainer", {}).get("epochs", 10) // QUICK_EPOCHS_DIVISOR)
        dataset = file.get("dataset", {})
        train_size = min(QUICK_TRAIN_SIZE, dataset.get("train_size", QUICK_TRAIN_SIZE))
        arguments += [f"trainer.epochs={epochs}", f"dataset.train_size={train_size}"]
        if "val_size" in dataset:
            arguments.append(f"dataset.val_size={QUICK_VAL_SIZE}")
        if "diagnose" in file:
            arguments += [f"diagnose.{key}={value}" for key, value in _QUICK_DIAGNOSIS.items()]
        arguments.append(f"hydra.sweep.dir={QUICK_ROOT}")
    arguments += settings
    return Experiment(name, tuple(arguments), plan_grid(arguments))


def quick_ones(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The cheapest of all experiments, planned as quick ones, that fit into a minute or two."""
    kept, seen, total = [], set[str](), 0.0
    for each in sorted(experiments, key=cost):
        new = [cell for name, cell in each.cells.items() if name not in seen]
        of_diagnosis = 0.0 if each.grid.diagnosis is None else _QUICK_DIAGNOSES
        own = sum(guess(cell) + _QUICK_OVERHEAD + of_diagnosis for cell in new)
        if total + own <= _QUICK_SECONDS:
            total += own
            kept.append(each)
            seen |= each.cells.keys()
    return kept


def cost(experiment: Experiment) -> float:
    """Seconds of its training, good for comparing experiments."""
    return sum(guess(cell) for cell in experiment.cells.values())


def plan_comparison(budget: int, settings: Sequence[str] = ()) -> dict[str, list[str]]:
    """The command line of each search that compares tuned optimizers, a task each.

    Args:
        budget: Trials of every optimizer on every task.
        settings: Further overrides.
    """
    names = [name for name in options("search", config_dir()) if name.startswith(_COMPARISON)]
    given = [f"hydra.sweeper.n_trials={budget}", *settings]
    return {name: [f"search={name}", *given] for name in names}


def mark_quick(root: Path, num_seeds: int) -> None:
    """Tell those who read the runs in `root` how they were cut short."""
    root.mkdir(parents=True, exist_ok=True)
    reduced = {
        "quick": True,
        "num_seeds": num_seeds,
        "train_size": QUICK_TRAIN_SIZE,
        "val_size": QUICK_VAL_SIZE,
        "epochs": f"1/{QUICK_EPOCHS_DIVISOR}",
    }
    runs.write_atomically(root / runs.QUICK_FILE, json.dumps(reduced, indent=2) + "\n")
