"""Runs of the study: one experiment with every status, and all of them with made-up scores."""

from pathlib import Path

import pytest
from run_tree import write_every_status, write_experiment, write_made_up

from optsweep import runs
from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import options
from optsweep.report.collection import collect_runs
from optsweep.report.loops import LOOPS, Timing, keep_timings
from optsweep.study.experiments import plan_experiment
from optsweep.study.report_loop import BATCH_SIZES


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """An r1_init with cells of every status; see `write_every_status`."""
    return write_every_status(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def planned(tmp_path_factory):
    """Every cell of every experiment of the study, as if trained: made-up scores, real settings."""
    root = tmp_path_factory.mktemp("planned")
    for name in options("experiment", config_dir()):
        cells = plan_experiment(name).cells
        write_experiment(root, name, {cell.name: cell.overrides for cell in cells.values()})
        for cell in cells.values():
            if not (root / runs.CELLS_FOLDER / cell.name).exists():
                write_made_up(root, cell.config)
    forms = [(loop, size, 1 + len(loop) / size) for loop in LOOPS for size in BATCH_SIZES]
    keep_timings(root, [Timing(repeat, *form) for repeat in range(5) for form in forms])
    return collect_runs(root)
