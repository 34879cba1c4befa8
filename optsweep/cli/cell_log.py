"""A cell's log: what it prints, and what ends it, in a file beside its results.

Cells that are trained as one stack have all of that in common, and each has lines of its own.

What a terminal shows goes on there as it does without a log.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from optsweep.interrupts import if_ended

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and movements of a terminal


@contextlib.contextmanager
def logged(*paths: Path) -> Iterator[list[TextIO]]:
    """Add to files what is printed meanwhile, and the traceback of what is raised.

    A cell that was killed or failed goes on in the same log. A disk that is too full for the log
    is no reason to stop: what matters is written elsewhere, and told there.

    Yields:
        For each file a stream of what goes there alone.
    """
    with contextlib.ExitStack() as opened:
        logs = [opened.enter_context(path.open("ab", buffering=0)) for path in paths]
        _write(logs, time.strftime("--- %Y-%m-%d %H:%M:%S\n"))
        with (
            if_ended(lambda reason: _write(logs, f"ended by {reason} in the middle of a step\n")),
            contextlib.redirect_stdout(cast(TextIO, _Copied(sys.stdout, logs))),
            contextlib.redirect_stderr(cast(TextIO, _Copied(sys.stderr, logs))),
        ):
            try:
                yield [cast(TextIO, _Own(log)) for log in logs]
            except BaseException:
                _write(logs, traceback.format_exc())
                raise


class _Own:
    """A stream that goes to a log alone."""

    def __init__(self, log: BinaryIO) -> None:
        self._log = log

    def write(self, text: str) -> int:
        _write([self._log], text)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        return False


class _Copied:
    """A stream whose lines also go to logs, as they stand on the screen in the end."""

    def __init__(self, shown: TextIO, logs: Sequence[BinaryIO]) -> None:
        self._shown = shown
        self._logs = logs
        self._line = ""

    def write(self, text: str) -> int:
        *lines, rest = (self._line + text).split("\n")
        for line in lines:  # of a bar, which is drawn again and again, the last state
            _write(self._logs, line.rstrip("\r").rpartition("\r")[2] + "\n")
        self._line = rest.rpartition("\r")[2]
        return self._shown.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown, name)


def _write(logs: Sequence[BinaryIO], text: str) -> None:
    content = _CONTROLS.sub("", text).encode(errors="replace")
    for log in logs:
        with contextlib.suppress(OSError):
            log.write(content)
