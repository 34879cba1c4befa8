"""The targets of the benchmark, and whether its numbers meet them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from optsweep.benchmark.peers import OURS
from optsweep.benchmark.startup import BARE_HYDRA, HELP, IMPORT_TORCH, JOB
from optsweep.benchmark.summary import best_rate, fractions, geometric_mean, ratios
from optsweep.benchmark.wording import cell_name

_QUICK_SECONDS = 180


class Target(NamedTuple):
    """One target: what is wanted, what was found, and whether it is met (None: not measured)."""

    wanted: str
    found: str
    is_met: bool | None

    @property
    def verdict(self) -> str:
        """The last column of a table."""
        return {True: "met", False: "**not met**", None: "not measured"}[self.is_met]


def speed_targets(times: pd.DataFrame, bound: pd.DataFrame) -> list[Target]:
    """Those that compare with peers, and with the machine's products."""
    jax, torch = ratios(times, "jax"), ratios(times, "torch")
    mean = geometric_mean(jax)
    single = jax[_where(jax, batch_size=1, optimizer="sgd")]
    return [
        _at_least("every cell at least as fast as JAX", jax, 1.0),
        Target(
            "1.5 × JAX in the geometric mean",
            "–" if math.isnan(mean) else f"{mean:.2f} × over {len(jax)} cells",
            None if math.isnan(mean) else mean >= 1.5,
        ),
        _at_least("plain SGD at batch size 1 at least 2.5 × JAX", single, 2.5),
        _at_least(
            "20 × plain eager PyTorch of one network at batch size 1",
            torch[_where(torch, batch_size=1, num_seeds=1)],
            20.0,
        ),
        _at_least(
            "2 × plain eager PyTorch of one network at batch size 256",
            torch[_where(torch, batch_size=256, num_seeds=1)],
            2.0,
        ),
        _of_peak(times, bound),
        _ten_seeds(times),
    ]


def start_targets(starts: pd.DataFrame) -> list[Target]:
    """Those of start-up and memory; `starts` are medians by program."""

    def ratio(wanted: str, what: str, column: str, against: str, most: float) -> Target:
        if what not in starts.index or against not in starts.index:
            return Target(wanted, "–", None)
        ours, theirs = starts.loc[what, column], starts.loc[against, "seconds"]
        found = f"{ours / theirs:.2f} × ({ours:.2f} s and {theirs:.2f} s)"
        return Target(wanted, found, bool(ours <= most * theirs))

    wanted = "peak memory within 400 MB of `import torch`"
    memory = Target(wanted, "–", None)
    if {JOB, IMPORT_TORCH} <= set(starts.index):
        ours, theirs = starts.loc[[JOB, IMPORT_TORCH], "megabytes"]
        found = f"{ours - theirs:,.0f} MB more ({ours:,.0f} MB and {theirs:,.0f} MB)"
        memory = Target(wanted, found, bool(ours - theirs <= 400))
    return [
        ratio("`--help` within 1.5 × a bare Hydra app", HELP, "seconds", BARE_HYDRA, 1.5),
        ratio("a default job trains within 1.3 × `import torch`", JOB, "trains", IMPORT_TORCH, 1.3),
        memory,
    ]


def study_targets(study: dict[str, Any], limits: pd.DataFrame) -> list[Target]:
    """Those of the whole study and of the quick one."""
    wanted = "the study within 2.5 × its own arithmetic"
    whole = Target(wanted, "–", None)
    peak = best_rate(limits, "square product")
    if (cells := study.get("cells")) and not math.isnan(peak):
        seconds = cells["cell_seconds"] + cells.get("report_seconds", 0.0)
        arithmetic = cells["flops"] / (peak * 1e9)
        found = (
            f"{seconds / arithmetic:.2f} × ({seconds / 60:.1f} min for {cells['num_cells']} cells "
            f"and the report; {arithmetic / 60:.1f} min of products at {peak:.0f} GFLOP/s)"
        )
        whole = Target(wanted, found, bool(seconds <= 2.5 * arithmetic))
    wanted = "`reproduce.py --quick` within 3 minutes"
    quick = Target(wanted, "–", None)
    if "quick" in study:
        seconds = study["quick"]["wall_seconds"]
        quick = Target(wanted, f"{seconds:.0f} s", bool(seconds <= _QUICK_SECONDS))
    return [whole, quick]


def _at_least(wanted: str, found: pd.Series, least: float) -> Target:
    """Every one of the ratios is at least so high; the lowest is told."""
    if found.empty:
        return Target(wanted, "–", None)
    missed = int((found < least).sum())
    slowest = cell_name(*found.idxmin())
    text = f"{found.min():.2f} × at least ({slowest})"
    if missed:
        text += f"; {missed} of {len(found)} cells below"
    return Target(wanted, text, not missed)


def _of_peak(times: pd.DataFrame, bound: pd.DataFrame) -> Target:
    wanted = "60 % of the float32 matmul peak from batch size 256 on"
    ours = times[(times["peer"] == OURS) & (times["batch_size"] >= 256)]
    shares = fractions(ours, bound, "arithmetic").set_index(
        ["batch_size", "optimizer", "num_seeds"]
    )
    shares = shares["fraction"].dropna()
    if shares.empty:
        return Target(wanted, "–", None)
    text = f"{shares.min():.0%} at least ({cell_name(*shares.idxmin())})".replace("%", " %")
    return Target(wanted, text, bool(shares.min() >= 0.6))


def _ten_seeds(times: pd.DataFrame) -> Target:
    wanted = "a run of ten seeds costs no more than one alone"
    ours = times[times["peer"] == OURS].pivot_table(
        index=["batch_size", "optimizer"], columns="num_seeds", values="median"
    )
    if not {1, 10} <= set(ours.columns):
        return Target(wanted, "–", None)
    cost = (ours[10] / ours[1]).dropna()
    missed = int((cost > 1).sum())
    text = f"{cost.max():.2f} × at most ({cell_name(*cost.idxmax())})"
    if missed:
        text += f"; {missed} of {len(cost)} pairs above 1"
    return Target(wanted, text, not missed)


def _where(series: pd.Series, **wanted: Any) -> pd.Series:
    """Which entries have these values in their index."""
    levels = [series.index.get_level_values(name) == value for name, value in wanted.items()]
    return pd.Series(levels[0] if len(levels) == 1 else levels[0] & levels[1], series.index)
