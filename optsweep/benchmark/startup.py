"""Start-up time and peak memory of the program, beside what its libraries take alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optsweep.benchmark import launcher
from optsweep.benchmark.process import WorkerError
from optsweep.benchmark.rows import Rows

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
    rows: Rows, repeats: int, settings: Sequence[str], on_each: Callable[[str], None]
) -> None:
    """Start every program in turn, `repeats` times, and keep what that took.

    Columns: `seconds` of the whole program; `told`, until a job says what it is going to train;
    `trains`, until its images are there and the untrained network is scored; `megabytes`, its
    peak memory.
    """
    done = rows.keys(("what", "repeat"))
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder, "app.py")
        app.write_text(_HYDRA_APP)
        run_dir = f"hydra.run.dir={folder}/job"
        job = [python, "-m", "optsweep", "rerun=true", run_dir, *settings]
        commands = {
            BARE_HYDRA: [python, str(app), "--help"],
            HELP: [python, "-m", "optsweep", "--help"],
            IMPORT_TORCH: [python, "-c", "import torch"],
            JOB: job,
        }
        for repeat in range(-1, repeats):  # the first round fills the disk's cache
            for what, command in commands.items():
                on_each(what)
                if (what, repeat) not in done and (repeat >= 0 or (what, 0) not in done):
                    row = _start(command, folder, {})
                    if repeat >= 0:
                        rows.add({"what": what, "repeat": repeat} | row)
        on_each(FIRST_JOB)
        if (FIRST_JOB, 0) not in done:
            empty = {"NUMBA_CACHE_DIR": str(Path(folder, "compiled"))}
            row = _start([*job, "trainer.epochs=1"], folder, empty)
            rows.add({"what": FIRST_JOB, "repeat": 0} | row)


def num_starts(repeats: int) -> int:
    """How often `on_each` is called."""
    return 4 * (repeats + 1) + 1


def _start(command: Sequence[str], folder: str, variables: Mapping[str, str]) -> dict[str, Any]:
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    arguments = [sys.executable, "-S", "-E", launcher.__file__, json.dumps([*_MARKS.values()])]
    done = subprocess.run(
        [*arguments, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WorkerError(f"the launcher failed: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout)
    if found["exit_code"]:
        raise WorkerError(f"{' '.join(command[1:4])} failed: {done.stderr.strip()[-500:]}")
    row = {"seconds": found["seconds"], "megabytes": found["megabytes"]}
    if "optsweep" not in command or "--help" in command:
        return row  # its help names engines too
    return row | {column: found["at"].get(mark) for column, mark in _MARKS.items()}
