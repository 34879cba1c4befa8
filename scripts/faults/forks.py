"""A process that has imported everything, and forks itself for every run of the program.

A start takes it a hundredth of a second in place of one, and what happens in it is no less real:
the command line, the files and the exit code of a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path


class ForkServer:
    """The process, as the one sees it that asks for runs; for one thread at a time."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            command: Overrides of a cell that is trained once, so that its code is compiled.
            environment: Of the process.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.forks", *command],
            env={
                **environment,
                "PYTHONPATH": os.pathsep.join([_SCRIPTS, environment["PYTHONPATH"]]),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, arguments: Sequence[str], folder: Path, seconds: float) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of the program with these arguments."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="optsweep-fork-") as name:
            paths = [str(Path(name, stream)) for stream in ("out", "err")]
            job = [list(arguments), str(folder), paths]
            self._process.stdin.write(json.dumps([seconds, job]) + "\n")
            self._process.stdin.flush()
            code = json.loads(self._process.stdout.readline())
            output, errors = (Path(path).read_text(errors="replace") for path in paths)
        return code, output, errors

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


_SCRIPTS = str(Path(__file__).resolve().parent.parent)


def _serve(overrides: Sequence[str]) -> None:
    """Fork for every line of standard input, which tells what to run."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_everything(overrides)
    for line in sys.stdin:
        seconds, job = json.loads(line)
        child = os.fork()
        if not child:
            _be_the_program(*job)
        answers.write(json.dumps(_wait(child, seconds)) + "\n")
        answers.flush()


def _import_everything(overrides: Sequence[str]) -> None:
    import optsweep.cli.app
    import optsweep.cli.grid_training
    import optsweep.cli.progress
    import optsweep.cli.search
    import optsweep.cli.validation
    import optsweep.report.curves
    import optsweep.report.report
    import optsweep.study.aggregate
    import optsweep.study.content  # noqa: F401
    from optsweep.cli.composition import compose
    from optsweep.training.cell import train_cell
    from optsweep.training.plan import plan_cell

    train_cell(plan_cell(compose(*overrides)))


def _be_the_program(arguments: list[str], folder: str, paths: list[str]) -> None:
    """What `python -m optsweep ARGUMENTS` is; does not return."""
    code: object = 1
    try:
        os.setsid()
        os.chdir(folder)
        for descriptor, path in ((0, os.devnull), (1, paths[0]), (2, paths[1])):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, descriptor)
        sys.argv = ["optsweep", *arguments]
        from optsweep.__main__ import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _wait(child: int, seconds: float) -> int:
    """The exit code of a child; one that takes too long is killed."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            until += seconds
        time.sleep(0.002)


if __name__ == "__main__":
    _serve(sys.argv[1:])
