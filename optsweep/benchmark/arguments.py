"""The options of `scripts/benchmark.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from optsweep.benchmark.peers import OURS, PEERS
from optsweep.benchmark.tasks import BATCH_SIZES, NUM_SEEDS, OPTIMIZERS, QUICK_EXAMPLES
from optsweep.cli.mistakes import exit_with
from optsweep.config.checks import InputError

PARTS = ("limits", "startup", "matrix", "study")
_REPEATS = 3


@dataclass(frozen=True)
class Wanted:
    """What is asked for; see `--help`. `missing` are peers that are not installed."""

    only: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    optimizers: tuple[str, ...]
    seeds: tuple[int, ...]
    peers: tuple[str, ...]
    missing: tuple[str, ...]
    repeats: int
    quick: bool
    fresh: bool
    out: Path
    runs: Path
    reproduce: str
    settings: tuple[str, ...]

    def check(self, num_train: int) -> None:
        """Find out whether there are enough images.

        Raises:
            InputError: If a batch is larger than the training set.
        """
        for size in self.batch_sizes:
            if size > num_train:
                raise InputError(
                    f"--batch-sizes {size}: expected 1 to {num_train}, the number of training "
                    "examples"
                )


def parse(arguments: Sequence[str] | None) -> Wanted:
    """Read the options.

    Raises:
        InputError: If a peer that is asked for by name is not installed.
    """
    given = _parser().parse_args(arguments)
    asked = given.peers or [peer for peer in PEERS if peer != OURS]
    missing = [peer for peer in asked if PEERS[peer].missing()]
    if given.peers and missing:
        packages = " ".join(dict.fromkeys(p for peer in missing for p in PEERS[peer].missing()))
        raise InputError(
            f"--peers {missing[0]}: {PEERS[missing[0]].title} is not installed; "
            f"pip install {packages}"
        )
    name = "benchmark-quick" if given.quick else "benchmark"
    return Wanted(
        only=tuple(part for part in PARTS if part in (given.only or PARTS)),
        batch_sizes=tuple(dict.fromkeys(given.batch_sizes)),
        optimizers=tuple(dict.fromkeys(given.optimizers)),
        seeds=tuple(dict.fromkeys(given.seeds)),
        peers=tuple(peer for peer in asked if peer not in missing),
        missing=tuple(missing),
        repeats=given.repeats or (1 if given.quick else _REPEATS),
        quick=given.quick,
        fresh=given.fresh,
        out=given.out or Path("multirun") / name,
        runs=given.runs,
        reproduce=given.reproduce,
        settings=tuple(given.set),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python scripts/benchmark.py",
        description="Measure seconds per epoch and run of optsweep and of its peers in turn, the "
        "machine's limits, start-up and the study. It can be stopped at any time; the same "
        "command continues. Close other programs first. About 25 minutes in all on two cores, "
        "less than 15 with --peers jax.",
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    add(
        "--batch-sizes",
        nargs="+",
        type=_count,
        metavar="B",
        default=BATCH_SIZES,
        help="default: " + " ".join(map(str, BATCH_SIZES)),
    )
    add(
        "--optimizers",
        nargs="+",
        choices=OPTIMIZERS,
        metavar="NAME",
        default=OPTIMIZERS,
        help=f"of {', '.join(OPTIMIZERS)}",
    )
    add(
        "--seeds",
        nargs="+",
        type=_count,
        metavar="S",
        default=NUM_SEEDS,
        help="networks trained at once; default: " + " ".join(map(str, NUM_SEEDS)),
    )
    peers = [peer for peer in PEERS if peer != OURS]
    add("--peers", nargs="+", choices=peers, metavar="NAME", help=f"of {', '.join(peers)}")
    add(
        "--repeats",
        type=_count,
        metavar="N",
        help=f"of every measurement, more of those that take a fraction of a second; "
        f"default: {_REPEATS}, with --quick 1",
    )
    add(
        "--quick",
        action="store_true",
        help=f"no more than {QUICK_EXAMPLES} examples or one step: to see that all works",
    )
    add("--fresh", action="store_true", help="forget what was measured before")
    add("--out", type=Path, metavar="DIR", help="default: multirun/benchmark")
    add(
        "--runs",
        type=Path,
        metavar="DIR",
        default=Path("multirun"),
        help="folder of the study's runs; default: multirun",
    )
    add(
        "--reproduce",
        choices=("cells", "quick", "none"),
        default="cells",
        help="time of the study: from its finished cells, also of --quick run afresh, or not",
    )
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of the images and of the default job, such as dataset.root=DIR",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        exit_with(InputError(f"{message}; see --help"))
