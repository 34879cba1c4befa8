"""Why large batches are fast: t(b) = a + c b seconds per step of b examples.

`a` is what every step costs whatever its size, `c` the work of one more example. What the machine's
processor can do is measured once and kept as machine.json.
"""

from __future__ import annotations

import itertools
import json
import platform
import timeit
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from optsweep.report.collection import Collection, Setting
from optsweep.report.drawing import INK, Style, log_scale, panels, styles
from optsweep.report.language import say, sentences
from optsweep.report.measures import seconds_per_step
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.wording import short
from optsweep.runs import MACHINE_FILE, write_atomically
from optsweep.surroundings import num_cores

# All data sets of the study have images of 28 x 28 pixels and ten classes.
NUM_INPUTS, NUM_CLASSES = 784, 10
_DATASETS = ("fashion_mnist", "mnist", "kmnist")
_MATMUL_SIZE = 2048  # large enough that a multiplication spends its time in arithmetic
_REPEATS = 5


class Fit(NamedTuple):
    """Seconds per step: `overhead` + `per_example` * batch size."""

    overhead: float
    per_example: float

    def seconds(self, batch_size: float) -> float:
        """Seconds of a step by the fit."""
        return self.overhead + self.per_example * batch_size


def fit_step_time(batch_sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Least squares of the relative errors, neither coefficient below zero.

    Relative, for the seconds span orders of magnitude, and absolute errors would let the
    largest batch decide alone.

    >>> fit = fit_step_time([1, 100, 1000], [0.011, 0.11, 1.01])
    >>> round(fit.overhead, 6), round(fit.per_example, 6)
    (0.01, 0.001)
    """
    from scipy.optimize import nnls  # noqa: PLC0415 - most reports do without

    sizes, times = np.asarray(batch_sizes, float), np.asarray(seconds, float)
    scaled = np.column_stack([1 / times, sizes / times / sizes.max()])
    (overhead, work), _ = nnls(scaled, np.ones(len(times)))
    return Fit(float(overhead), float(work / sizes.max()))


def step_times(collection: Collection, settings: Sequence[Setting]) -> pd.DataFrame:
    """Seconds per step: a row per repeated run, a column per batch size.

    Only runs of one network are timings; in a stack of seeds a step trains all of them. A batch
    size whose times were all taken beside other work has no column.
    """
    columns = {
        int(setting.facets["batch_size"]): seconds_per_step(collection, setting.cells)
        for setting in settings
        if setting.is_trained and _alone(collection, setting)
    }
    return pd.DataFrame(columns).sort_index(axis=1).dropna(axis=1, how="all")


def fixed_share(collection: Collection, settings: Sequence[Setting], batch_size: int) -> pd.Series:
    """The share a / (a + c b) of a step's time that does not depend on its batch.

    Fitted anew for every repeated run; empty with fewer than three batch sizes.
    """
    times = step_times(collection, settings).dropna()
    if times.shape[1] < 3:
        return pd.Series(dtype=float)
    fits = [fit_step_time(list(times.columns), list(row)) for row in times.to_numpy()]
    return pd.Series([fit.overhead / fit.seconds(batch_size) for fit in fits], index=times.index)


def flops_per_example(hidden_sizes: Sequence[int]) -> int:
    """Floating-point operations of one example's forward and backward pass.

    Two for each weight forward, two for its gradient, and two to pass the gradient on, which
    the first layer does not do. Activations and the optimizer's own work are left out.

    >>> flops_per_example([128, 56])
    447776
    """
    widths = [NUM_INPUTS, *hidden_sizes, NUM_CLASSES]
    weights = [a * b for a, b in itertools.pairwise(widths)]
    return 6 * sum(weights) - 2 * weights[0]


@dataclass(frozen=True)
class Peak:
    """The best rate of a float32 matrix multiplication by NumPy, in GFLOP per second."""

    gflops: float
    measured_with: str
    machine: str
    num_cores: int = 0  # all that there were; 0 in files that do not tell

    @property
    def told(self) -> str:
        """The measurement in a sentence."""
        return say(
            "caption.peak", gflops=self.gflops, measured=self.measured_with, machine=self.machine
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
    left, right = rng.random((2, _MATMUL_SIZE, _MATMUL_SIZE), dtype=np.float32)
    cores = num_cores()
    with threadpool_limits(cores, "blas"):
        best = min(timeit.repeat(lambda: left @ right, number=1, repeat=_REPEATS))
    peak = Peak(
        gflops=round(2 * _MATMUL_SIZE**3 / best / 1e9, 1),
        measured_with=f"NumPy {np.__version__}'s float32 matmul of {_MATMUL_SIZE} × {_MATMUL_SIZE}",
        machine=platform.processor() or platform.machine(),
        num_cores=cores,
    )
    write_atomically(folder / MACHINE_FILE, json.dumps(asdict(peak), indent=2) + "\n")
    return peak


def arithmetic_told(collection: Collection) -> str:
    """How long the compiled engine trained, and what its products would take at the peak.

    Empty if no perceptron was trained on images of 28 x 28 pixels, or no peak was measured.
    """
    peak = matmul_peak(collection.folder)
    cells = collection.cells[collection.cells["engine"] == "numba"].dropna(subset=["seconds"])
    cells = cells[[found["dataset"] in _DATASETS for found in cells["facets"]]]
    if peak is None or not peak.num_cores or cells.empty:
        return ""
    per_epoch = [
        flops_per_example(found["hidden_sizes"]) * found["num_train"] for found in cells["facets"]
    ]
    epochs = collection.seeds.groupby("cell")["epochs"].sum()
    flops = float((epochs[cells.index] * per_epoch).sum())
    core_seconds = float((cells["seconds"] * cells["num_threads"]).sum())
    times = core_seconds / (flops / (peak.gflops * 1e9 / peak.num_cores))
    return say("method.arithmetic", hours=core_seconds / 3600, times=times, peak=peak.told)


def timing(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Seconds per step with the fit, seconds per epoch, images and arithmetic per second."""
    settings = collection.compared(experiments)
    times = step_times(collection, settings)
    if times.shape[1] < 2:
        return None
    one = settings[0]
    num_train, flops = one.facets["num_train"], flops_per_example(one.facets["hidden_sizes"])
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    drawn = dict(zip(("step", "epoch", "images", "arithmetic"), panels(figure, 4, 2), strict=True))
    titles = (
        *("seconds per step", "seconds per epoch", "images per second"),
        "arithmetic, GFLOP per second",
    )

    def draw(sizes: np.ndarray, seconds: np.ndarray, steps: np.ndarray, look: Style) -> None:
        lines = (seconds, seconds * steps, sizes / seconds, flops * sizes / seconds / 1e9)
        for axes, line in zip(drawn.values(), lines, strict=True):
            axes.plot(sizes, line, **vars(look))

    sizes = np.array(times.columns, dtype=float)
    seconds = times.median().to_numpy()
    measured, fitted = styles(["measured", "fit"], "measured").values()
    draw(sizes, seconds, np.ceil(num_train / sizes), measured)
    names = {"measured (median)": drawn["step"].lines[0]}
    told: list[str] = [say("caption.cost")]
    if len(sizes) > 2:
        fit = fit_step_time(list(sizes), list(seconds))
        smooth = np.geomspace(sizes.min(), sizes.max(), 100)
        per_step = fit.overhead + fit.per_example * smooth
        draw(smooth, per_step, num_train / smooth, Style(fitted.color, "--", ""))
        names["fit t(b) = a + c·b"] = drawn["step"].lines[-1]
        overhead, per_example = (short(each * 1e6) for each in (fit.overhead, fit.per_example))
        told.append(say("caption.fit", overhead=overhead, per_example=per_example))
    peak = matmul_peak(collection.folder)
    if peak is not None and collection.cells.at[one.cells[0], "device"] == "cpu":
        line = drawn["arithmetic"].axhline(peak.gflops, color=INK, lw=1, ls=":")
        names["NumPy's matmul peak"] = line
        told.append(peak.told)
    for axes, title in zip(drawn.values(), titles, strict=True):
        axes.set(title=title, xlabel="batch size")
        log_scale(axes, "x")
        log_scale(axes, "y")
    figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=3)
    told.append(say("caption.flops", flops=flops))
    return Picture(f"{question.id}_cost", figure, sentences(told))


def _alone(collection: Collection, setting: Setting) -> bool:
    seeds = collection.cells.loc[list(setting.cells), "num_seeds"]
    return bool((seeds.astype(float) == 1).all())
