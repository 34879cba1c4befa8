"""What this machine's processor can do, measured once and kept as machine.json."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from optsweep.runs import MACHINE_FILE, write_atomically

_SIZE = 2048  # large enough that a multiplication spends its time in arithmetic
_REPEATS = 5


@dataclass(frozen=True)
class Peak:
    """The best rate of a float32 matrix multiplication by NumPy, in GFLOP per second."""

    gflops: float
    measured_with: str
    machine: str

    @property
    def told(self) -> str:
        """The measurement in a sentence."""
        return (
            f"The peak, {self.gflops:,.0f} GFLOP/s, is that of {self.measured_with} on "
            f"{self.machine}, with all cores."
        )


def matmul_peak(folder: Path) -> Peak | None:
    """What was measured for a folder of runs, or None."""
    try:
        return Peak(**json.loads((folder / MACHINE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def measure_machine(folder: Path) -> Peak:
    """Measure the peak and keep it in the folder of the runs, unless that is done."""
    known = matmul_peak(folder)
    if known is not None:
        return known
    rng = np.random.default_rng(0)
    left, right = rng.random((2, _SIZE, _SIZE), dtype=np.float32)
    best = min(_seconds(left, right) for _ in range(_REPEATS))
    peak = Peak(
        gflops=round(2 * _SIZE**3 / best / 1e9, 1),
        measured_with=f"NumPy {np.__version__}'s float32 matmul of {_SIZE} × {_SIZE}",
        machine=platform.processor() or platform.machine(),
    )
    write_atomically(folder / MACHINE_FILE, json.dumps(asdict(peak), indent=2) + "\n")
    return peak


def _seconds(left: np.ndarray, right: np.ndarray) -> float:
    started = time.perf_counter()
    left @ right
    return time.perf_counter() - started
