"""The program: read the options, look at the machine, measure, say a mistake in one line."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from benchmark.peers import OURS, PEERS
from benchmark.report import ENVIRONMENT_FILE, PAGE, write_report
from benchmark.rounds import run, turns
from benchmark.tasks import cell_name, cells, images
from optsweep import provenance
from optsweep.cli.composition import compose
from optsweep.cli.mistakes import OneLineParser, in_one_line
from optsweep.config.checks import InputError
from optsweep.report.timing import measure_machine
from optsweep.runs import write_atomically
from optsweep.surroundings import num_cores

ROUNDS = 5  # of --quick one
# Variables that decide which kernels run, and on how many threads.
_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_QUICK_CELLS, _QUICK_EXAMPLES = ["SGD, 1 seed, b = 256", "Adam, 10 seeds, b = 256"], 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see `--help`. The exit code is 1 if a measurement failed."""
    parser = OneLineParser(
        prog="python scripts/benchmark.py",
        description="Measure seconds per epoch of optsweep and of its peers in turn: about 40 "
        "minutes on two quiet cores. It can be stopped; the same command continues.",
    )
    add = parser.add_argument
    add("--cells", nargs="+", metavar="PATTERN", help="such as 'LeNet*' or '*10 seeds, b = 256'")
    add("--quick", action="store_true", help="a round of two short cells, to see that all works")
    add("--page", action="store_true", help="measure nothing, make the page anew")
    add("--out", type=Path, metavar="DIR", help="default: multirun/benchmark")
    told = "settings of the images and of optsweep's cells, such as dataset.root=DIR"
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help=told)
    with in_one_line():
        wanted = parser.parse_args(arguments)
        name = "benchmark-quick" if wanted.quick else "benchmark"
        wanted.out = wanted.out or Path("multirun", name)
        num_failures = 0 if wanted.page else _measure(wanted)
        write_report(wanted.out)
        print(f"report: {wanted.out / PAGE}")
        return 1 if num_failures else 0


def _measure(wanted: argparse.Namespace) -> int:
    """Measure what is not there yet, and return how much of it failed."""
    settings = tuple(wanted.set)
    every = list(cells(len(images(settings)[0])))
    patterns = wanted.cells or (_QUICK_CELLS if wanted.quick else ["*"])
    chosen = [c for c in every if any(fnmatch(cell_name(c), pattern) for pattern in patterns)]
    if not chosen:
        names = f"expected a name such as {cell_name(every[0])!r}"
        raise InputError(f"--cells {' '.join(patterns)}: {names}")
    if wanted.quick:
        chosen = [cell._replace(num_examples=_QUICK_EXAMPLES) for cell in chosen]
    wanted.out.mkdir(parents=True, exist_ok=True)
    _keep_environment(wanted.out, settings)
    missing = [name for name in PEERS if find_spec(PEERS[name].package) is None]
    for name in missing:
        print(f"{name} is left out: pip install {PEERS[name].package}")
    others = [name for name in PEERS if name not in (OURS, *missing)]
    planned = turns(chosen, others, 1 if wanted.quick else ROUNDS)
    return run(planned, settings, wanted.out)


def _keep_environment(folder: Path, settings: tuple[str, ...]) -> None:
    """Write down all that decides what an idle machine gives, or refuse to measure another here."""
    path, found = folder / ENVIRONMENT_FILE, provenance.made_by(compose(*settings))
    del found["commit"]  # which tells less than the sources do
    packages = {peer.package for peer in PEERS.values() if find_spec(peer.package)}
    found["versions"] |= {name: metadata.version(name) for name in sorted(packages)}
    found["variables"] = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    found["methods"] = {peer.name: peer.note for peer in PEERS.values()}
    found |= {"num_cores": num_cores(), "settings": list(settings)}
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name, value in found.items() if known.get(name) != value]:
            told = f"{folder} holds measurements with other {', '.join(changed)}"
            raise InputError(f"{told}; --out DIR measures elsewhere")
        return
    inputs, _ = images(settings)
    found |= {"num_train": len(inputs), "nonzero": float((inputs != 0).mean())}
    found["peak"] = measure_machine(folder).gflops
    write_atomically(path, json.dumps(found, indent=2) + "\n")
