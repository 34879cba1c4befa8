"""Ways to damage a file, each of which a disk, an editor or a copy can have."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

Way = Callable[[Path, random.Random], None]


def truncated(path: Path, rng: random.Random) -> None:
    """Cut off somewhere."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(1, len(content))])


def emptied(path: Path, rng: random.Random) -> None:
    """Nothing in it."""
    path.write_bytes(b"")


def zeroed(path: Path, rng: random.Random) -> None:
    """As long as it was, and nothing but zero bytes: what a loss of power can leave."""
    path.write_bytes(bytes(path.stat().st_size))


def one_digit(path: Path, rng: random.Random) -> None:
    """Another digit in place of one."""
    content = path.read_bytes()
    at = rng.choice([match.start() for match in re.finditer(rb"\d", content)])
    digit = rng.choice([d for d in b"123456789" if d != content[at]])
    path.write_bytes(content[:at] + bytes([digit]) + content[at + 1 :])


def not_a_number(path: Path, rng: random.Random) -> None:
    """NaN in place of a number."""
    content = path.read_bytes()
    numbers = list(re.finditer(rb"(?<=[ ,=])\d+(\.\d+)?(e-?\d+)?(?=[ ,\n])", content))
    match = rng.choice(numbers)
    path.write_bytes(content[: match.start()] + b"NaN" + content[match.end() :])


def row_deleted(path: Path, rng: random.Random) -> None:
    """A line less, but not the first."""
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[rng.randrange(1, len(lines))]
    path.write_bytes(b"".join(lines))


def not_utf8(path: Path, rng: random.Random) -> None:
    """Bytes in it that no text has."""
    content = path.read_bytes()
    at = rng.randrange(len(content))
    path.write_bytes(content[:at] + b"\xff\xfe" + content[at:])


def one_byte(path: Path, rng: random.Random) -> None:
    """Another byte in place of one."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def a_directory(path: Path, rng: random.Random) -> None:
    """A directory where it should be."""
    path.unlink()
    path.mkdir()


def removed(path: Path, rng: random.Random) -> None:
    """It is not there."""
    path.unlink()


def swapped(path: Path, rng: random.Random) -> None:
    """Exchanged with the file of that name in a neighbouring folder."""
    others = [p for p in path.parent.parent.glob(f"*/{path.name}") if p.parent != path.parent]
    other, aside = rng.choice(sorted(others)), path.with_name("aside")
    shutil.move(path, aside)
    shutil.move(other, path)
    shutil.move(aside, other)


OF_TEXTS = (
    *(truncated, emptied, zeroed, one_digit, not_a_number, row_deleted, not_utf8, one_byte),
    *(a_directory, removed),
)
OF_BYTES = (truncated, emptied, zeroed, one_byte, a_directory, removed)
