"""Start-up time and peak memory of the program, beside what its libraries take alone.

Run as a program, it starts another and tells its wall time and peak memory, and when it printed
certain lines. It is small, and run without `site`, for a child's peak memory starts from that of
the process that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.runner import Rows

FILE = "startup.csv"
COLUMNS = ("what", "repeat", "seconds", "told", "trains", "megabytes")
BARE_HYDRA, HELP = "bare Hydra app, --help", "optsweep --help"
IMPORT_TORCH, JOB = "import torch", "default job"
FIRST_JOB = "first job, nothing compiled before"
_MARKS = {"told": "engine: ", "trains": "epoch 0/"}  # lines of a job, see `optsweep.cli.app`
_HYDRA_APP = """\
import hydra

@hydra.main(config_path=None, version_base=None)
def main(config):
    pass

main()
"""


def measure_starts(
    rows: Rows, repeats: int, settings: Sequence[str], told: Callable[[str], None]
) -> None:
    """Start every program in turn, `repeats` times, and keep what that took.

    Columns: `seconds` of the whole program; `told`, until a job says what it is going to train;
    `trains`, until its images are there and the untrained network is scored; `megabytes`, its
    peak memory.

    Raises:
        RuntimeError: If a program failed.
    """
    done = rows.keys("what", "repeat")
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder, "app.py")
        app.write_text(_HYDRA_APP, encoding="utf-8")
        run_dir = f"hydra.run.dir={folder}/job"
        job = ["-m", "optsweep", "rerun=true", run_dir, *settings]
        commands = {
            BARE_HYDRA: [str(app), "--help"],
            HELP: ["-m", "optsweep", "--help"],
            IMPORT_TORCH: ["-c", "import torch"],
            JOB: job,
        }
        for repeat in range(-1, repeats):  # the first round fills the disk's cache
            for what, command in commands.items():
                if (what, max(0, repeat)) not in done:
                    told(what)
                    row = start(command, folder, _MARKS if what == JOB else {})
                    if repeat >= 0:
                        rows.add(what=what, repeat=repeat, **row)
        if (FIRST_JOB, 0) not in done:
            told(FIRST_JOB)
            empty = {"NUMBA_CACHE_DIR": str(Path(folder, "compiled"))}
            row = start([*job, "trainer.epochs=1"], folder, _MARKS, empty)
            rows.add(what=FIRST_JOB, repeat=0, **row)


def start(
    command: Sequence[str],
    folder: str,
    marks: dict[str, str],
    variables: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run Python once in a folder: `seconds`, `megabytes`, and when each of `marks` came.

    Raises:
        RuntimeError: If it failed.
    """
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-S", "-E", __file__, json.dumps(marks), sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | (variables or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def main() -> int:
    """Arguments: texts to look for in a program's output, by name and as JSON; the command."""
    marks = json.loads(sys.argv[1])
    found: dict[str, float] = {}
    started = time.perf_counter()
    child = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
    for line in child.stdout or ():
        for name, mark in marks.items():
            if mark in line:
                found.setdefault(name, time.perf_counter() - started)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    found |= {"seconds": time.perf_counter() - started, "megabytes": usage.ru_maxrss * unit / 1e6}
    print(json.dumps(found))
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
