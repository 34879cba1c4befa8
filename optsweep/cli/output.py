"""Standard output and standard error that nothing trained depends on.

They may be closed, full, cut off by `head`, or unable to show a ±: what is trained goes on.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from optsweep.config.checks import first_line
from optsweep.surroundings import open_closed

_PLAIN = {"±": "+-", "…": "...", "–": "-", "→": "->", "━": "-", "─": "-", "┃": "|", "│": "|"}
_ERRORS = "optsweep.plain"


def make_sturdy(say: Callable[[str], None] = lambda line: None) -> None:
    """Let this program's output fail without a word to those who print.

    Streams that others have put in place, as notebooks and tests do, stay as they are.

    Args:
        say: Told once if output cannot be written, but not if its reader has had enough.
    """
    open_closed()
    codecs.register_error(_ERRORS, _in_plain_letters)
    names = {"stdout": "standard output", "stderr": "standard error"}
    for descriptor, name in enumerate(names, 1):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
            if stream.fileno() == descriptor:
                setattr(sys, name, _sturdy(stream, descriptor, names[name], say))


def _sturdy(
    stream: io.TextIOWrapper, descriptor: int, name: str, say: Callable[[str], None]
) -> io.TextIOWrapper:
    raw: Any = _Raw(descriptor, name, say)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=_ERRORS,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Raw(io.RawIOBase):
    """Writes what can be written; from the first failure on, nothing."""

    def __init__(self, descriptor: int, name: str, say: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self.name = name
        self._say = say

    def write(self, data: Any) -> int:
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._descriptor)  # for what is started from here, too
            os.close(nothing)
            if not isinstance(error, BrokenPipeError):
                told = error.strerror or first_line(error)
                self._say(f"{self.name} cannot be written ({told}); it goes on without")
            return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    """What to show for letters that an encoding does not have.

    >>> codecs.register_error(_ERRORS, _in_plain_letters)
    >>> "0.8 ± 0.1 ┏━┓ 好".encode("ascii", _ERRORS)
    b'0.8 +- 0.1 +-+ ?'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    plain = [_PLAIN.get(one, "+" if "\u2500" <= one <= "\u257f" else "?") for one in letters]
    return "".join(plain), error.end
