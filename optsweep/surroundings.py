"""What a process finds around it: cores, memory, a folder of its user's.

Control groups are asked along the whole path from the process's own one to the root: joblib and
the system's tools look at one place only, where a batch system's or a service's limit need not
stand.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs

CORES_VARIABLE = "LOKY_MAX_CPU_COUNT"  # joblib's: how many cores it shall believe in


def num_cores() -> int:
    """Cores that this process may use at once: of its affinity, its quota and the user's word."""
    counts = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    counts += [math.ceil(quota) for quota in _quotas()]
    with contextlib.suppress(ValueError):
        counts.append(int(os.environ.get(CORES_VARIABLE, "")))
    return max(1, min(counts))


def process_name() -> str:
    """A name that no other process on any machine has had, but by chance."""
    return f"{os.getpid()}-{_STARTED}"


_STARTED = time.time_ns()


class OtherCores:
    """How many cores other processes keep busy, from when this is made until it is asked."""

    def __init__(self) -> None:
        """Begin now."""
        self._began, self._before = time.perf_counter(), seconds_of_others(os.getpid())

    def mean(self) -> float | None:
        """On average, 0 where there was nothing else; None: unknown on this system.

        What the machine's own housekeeping needs counts, and is a few hundredths.
        """
        seconds, after = time.perf_counter() - self._began, seconds_of_others(os.getpid())
        if self._before is None or after is None or not seconds:
            return None
        busy = (after - self._before) / seconds
        # They are counted in ticks of 10 ms, of which a short time may have had one too many.
        return round(min(max(0.0, busy), os.cpu_count() or 1), 2)


def seconds_of_others(pid: int) -> float | None:
    """Seconds of all cores that processes but `pid` have used; None where Linux does not tell."""
    try:
        machine = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
        own = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, machine[:8])
    ticks = user + nice + system + sum(interrupts) - int(own[11]) - int(own[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def available_memory() -> int | None:
    """Bytes that this process can still take before the system refuses or kills; None: unknown."""
    free = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    for folder, is_v2 in _groups("memory"):
        names = ("memory.max", "memory.current") if is_v2 else _V1_MEMORY
        with contextlib.suppress(OSError, ValueError):  # no limit is a word
            limit, used = (int((folder / name).read_text()) for name in names)
            free.append(limit - used + _reclaimable(folder, is_v2))
    return max(0, min(free)) if free else None


def user_folder() -> Path:
    """Where the user's cache of optsweep is or would be; it need not be there, nor be possible."""
    folder = platformdirs.user_cache_path("optsweep")
    # Of a user without a home, `~` stays what it is, and would be a folder of that name here.
    return folder if folder.is_absolute() else Path("/nonexistent/.cache/optsweep")


_V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _quotas() -> Iterator[float]:
    """Cores, in parts too, that control groups grant."""
    for folder, is_v2 in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError):  # no quota is a word, or a negative number
            if is_v2:
                quota, period = map(int, (folder / "cpu.max").read_text().split())
            else:
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                quota, period = (int((folder / name).read_text()) for name in names)
            if quota > 0 and period > 0:
                yield quota / period


def _reclaimable(folder: Path, is_v2: bool) -> int:
    """Bytes of files that a group's limit counts, and that the system gives up when it has to."""
    key = "inactive_file" if is_v2 else "total_inactive_file"
    found = re.search(rf"^{key} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the control groups that this process is in, and whether they are of version 2."""
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    paths = {}
    for line in own:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") or not controllers:
            paths[not controllers] = path
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        is_v2 = kind == "cgroup2"
        if not (is_v2 or (kind == "cgroup" and controller in options.split(","))):
            continue
        root, mount = before.split()[3:5]
        inside = os.path.relpath(paths.get(is_v2, root), root)
        folder = Path(mount) if inside.startswith("..") else Path(mount, inside)
        while folder.is_relative_to(mount):
            yield folder, is_v2
            folder = folder.parent


def open_closed() -> None:
    """Put nothing in place of what a shell has closed, lest the next file takes its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
