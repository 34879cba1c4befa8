"""Output that cannot be shown: no letters for it, closed, full, or a reader that has gone."""

from __future__ import annotations

import os
import random
from functools import partial

from faults.commands import CELL, JOBLIB, SEARCH, SWEEP
from faults.ground import TRACEBACK, Ground, Trial, Verdict
from optsweep import runs

COMMANDS = {"a cell": CELL, "a sweep": SWEEP, "side by side": (*SWEEP, *JOBLIB), "a search": SEARCH}
ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
POSIX = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
# What a shell makes of standard output and standard error, and the environment.
STREAMS = {
    "ASCII": ("", ASCII),
    "ASCII in a locale": ("", POSIX),
    "closed": (">&-", {}),
    "both closed": (">&- 2>&-", {}),
    "all closed": ("<&- >&- 2>&-", {}),
    "errors closed": ("2>&-", {}),
    "full": (">/dev/full", {}),
    "both full": (">/dev/full 2>&1", {}),
    "cut": ("| head -n 1", {}),
    "both cut": ("2>&1 | head -n 1", {}),
}
_QUICK = (
    *(("a cell", "ASCII in a locale"), ("a cell", "all closed"), ("a sweep", "full")),
    *(("side by side", "cut"),),
)


def trials(quick: bool) -> list[Trial]:
    """Every command with every output."""
    pairs = [(command, stream) for command in COMMANDS for stream in STREAMS]
    return [
        Trial(f"{command}, {stream}", partial(_shown, COMMANDS[command], *STREAMS[stream]))
        for command, stream in (_QUICK if quick else pairs)
    ]


def _shown(
    command: tuple[str, ...],
    redirection: str,
    environment: dict[str, str],
    ground: Ground,
    rng: random.Random,
) -> Verdict:
    del rng
    verdict = Verdict()
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        return Verdict(skipped="there is no /dev/full")
    shell = ("bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash")
    done = ground.run(*command, before=shell, environment=environment)
    verdict.expect(done.code == 0, done.told)
    verdict.expect(len(done.errors.splitlines()) <= 1, f"more than a line: {done.told}")
    logs = "".join(path.read_text() for path in ground.runs.rglob(runs.LOG_FILE))
    verdict.expect(TRACEBACK not in logs + done.errors, "a traceback")
    whole = tuple(word for word in command if "launcher" not in word)
    verdict.compare(ground.runs, ground.workshop.tables(*whole))
    return verdict
