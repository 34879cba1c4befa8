"""What a benchmark was measured with; another machine's or version's is never mixed in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from optsweep.benchmark.files import ENVIRONMENT_FILE
from optsweep.config.checks import InputError
from optsweep.config.schema import DatasetConfig
from optsweep.engine.cores import num_cores
from optsweep.runs import write_atomically

_PACKAGES = (
    "hydra-core",
    "jax",
    "jaxlib",
    "keras",
    "lightning",
    "numba",
    "numpy",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
)
# Variables that decide which kernels run, and on how many threads.
_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def environment(dataset: DatasetConfig) -> dict[str, Any]:
    """All that decides what a measurement gives on an idle machine."""
    return {
        "processor": processor(),
        "num_cores": num_cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": _versions(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "optsweep": _fingerprint(),
        "dataset": dataset.name,
        "num_train": dataset.num_train,
    }


def keep_environment(folder: Path, found: dict[str, Any]) -> None:
    """Write it down, or compare it with what is there.

    Raises:
        InputError: If the folder's measurements are of another machine, version or program.
    """
    path = folder / ENVIRONMENT_FILE
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key, value in found.items() if known.get(key) != value]
        if changed:
            raise InputError(
                f"{folder} holds measurements with other {', '.join(changed)}; "
                "--fresh measures anew, --out DIR elsewhere"
            )
    write_atomically(path, json.dumps(found, indent=2) + "\n")


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _fingerprint() -> str:
    """Of the program's text, without the benchmark and the analysis, which train nothing."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in ("analysis", "benchmark"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
