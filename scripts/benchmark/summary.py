"""Medians, ratios, fractions of limits, equal work and the verdicts on targets, from rows alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmark import limits, runner, startup
from benchmark.peers import OURS, PEERS
from benchmark.tasks import (
    CELL,
    HIDDEN_SIZES,
    NUM_INPUTS,
    OPTIMIZERS,
    cell_name,
    flops_of,
    initial_weights,
    products,
)

ENVIRONMENT_FILE = "environment.json"
LIBRARIES_FILE = "libraries.json"  # BLAS libraries and thread pools of every peer's process
NOTES_FILE = "notes.json"
STUDY_FILE = "study.json"
MEASURED_FILES = (
    *(ENVIRONMENT_FILE, LIBRARIES_FILE, NOTES_FILE, STUDY_FILE),
    *(limits.FILE, runner.FILE, startup.FILE),
)

_JOB_EPOCHS = 10  # of the job over which compilation is spread: the default one's
# Bytes of weights, gradients and moments that a step has to move for a weight: read by the
# forward pass; weight and moments read and written by the update. Gradients need not be stored.
_BYTES = {"sgd": 12, "momentum": 20, "adam": 28}
# Runs with the same weights differ by their order of examples. Of some hundred comparisons of
# a few runs each, none should be beyond four standard errors by chance; and 1 % is what rounding,
# or an epsilon in another place, may change.
_STANDARD_ERRORS, _SHARE = 4.0, 0.01


class Benchmark:
    """What was measured into a folder, summed up.

    Attributes:
        environment: Machine and versions.
        times, lenet: Of `timings`, the MLP's and lenet's; empty without a matrix.
        equal: Of `compare_losses`.
        limits: Rows of limits.csv.
        bound: Of `bounds`.
        starts: Medians of startup.csv, by program.
        libraries: BLAS libraries and thread pools of every peer's process.
        study: What is known of the study's time.
        notes: Peers left out, and failures.
    """

    def __init__(self, folder: Path) -> None:
        """Read the files; all but the environment may be missing."""
        self.environment = json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        num_train = self.environment["num_train"]
        rows = _rows(folder / runner.FILE, runner.TIMES)
        if rows["model"].isna().all():  # measured before there was a second network to name
            rows["model"] = "mlp"
        times = timings(rows, num_train)
        of_model = {name: times[times["model"] == name] for name in ("mlp", "lenet")}
        self.times, self.lenet = (part.reset_index(drop=True) for part in of_model.values())
        self.equal = compare_losses(rows)
        self.limits = _rows(folder / limits.FILE, limits.COLUMNS)
        self.bound = bounds(self.limits, self.times[CELL].drop_duplicates(), num_train)
        starts = _rows(folder / startup.FILE, startup.COLUMNS)
        self.starts = starts.groupby("what", sort=False).median().drop(columns="repeat")
        self.libraries = _json(folder / LIBRARIES_FILE, {})
        self.study = _json(folder / STUDY_FILE, {})
        self.notes = _json(folder / NOTES_FILE, [])


def _rows(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.read_csv(path, dtype={"losses": str}) if path.exists() else pd.DataFrame()
    return table.reindex(columns=[*columns])


def _json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def timings(rows: pd.DataFrame, num_train: int) -> pd.DataFrame:
    """Seconds per epoch and run.

    Of a peer and cell, the rows with the most examples count; fewer are there for losses.

    Returns:
        A row for each peer and cell, in the order of `PEERS`: median, low and high over repeats;
        num_repeats; num_examples of the epochs, from which whole ones are scaled;
        compile_seconds; with_compile, seconds per epoch and run in a job of ten epochs;
        trained_by, an engine; other_cores, the most that other programs used.
    """
    rows = rows.assign(
        per_run=rows["seconds"] * num_train / rows["num_examples"] / rows["num_seeds"],
        peer=pd.Categorical(rows["peer"], [*PEERS]),
        optimizer=pd.Categorical(rows["optimizer"], [*OPTIMIZERS]),
    )
    by = ["num_seeds", "optimizer", "peer", "model", "batch_size"]
    most = rows.groupby(by, observed=True)["num_examples"].transform("max")
    groups = rows[rows["num_examples"] == most].groupby(by, observed=True)
    found = groups.agg(
        median=("per_run", "median"),
        low=("per_run", "min"),
        high=("per_run", "max"),
        num_repeats=("per_run", "size"),
        num_examples=("num_examples", "first"),
        compile_seconds=("compile_seconds", "median"),
        trained_by=("engine", "first"),  # pandas takes an `engine` for an argument of its own
        other_cores=("other_cores", "max"),
    ).reset_index()
    spread = found["compile_seconds"] / (found["num_seeds"] * _JOB_EPOCHS)
    found["with_compile"] = found["median"] + spread
    return found.astype({"peer": object, "optimizer": object})


def ratios(times: pd.DataFrame, peer: str, column: str = "median") -> pd.DataFrame:
    """Cells that optsweep and a peer have, with `ratio`: how many times as fast optsweep is."""
    theirs, ours = (times[times["peer"] == name][[*CELL, column]] for name in (peer, OURS))
    both = theirs.merge(ours, on=CELL, suffixes=("", "_ours"))
    return both[CELL].assign(ratio=both[column] / both[f"{column}_ours"])


def geometric_mean(values: pd.Series) -> float:
    """The mean that makes no difference between a ratio and its inverse; NaN of nothing."""
    return float(np.exp(np.log(values.astype(float)).mean()))


def best_rate(limits: pd.DataFrame, of: str, batch_size: int | None = None) -> float:
    """The highest rate of what was measured, by any library and with any number of threads."""
    chosen = limits[limits["of"] == of]
    if batch_size is not None:
        chosen = chosen[chosen["batch_size"] == batch_size]
    return float(chosen["rate"].max())


def bounds(limits: pd.DataFrame, cells: pd.DataFrame, num_train: int) -> pd.DataFrame:
    """Seconds per epoch and run that the measured limits allow, by cell of the MLP.

    Columns:
        arithmetic: All products at the best rate of any library on the shapes of that step,
            for single examples at that of a large square product.
        bandwidth: Weights and moments moved through the caches, all cores together; of plain
            SGD only the rows of the first layer whose pixel is not zero in the whole batch.
        bound: The larger of both.
    """
    total = sum(part.size for layer in initial_weights(0) for part in layer)
    first = NUM_INPUTS * HIDDEN_SIZES[0]
    bytes_per_second = best_rate(limits, "a += b, weights") * 1e9
    flops = num_train * flops_of(products(1))
    arithmetic, bandwidth = [], []
    for cell in cells.itertuples():
        size, optimizer = cell.batch_size, cell.optimizer
        by_shape = best_rate(limits, "products", size)
        arithmetic.append(
            flops / 1e9 / (by_shape if size > 1 else best_rate(limits, "square product"))
        )
        share = best_rate(limits, "pixels not zero", size) if optimizer == "sgd" else 1.0
        moved = (total - first + first * share) * _BYTES[optimizer]
        bandwidth.append(math.ceil(num_train / size) * moved / bytes_per_second)
    table = cells.assign(arithmetic=arithmetic, bandwidth=bandwidth)
    return table.assign(bound=table[["arithmetic", "bandwidth"]].max(axis=1, skipna=False))


def fractions(times: pd.DataFrame, bound: pd.DataFrame, column: str = "bound") -> pd.DataFrame:
    """`times` with `fraction`: a limit's seconds over those that were measured."""
    joined = times.merge(bound[[*CELL, column]], on=CELL)
    return joined.assign(fraction=joined[column] / joined["median"]).dropna(subset="fraction")


def compare_losses(rows: pd.DataFrame) -> pd.DataFrame:
    """Losses of every peer against ours, paired by seed: both started from the same weights.

    The spread of a difference is pooled over the peers and numbers of seeds of a network, batch
    size, optimizer and number of examples.

    Returns:
        A row for each peer and cell: ours and theirs, mean losses; difference; allowed; equal,
        whether the difference is not larger than that; num_runs.
    """
    group = [*CELL, "num_examples"]
    runs = rows[["peer", *group, "repeat"]].assign(loss=rows["losses"].astype(str).str.split())
    runs["index"] = [range(len(losses)) for losses in runs["loss"]]
    runs = runs.explode(["loss", "index"]).astype({"loss": float})
    ours, others = runs[runs["peer"] == OURS], runs[runs["peer"] != OURS]
    on = [*group, "repeat", "index"]
    pairs = others.merge(ours.drop(columns="peer"), on=on, suffixes=("", "_ours"))
    pairs["difference"] = pairs["loss"] - pairs["loss_ours"]
    groups = pairs.groupby(["peer", *group], sort=False)
    pairs["rest"] = (pairs["difference"] - groups["difference"].transform("mean")) ** 2
    found = groups.agg(
        ours=("loss_ours", "mean"),
        theirs=("loss", "mean"),
        difference=("difference", "mean"),
        num_runs=("difference", "size"),
        rest=("rest", "sum"),
    ).reset_index()
    alike = found.groupby(["model", "batch_size", "optimizer", "num_examples"])
    freedom = alike["num_runs"].transform("sum") - alike["num_runs"].transform("size")
    variance = alike["rest"].transform("sum") / freedom.clip(lower=1)
    errors = np.sqrt(variance / found["num_runs"])
    found["allowed"] = _STANDARD_ERRORS * errors + _SHARE * found["ours"].abs()
    found["equal"] = found["difference"].abs() <= found["allowed"]
    return found.drop(columns="rest")


class Target(NamedTuple):
    """One target: what is wanted, what was found, and the verdict."""

    wanted: str
    found: str
    verdict: str


def targets(benchmark: Benchmark) -> list[Target]:
    """Every target, judged."""
    jax, torch = (ratios(benchmark.times, peer) for peer in ("jax", "torch"))
    lenet = ratios(benchmark.lenet, "torch")
    alone = torch[torch["num_seeds"] == 1]
    single = jax[(jax["batch_size"] == 1) & (jax["optimizer"] == "sgd")]
    ours = benchmark.times[benchmark.times["peer"] == OURS]
    large = fractions(ours[ours["batch_size"] >= 256], benchmark.bound, "arithmetic")
    large["percent"] = 100 * large["fraction"]
    stacks = ours[ours["num_seeds"] == 10].merge(
        ours[ours["num_seeds"] == 1], on=["batch_size", "optimizer"], suffixes=("", "_alone")
    )
    stacks["cost"] = stacks["median"] / stacks["median_alone"]
    mean = {f"over {len(jax)} cells": geometric_mean(jax["ratio"])} if len(jax) else {}
    return [
        _judge("every cell at least as fast as JAX", _by_cell(jax), least=1.0),
        _judge("1.5 × JAX in the geometric mean", mean, least=1.5),
        _judge("plain SGD at batch size 1 at least 2.5 × JAX", _by_cell(single), least=2.5),
        *(
            _judge(
                f"{least} × plain eager PyTorch of one network at batch size {size}",
                _by_cell(alone[alone["batch_size"] == size]),
                least=least,
            )
            for least, size in ((20, 1), (2, 256))
        ),
        _judge(
            "lenet at batch size 256 at least as fast as plain eager PyTorch, one and ten seeds",
            _by_cell(lenet) if {1, 10} <= {*lenet["num_seeds"]} else {},
            least=1.0,
        ),
        _judge(
            "60 % of the float32 matmul peak from batch size 256 on",
            _by_cell(large, "percent"),
            least=60,
            form="{:.0f} %",
        ),
        _judge("a run of ten seeds costs no more than one alone", _by_cell(stacks, "cost"), most=1),
        *_start_targets(benchmark.starts),
        *_study_targets(benchmark.study, best_rate(benchmark.limits, "square product")),
    ]


def _by_cell(table: pd.DataFrame, column: str = "ratio") -> dict[str, float]:
    cells = zip(table["batch_size"], table["optimizer"], table["num_seeds"], strict=True)
    return dict(zip([cell_name(*cell) for cell in cells], table[column], strict=True))


def _judge(
    wanted: str,
    values: dict[str, float],
    least: float = -math.inf,
    most: float = math.inf,
    form: str = "{:.2f} ×",
) -> Target:
    """Every value has to be in the range; the one nearest to its end, or past it, is told."""
    if not values or any(math.isnan(value) for value in values.values()):
        return Target(wanted, "–", "not measured")
    worst = (max if math.isfinite(most) else min)(values, key=lambda name: values[name])
    found = form.format(values[worst])
    if len(values) > 1:
        found += " at most" if math.isfinite(most) else " at least"
    found += f" ({worst})" if worst else ""
    missed = sum(not least <= value <= most for value in values.values())
    if missed and len(values) > 1:
        found += f"; {missed} of {len(values)} missed it"
    return Target(wanted, found, "**not met**" if missed else "met")


def _start_targets(starts: pd.DataFrame) -> list[Target]:
    """Those of start-up and memory; `starts` are medians by program."""
    starts = starts.reindex([startup.BARE_HYDRA, startup.HELP, startup.IMPORT_TORCH, startup.JOB])
    hydra, help_, torch, job = (row for _, row in starts.iterrows())

    def seconds(ours: float, theirs: float) -> dict[str, float]:
        return {f"{ours:.2f} s and {theirs:.2f} s": ours / theirs}

    helping, training = seconds(help_.seconds, hydra.seconds), seconds(job.trains, torch.seconds)
    memory = {
        f"{job.megabytes:,.0f} MB and {torch.megabytes:,.0f} MB": job.megabytes - torch.megabytes
    }
    wanted = "peak memory within 400 MB of `import torch`"
    return [
        _judge("`--help` within 1.5 × a bare Hydra app", helping, most=1.5),
        _judge("a default job trains within 1.3 × `import torch`", training, most=1.3),
        _judge(wanted, memory, most=400, form="{:,.0f} MB more"),
    ]


def _study_targets(study: dict[str, Any], peak: float) -> list[Target]:
    """Those of the whole study and of the quick one; `peak` in GFLOP/s."""
    whole, quick = {}, {}
    if cells := study.get("cells"):
        seconds = cells["cell_seconds"] + cells["report_seconds"]
        arithmetic = cells["flops"] / (peak * 1e9)
        told = (
            f"{seconds / 60:.1f} min for {cells['num_cells']} cells and the report; "
            f"{arithmetic / 60:.1f} min of products at {peak:.0f} GFLOP/s"
        )
        whole[told] = seconds / arithmetic
    if "quick" in study:
        quick[""] = study["quick"]["wall_seconds"]
    return [
        _judge("the study within 2.5 × its own arithmetic", whole, most=2.5),
        _judge("`reproduce.py --quick` within 3 minutes", quick, most=180, form="{:.0f} s"),
    ]
