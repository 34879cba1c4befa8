"""The picture of the benchmark: seconds per epoch and run against the batch size."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from optsweep.benchmark.peers import OURS
from optsweep.benchmark.wording import optimizer_name, peer_name, seeds_name
from optsweep.report.drawing import FAINT, legend, log_scale, style, styles
from optsweep.report.pictures import Picture

NAME = "benchmark"
_LIMIT = "the machine's limit"


def speed_figure(times: pd.DataFrame, bound: pd.DataFrame) -> Picture:
    """A panel for each optimizer and number of seeds, a line for each peer.

    Bars reach from the lowest to the highest of the repeats.
    """
    optimizers = list(dict.fromkeys(times["optimizer"]))
    seeds = sorted(times["num_seeds"].unique())
    looks = styles(list(dict.fromkeys(times["peer"])), baseline=OURS)
    sizes = sorted(times["batch_size"].unique())
    with style():
        height = 1.2 + 2.9 * len(seeds)
        figure = Figure(figsize=(10, height), layout="constrained")
        panels = figure.subplots(
            len(seeds), len(optimizers), sharex=True, sharey=True, squeeze=False
        )
        for row, count in zip(panels, seeds, strict=True):
            for axes, optimizer in zip(row, optimizers, strict=True):
                chosen = (times["optimizer"] == optimizer) & (times["num_seeds"] == count)
                for peer, look in looks.items():
                    one = times[chosen & (times["peer"] == peer)].sort_values("batch_size")
                    errors = [one["median"] - one["low"], one["high"] - one["median"]]
                    axes.errorbar(
                        [sizes.index(size) for size in one["batch_size"]],
                        one["median"],
                        yerr=errors,
                        color=look.color,
                        linestyle=look.linestyle,
                        marker=look.marker,
                        elinewidth=1,
                        label=peer_name(peer),
                    )
                _draw_limit(axes, bound, optimizer, count, sizes)
                axes.set_title(f"{optimizer_name(optimizer)}, {seeds_name(count)}")
                axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
        for axes in panels[-1]:
            axes.set_xlabel("batch size")
        for axes in panels[:, 0]:
            axes.set_ylabel("seconds per epoch and run")
            log_scale(axes, "y")
        legend(figure, _fullest(panels.flat))
    return Picture(NAME, figure, "Seconds per epoch and run, medians and ranges of the repeats.")


def _draw_limit(
    axes, bound: pd.DataFrame, optimizer: str, num_seeds: int, sizes: Sequence[int]
) -> None:  # type: ignore[no-untyped-def]
    if bound.empty:
        return
    chosen = (bound["optimizer"] == optimizer) & (bound["num_seeds"] == num_seeds)
    one = bound[chosen].dropna(subset="bound").sort_values("batch_size")
    places = [sizes.index(size) for size in one["batch_size"]]
    axes.plot(places, one["bound"], color=FAINT, linewidth=4, zorder=0, label=_LIMIT)


def _fullest(panels):  # type: ignore[no-untyped-def]
    """The panel with the most lines has every name that a legend needs."""
    return max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
