"""The program: choose kinds of faults, try them side by side, count what was lost or wrong."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from faults import crowds, damage, disks, inputs, kills, output
from faults.ground import Ground, Trial, Verdict, Workshop, workshop
from optsweep.cli.mistakes import OneLineParser, count, in_one_line
from optsweep.surroundings import num_cores

KINDS: dict[str, Callable[[bool], list[Trial]]] = {
    "kills": kills.trials,
    "damage": damage.trials,
    "output": output.trials,
    "inputs": inputs.trials,
    "crowds": crowds.trials,
    "disks": disks.trials,
}


@dataclass
class Tally:
    """What came of the trials of one kind."""

    trials: int = 0
    skipped: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try faults; see `--help`.

    Returns:
        The exit code: 1 if anything was lost or wrong.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and tidy up
    with in_one_line():
        given = parse(arguments)
        seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
        form = "quick" if given.quick else "long"
        print(f"the {form} form, seed {seed}, {given.jobs} at a time", flush=True)
        started = time.monotonic()
        tallies = try_all(given.only, given.quick, seed, given.jobs)
        print(table(tallies, time.monotonic() - started), flush=True)
    return int(any(tally.lost or tally.wrong for tally in tallies.values()))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = OneLineParser(
        prog="python scripts/faults.py",
        description="Kill sweeps and searches, damage their files, fill their disks, close their "
        "output, mistype their settings and crowd them; tell what was lost or wrong. Everything "
        "lies in a temporary folder. About 30 minutes on two cores.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a small sample of each kind, in 90 seconds")
    add("--seed", type=int, metavar="N", help="of the randomness; default: another every time")
    add(
        "--only",
        nargs="+",
        choices=[*KINDS],
        default=[*KINDS],
        metavar="KIND",
        help=" ".join(KINDS),
    )
    add("--jobs", type=count, metavar="N", default=num_cores(), help="trials at a time")
    return parser.parse_args(arguments)


def try_all(kinds: Sequence[str], quick: bool, seed: int, jobs: int) -> dict[str, Tally]:
    """Try every trial of some kinds, so many at a time."""
    tallies = {kind: Tally() for kind in kinds}
    with workshop() as shop, ThreadPoolExecutor(jobs) as pool:
        waiting: list[tuple[str, Trial, Future[Verdict]]] = []
        for kind in kinds:
            for trial in KINDS[kind](quick):
                rng = random.Random(f"{seed} {kind} {trial.name}")
                waiting.append((kind, trial, pool.submit(_try, shop, trial, rng)))
        try:
            for kind, trial, future in waiting:
                _add(tallies[kind], kind, trial, future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return tallies


def _try(shop: Workshop, trial: Trial, rng: random.Random) -> Verdict:
    try:
        with Ground(shop) as ground:
            return trial.run(ground, rng)
    except Exception:
        # A fault of the trial's own is one more reason not to call it passed.
        return Verdict(wrong=[f"the trial failed: {traceback.format_exc()}"])


def _add(tally: Tally, kind: str, trial: Trial, verdict: Verdict) -> None:
    if verdict.skipped:
        tally.skipped += verdict.count
        print(f"{kind}, {trial.name}: skipped, {verdict.skipped}", flush=True)
        return
    tally.trials += verdict.count
    tally.lost += verdict.lost
    tally.wrong += verdict.wrong
    for how in ("lost", "wrong"):
        for line in getattr(verdict, how):
            print(f"{kind}, {trial.name}: {how}: {line}", flush=True)


def table(tallies: dict[str, Tally], seconds: float) -> str:
    """The counts of all kinds, and their sums."""
    heading = f"{'faults':10}{'tried':>8}{'skipped':>9}{'lost':>7}{'wrong':>7}"
    counts = {
        kind: (tally.trials, tally.skipped, len(tally.lost), len(tally.wrong))
        for kind, tally in tallies.items()
    }
    a, b, c, d = (sum(column) for column in zip(*counts.values(), strict=True))
    counts["all"] = (a, b, c, d)
    lines = [f"{kind:10}{a:8}{b:9}{c:7}{d:7}" for kind, (a, b, c, d) in counts.items()]
    return "\n".join(["", heading, *lines, f"{seconds:.0f} s"])
