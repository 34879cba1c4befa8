"""Checksums of what a sweep or a search keeps in its folder, so that every reader can trust it.

`SHA256SUMS` has a line for each file, as `sha256sum -c` reads them. A kill between a file and its
line is no damage: what is about to be written is announced before, in a comment. Folders of
earlier versions have no such file, and what lies in them is taken as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.liveness import alone_in

SUMS_FILE = "SHA256SUMS"
# What is sealed, if it is there.
_SEALED = (
    runs.SWEEP_FILE,
    runs.SWEEP_FILES,
    runs.MORE_SEEDS_FILE,
    runs.FINALS_FILE,
    runs.TRIALS_FILE,
    runs.TRIALS_PAGE,
    runs.SUMMARY_FILE,
)
_LINE = re.compile(r"(# next: )?([0-9a-f]{64})  ([^/\n]+)")


class Damage(NamedTuple):
    """A file that is not as it was written."""

    path: Path
    reason: str

    def __str__(self) -> str:
        """Both, in words."""
        return f"{self.path} {self.reason}"


class _Sums(NamedTuple):
    """Checksums by name of a file: of what was written, and of what was about to be."""

    written: dict[str, str]
    announced: dict[str, str]

    def text(self) -> str:
        lines = [f"{known}  {name}\n" for name, known in sorted(self.written.items())]
        return "".join(
            [*lines, *(f"# next: {known}  {n}\n" for n, known in sorted(self.announced.items()))]
        )


def write(folder: Path, contents: Mapping[str, str]) -> None:
    """Write files with their checksums; no byte is written if all is as it shall be."""
    bytes_of = {name: text.encode() for name, text in contents.items()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in bytes_of.items()}
    with contextlib.suppress(InputError):
        written, announced = _read(folder)
        same = sums.items() <= written.items() and not announced
        if same and all(_is(folder / name, known) for name, known in sums.items()):
            return runs.tidy(folder)
    with alone_in(folder, _say_nothing):
        runs.remove_partials(folder)
        known = _settled(folder)
        _write(folder, known._replace(announced=sums))
        for name, content in bytes_of.items():
            runs.write_atomically(folder / name, content)
        _write(folder, _Sums(known.written | sums, {}))


def damage(folder: Path) -> list[Damage]:
    """Every file of a sweep or a search that is not as it was written."""
    while True:
        try:
            sums = _read(folder)
        except InputError as error:
            reason = str(error).removeprefix(f"{folder / SUMS_FILE} ")
            return [Damage(folder / SUMS_FILE, reason)]
        there = {path.name for pattern in _SEALED for path in folder.glob(pattern)}
        names = sorted(there.union(sums.written))
        reasons = {name: _damage_of(folder, name, sums) for name in names}
        found = [Damage(folder / name, reason) for name, reason in reasons.items() if reason]
        # Whoever writes at this moment has announced what the file has become.
        if not found or _read(folder) == sums:
            return found


def set_aside(folder: Path, more: Iterable[Damage] = ()) -> list[str]:
    """Move what is damaged into a folder of its own beside, so that it can be made again.

    Args:
        folder: Of a sweep or a search.
        more: Damage that its readers have found.

    Returns:
        A line for each damage.
    """
    more = list(more)
    if not damage(folder) and not more:
        return []
    with alone_in(folder, _say_nothing):
        found = list(dict.fromkeys([*damage(folder), *more]))
        names = {each.path.name for each in found}
        if SUMS_FILE in names:  # without it nothing here can be trusted
            names |= {path.name for pattern in _SEALED for path in folder.glob(pattern)}
        # What SQLite keeps beside a database belongs to no other.
        beside = {path.name for name in names for path in folder.glob(f"{name}-*")}
        kept = runs.keep_damaged(folder, sorted(names | beside))
        if (folder / SUMS_FILE).exists():
            _write(folder, _Sums(*(_without(names, sums) for sums in _settled(folder))))
    aside = f"; it was set aside in {kept}" if kept is not None else ""
    return [f"{each}{aside}" for each in found]


def _without(names: Container[str], sums: Mapping[str, str]) -> dict[str, str]:
    return {name: known for name, known in sums.items() if name not in names}


def _damage_of(folder: Path, name: str, sums: _Sums) -> str:
    path = folder / name
    if not os.path.lexists(path):
        return "is missing" if name in sums.written else ""
    try:
        found = _sum_of(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    known = {each[name] for each in sums if name in each}
    if not (folder / SUMS_FILE).exists() or found in known:
        return ""
    return "is not as it was written" if known else f"is not in {SUMS_FILE}"


def _settled(folder: Path) -> _Sums:
    """The checksums of what is there, after whatever kill; of a first version's folder too.

    Raises:
        InputError: See `_read`.
    """
    sums = _read(folder)
    if not (folder / SUMS_FILE).exists():
        paths = (path for pattern in _SEALED for path in folder.glob(pattern) if path.is_file())
        return _Sums({path.name: _sum_of(path) for path in paths}, {})
    done = {name: known for name, known in sums.announced.items() if _is(folder / name, known)}
    return _Sums(sums.written | done, {})


def _is(path: Path, known: str) -> bool:
    try:
        return _sum_of(path) == known
    except OSError:
        return False


def _sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(folder: Path) -> _Sums:
    """The checksums of a folder; none if there is no file of them.

    Raises:
        InputError: If it cannot be read, or is none.
    """
    path = folder / SUMS_FILE
    try:
        lines = path.read_bytes().decode().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return _Sums({}, {})
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path} is not as it was written") from error
    sums = _Sums({}, {})
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path} is not as it was written")
        (sums.announced if match[1] else sums.written)[match[3]] = match[2]
    if not lines:
        raise InputError(f"{path} is empty")
    return sums


def _write(folder: Path, sums: _Sums) -> None:
    if text := sums.text():
        runs.write_atomically(folder / SUMS_FILE, text)
    else:
        (folder / SUMS_FILE).unlink(missing_ok=True)


def _say_nothing(line: str) -> None:
    """Whoever is alone in such a folder is done in a moment."""
