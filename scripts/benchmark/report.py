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

from benchmark.peers import OURS, PEERS
from benchmark.summary import Benchmark, fractions, geometric_mean, ratios, targets
from benchmark.tasks import OPTIMIZERS, cell_name, seeds_name
from optsweep.report.drawing import FAINT, legend, log_scale, style, styles
from optsweep.report.pictures import Picture, save
from optsweep.report.wording import listing, number
from optsweep.runs import write_atomically

REPORT_FILE = "benchmark.md"


def write_report(folder: Path) -> Iterator[str]:
    """From what was measured into a folder to its page and figure; tell them, and the targets."""
    benchmark = Benchmark(folder)
    write_atomically(folder / REPORT_FILE, page(benchmark))
    yield f"report: {folder / REPORT_FILE}"
    if len(benchmark.times):
        save(Picture("benchmark", speed_figure(benchmark.times, benchmark.bound), ""), folder)
        yield f"figure: {folder / 'benchmark.svg'}"
    for wanted, found, verdict in targets(benchmark):
        yield f"{wanted}: {found}, {verdict.strip('*')}"


def page(benchmark: Benchmark) -> str:
    """Everything, section by section; a section without numbers is left out."""
    times, env = benchmark.times, benchmark.environment
    everyone = pd.concat([times, benchmark.lenet])
    repeats = sorted({everyone["num_repeats"].min(), everyone["num_repeats"].max()})
    known = fractions(times, benchmark.bound)
    compiling = times[times.groupby("peer")["compile_seconds"].transform("max") > 0]
    different = benchmark.equal[~benchmark.equal["equal"].astype(bool)]
    bound = benchmark.bound.drop_duplicates(["batch_size", "optimizer"])
    bound = bound.set_index(pd.Index(map(cell_name, bound["batch_size"], bound["optimizer"])))
    products = benchmark.limits[benchmark.limits["unit"] == "GFLOP/s"]
    names = products["library"].astype(str) + ", " + products["how"].astype(str)
    products = products.assign(library=names, how=products["batch_size"])
    template = Path(__file__).with_name("page.md.jinja").read_text(encoding="utf-8")
    return jinja2.Template(template, undefined=jinja2.StrictUndefined).render(
        env=env,
        versions=", ".join(f"{name} {version}" for name, version in env["versions"].items()),
        variables=", ".join(f"{name}={value}" for name, value in env["variables"].items()),
        repeats=" to ".join(map(str, repeats)) if len(everyone) else "",
        busy=everyone["other_cores"].max() if len(everyone) else 0.0,
        notes=benchmark.notes,
        targets=_markdown(
            pd.DataFrame(targets(benchmark), columns=["target", "found", ""]).set_index("target"),
            numbers=False,
        ),
        short=short_table(benchmark),
        times=_matrix(times, _spread),
        ratios=[*_ratio_tables(times)],
        lenet=_matrix(benchmark.lenet, _spread),
        lenet_examples=f"{benchmark.lenet['num_examples'].max():,}",
        compilation=_matrix(
            compiling,
            lambda row: f"{seconds_text(row.compile_seconds)} → {seconds_text(row.with_compile)}",
        ),
        fractions=_matrix(known, lambda row: f"{100 * row.fraction:.0f} %"),
        bounds=_markdown(
            bound[["arithmetic", "bandwidth"]]
            .map(seconds_text)
            .rename(columns={"arithmetic": "products"})
            .rename_axis("limit in seconds")
        ),
        rates=_best(products, "library", _batch_size),
        bandwidths=_best(benchmark.limits[benchmark.limits["unit"] == "GB/s"], "of", str),
        num_compared=len(benchmark.equal),
        num_different=len(different),
        largest=(100 * benchmark.equal["difference"].abs() / benchmark.equal["ours"]).max(),
        different=_different(different),
        starts=_starts(benchmark.starts),
        study=_study(benchmark.study),
        methods=[_method(peer, times, benchmark.libraries) for peer in times["peer"].unique()],
    )


def short_table(benchmark: Benchmark) -> str:
    """Seconds per epoch of plain SGD for everyone: what a README has room for."""
    times = benchmark.times
    alone = times[(times["optimizer"] == "sgd") & (times["num_seeds"] == 1)]
    table = _matrix(alone, lambda row: seconds_text(row.median), lambda row: PEERS[row.peer].title)
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


def _markdown(table: pd.DataFrame, numbers: bool = True) -> str:
    """A table of texts, its index the first column; the others are `numbers`, or none is."""
    if table.empty:
        return ""
    rule = ["---"] + ["---:" if numbers else "---"] * len(table.columns)
    lines = [[table.index.name or "", *table.columns], rule, *table.itertuples()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _setting(row: Any) -> str:
    return f"{OPTIMIZERS[row.optimizer]}, {seeds_name(row.num_seeds)}"


def _matrix(
    table: pd.DataFrame,
    text: Callable[[Any], str],
    name: Callable[[Any], str] = lambda row: f"{_setting(row)}: {PEERS[row.peer].title}",
) -> str:
    """A row for each optimizer, number of seeds and peer, a column for each batch size."""
    rows = [*table.itertuples()]
    cells = table.assign(text=[*map(text, rows)], name=[*map(name, rows)])
    wide = cells.pivot(index="name", columns="batch_size", values="text").fillna("–")
    wide = wide.loc[cells["name"].unique()].rename_axis("")
    return _markdown(wide.rename(columns=_batch_size))


def _batch_size(size: float) -> str:
    return f"b = {size:,.0f}" if size else "square"


def _best(rates: pd.DataFrame, index: str, head: Callable[[Any], str]) -> str:
    """The best rates of what is in the index, by `how`."""
    wide = rates.pivot_table(index=index, columns="how", values="rate", aggfunc="max", sort=False)
    return _markdown(wide.map(lambda rate: number(rate, 0)).rename(columns=head))


def _spread(row: Any) -> str:
    return f"{seconds_text(row.median)} ({seconds_text(row.low)} … {seconds_text(row.high)})"


def _ratio_tables(times: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Of each peer a line and a table."""
    for peer in times["peer"].unique():
        found = ratios(times, peer)
        if peer != OURS and len(found):
            mean, included = (
                ratio_text(geometric_mean(ratios(times, peer, column)["ratio"]))
                for column in ("median", "with_compile")
            )
            yield (
                f"{PEERS[peer].title}: geometric mean {mean} over {len(found)} cells, {included} "
                "with compilation in a job of ten epochs.",
                _matrix(found, lambda row: ratio_text(row.ratio), _setting),
            )


def _different(equal: pd.DataFrame) -> str:
    names = [
        f"{PEERS[row.peer].title}, {'' if row.model == 'mlp' else f'{row.model}, '}"
        f"{cell_name(row.batch_size, row.optimizer, row.num_seeds)}"
        for row in equal.itertuples()
    ]
    losses = equal[["ours", "theirs", "allowed"]].map("{:.4f}".format)
    losses = losses.set_axis(["our loss", "theirs", "allowed difference"], axis=1)
    return _markdown(losses.set_axis(pd.Index(names, name="differ")))


def _starts(starts: pd.DataFrame) -> str:
    heads = {
        "told": "says what it trains, s",
        "trains": "starts to train, s",
        "seconds": "whole, s",
    }
    table = starts[[*heads]].map(seconds_text).rename(columns=heads).rename_axis("program")
    return _markdown(table.assign(**{"peak MB": starts["megabytes"].map("{:,.0f}".format)}))


def _study(study: dict[str, Any]) -> str:
    names = {"cells": "finished cells", "quick": "--quick, run afresh"}
    heads = {
        "num_cells": "cells",
        "flops": "TFLOP",
        "training_seconds": "training, s",
        "cell_seconds": "cells, s",
        "report_seconds": "report, s",
        "wall_seconds": "wall time, s",
    }
    rows = {
        names[what]: [
            number(
                found.get(key, float("nan")) / (1e12 if key == "flops" else 1), int(key == "flops")
            )
            for key in heads
        ]
        for what, found in study.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*heads.values()])
    return _markdown(table.rename_axis("study"))


def _method(peer: str, times: pd.DataFrame, libraries: dict[str, list[str]]) -> str:
    """How a peer was measured."""
    about, rows = PEERS[peer], times[times["peer"] == peer]
    text = f"{about.title}: {about.note}"
    parts = rows[rows["num_examples"] < times["num_examples"].max()]
    for count, part in parts.groupby("num_examples"):
        sizes = listing([f"{size:,}" for size in sorted(part["batch_size"].unique())])
        text += f"; at batch size {sizes} timed on {count:,} examples and scaled to an epoch"
    if not about.stacks:
        text += "; trains one network at a time, so that ten cost ten times as much each"
    if engines := sorted(set(rows["trained_by"].dropna())):
        text += f"; engine: {', '.join(engines)}"
    return text + (f" ({'; '.join(libraries[peer])})" if peer in libraries else "")


def speed_figure(times: pd.DataFrame, bound: pd.DataFrame) -> Figure:
    """A panel for each optimizer and number of seeds, a line for each peer.

    Bars reach from the lowest to the highest of the repeats.
    """
    looks = styles(list(times["peer"].unique()), baseline=OURS)
    sizes = sorted(times["batch_size"].unique())
    shape = len(seeds := times["num_seeds"].unique()), len(names := times["optimizer"].unique())
    with style():
        figure = Figure(figsize=(10, 1.2 + 2.9 * shape[0]), layout="constrained")
        panels = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
        for axes, (count, optimizer) in zip(panels.flat, product(seeds, names), strict=True):
            of_panel = f"optimizer == {optimizer!r} and num_seeds == {count}"
            for peer, rows in times.query(of_panel).groupby("peer", sort=False):
                axes.errorbar(
                    rows["batch_size"].map(sizes.index),
                    rows["median"],
                    yerr=[rows["median"] - rows["low"], rows["high"] - rows["median"]],
                    label=PEERS[peer].title,
                    elinewidth=1,
                    **asdict(looks[peer]),
                )
            limit = bound.query(of_panel)
            places, label = limit["batch_size"].map(sizes.index), "the machine's limit"
            axes.plot(places, limit["bound"], color=FAINT, linewidth=4, zorder=0, label=label)
            axes.set_title(f"{OPTIMIZERS[optimizer]}, {seeds_name(count)}")
            axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
            axes.set(xlabel="batch size", ylabel="seconds per epoch and run")
            axes.label_outer()
        for axes in panels[:, 0]:
            log_scale(axes, "y")
        # The panel with the most lines has every name that a legend needs.
        legend(figure, max(panels.flat, key=lambda axes: len(axes.get_legend_handles_labels()[1])))
    return figure
