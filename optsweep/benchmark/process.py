"""The other end of `worker`: its processes, kept alive and asked one at a time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from optsweep.config.checks import InputError

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# After their work, thread pools look for more for some milliseconds before they sleep.
_SETTLE_SECONDS = 0.1


class WorkerError(RuntimeError):
    """A worker said why it failed, or ended."""


class Worker:
    """One process, of a peer or of a library whose limits are measured."""

    def __init__(self, name: str, log: Path, environment: Mapping[str, str]) -> None:
        """Start it; what it prints is kept in `log`."""
        self.log = log
        # From the same checkout as this process, wherever it was started.
        root = str(Path(__file__).resolve().parent.parent.parent)
        paths = [root, os.environ.get("PYTHONPATH", "")]
        path = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "optsweep.benchmark.worker", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=os.environ | environment | path,
            )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a question and wait for the answer.

        Returns:
            The answer, with `other_cores` if that is known: how many cores other programs
            kept busy meanwhile.

        Raises:
            InputError: If the worker found a mistake of the user's.
            WorkerError: If it failed otherwise.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        time.sleep(_SETTLE_SECONDS)
        before = _busy_seconds(self.process.pid)
        started = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            raise WorkerError(f"it ended with exit code {code}; its last words are in {self.log}")
        after = _busy_seconds(self.process.pid)
        answer = json.loads(line)
        if "mistake" in answer:
            raise InputError(answer["mistake"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        if before is not None and after is not None:
            others = (after - before) / (time.perf_counter() - started)
            answer["other_cores"] = round(max(0.0, others), 2)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _busy_seconds(pid: int) -> float | None:
    """Seconds of all cores that programs but `pid` have used; None where Linux does not tell."""
    try:
        machine = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
        own = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, machine[:8])
    return (user + nice + system + sum(interrupts) - int(own[11]) - int(own[12])) / _TICKS
