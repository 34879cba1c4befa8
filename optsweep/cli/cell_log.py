"""A cell's log: what it prints, and what ends it, in a file beside its results.

What a terminal shows goes on there as it does without a log.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from optsweep.interrupts import if_ended

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and movements of a terminal


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Add to a file what is printed meanwhile, and the traceback of what is raised.

    A cell that was killed or failed goes on in the same log. A disk that is too full for the log
    is no reason to stop: what matters is written elsewhere, and told there.
    """
    with path.open("ab", buffering=0) as log:
        _write(log, time.strftime("--- %Y-%m-%d %H:%M:%S\n"))
        with (
            if_ended(lambda reason: _write(log, f"ended by {reason} in the middle of a step\n")),
            contextlib.redirect_stdout(cast(TextIO, _Copied(sys.stdout, log))),
            contextlib.redirect_stderr(cast(TextIO, _Copied(sys.stderr, log))),
        ):
            try:
                yield
            except BaseException:
                _write(log, traceback.format_exc())
                raise


class _Copied:
    """A stream whose lines also go to a log, as they stand on the screen in the end."""

    def __init__(self, shown: TextIO, log: BinaryIO) -> None:
        self._shown = shown
        self._log = log
        self._line = ""

    def write(self, text: str) -> int:
        *lines, rest = (self._line + text).split("\n")
        for line in lines:  # of a bar, which is drawn again and again, the last state
            _write(self._log, line.rstrip("\r").rpartition("\r")[2] + "\n")
        self._line = rest.rpartition("\r")[2]
        return self._shown.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown, name)


def _write(log: BinaryIO, text: str) -> None:
    with contextlib.suppress(OSError):
        log.write(_CONTROLS.sub("", text).encode(errors="replace"))
