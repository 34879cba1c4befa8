"""The program: read the options, measure what is asked for, say a mistake in one line."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmark import limits, runner, startup
from benchmark.peers import OURS, PEERS
from benchmark.report import write_report
from benchmark.runner import QUICK_EXAMPLES, Rounds, Rows, matrix, schedule
from benchmark.summary import (
    ENVIRONMENT_FILE,
    LIBRARIES_FILE,
    MEASURED_FILES,
    NOTES_FILE,
    STUDY_FILE,
)
from benchmark.tasks import (
    BATCH_SIZES,
    NUM_CLASSES,
    NUM_INPUTS,
    NUM_SEEDS,
    OPTIMIZERS,
    Images,
    flops_of,
    products,
)
from optsweep import runs
from optsweep.cli.composition import compose
from optsweep.cli.mistakes import OneLineParser, count, in_one_line
from optsweep.config.checks import InputError
from optsweep.config.dataset import DatasetConfig
from optsweep.config.schema import Config, MLPConfig
from optsweep.data.arrays import load_arrays
from optsweep.surroundings import num_cores

ROOT = Path(__file__).resolve().parent.parent.parent
_REPEATS = 3
_PACKAGES = (
    *("hydra-core", "jax", "jaxlib", "keras", "lightning", "numba", "numpy", "scikit-learn"),
    *("scipy", "torch", "torchvision"),
)
# Variables that decide which kernels run, and on how many threads.
_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see `--help`.

    Returns:
        The exit code: 1 if a measurement failed.
    """
    with in_one_line():
        return run(parse(arguments))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options; `peers` are those that are installed, `missing` the others.

    Raises:
        InputError: If a peer that is asked for by name is not installed.
    """
    parser = OneLineParser(
        prog="python scripts/benchmark.py",
        description="Measure seconds per epoch and run of optsweep and of its peers in turn, the "
        "machine's limits, start-up and the study. It can be stopped at any time; the same "
        "command continues. Close other programs first. About 25 minutes in all on two cores, "
        "less than 15 with --peers jax.",
    )
    add = parser.add_argument
    add("--only", nargs="*", choices=PARTS, default=[*PARTS], help="nothing: make the report anew")
    for name, kind, default, what in (
        ("--batch-sizes", count, BATCH_SIZES, "examples of a step"),
        ("--seeds", count, NUM_SEEDS, "networks trained at once"),
    ):
        told = f"{what}; default: {' '.join(map(str, default))}"
        add(name, nargs="+", type=kind, metavar="N", default=default, help=told)
    add("--optimizers", nargs="+", choices=OPTIMIZERS, default=[*OPTIMIZERS])
    others = [peer for peer in PEERS if peer != OURS]
    add("--peers", nargs="+", choices=others, help="default: all that are installed")
    told = "of every measurement, more of those that take a fraction of a second; default:"
    add("--repeats", type=count, metavar="N", help=f"{told} {_REPEATS}, with --quick 1")
    told = f"no more than {QUICK_EXAMPLES} examples or one step: to see that all works"
    add("--quick", action="store_true", help=told)
    add("--fresh", action="store_true", help="forget what was measured before")
    add("--out", type=Path, metavar="DIR", help="default: multirun/benchmark")
    told = "folder of the study's runs; default: multirun"
    add("--runs", type=Path, metavar="DIR", default=Path("multirun"), help=told)
    told = "time of the study: from its finished cells, also of --quick run afresh, or not"
    add("--reproduce", choices=("cells", "quick", "none"), default="cells", help=told)
    told = "settings of the images and of every job, such as dataset.root=DIR"
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help=told)
    wanted = parser.parse_args(arguments)
    wanted.missing = [peer for peer in wanted.peers or others if PEERS[peer].missing()]
    if wanted.peers and wanted.missing:
        peer = wanted.missing[0]
        raise InputError(f"--peers {peer}: {_not_installed(peer)}")
    wanted.peers = [peer for peer in wanted.peers or others if peer not in wanted.missing]
    wanted.repeats = wanted.repeats or (1 if wanted.quick else _REPEATS)
    wanted.out = wanted.out or Path(
        "multirun/benchmark-quick" if wanted.quick else "multirun/benchmark"
    )
    return wanted


def _not_installed(peer: str) -> str:
    return f"{PEERS[peer].title} is not installed; pip install {' '.join(PEERS[peer].missing())}"


def run(wanted: argparse.Namespace) -> int:
    """Measure, and write what was found.

    Returns:
        The exit code: 1 if a measurement failed.

    Raises:
        InputError: If a setting cannot be used, or the folder holds other measurements.
    """
    failures: list[str] = []
    if wanted.only:
        config = compose(*wanted.set)
        most = config.dataset.num_train_examples
        for size in wanted.batch_sizes:
            if size > most:
                raise InputError(
                    f"--batch-sizes {size}: expected 1 to {most}, the number of training examples"
                )
        if wanted.fresh:
            for name in MEASURED_FILES:
                (wanted.out / name).unlink(missing_ok=True)
        (wanted.out / "logs").mkdir(parents=True, exist_ok=True)
        keep_environment(wanted.out, environment(config.dataset, wanted.set))
        left_out = [f"{_not_installed(peer)} brings it" for peer in wanted.missing]
        for line in left_out:
            print(f"optsweep: {line}")
        for part, measure in PARTS.items():
            if part in wanted.only:
                try:
                    failures += measure(wanted, config)
                except (RuntimeError, subprocess.CalledProcessError) as error:
                    failures.append(f"{part}: {error}")
        for line in failures:
            print(f"optsweep: error: {line}", file=sys.stderr)
        notes = json.dumps(left_out + failures, indent=2)
        runs.write_atomically(wanted.out / NOTES_FILE, notes + "\n")
    for line in write_report(wanted.out):
        print(line)
    return 1 if failures else 0


def teller(part: str) -> Callable[[str], None]:
    """Prints what is being measured, whenever that changes."""
    last = ""

    def told(what: str) -> None:
        nonlocal last
        if what != last:
            print(f"{part}: {what}", flush=True)
        last = what

    return told


def load_images(config: DatasetConfig) -> Images:
    """The training images that optsweep itself would train on.

    Raises:
        InputError: If the data are missing or corrupt, not what all peers take, or held out.
    """
    arrays = load_arrays(config)
    pixels = arrays.train_images.reshape(config.num_train, -1)
    found = (pixels.dtype, pixels.shape[1], config.num_classes)
    if found != (np.uint8, NUM_INPUTS, NUM_CLASSES):
        raise InputError(
            f"dataset {config.name}: expected {NUM_INPUTS} bytes an example and {NUM_CLASSES} "
            "classes, which all peers take"
        )
    if config.val_size:
        raise InputError(f"dataset.val_size={config.val_size}: expected 0, for peers hold none out")
    count = config.num_train_examples
    return Images(pixels[:count], arrays.train_labels[:count].astype(np.int64))


def _limits(wanted: argparse.Namespace, config: Config) -> list[str]:
    rows = Rows(wanted.out / limits.FILE, limits.COLUMNS)
    images, logs = load_images(config.dataset), wanted.out / "logs"
    sizes, rounds = wanted.batch_sizes, 1 if wanted.quick else 2
    return limits.measure_limits(rows, images, sizes, num_cores(), rounds, logs, teller("limits"))


def _startup(wanted: argparse.Namespace, config: Config) -> list[str]:
    rows = Rows(wanted.out / startup.FILE, startup.COLUMNS)
    startup.measure_starts(rows, wanted.repeats, wanted.set, teller("startup"))
    return []


def _matrix(wanted: argparse.Namespace, config: Config) -> list[str]:
    cells = matrix(
        wanted.batch_sizes, wanted.optimizers, wanted.seeds, config.dataset.num_train_examples
    )
    measurements = list(schedule(cells, wanted.peers, wanted.repeats, wanted.quick))
    rows = Rows(wanted.out / runner.FILE, runner.TIMES)
    rounds = Rounds(load_images(config.dataset), wanted.set, rows, wanted.out / "logs")
    path = wanted.out / LIBRARIES_FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    try:
        rounds.run(measurements, teller("matrix"))
    finally:
        runs.write_atomically(path, json.dumps(known | rounds.libraries, indent=2) + "\n")
    return [f"{PEERS[peer].title}, {cell}: {why}" for (peer, cell), why in rounds.failures.items()]


def _study(wanted: argparse.Namespace, config: Config) -> list[str]:
    path = wanted.out / STUDY_FILE
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    told = teller("study")
    with tempfile.TemporaryDirectory() as folder:
        if wanted.reproduce != "none" and (found := sum_up_cells(wanted.runs)):
            told("report of the finished cells")
            seconds = _run_script(folder, "aggregate.py", wanted.runs.resolve(), "--out", "report")
            known["cells"] = found | {"report_seconds": seconds}
        if wanted.reproduce == "quick" and "quick" not in known:
            told("reproduce.py --quick")
            seconds = _run_script(folder, "reproduce.py", "--quick")
            found = sum_up_cells(Path(folder, "multirun", "quick"))
            known["quick"] = (found or {}) | {"wall_seconds": seconds}
    runs.write_atomically(path, json.dumps(known, indent=2) + "\n")
    return []


PARTS: dict[str, Callable[[argparse.Namespace, Config], list[str]]] = {
    "limits": _limits,
    "startup": _startup,
    "matrix": _matrix,
    "study": _study,
}


def sum_up_cells(root: Path) -> dict[str, Any] | None:
    """Sum up the finished cells of the MLP in a folder of runs; None if there are none.

    Returns:
        num_cells; flops, their arithmetic, evaluations left out; training_seconds, by their
        results; cell_seconds, from a cell's directory made to its result written, which has
        evaluations and images loaded in it.
    """
    total = {"num_cells": 0, "flops": 0.0, "training_seconds": 0.0, "cell_seconds": 0.0}
    for path in sorted((root / runs.CELLS_FOLDER).glob(f"*/{runs.RESULT_FILE}")):
        result = json.loads(path.read_text(encoding="utf-8"))
        config_file = path.parent / runs.CONFIG_FILE
        config = Config.from_mapping(yaml.safe_load(config_file.read_text(encoding="utf-8")))
        if not isinstance(config.model, MLPConfig):
            continue
        epochs = sum(seed["epochs"] for seed in result["per_seed"])
        examples = epochs * config.dataset.num_train_examples
        total["num_cells"] += 1
        total["flops"] += examples * flops_of(products(1, config.model.hidden_sizes))
        total["training_seconds"] += result["seconds"]
        total["cell_seconds"] += path.stat().st_mtime - config_file.stat().st_mtime
    return total if total["num_cells"] else None


def _run_script(folder: str, script: str, *arguments: Any) -> float:
    """Run a script of the checkout in a folder: its wall time."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def environment(dataset: DatasetConfig, settings: Sequence[str]) -> dict[str, Any]:
    """All that decides what a measurement gives on an idle machine."""
    installed = {each.name: each.version for each in importlib.metadata.distributions()}
    digest = hashlib.sha256()
    for path in sorted((ROOT / "optsweep").rglob("*.py")):
        if path.relative_to(ROOT).parts[1] not in ("report", "study"):  # which train nothing
            digest.update(path.read_bytes())
    return {
        "processor": processor(),
        "num_cores": num_cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in _PACKAGES if name in installed},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "optsweep": digest.hexdigest()[:12],
        "dataset": dataset.name,
        "num_train": dataset.num_train_examples,
        "settings": list(settings),
    }


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    path = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", path.read_text()) if path.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def keep_environment(folder: Path, found: dict[str, Any]) -> None:
    """Write it down, or compare it with what is there.

    Raises:
        InputError: If the folder's measurements are of another machine, version or program.
    """
    path = folder / ENVIRONMENT_FILE
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key, value in found.items() if known.get(key) != value]
        if changed:
            raise InputError(
                f"{folder} holds measurements with other {', '.join(changed)}; "
                "--fresh measures anew, --out DIR elsewhere"
            )
    runs.write_atomically(path, json.dumps(found, indent=2) + "\n")
