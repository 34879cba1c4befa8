"""The program: read the options, measure what is asked for, say a mistake in one line."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import rounds, startup, summary
from benchmark.peers import OURS, PEERS, family
from benchmark.report import write_report
from benchmark.rounds import Rounds, append, read, schedule
from benchmark.tasks import BATCH_SIZES, NETWORKS, NUM_SEEDS, OPTIMIZERS, Images, cells
from optsweep import provenance, runs
from optsweep.cli.composition import compose
from optsweep.cli.mistakes import OneLineParser, count, in_one_line
from optsweep.config.checks import InputError
from optsweep.config.dataset import DatasetConfig
from optsweep.config.schema import Config, MLPConfig
from optsweep.data.arrays import load_arrays
from optsweep.report.timing import flops_per_example
from optsweep.surroundings import num_cores

SCRIPTS = Path(__file__).resolve().parent.parent
PARTS = ("limits", "startup", "matrix", "study")
_PACKAGES = ("jax", "keras", "numba", "numpy", "scipy", "torch")
# Variables that decide which kernels run, and on how many threads.
_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SQUARE = 2048
EXPECTED_SECONDS = {"limits": 5, "startup": 65, "matrix": 0, "study": 155}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see `--help`. The exit code is 1 if a measurement failed."""
    with in_one_line():
        wanted = parse(arguments)
        failures = measure(wanted) if wanted.only else []
        for line in write_report(wanted.out):
            print(line)
        return 1 if failures else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options; `peers` are those that are installed.

    Raises:
        InputError: If a peer that is asked for by name is not installed.
    """
    parser = OneLineParser(
        prog="python scripts/benchmark.py",
        description="Measure seconds per epoch and run of optsweep and of its peers in turn, the "
        "machine's peak, start-up and the study. It can be stopped at any time; the same command "
        "continues. It says beforehand how long it will take: less than an hour in all on two "
        "cores, half an hour with --peers jax. Close other programs first.",
    )
    add = parser.add_argument
    add("--only", nargs="*", choices=PARTS, default=[*PARTS], help="nothing: make the page anew")
    add("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    for name, default in (("--batch-sizes", BATCH_SIZES), ("--seeds", NUM_SEEDS)):
        told = f"default: {' '.join(map(str, default))}"
        add(name, nargs="+", type=count, metavar="N", default=default, help=told)
    add("--optimizers", nargs="+", choices=OPTIMIZERS, default=[*OPTIMIZERS])
    others = [*dict.fromkeys(family(peer) for peer in PEERS if peer != OURS)]
    add("--peers", nargs="+", choices=others, help="default: all that are installed")
    add("--rounds", type=count, metavar="N", help="default: 5, with --quick 1")
    told = "1000 examples or one step, and nothing of the study: to see that all works"
    add("--quick", action="store_true", help=told)
    add("--fresh", action="store_true", help="forget what was measured before")
    add("--out", type=Path, metavar="DIR", help="default: multirun/benchmark")
    told = "folder of the study's runs, whose time is summed up; default: multirun"
    add("--runs", type=Path, metavar="DIR", default=Path("multirun"), help=told)
    told = "settings of the images and of every job, such as dataset.root=DIR"
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help=told)
    wanted = parser.parse_args(arguments)
    missing = {peer: PEERS[peer].missing() for peer in wanted.peers or others}
    wanted.missing = [
        f"{PEERS[peer].title} is not installed; pip install {' '.join(packages)}"
        for peer, packages in missing.items()
        if packages
    ]
    if wanted.peers and wanted.missing:
        raise InputError(f"--peers: {wanted.missing[0]}")
    wanted.peers = [peer for peer, packages in missing.items() if not packages]
    wanted.rounds = wanted.rounds or (1 if wanted.quick else 5)
    name = "benchmark-quick" if wanted.quick else "benchmark"
    wanted.out = wanted.out or Path("multirun", name)
    return wanted


def measure(wanted: argparse.Namespace) -> list[str]:
    """Measure what is not there yet, and return what failed.

    Raises:
        InputError: If a setting cannot be used, or the folder holds other measurements.
    """
    config, out = compose(*wanted.set), wanted.out
    most = config.dataset.num_train_examples
    for size in wanted.batch_sizes:
        if size > most:
            told = f"expected 1 to {most}, the number of training examples"
            raise InputError(f"--batch-sizes {size}: {told}")
    if wanted.fresh:
        for name in summary.MEASURED_FILES:
            (out / name).unlink(missing_ok=True)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    keep_environment(out, environment(config, wanted.set))
    chosen = cells(wanted.networks, wanted.batch_sizes, wanted.optimizers, wanted.seeds)
    fitting = [each._replace(num_examples=min(each.num_examples, most)) for each in chosen]
    planned = list(schedule(fitting, wanted.peers, wanted.rounds, wanted.quick))
    done = set(read(out / rounds.FILE, rounds.KEY).itertuples(index=False, name=None))
    planned = [each for each in planned if each.key not in done and "matrix" in wanted.only]
    seconds = sum(each.expected_seconds for each in planned)
    minutes = (seconds + sum(EXPECTED_SECONDS[part] for part in wanted.only)) / 60
    print(f"{len(planned)} measurements to make, about {minutes:.0f} minutes on two quiet cores")
    for line in wanted.missing:
        print(f"optsweep: {line}")
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        images = load_images(config.dataset, Path(folder, "standardised.npz"))
        for part in wanted.only:
            try:
                if part == "matrix":
                    everyone = Rounds(images, wanted.set, out)
                    everyone.run(planned, lambda what: print(what, flush=True))
                    failures += [f"{what}: {why}" for what, why in everyone.failures.items()]
                else:
                    print(part, flush=True)
                    _PARTS[part](wanted, images, Path(folder))
            except (RuntimeError, subprocess.CalledProcessError) as error:
                failures.append(f"{part}: {error}")
    for line in failures:
        print(f"optsweep: error: {line}", file=sys.stderr)
    runs.write_atomically(
        out / summary.NOTES_FILE, json.dumps(wanted.missing + failures, indent=2) + "\n"
    )
    return failures


def load_images(config: DatasetConfig, file: Path) -> Images:
    """The training images that optsweep itself would train on; standardised ones in a file.

    Raises:
        InputError: If the data are missing or corrupt, not what all peers take, or held out.
    """
    arrays = load_arrays(config)
    pixels = arrays.train_images.reshape(config.num_train, -1)
    if (pixels.dtype, pixels.shape[1], config.num_classes, config.val_size) != (
        np.uint8,
        784,
        10,
        0,
    ):
        raise InputError(
            f"dataset {config.name}: expected 784 bytes an example, 10 classes and no "
            "dataset.val_size, which all peers take"
        )
    count = config.num_train_examples
    images = Images(pixels[:count], arrays.train_labels[:count].astype(np.int64), str(file))
    inputs, labels = images.inputs("standardised"), images.labels
    np.savez(
        file,
        train_images=inputs,
        train_labels=labels,
        test_images=inputs[:100],
        test_labels=labels[:100],
    )
    return images


def _limits(wanted: argparse.Namespace, images: Images, folder: Path) -> None:
    import torch

    array = np.random.default_rng(0).random((_SQUARE, _SQUARE), np.float32)
    tensor, path = torch.from_numpy(array), wanted.out / summary.LIMITS_FILE
    path.unlink(missing_ok=True)
    products: dict[str, Callable[[], Any]] = {
        "NumPy": lambda: array @ array,
        "torch.mm": lambda: tensor @ tensor,
    }
    for library, product in products.items():
        best = min(timeit.repeat(product, number=1, repeat=12))
        rate = 2 * _SQUARE**3 / best / 1e9
        append(path, summary.LIMITS, {"of": summary.PEAK, "library": library, "rate": rate})
    ink = {"of": summary.INK, "batch_size": 1, "rate": float((images.pixels != 0).mean())}
    append(path, summary.LIMITS, ink)


def _startup(wanted: argparse.Namespace, images: Images, folder: Path) -> None:
    """Start every program in turn; a first round fills the disk's cache and is not counted."""
    path = wanted.out / startup.FILE
    done = set(read(path, ["what", "repeat"]).itertuples(index=False, name=None))
    for repeat in range(-1, wanted.rounds):
        for what, command in startup.commands(folder, wanted.set).items():
            is_first = what == startup.FIRST_JOB  # once: it compiles
            if (what, max(0, repeat)) not in done and (not is_first or repeat == 0):
                empty = {"NUMBA_CACHE_DIR": str(folder / "compiled")} if is_first else {}
                row = startup.start(command, folder, empty)
                if repeat >= 0:
                    append(path, startup.COLUMNS, {"what": what, "repeat": repeat} | row)


def _study(wanted: argparse.Namespace, images: Images, folder: Path) -> None:
    """The time of the finished cells, and of all with --quick."""

    def seconds_of(script: str, *arguments: Any) -> float:
        command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    path = wanted.out / summary.STUDY_FILE
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if found := sum_up_cells(wanted.runs):
        seconds = seconds_of("aggregate.py", wanted.runs.resolve(), "--out", "report")
        known["cells"] = found | {"report_seconds": seconds}
    if "quick" not in known and not wanted.quick:
        known["quick"] = {"wall_seconds": seconds_of("reproduce.py", "--quick")}
    runs.write_atomically(path, json.dumps(known, indent=2) + "\n")


_PARTS: dict[str, Callable[[argparse.Namespace, Images, Path], None]] = {
    "limits": _limits,
    "startup": _startup,
    "study": _study,
}


def sum_up_cells(root: Path) -> dict[str, float] | None:
    """Sum up the finished cells of the MLP in a folder of runs; None if there are none.

    Returns:
        num_cells; flops, their arithmetic, evaluations left out; cell_seconds, from a cell's
        directory made to its result written, which has evaluations and images loaded in it.
    """
    total = {"num_cells": 0, "flops": 0.0, "cell_seconds": 0.0}
    for path in sorted((root / runs.CELLS_FOLDER).glob(f"*/{runs.RESULT_FILE}")):
        config = runs.read_config(path.parent)
        if isinstance(config.model, MLPConfig):
            result = json.loads(path.read_text(encoding="utf-8"))
            examples = sum(each["epochs"] for each in result["per_seed"])
            examples *= config.dataset.num_train_examples
            begun = (path.parent / runs.CONFIG_FILE).stat().st_mtime
            total["num_cells"] += 1
            total["flops"] += examples * flops_per_example(config.model.hidden_sizes)
            total["cell_seconds"] += path.stat().st_mtime - begun
    return total if total["num_cells"] else None


def environment(config: Config, settings: Sequence[str]) -> dict[str, Any]:
    """All that decides what a measurement gives on an idle machine."""
    installed = {each.name: each.version for each in importlib.metadata.distributions()}
    return {
        "processor": provenance.processor(),
        "num_cores": num_cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in _PACKAGES if name in installed},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "optsweep": provenance.sources(config)["optsweep"],
        "dataset": config.dataset.name,
        "num_train": config.dataset.num_train_examples,
        "settings": list(settings),
        "methods": {peer.name(): peer.note for peer in PEERS.values()}
        | {"all": "subnormal numbers flushed to zero on Linux and x86-64, by XLA everywhere"},
    }


def keep_environment(folder: Path, found: dict[str, Any]) -> None:
    """Write it down, or compare it with what is there.

    Raises:
        InputError: If the folder's measurements are of another machine, version or program.
    """
    path = folder / summary.ENVIRONMENT_FILE
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if changed := [key for key, value in found.items() if known.get(key) != value]:
            raise InputError(
                f"{folder} holds measurements with other {', '.join(changed)}; "
                "--fresh measures anew, --out DIR elsewhere"
            )
    runs.write_atomically(path, json.dumps(found, indent=2) + "\n")
