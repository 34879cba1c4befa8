"""Disks that are full, read-only or failing, and folders that disappear: one line, then as ever."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from faults import calls
from faults.commands import SEARCH, SWEEP
from faults.ground import CHECKOUT, ERROR, TRACEBACK, Done, Ground, Trial, Verdict, finish

_NOBODY = 65534


def trials(quick: bool) -> list[Trial]:
    """Calls that fail, then real disks."""
    made = [
        Trial(
            f"{how}{' from then on' if lasts else ''} in {what}, {number}",
            partial(_failing_call, command, how, num_calls, lasts),
        )
        for what, command, num_calls, times in (
            ("a sweep", SWEEP, 100, 1 if quick else 5),
            ("a search", SEARCH, 700, 0 if quick else 2),
        )
        for number in range(times)
        for how in ("EIO", "ENOSPC", "READ")
        for lasts in ((False,) if quick else (False, True))
    ]
    for what, command in (("a sweep", SWEEP), ("a search", SEARCH)):
        if quick and command is SEARCH:
            continue
        made += [
            Trial(f"full at {size} KiB, {what}", partial(_full_disk, command, size))
            for size in ((16,) if quick else (4, 16, 24, 48, 96))
        ]
        made.append(Trial(f"read-only, {what}", partial(_read_only, command)))
        made.append(Trial(f"finished, read-only, {what}", partial(_finished, command)))
        made += [
            Trial(f"removed under {what}, {number}", partial(_removed, command))
            for number in range(1 if quick else 4)
        ]
    return made


def _failing_call(
    command: tuple[str, ...],
    how: str,
    num_calls: int,
    lasts: bool,
    ground: Ground,
    rng: random.Random,
) -> Verdict:
    library, why_not = calls.library(ground.workshop)
    if library is None:
        return Verdict(skipped=why_not)
    verdict = Verdict()
    if how == "READ":
        ground.begin_with(*command)
        num_calls = 20
    number = rng.randrange(1, num_calls)
    done = finish(ground.start(*command, environment=library.failing(how, number, lasts)))
    _expect_lines(verdict, done)
    _continue(ground, command, verdict)
    return verdict


def _expect_lines(verdict: Verdict, done: Done) -> None:
    """A program that a disk has stopped says why, in a line for each reason; or it went on."""
    lines = done.errors.splitlines()
    fine = all(line.startswith((ERROR, "optsweep: warning: ")) for line in lines)
    verdict.expect(done.code in (0, 2) and fine, done.told)
    verdict.expect(done.code != 2 or bool(lines), f"nothing is said: {done.told}")
    verdict.expect(TRACEBACK not in done.errors, f"a traceback: {done.told}")


def _continue(ground: Ground, command: tuple[str, ...], verdict: Verdict) -> None:
    """The same command, with nothing in its way, gets everything done."""
    done = ground.run(*command)
    verdict.expect(done.code == 0 and not done.errors, f"afterwards: {done.told}")
    verdict.compare(ground.runs, ground.workshop.tables(*command))


@contextmanager
def _disk(ground: Ground, options: str) -> Iterator[bool]:
    """A disk of its own for the runs; False where nobody may mount one."""
    ground.runs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "optsweep-faults", str(ground.runs)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(ground.runs)], check=True)


def _remount(ground: Ground, options: str) -> None:
    command = ["mount", "-o", f"remount,{options}", str(ground.runs)]
    subprocess.run(command, check=True, capture_output=True)


def _full_disk(command: tuple[str, ...], size: int, ground: Ground, rng: random.Random) -> Verdict:
    del rng
    verdict = Verdict()
    with _disk(ground, f"size={size}k") as mounted:
        if not mounted:
            return Verdict(skipped="no disk may be mounted here")
        _expect_lines(verdict, ground.run(*command))
        _remount(ground, "size=100m")
        _continue(ground, command, verdict)
    return verdict


def _finished(command: tuple[str, ...], ground: Ground, rng: random.Random) -> Verdict:
    """What is finished answers on a read-only disk and without its data."""
    del rng
    verdict = Verdict()
    with _disk(ground, "size=100m") as mounted:
        if not mounted:
            return Verdict(skipped="no disk may be mounted here")
        ground.begin_with(*command)
        _remount(ground, "ro")
        for data in (None, ground.folder / "nowhere"):
            done = ground.run(*command, data=data)
            verdict.expect(done.code == 0 and not done.errors, done.told)
        verdict.compare(ground.runs, ground.workshop.tables(*command))
    return verdict


def _read_only(command: tuple[str, ...], ground: Ground, rng: random.Random) -> Verdict:
    """A user without rights in a folder of somebody else's: one line; and a report elsewhere."""
    del rng
    verdict = Verdict()
    without_rights: tuple[str, ...] = ()
    if os.getuid() == 0:
        ids = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        without_rights = ("setpriv", *ids)
        probe = [*without_rights, sys.executable, "-c", "import optsweep, faults.ground"]
        places = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "scripts")])
        environment = os.environ | {"PYTHONPATH": places}
        if (
            not shutil.which("setpriv")
            or subprocess.run(probe, env=environment, capture_output=True, check=False).returncode
        ):
            return Verdict(skipped="no user without rights may use this Python")
    cache = ground.folder / "cache"
    cache.mkdir()
    home = {"HOME": str(cache), "XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(cache)}
    cache.chmod(0o777)
    ground.folder.chmod(0o555)
    done = ground.run(*command, before=without_rights, environment=home)
    verdict.expect(done.is_one_line and str(ground.folder) in done.errors, done.told)
    ground.folder.chmod(0o755)
    _continue(ground, command, verdict)
    return verdict


def _removed(command: tuple[str, ...], ground: Ground, rng: random.Random) -> Verdict:
    verdict = Verdict()
    process = ground.start(*command)
    time.sleep(rng.uniform(1, 4))
    shutil.rmtree(ground.runs, ignore_errors=True)
    _expect_lines(verdict, finish(process))
    _continue(ground, command, verdict)
    return verdict
