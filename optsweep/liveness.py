"""Who is at work on a cell or a trial, and whether he lives.

Whoever works writes a sign and counts it up. Others watch it by their own clocks, for those of
two machines differ: a sign that stands still for too long is that of a dead, stopped or cut-off
process. On its own machine a dead one is known at once, by its process number.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

from optsweep.interrupts import if_ended

STALE_SECONDS = 30.0
_MAX_SECONDS_BETWEEN_BEATS = 2.0
_SECONDS_BETWEEN_LOOKS = 0.2
_LEASE = ".lease."  # and a number: a new one takes the place of one that was left behind

Sign = dict[str, Any]
RELEASED: Sign = {"owner": None}  # the sign of work that was laid down unfinished


class Occupied(Exception):
    """Another process is at work in a directory, or may be."""


def sign_of_life() -> Sign:
    """A new sign of this process's."""
    return {"owner": uuid.uuid4().hex, "machine": machine(), "pid": os.getpid(), "count": 0}


def seconds_between_beats(stale_seconds: float) -> float:
    """How often a sign is counted up, if it is stale after so many seconds."""
    return min(_MAX_SECONDS_BETWEEN_BEATS, stale_seconds / 6)


class Watch:
    """Tells the living from the dead by the signs that this process has seen."""

    def __init__(self, stale_seconds: float) -> None:
        """Take a sign that stands still for so long for that of a dead process."""
        self.stale_seconds = stale_seconds
        self._seen: dict[Hashable, tuple[str, float, bool]] = {}  # sign, since when, ever moved

    def is_alive(self, work: Hashable, sign: Sign | None) -> bool | None:
        """Whether somebody is at this work; None if that cannot be told yet.

        Args:
            work: Anything that tells this work from other.
            sign: As it stands now; None if there is none.
        """
        now, text = time.monotonic(), json.dumps(sign)
        before, since, moved = self._seen.get(work, (text, now, False))
        if text != before:
            since, moved = now, True
        self._seen[work] = (text, since, moved)
        if sign == RELEASED or now - since >= self.stale_seconds:
            return False
        if isinstance(sign, dict) and sign.get("machine") == machine():
            return is_running(sign["pid"])
        return True if moved else None


@contextlib.contextmanager
def alone_in(
    directory: Path,
    say: Callable[[str], None],
    stale_seconds: float = STALE_SECONDS,
    waits: bool = True,
) -> Iterator[None]:
    """Keep other processes and machines out of a cell's directory for as long as this lasts.

    A lease is a file that exists once, on a network's file systems too, which locks do not
    promise. One that a dead process has left is not removed, for two could do that at once and
    the second would remove the lease of the first: the next in number takes its place.

    Args:
        directory: It is made if it is not there.
        say: Told if there is something to wait for.
        stale_seconds: A lease that shows no life for so long is a dead process's.
        waits: For the others to leave. Who wants several directories at once must not, lest two
            processes wait for each other for ever.

    Raises:
        Occupied: If there is something to wait for, which is not to be done.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sign = sign_of_life()
    number = _take_lease(directory, sign, say if waits else None, Watch(stale_seconds))
    path = directory / f"{_LEASE}{number}"
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(seconds_between_beats(stale_seconds)):
            with contextlib.suppress(OSError):  # a full disk may have room again in a moment
                if _read(path) == sign:
                    sign["count"] += 1
                    path.write_text(json.dumps(sign), encoding="utf-8")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()

    def release(reason: str = "") -> None:
        del reason
        ended.set()
        thread.join()
        if _read(path) == sign:  # else it was taken for dead, and another's lease may lie here
            for each in range(number + 1):
                (directory / f"{_LEASE}{each}").unlink(missing_ok=True)

    try:
        with if_ended(release):
            yield
    finally:
        release()


def remove_dead_leases(directory: Path) -> None:
    """Remove the leases that killed processes of this machine have left where all is done."""
    signs = [_read(path) for path in directory.glob(f"{_LEASE}*")]
    ours = [sign for sign in signs if sign is not None and sign.get("machine") == machine()]
    if ours and not any(is_running(sign["pid"]) for sign in ours):
        with alone_in(directory, lambda line: None):  # whoever leaves takes them with him
            pass


def _take_lease(
    directory: Path, sign: Sign, say: Callable[[str], None] | None, watch: Watch
) -> int:
    """Take a lease when nobody else has one; without `say`, now or not at all."""
    told = False
    while True:
        numbers = [path.name.removeprefix(_LEASE) for path in directory.glob(f"{_LEASE}*")]
        last = max((int(number) for number in numbers if number.isdecimal()), default=-1)
        if last < 0 or watch.is_alive(last, _read(directory / f"{_LEASE}{last}")) is False:
            with (
                contextlib.suppress(FileExistsError),
                (directory / f"{_LEASE}{last + 1}").open("x", encoding="utf-8") as file,
            ):
                json.dump(sign, file)
                return last + 1
        elif say is None:
            raise Occupied(str(directory))
        elif not told:
            say(f"waiting for {directory.name}, which another process is training")
            told = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _read(path: Path) -> Sign | None:
    """A sign in a file; None if it is not there, or is being written at this moment."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@functools.cache
def machine() -> str:
    """What tells apart the machines, and the containers in them, that count their own processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{platform.node()} {uuid.getnode()}"


@functools.cache
def machine_id() -> str:
    """Eight hexadecimal digits of the same, for the name of a file."""
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """Whether a process of this machine is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
