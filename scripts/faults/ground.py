"""Where a fault is tried: folders, the program in them, and what became of it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import records
from faults.forks import ForkServer
from optsweep import runs

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CONF = CHECKOUT / "tests" / "conf"
SLICE = CHECKOUT / "tests" / "data" / "slice"  # a thousand real images
SECONDS = 120.0  # no command here takes a tenth of it
ERROR = "optsweep: error: "
_NOTHING: Mapping[str, str] = {}
TRACEBACK = "Traceback (most recent call last)"
# Trained once before anything is forked, which then finds it compiled.
_WARM_UP = (
    *(f"hydra.searchpath=[file://{CONF}]", "dataset=slice", "trainer.device=cpu"),
    *("trainer.num_threads=1", "trainer.epochs=1", "batch_size=50", "num_seeds=2"),
)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def is_one_line(self) -> bool:
        """Whether it is a user's mistake as it shall be told."""
        lines = self.errors.splitlines()
        return self.code == 2 and len(lines) == 1 and lines[0].startswith(ERROR)

    @property
    def told(self) -> str:
        """What to say of it where it is wrong."""
        lines = self.errors.strip().splitlines() or self.output.strip().splitlines() or [""]
        return f"exit code {self.code}: {lines[-1][:300]}"


@dataclass
class Verdict:
    """What came of a trial.

    Attributes:
        count: Faults that were made.
        lost: What should be there and is not, a line each.
        wrong: What is not as it should be, a line each.
        skipped: Why it could not be tried; empty if it was.
    """

    count: int = 1
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""

    def expect(self, holds: bool, otherwise: str) -> None:
        """Find it wrong unless something holds."""
        if not holds:
            self.wrong.append(otherwise)

    def compare(self, folder: Path, undisturbed: Mapping[str, bytes]) -> None:
        """Compare the runs in a folder with undisturbed ones."""
        for line in records.differences(records.tables(folder), undisturbed):
            (self.lost if line.endswith("is missing") else self.wrong).append(line)


@dataclass(frozen=True)
class Trial:
    """Something that is tried.

    Attributes:
        name: What it is called.
        run: Tries it, with the randomness that it is given.
    """

    name: str
    run: Callable[[Ground, random.Random], Verdict]


class Workshop:
    """What all trials share: the data, the caches, and what undisturbed runs have written."""

    def __init__(self, folder: Path) -> None:
        """Set up in an empty folder."""
        self.folder = folder
        folder.chmod(0o755)  # a user without rights looks into it too
        self.data = folder / "data"
        shutil.copytree(SLICE, self.data / "slice")
        self._made: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._of_thread = threading.local()
        self._servers: list[ForkServer] = []

    @property
    def server(self) -> ForkServer:
        """What forks for this thread."""
        if not hasattr(self._of_thread, "server"):
            warm_up = (f"dataset.root={self.data}", *_WARM_UP)
            server = self._of_thread.server = ForkServer(warm_up, environment_of({}))
            self._servers.append(server)
        return self._of_thread.server

    def close(self) -> None:
        """End what was started for all trials."""
        for server in self._servers:
            server.close()

    def new_folder(self) -> Path:
        """An empty folder for one trial."""
        with self._lock:
            self._number += 1
            folder = self.folder / f"trial_{self._number}"
        folder.mkdir()
        return folder

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made by the first trial that asks for it."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = make()
        return self._made[key]

    def undisturbed(self, *arguments: str) -> Path:
        """The folder in which this command was run to its end, once for all trials."""

        def run() -> Path:
            with Ground(self) as ground:
                done = ground.run(*arguments)
                if done.code or done.errors:
                    raise RuntimeError(f"undisturbed, {' '.join(arguments)}: {done.told}")
                kept = ground.folder.with_name(f"undisturbed_{ground.folder.name}")
                return ground.folder.rename(kept)

        return self.once(arguments, run)

    def tables(self, *arguments: str) -> dict[str, bytes]:
        """What that command has written."""
        folder = self.undisturbed(*arguments) / runs.RUNS_FOLDER
        return self.once((*arguments, "tables"), lambda: records.tables(folder))


class Ground:
    """The folder of one trial; a `with` statement removes it and ends what still runs in it."""

    def __init__(self, workshop: Workshop) -> None:
        """Lay out a folder."""
        self.workshop = workshop
        self.folder = workshop.new_folder()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._started:
            kill(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def runs(self) -> Path:
        """Where the program puts its runs."""
        return self.folder / runs.RUNS_FOLDER

    @property
    def cells(self) -> list[Path]:
        """The directories of its cells."""
        return sorted((self.runs / runs.CELLS_FOLDER).iterdir())

    def begin_with(self, *arguments: str) -> None:
        """Put in place what a command has written that ran undisturbed."""
        shutil.copytree(
            self.workshop.undisturbed(*arguments), self.folder, dirs_exist_ok=True, symlinks=True
        )

    def arguments(self, *given: str, data: Path | None = None) -> list[str]:
        """What a command line needs to train on the slice, and what is given."""
        if given[:1] in (("report",), ("--version",)):
            return list(given)
        root = data or self.workshop.data
        quick = [f"dataset.root={root}", "trainer.device=cpu", "trainer.num_threads=1"]
        return ["--config-dir", str(CONF), "dataset=slice", *quick, *given]

    def start(
        self,
        *given: str,
        before: Sequence[str] = (),
        data: Path | None = None,
        environment: Mapping[str, str] = _NOTHING,
    ) -> subprocess.Popen[str]:
        """The program, in a process and a group of its own.

        Args:
            given: Its arguments, after those that make it quick.
            before: A program, with arguments, that starts it.
            data: In place of the folder with the data.
            environment: Added to this process's own.
        """
        command = [sys.executable, "-m", "optsweep", *self.arguments(*given, data=data)]
        process = subprocess.Popen(
            [*before, *command],
            cwd=self.folder,
            env=environment_of(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(
        self,
        *given: str,
        before: Sequence[str] = (),
        data: Path | None = None,
        environment: Mapping[str, str] = _NOTHING,
    ) -> Done:
        """The program, from start to end; see `start`."""
        return finish(self.start(*given, before=before, data=data, environment=environment))

    def fork(self, *given: str, data: Path | None = None) -> Done:
        """The same from a process that has imported everything before."""
        arguments = self.arguments(*given, data=data)
        outcome = self.workshop.server.run(arguments, self.folder, SECONDS)
        return Done(*outcome)


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a program; one that does not come to an end is killed."""
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        output, errors = process.communicate()
        errors = (errors or "") + f"\nstill running after {SECONDS:.0f} s"
    return Done(process.returncode, output or "", errors or "")


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a program and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment_of(added: Mapping[str, str]) -> dict[str, str]:
    """What a program finds around it."""
    settled = {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    # Trials run side by side: a report of its own needs no more processes.
    settled["LOKY_MAX_CPU_COUNT"] = "1"
    return {**os.environ, **settled, **added}


@contextmanager
def workshop() -> Iterator[Workshop]:
    """A workshop in a temporary folder, which is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="optsweep-faults-", ignore_cleanup_errors=True) as name:
        shop = Workshop(Path(name))
        try:
            yield shop
        finally:
            shop.close()
