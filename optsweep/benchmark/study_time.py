"""What the study takes: from its finished run directories, or by running a quick one afresh."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from optsweep import runs
from optsweep.benchmark.process import WorkerError
from optsweep.cli.composition import config_dir
from optsweep.config.schema import Config, MLPConfig
from optsweep.report.timing import flops_per_example

_SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


def of_cells(root: Path) -> dict[str, Any] | None:
    """Sum up the finished cells of a folder of runs; None if there are none.

    Returns:
        num_cells; flops, their arithmetic, evaluations left out; training_seconds, by their
        results; cell_seconds, from a cell's directory made to its result written, which has
        evaluations and images loaded in it.
    """
    total = {"num_cells": 0, "flops": 0.0, "training_seconds": 0.0, "cell_seconds": 0.0}
    for path in sorted((root / runs.CELLS_FOLDER).glob(f"*/{runs.RESULT_FILE}")):
        result = runs.read_result(path.parent)
        assert result is not None, path
        config_file = path.parent / runs.CONFIG_FILE
        config = Config.from_mapping(yaml.safe_load(config_file.read_text(encoding="utf-8")))
        assert isinstance(config.model, MLPConfig)
        epochs = sum(seed["epochs"] for seed in result["per_seed"])
        examples = epochs * config.dataset.num_train_examples
        total["num_cells"] += 1
        total["flops"] += examples * flops_per_example(config.model.hidden_sizes)
        total["training_seconds"] += result["seconds"]
        total["cell_seconds"] += path.stat().st_mtime - config_file.stat().st_mtime
    return total if total["num_cells"] else None


def report_seconds(root: Path) -> float:
    """Make the report of a folder of runs, somewhere else, and tell how long that took."""
    with tempfile.TemporaryDirectory() as folder:
        return _run("aggregate.py", folder, str(root.resolve()), "--out", f"{folder}/report")


def run_quick() -> dict[str, Any]:
    """Run `scripts/reproduce.py --quick` in an empty folder; see `of_cells`, and wall_seconds."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = _run("reproduce.py", folder, "--quick")
        total = of_cells(Path(folder, "multirun", "quick"))
        assert total is not None
        return total | {"wall_seconds": seconds}


def study_size() -> int:
    """How many experiments the whole study has."""
    return len(list((config_dir() / "experiment").glob("*.yaml")))


def _run(script: str, folder: str, *arguments: str) -> float:
    path = _SCRIPTS / script
    if not path.exists():
        raise WorkerError(f"{script} is in a checkout alone, not in an installed package")
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WorkerError(f"{script} failed: {done.stderr.strip()[-500:]}")
    return time.perf_counter() - started
