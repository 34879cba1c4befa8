"""SIGKILL at any moment of a sweep or a search, which the same command then continues."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import partial

from faults import calls
from faults.commands import CHECKPOINT, JOBLIB, MODELLED, SEARCH, SWEEP, TORCH
from faults.ground import Ground, Trial, Verdict, finish, kill

_SECONDS = 5.0  # a little less than what any of these takes


def trials(quick: bool) -> list[Trial]:
    """Kills one after the other of the same command, until it comes to its end."""
    made = []
    for name, command, chains, length in (
        ("of a sweep", SWEEP, 1 if quick else 5, 4 if quick else 5),
        ("of a sweep of torch's", TORCH, 0 if quick else 2, 5),
        ("of a sweep with checkpoints", (*SWEEP, CHECKPOINT), 0 if quick else 5, 5),
        ("of a sweep side by side", (*SWEEP, *JOBLIB), 0 if quick else 3, 5),
        ("of a search", SEARCH if quick else MODELLED, 1 if quick else 4, 2 if quick else 5),
    ):
        made += [
            Trial(f"{name}, by the clock, {chain}", partial(_by_clock, command, length))
            for chain in range(chains)
        ]
    made += [
        Trial(f"{name}, at a call that writes, {chain}", partial(_at_call, command, num_calls))
        for name, command, chains, num_calls in (
            ("of a sweep", SWEEP, 1 if quick else 4, 100),
            ("of a search", SEARCH, 0 if quick else 2, 1000),
        )
        for chain in range(chains)
    ]
    if not quick:
        made += [Trial(f"of a first start, {n}", partial(_of_first_start, 4)) for n in range(3)]
    return made


def _by_clock(command: tuple[str, ...], length: int, ground: Ground, rng: random.Random) -> Verdict:
    """Kill the command at random moments from its start to its end."""
    kills = 0
    for _ in range(length):
        process = ground.start(*command)
        _wait(process, rng.uniform(0, _SECONDS))
        kills += process.poll() is None
        kill(process)
    return _continued(ground, command, Verdict(kills))


def _at_call(
    command: tuple[str, ...], num_calls: int, ground: Ground, rng: random.Random
) -> Verdict:
    """Kill the command in the middle of writing, at a random one of its calls to the system."""
    library, why_not = calls.library(ground.workshop)
    if library is None:
        return Verdict(skipped=why_not)
    kills = 0
    for _ in range(5):
        number = rng.randrange(1, num_calls)
        done = finish(ground.start(*command, environment=library.failing("KILL", number)))
        kills += done.code == -signal.SIGKILL
    return _continued(ground, command, Verdict(kills))


def _of_first_start(length: int, ground: Ground, rng: random.Random) -> Verdict:
    """Kill it while it compiles, into a cache that is empty at first and then what was left."""
    cache = {"NUMBA_CACHE_DIR": str(ground.folder / "cache")}
    kills = 0
    for _ in range(length):
        process = ground.start(*SWEEP, environment=cache)
        _wait(process, rng.uniform(1, 12))
        kills += process.poll() is None
        kill(process)
    return _continued(ground, SWEEP, Verdict(kills), cache)


def _continued(
    ground: Ground,
    command: tuple[str, ...],
    verdict: Verdict,
    environment: Mapping[str, str] | None = None,
) -> Verdict:
    done = ground.run(*command, environment=environment or {})
    verdict.expect(done.code == 0 and not done.errors, f"continued: {done.told}")
    settled = command[: -len(JOBLIB)] if command[-len(JOBLIB) :] == JOBLIB else command
    verdict.compare(ground.runs, ground.workshop.tables(*settled))
    return verdict


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    """Let a program run for so long, or to its end."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
