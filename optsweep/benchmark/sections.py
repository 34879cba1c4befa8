"""Sections of the report: a heading, a sentence and a table each, or nothing without numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from optsweep.benchmark.markdown import markdown, matrix
from optsweep.benchmark.peers import OURS
from optsweep.benchmark.summary import fractions, geometric_mean, ratios
from optsweep.benchmark.targets import Target
from optsweep.benchmark.wording import (
    cell_name,
    peer_name,
    percent,
    ratio_text,
    seconds_text,
)
from optsweep.report.wording import number as as_number


def notes(lines: Sequence[str]) -> str:
    """What is missing, a line each."""
    return "".join(f"- {line}\n" for line in lines)


def target_table(targets: Sequence[Target]) -> str:
    """A line for each target."""
    rows = [[target.wanted, target.found, target.verdict] for target in targets]
    return markdown(["target", "found", ""], rows, numbers=False)


def times_section(times: pd.DataFrame) -> str:
    """Medians and ranges of everyone."""
    if times.empty:
        return ""

    def text(row: pd.Series) -> str:
        low, high = seconds_text(row["low"]), seconds_text(row["high"])
        return f"{seconds_text(row['median'])} ({low} … {high})"

    return (
        "## Seconds per epoch and run\n\nMedian (lowest … highest of the repeats), compilation "
        "apart. Ten seeds are trained at once; a run is one of them.\n\n" + matrix(times, text)
    )


def ratios_section(times: pd.DataFrame) -> str:
    """How many times as fast as each peer."""
    parts = []
    for peer in dict.fromkeys(times["peer"]):
        found = ratios(times, peer)
        if peer == OURS or found.empty:
            continue
        included = geometric_mean(ratios(times, peer, "with_compile"))
        table = found.rename("ratio").reset_index().assign(peer=peer)
        parts.append(
            f"{peer_name(peer)}: geometric mean {ratio_text(geometric_mean(found))} over "
            f"{len(found)} cells, {ratio_text(included)} with compilation in a job of ten "
            f"epochs.\n\n" + matrix(table, lambda row: ratio_text(row["ratio"]), named=False)
        )
    if not parts:
        return ""
    return "## How many times as fast as its peers\n\n" + "\n".join(parts)


def compilation_section(times: pd.DataFrame) -> str:
    """Seconds of compilation of those that compile, and what a job of ten epochs takes by it."""
    compiling = times[times.groupby("peer")["compile_seconds"].transform("max") > 0]
    if compiling.empty:
        return ""

    def text(row: pd.Series) -> str:
        return f"{seconds_text(row['compile_seconds'])} → {seconds_text(row['with_compile'])}"

    return (
        "## Compilation\n\nSeconds of compilation → seconds per epoch and run in a job of ten "
        "epochs that compiles first. optsweep compiles once after its installation, which its "
        "first job waits for (see start-up), and loads that once in a process, whatever its "
        "cells; the others compile for every cell.\n\n" + matrix(compiling, text)
    )


def fractions_section(times: pd.DataFrame, bound: pd.DataFrame) -> str:
    """Every time as a fraction of what the machine could do."""
    known = fractions(times, bound).dropna(subset="fraction") if len(bound) else pd.DataFrame()
    if known.empty:
        return ""
    rows = [
        [
            cell_name(row.batch_size, row.optimizer),
            *map(seconds_text, (row.arithmetic, row.bandwidth)),
        ]
        for row in bound.drop_duplicates(["batch_size", "optimizer"]).itertuples()
    ]
    return (
        "## Fractions of the limits\n\nThe limit is the larger of two times: all products of an "
        "epoch at the best rate of any library on that step's shapes, and weights and moments "
        "moved through the caches at the bandwidth below. Plain SGD leaves out weights whose "
        "pixel is zero in the whole batch. Gathering batches, activations and the loss are not "
        "in it. optsweep can be above it: it leaves pixels that are zero out of every product, "
        "and moves the weights of SGD at batch size 1 once in many steps.\n\n"
        + matrix(known, lambda row: percent(row["fraction"]))
        + "\n"
        + markdown(["limit in seconds", "products", "bandwidth"], rows)
    )


def limits_section(limits: pd.DataFrame) -> str:
    """What the machine can do, by library."""
    if limits.empty:
        return ""
    products = limits[limits["unit"] == "GFLOP/s"]
    parts = []
    if len(products):
        best = products.groupby(["library", "how", "batch_size"], sort=False)["rate"].max()
        sizes = sorted(products["batch_size"].astype(int).unique())
        heads = ["square" if size == 0 else f"b = {size:,}" for size in sizes]
        names = dict.fromkeys(zip(products["library"], products["how"], strict=True))
        rows = [
            [f"{library}, {how}", *(as_number(best.get((library, how, size)), 0) for size in sizes)]
            for library, how in names
        ]
        parts.append(
            "GFLOP/s of float32 products: a large square one, and all of a step of that batch "
            "size; all cores *together* on one product, or *apart* on products of their own.\n\n"
            + markdown(["library", *heads], rows)
        )
    others = limits[limits["unit"] == "GB/s"]
    if len(others):
        rates = others.pivot_table(
            index="of", columns="how", values="rate", aggfunc="max", sort=False
        )
        rows = [[of, *(as_number(rate, 0) for rate in row)] for of, row in rates.iterrows()]
        parts.append(
            "GB/s of compiled additions, each thread on arrays of its own.\n\n"
            + markdown(["", *rates.columns], rows)
        )
    return "## Limits of the machine\n\n" + "\n".join(parts)


def equal_work_section(equal: pd.DataFrame) -> str:
    """Losses of the peers beside ours."""
    if equal.empty:
        return ""
    different = equal[~equal["equal"]]
    largest = (equal["difference"].abs() / equal["ours"]).max()
    verdict = (
        f"All {len(equal)} comparisons agree"
        if different.empty
        else f"{len(different)} of {len(equal)} comparisons differ"
    )
    text = (
        "## Equal work\n\nEveryone starts from the same weights for a seed, with the same batch "
        "size, learning rate and number of steps, and draws its own orders. Losses of the final "
        "weights over the epoch's images, against ours, may differ by four standard errors and "
        f"1 %. {verdict}; the largest difference is {100 * largest:.1f} %.\n"
    )
    rows = [
        [
            f"{peer_name(row.peer)}, {cell_name(row.batch_size, row.optimizer, row.num_seeds)}",
            *(f"{value:.4f}" for value in (row.ours, row.theirs, row.allowed)),
        ]
        for row in different.itertuples()
    ]
    heads = ["differ", "our loss", "theirs", "allowed difference"]
    return text + ("\n" + markdown(heads, rows) if rows else "")


def starts_section(starts: pd.DataFrame) -> str:
    """Start-up times and memory."""
    if starts.empty:
        return ""
    rows = [
        [
            str(what),
            *map(seconds_text, (row["told"], row["trains"], row["seconds"])),
            f"{row['megabytes']:,.0f}",
        ]
        for what, row in starts.iterrows()
    ]
    heads = ["program", "says what it trains, s", "starts to train, s", "whole, s", "peak MB"]
    return "## Start-up and memory\n\n" + markdown(heads, rows)


def study_section(study: dict[str, Any]) -> str:
    """What the study takes."""
    rows = []
    for name, what in (("cells", "finished cells"), ("quick", "--quick, run afresh")):
        if found := study.get(name):
            report = found.get("report_seconds")
            rows.append(
                [
                    what,
                    f"{found['num_cells']:,}",
                    f"{found['flops'] / 1e12:,.1f}",
                    f"{found['training_seconds']:,.0f}",
                    f"{found['cell_seconds']:,.0f}",
                    "–" if report is None else f"{report:,.0f}",
                    f"{found['wall_seconds']:,.0f}" if "wall_seconds" in found else "–",
                ]
            )
    if not rows:
        return ""
    heads = ["study", "cells", "TFLOP", "training, s", "cells, s", "report, s", "wall time, s"]
    return "## The study\n\n" + markdown(heads, rows)
