"""Several processes at one sweep, one search, one fetch of the data; some of them killed."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path

from faults.commands import SEARCH, SWEEP
from faults.ground import SLICE, Done, Ground, Trial, Verdict, finish, kill
from optsweep import runs

FETCHED = ("batch_size=50", "trainer.epochs=1", "dataset.debian_package=images")
# A package archive that takes its time, and what unpacks its packages.
_PROGRAMS = {
    "apt-get": "sleep 0.3; : >images_1_all.deb; sleep 0.3",
    "dpkg": f'sleep 0.3; mkdir -p "$3/images"; cp {SLICE}/* "$3/images"',
}


def trials(quick: bool) -> list[Trial]:
    """Two and eight processes, all at once; with kills among them."""
    # Of a search, all trials are drawn at random: what a model proposes depends on who ends first.
    made = [
        Trial(
            f"{count} processes at one {what}, {kills} killed",
            partial(_at_once, command, count, kills),
        )
        for what, command in (("sweep", SWEEP), ("search", SEARCH))
        for count, kills in (((2, 1),) if quick else ((2, 0), (2, 1), (8, 0), (8, 4)))
    ]
    return made + [
        Trial(f"two first fetches at once, {number}", _fetches)
        for number in range(1 if quick else 8)
    ]


def _at_once(
    command: tuple[str, ...], count: int, kills: int, ground: Ground, rng: random.Random
) -> Verdict:
    verdict = Verdict(count)
    processes = [ground.start(*command) for _ in range(count)]
    for process in processes[:kills]:
        time.sleep(rng.uniform(0.5, 3))
        kill(process)
    for process in processes[kills:]:
        _expect_no_error(verdict, finish(process))
    if kills:
        _expect_no_error(verdict, ground.run(*command))
    verdict.compare(ground.runs, ground.workshop.tables(*command))
    return verdict


def _expect_no_error(verdict: Verdict, done: Done) -> None:
    verdict.expect(done.code == 0 and not done.errors, done.told)


def _fetches(ground: Ground, rng: random.Random) -> Verdict:
    """The data come from an archive for two processes at once, one of which is killed."""
    verdict, data = Verdict(2), ground.folder / "data"
    given = (*FETCHED, "dataset.debian_folder=/images")
    path = {"PATH": f"{_programs(ground.folder / 'programs')}{os.pathsep}{os.environ['PATH']}"}
    killed, other = (
        ground.start("hydra.run.dir=mine", *given, data=data, environment=path),
        ground.start("hydra.run.dir=other", *given, data=data, environment=path),
    )
    time.sleep(rng.uniform(1, 4))
    kill(killed)
    for done in (
        finish(other),
        ground.run("hydra.run.dir=mine", *given, data=data, environment=path),
    ):
        lines = [line for line in done.errors.splitlines() if not line.startswith("fetching")]
        verdict.expect(done.code == 0 and not lines, done.told)
    whole = ground.workshop.undisturbed(*FETCHED, "dataset.debian_folder=/images")
    (history,) = whole.rglob(runs.HISTORY_FILE)
    for name in ("mine", "other"):
        found = ground.folder / name / runs.HISTORY_FILE
        same = found.exists() and _scores(found) == _scores(history)
        verdict.expect(same, f"{name}: another history")
    kept = sorted(path.name for path in (data / "slice").iterdir())
    wanted = sorted(path.name.removesuffix(".gz") for path in SLICE.iterdir())
    verdict.expect(kept == wanted, f"kept: {', '.join(kept)}")
    return verdict


def _scores(history: Path) -> list[str]:
    """A history without its times, the last of the columns."""
    return [line.rpartition(",")[0] for line in history.read_text().splitlines()]


def _programs(folder: Path) -> Path:
    folder.mkdir()
    for name, script in _PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder
