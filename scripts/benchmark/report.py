"""What the rows say, as a page of Markdown with the README's table, and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy.stats import gmean

from benchmark.peers import OURS, PEERS
from benchmark.rounds import read
from benchmark.tasks import CELL, NETWORKS, OPTIMIZERS, STANDARDISED, cell_name, cells
from optsweep.report.drawing import legend, log_scale, style, styles
from optsweep.report.pictures import Picture, save
from optsweep.report.tables import markdown
from optsweep.report.timing import NUM_INPUTS, flops_per_example
from optsweep.report.wording import number
from optsweep.runs import write_atomically

ENVIRONMENT_FILE, PAGE, FIGURE = "environment.json", "benchmark.md", "benchmark"


def write_report(folder: Path) -> None:
    """From what was measured into a folder to its page and figure."""
    environment = json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    forms = sum_up(read(folder), environment["num_train"])
    write_atomically(folder / PAGE, page(forms, environment))
    save(Picture(FIGURE, speed_figure(fastest(forms, "title")), ""), folder)


def sum_up(rows: pd.DataFrame, num_train: int) -> pd.DataFrame:
    """A row for every cell and peer, in their order.

    Columns: median and minimum of the rounds, in seconds per epoch and run; num_rounds,
    num_examples, trained_by, other_cores; how many times as fast optsweep is, as ratio of the
    medians and of_minima; undecided, whether it is in some rounds and not in others; loss of the
    trained networks as a multiple of ours; title and name of the peer.
    """
    per_run = rows["seconds"] / rows["num_seeds"] / rows["num_examples"] * num_train
    rows = rows.assign(per_run=per_run)
    for name, column in (("single", "per_run"), ("loss", "loss")):
        rows[name] = _over_ours(rows, column, [*CELL, "repeat"])
    forms = rows.groupby([*CELL, "peer"]).agg(
        median=("per_run", "median"),
        minimum=("per_run", "min"),
        num_rounds=("per_run", "size"),
        num_examples=("num_examples", "first"),
        trained_by=("engine", "first"),  # pandas takes an `engine` for an argument of its own
        other_cores=("other_cores", "max"),
        low=("single", "min"),
        high=("single", "max"),
        loss=("loss", "mean"),
    )
    order = product((cell[:4] for cell in cells()), PEERS)
    wanted = [(*cell, name) for cell, name in order if (*cell, name) in forms.index]
    forms = forms.reindex(wanted).reset_index()
    forms["undecided"] = (forms["low"] < 1) & (forms["high"] > 1)
    forms["ratio"] = _over_ours(forms, "median", CELL)
    forms["of_minima"] = _over_ours(forms, "minimum", CELL)
    forms["title"] = [PEERS[peer].title for peer in forms["peer"]]
    forms["name"] = [PEERS[peer].name for peer in forms["peer"]]
    return forms.dropna(subset="ratio")


def _over_ours(rows: pd.DataFrame, column: str, on: list[str]) -> pd.Series:
    """A column as a multiple of what it is in our row with the same values of others."""
    ours = rows[rows["peer"] == OURS].set_index(on)[column].rename("ours")
    return rows[column] / rows.join(ours, on=on)["ours"]


def fastest(forms: pd.DataFrame, *of: str) -> pd.DataFrame:
    """The rows with the least median of each cell, and of each value of other columns."""
    return forms.loc[forms.groupby([*CELL, *of], sort=False)["median"].idxmin()]


def arithmetic(best: pd.DataFrame, environment: dict[str, Any]) -> pd.DataFrame:
    """The rows of MLPs, with percents of the peak: `dense` of all products, `executed` without
    those of zeros, which the compiled loops leave out.
    """
    some = best[best["network"] != "lenet"]
    hidden = [[shape[1] for shape in NETWORKS[name].layers[:-1]] for name in some["network"]]
    dense = np.array([flops_per_example(sizes) for sizes in hidden])
    first = np.array([4 * NUM_INPUTS * sizes[0] for sizes in hidden])
    skips = (some["trained_by"] == "numba") & (some["network"] != STANDARDISED)
    executed = dense - first * skips * (1 - environment["nonzero"])
    to_percent = 100 * environment["num_train"] / 1e9 / some["median"] / environment["peak"]
    return some.assign(dense=dense * to_percent, executed=executed * to_percent)


def page(forms: pd.DataFrame, env: dict[str, Any]) -> str:
    """Everything, section by section."""
    best = fastest(forms, "title")
    ours, others = best[best["peer"] == OURS], best[best["peer"] != OURS]
    facts = [f"{name} {version}" for name, version in env["versions"].items()]
    facts += [f"{name}={value}" for name, value in env["variables"].items()]
    notes = "\n".join(f"- {name}: {note}." for name, note in env["methods"].items())
    return f"""\
# Speed of optsweep

Measured on {env["processor"]}, {env["num_cores"]} cores, with {", ".join(facts)}; \
{forms["num_rounds"].min()} to {forms["num_rounds"].max()} alternating rounds. Other programs kept \
at most {number(forms["other_cores"].max(), 1)} cores busy meanwhile.

{readme_table(best)}
![Seconds per epoch of everyone against the batch size]({FIGURE}.svg)

## How many times as fast

Geometric means over the cells, of medians and of minima; the least; in how many cells optsweep \
is slower, and in how many that is undecided (?): single rounds lie on both sides of 1. Of JAX's \
forms the fastest counts, cell by cell, and is named. All start from the same weights for a seed, \
with the same batch size, learning rate and number of steps, and draw their own orders; how much \
they have learned shows in their losses, as multiples of ours.

{_overview(others)}
{_cell_table(others, "title", lambda row: _ratio(row) + row.name.removeprefix(row.title))}
## Seconds per epoch and run

Median (minimum) of the rounds, compilation apart. Ten seeds are trained at once; a run is one of \
them.

{_cell_table(forms, "name", lambda row: f"{seconds(row.median)} ({seconds(row.minimum)})")}
## Arithmetic

Percent of the machine's peak, {env["peak"]:.0f} GFLOP/s of a large square product: arithmetic \
that is carried out / all that dense products have. The compiled loops leave out inputs that are \
zero; {100 * env["nonzero"]:.0f} % of the pixels are not. Weights that are moved, activations and \
the loss are in neither.

{_cell_table(arithmetic(best, env), "title", lambda row: f"{row.executed:.0f} / {row.dense:.0f}")}
## Who was measured how

{notes}

optsweep's engine, and the examples on which all are timed, scaled to {env["num_train"]:,}:

{_cell_table(ours, "title", lambda row: f"{row.trained_by}, {row.num_examples:,}")}"""


def readme_table(best: pd.DataFrame) -> str:
    """Plain SGD of one network, one seed and at b = 256 ten; of each other its worst cell."""
    is_plain = (best["network"] == "mlp") & (best["optimizer"] == "sgd")
    is_few = (best["num_seeds"] == 1) | (best["batch_size"] == 256)
    worst = best[best["network"] != "mlp"].groupby("network")["ratio"].transform("min")
    is_worst = best.groupby(CELL)["ratio"].transform("min") == worst.reindex(best.index)
    shown = best[is_plain & is_few | is_worst]
    rivals = fastest(shown[shown["peer"] != OURS])
    texts = [seconds(row.median) for row in shown.itertuples()]
    texts += [f"{_ratio(row)} ({row.name})" for row in rivals.itertuples()]
    rivals = rivals.assign(title="times as fast as the fastest other")
    table = _cell_table(pd.concat([shown, rivals]).assign(told=texts), "title", lambda r: r.told)
    lost = best.groupby(CELL)["ratio"].min() < 1
    return f"""\
Seconds per epoch and run, with b examples a step (?: undecided). Of other networks it is the cell \
in which optsweep does worst; in {lost.sum()} of all {len(lost)} cells it is not the fastest:

{table}"""


def _overview(others: pd.DataFrame) -> str:
    """A row for each title on 128-56, and on all other networks."""
    is_mlp = np.where(others["network"] == "mlp", NETWORKS["mlp"].title, "all others")
    rows = []
    for (title, network), some in others.groupby(["title", is_mlp], sort=False):
        least, undecided = some.loc[some["ratio"].idxmin()], some["undecided"]
        row: dict[str, Any] = {"peer": title, "networks": network, "cells": len(some)}
        for name, column in (("medians", "ratio"), ("minima", "of_minima")):
            row[name] = f"{gmean(some[column]):.2f}"
        row["least"] = f"{_ratio(least)} ({cell_name(least)})"
        row["slower"] = ((some["ratio"] < 1) & ~undecided).sum()
        row["undecided"] = undecided.sum()
        row["losses"] = f"{some['loss'].min():.2f} … {some['loss'].max():.2f}"
        rows.append(row)
    return markdown(pd.DataFrame(rows).astype(str))


def _cell_table(rows: pd.DataFrame, column: str, text: Callable[[Any], str]) -> str:
    """A row for each cell, columns by what is in one of the rows."""
    names = [*map(cell_name, rows.itertuples())]
    rows = rows.assign(cell=names, text=[*map(text, rows.itertuples())])
    wide = rows.pivot(index="cell", columns=column, values="text").fillna("–")
    wide = wide.loc[rows["cell"].unique(), rows[column].unique()]
    return markdown(wide.rename_axis("").reset_index())


def _ratio(row: Any) -> str:
    text = number(row.ratio, 0 if row.ratio >= 100 else 1 if row.ratio >= 10 else 2)
    return f"{text} ?" if row.undecided else text


def seconds(value: float) -> str:
    """Seconds with three significant digits, but no more than a clock has.

    >>> [seconds(value) for value in (0.12345, 0.00123, 31.25, 123.4, float("nan"))]
    ['0.123', '0.001', '31.2', '123', '–']
    """
    return number(value, 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3)


def speed_figure(best: pd.DataFrame) -> Figure:
    """Medians of 128-56: a panel for each optimizer and number of seeds, a line for each title."""
    some = best[best["network"] == "mlp"]
    looks = styles(list(some["title"].unique()), baseline=OURS)
    with style():
        figure = Figure(figsize=(10, 7), layout="constrained")
        panels = figure.subplots(2, len(OPTIMIZERS), sharex=True, sharey=True)
        for axes, (count, optimizer) in zip(panels.flat, product((1, 10), OPTIMIZERS), strict=True):
            seeds = f"{count} seed{'s' if count > 1 else ''}"
            axes.set(title=f"{OPTIMIZERS[optimizer]}, {seeds}", xlabel="batch size")
            of_panel = some.query("num_seeds == @count and optimizer == @optimizer")
            for title, rows in of_panel.groupby("title", sort=False):
                axes.plot("batch_size", "median", data=rows, label=title, **vars(looks[title]))
            log_scale(axes, "x")
            axes.xaxis.set_major_locator(LogLocator(100))
            log_scale(axes, "y")
            axes.label_outer()
        figure.supylabel("seconds per epoch and run")
        legend(figure, panels[0, 0])
    return figure
