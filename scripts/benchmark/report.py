"""The benchmark as a page of Markdown and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from benchmark.peers import OURS, PEERS, TITLES
from benchmark.summary import Benchmark, geometric_mean, targets
from benchmark.tasks import NETWORKS, Task, cell_name, setting_name
from optsweep.report.drawing import FAINT, legend, log_scale, style, styles
from optsweep.report.pictures import Picture, save
from optsweep.report.tables import markdown
from optsweep.report.wording import listing, number
from optsweep.runs import write_atomically

REPORT_FILE = "benchmark.md"
_COUNTED = (OURS, "jax", "torch")
_MEANS = {"medians": "median", "minima": "low", "with compilation": "with_compile"}


def write_report(folder: Path) -> Iterator[str]:
    """From what was measured into a folder to its page and figure; tell them, and the targets."""
    benchmark = Benchmark(folder)
    write_atomically(folder / REPORT_FILE, page(benchmark))
    yield f"report: {folder / REPORT_FILE}"
    if (benchmark.times["network"] == "mlp").any():
        save(Picture("benchmark", speed_figure(benchmark), ""), folder)
        yield f"figure: {folder / 'benchmark.svg'}"
    for wanted, found, verdict in targets(benchmark).itertuples(index=False):
        yield f"{wanted}: {found}, {verdict.strip('*')}"


def page(benchmark: Benchmark) -> str:
    """Everything, section by section; a section without numbers is left out."""
    times, forms = benchmark.times, benchmark.forms
    jax = forms[forms["family"] == "jax"]
    others = [name for name in times["family"].unique() if name != OURS] or ["jax"]
    ratios = pd.concat(map(benchmark.ratios, others))
    means = {}
    for name in others:
        of = {head: benchmark.ratios(name, column) for head, column in _MEANS.items()}
        of = {head: table.loc[table["network"] == "mlp", "value"] for head, table in of.items()}
        count = {"cells": str(len(of["medians"]))}
        means[TITLES[name]] = count | {h: ratio_text(geometric_mean(v)) for h, v in of.items()}
    path = Path(__file__).with_name("page.md.jinja")
    template = jinja2.Template(path.read_text("utf-8"), undefined=jinja2.StrictUndefined)
    return template.render(
        benchmark=benchmark,
        networks=NETWORKS,
        env=benchmark.environment,
        num_rounds=sorted({forms["num_rounds"].min(), forms["num_rounds"].max()}),
        targets=markdown(targets(benchmark).rename(columns={"verdict": ""})),
        short=short_table(benchmark),
        times=cell_table(
            forms, lambda row: f"{seconds_text(row.median)} ({seconds_text(row.low)})"
        ),
        means=markdown(
            pd.DataFrame.from_dict(means, orient="index").rename_axis("peer").reset_index()
        ),
        ratios=cell_table(
            ratios, lambda row: ratio_text(row.value) + (" ?" if row.undecided else ""), _of_family
        ),
        num_forms=jax["peer"].nunique(),
        best=cell_table(
            times[times["family"] == "jax"], lambda row: PEERS[row.peer].form, setting_name
        ),
        rates=cell_table(
            benchmark.arithmetic().dropna(subset="dense").query("family in @_COUNTED"),
            lambda row: f"{row.executed:.0f} / {row.dense:.0f}",
            _of_family,
        ),
        different=[
            (TITLES[row.peer], cell_name(row), row)
            for row in benchmark.equal[~benchmark.equal["equal"].astype(bool)].itertuples()
        ],
        starts=_starts(benchmark.starts),
        parts=forms[forms["num_examples"] < benchmark.environment["num_train"]],
        engines=listing(sorted({*forms["trained_by"].dropna()}) or ["–"]),
    )


def short_table(benchmark: Benchmark) -> str:
    """Seconds per epoch of plain SGD for everyone: what a README has room for."""
    alone = benchmark.times.query("network == 'mlp' and optimizer == 'sgd' and num_seeds == 1")
    table = cell_table(alone, lambda row: seconds_text(row.median), lambda row: TITLES[row.family])
    return (
        f"Seconds per epoch of plain SGD, one network, by batch size b:\n\n{table}" if table else ""
    )


def seconds_text(seconds: float) -> str:
    """Seconds with three significant digits, but no more than a clock has.

    >>> [seconds_text(value) for value in (0.12345, 0.00123, 31.25, 123.4, float("nan"))]
    ['0.123', '0.001', '31.2', '123', '–']
    """
    return number(
        seconds, 0 if seconds >= 100 else 1 if seconds >= 10 else 2 if seconds >= 1 else 3
    )


def ratio_text(ratio: float) -> str:
    """A ratio with two or three digits.

    >>> ratio_text(0.987), ratio_text(12.34), ratio_text(float("nan"))
    ('0.99', '12.3', '–')
    """
    return number(ratio, 0 if ratio >= 100 else 1 if ratio >= 10 else 2)


def _named(row: Any) -> str:
    name = PEERS[row.peer].name() if row.peer in PEERS else TITLES[row.peer]
    return f"{setting_name(row)}: {name}"


def _of_family(row: Any) -> str:
    return f"{setting_name(row)}: {TITLES[row.family]}"


def cell_table(
    table: pd.DataFrame, text: Callable[[Any], str], name: Callable[[Any], str] = _named
) -> str:
    """A row for each name, a column for each batch size."""
    if table.empty:
        return ""
    rows = [*table.itertuples()]
    cells = table.assign(text=[*map(text, rows)], name=[*map(name, rows)])
    wide = cells.pivot(index="name", columns="batch_size", values="text").fillna("–")
    wide = wide.loc[cells["name"].unique()].rename(columns="b = {:,}".format)
    return markdown(wide.rename_axis("").reset_index())


def _starts(starts: pd.DataFrame) -> str:
    heads = {"trains": "starts to train, s", "seconds": "whole, s"}
    table = starts[[*heads]].map(seconds_text).rename(columns=heads)
    table["peak MB"] = starts["megabytes"].map("{:,.0f}".format)
    return markdown(table.rename_axis("program").reset_index()) if len(table) else ""


def speed_figure(benchmark: Benchmark) -> Figure:
    """A panel for each optimizer and number of seeds, a line for each peer in its best form.

    Bars reach from the lowest to the highest of the rounds.
    """
    times = benchmark.times[benchmark.times["network"] == "mlp"]
    looks = styles(list(times["family"].unique()), baseline=OURS)
    sizes = sorted(times["batch_size"].unique())
    shape = len(seeds := times["num_seeds"].unique()), len(names := times["optimizer"].unique())
    with style():
        figure = Figure(figsize=(10, 1.2 + 2.9 * shape[0]), layout="constrained")
        panels = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
        for axes, (count, optimizer) in zip(panels.flat, product(seeds, names), strict=True):
            of_panel = times.query(f"optimizer == {optimizer!r} and num_seeds == {count}")
            for peer, rows in of_panel.groupby("family", sort=False):
                axes.errorbar(
                    rows["batch_size"].map(sizes.index),
                    rows["median"],
                    yerr=[rows["median"] - rows["low"], rows["high"] - rows["median"]],
                    label=TITLES[peer],
                    elinewidth=1,
                    **asdict(looks[peer]),
                )
            if benchmark.dense_seconds > 0:
                label = "all products at the machine's peak"
                axes.axhline(benchmark.dense_seconds, color=FAINT, linewidth=4, label=label)
            axes.set_title(setting_name(Task("mlp", 0, optimizer, count, 0)))
            axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
            axes.set(xlabel="batch size", ylabel="seconds per epoch and run")
            axes.label_outer()
        for axes in panels[:, 0]:
            log_scale(axes, "y")
        # The panel with the most lines has every name that a legend needs.
        legend(figure, max(panels.flat, key=lambda axes: len(axes.get_legend_handles_labels()[1])))
    return figure
