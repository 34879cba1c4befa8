"""The benchmark as Markdown: all of it, and the short tables for a README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from optsweep.benchmark import method, sections
from optsweep.benchmark.markdown import markdown
from optsweep.benchmark.summary import geometric_mean, ratios
from optsweep.benchmark.targets import Target, speed_targets, start_targets, study_targets
from optsweep.benchmark.wording import (
    optimizer_name,
    peer_name,
    ratio_text,
    seconds_text,
    seeds_name,
)


@dataclass(frozen=True)
class Benchmark:
    """All that was measured, summed up.

    Attributes:
        environment: Of `environment.environment`.
        times: Of `summary.timings`; empty without a matrix.
        bound: Of `summary.bounds`.
        equal: Of `equal_work.compare_losses`.
        limits: Rows of limits.csv.
        starts: Medians of startup.csv, by program.
        libraries: BLAS libraries and thread pools of every peer's process.
        study: What is known of the study's time.
        notes: Peers left out, and failures.
    """

    environment: dict[str, Any]
    times: pd.DataFrame
    bound: pd.DataFrame
    equal: pd.DataFrame
    limits: pd.DataFrame
    starts: pd.DataFrame
    libraries: dict[str, list[str]]
    study: dict[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def targets(self) -> list[Target]:
        """Every target with its verdict."""
        return [
            *speed_targets(self.times, self.bound),
            *start_targets(self.starts),
            *study_targets(self.study, self.limits),
        ]


def full_report(benchmark: Benchmark) -> str:
    """Everything, section by section."""
    parts = [
        "# Speed of optsweep\n",
        method.measured_with(benchmark.environment, benchmark.times),
        sections.notes(benchmark.notes),
        "## Targets\n",
        sections.target_table(benchmark.targets),
        sections.times_section(benchmark.times),
        sections.ratios_section(benchmark.times),
        sections.compilation_section(benchmark.times),
        sections.fractions_section(benchmark.times, benchmark.bound),
        sections.limits_section(benchmark.limits),
        sections.equal_work_section(benchmark.equal),
        sections.starts_section(benchmark.starts),
        sections.study_section(benchmark.study),
        method.method_section(benchmark.times, benchmark.libraries),
    ]
    return "\n".join(part for part in parts if part)


def short_report(benchmark: Benchmark) -> str:
    """Who takes how long for plain SGD, how ours compares, and the targets with their verdicts."""
    times = benchmark.times
    if times.empty:
        return ""
    sizes = sorted(times["batch_size"].unique())
    heads = [f"b = {size:,}" for size in sizes]
    parts = []
    alone = times[(times["optimizer"] == "sgd") & (times["num_seeds"] == 1)]
    if len(alone):
        medians = alone.pivot_table(index="peer", columns="batch_size", values="median", sort=False)
        rows = [
            [peer_name(peer), *(seconds_text(row.get(size, float("nan"))) for size in sizes)]
            for peer, row in medians.iterrows()
        ]
        parts += [
            "Seconds per epoch of plain SGD, one network:\n",
            markdown(["", *heads], rows),
        ]
    found = ratios(times, "jax")
    if len(found):
        rows = []
        for (optimizer, seeds), part in found.groupby(level=["optimizer", "num_seeds"], sort=False):
            of_size = {index[0]: value for index, value in part.items()}
            name = f"{optimizer_name(optimizer)}, {seeds_name(seeds)}"
            rows.append([name, *(ratio_text(of_size.get(size, float("nan"))) for size in sizes)])
        mean = ratio_text(geometric_mean(found))
        parts += [
            f"How many times as fast as {peer_name('jax')}, geometric mean {mean}:\n",
            markdown(["", *heads], rows),
        ]
    parts += ["What was aimed at:\n", sections.target_table(benchmark.targets)]
    return "\n".join([*parts, method.measured_with(benchmark.environment, times)])
