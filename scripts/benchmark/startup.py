"""Start-up time and peak memory of the program, beside what its libraries take alone.

Run as a program, it starts another and tells its wall time and peak memory, and when it began to
train. It is small, and run without `site`, for a child's peak memory starts from that of the
process that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

FILE = "startup.csv"
COLUMNS = ["what", "repeat", "seconds", "trains", "megabytes"]
BARE_HYDRA, HELP = "bare Hydra app, --help", "optsweep --help"
IMPORT_TORCH, JOB = "import torch", "default job"
FIRST_JOB = "first job, nothing compiled before"
_TRAINS = "epoch 0/"  # a job's line when its images are there and the untrained network is scored
_HYDRA_APP = """\
import hydra
main = hydra.main(config_path=None, version_base=None)(lambda config: None)
main()
"""


def commands(folder: Path, settings: Sequence[str]) -> dict[str, list[str]]:
    """Arguments of Python for every program, which leave nothing but in a folder."""
    (folder / "app.py").write_text(_HYDRA_APP, encoding="utf-8")
    job = ["-m", "optsweep", "rerun=true", f"hydra.run.dir={folder}/job", *settings]
    return {
        BARE_HYDRA: [str(folder / "app.py"), "--help"],
        HELP: ["-m", "optsweep", "--help"],
        IMPORT_TORCH: ["-c", "import torch"],
        JOB: job,
        FIRST_JOB: [*job, "trainer.epochs=1"],
    }


def start(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> dict[str, float]:
    """Run Python once in a folder: `seconds`, `megabytes`, and for a job when it `trains`.

    Raises:
        RuntimeError: If it failed.
    """
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    launcher = [sys.executable, "-S", "-E", __file__, sys.executable, *command]
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    done = subprocess.run(
        launcher, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def main() -> int:
    """Run the command that is given."""
    found: dict[str, float] = {}
    started = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
    for line in child.stdout or ():
        if _TRAINS in line:
            found.setdefault("trains", time.perf_counter() - started)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    found |= {"seconds": time.perf_counter() - started, "megabytes": usage.ru_maxrss * unit / 1e6}
    print(json.dumps(found))
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
