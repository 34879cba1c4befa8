"""One table per experiment: a row for each setting, whatever became of its cells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from optsweep.report.collection import TRAINED, Collection, Setting
from optsweep.report.measures import collapsed, difference, has_two_modes
from optsweep.report.outline import Question
from optsweep.report.statistics import (
    holm,
    mean_interval,
    share,
    smallest_p,
    time_to_target,
    wilcoxon_p,
)
from optsweep.report.wording import interval, number
from optsweep.runs import write_atomically

METRICS = (
    "test_accuracy",
    "val_accuracy",
    "train_accuracy",
    "test_loss",
    "train_loss",
    "generalisation_gap",
)
_DIFFERENCES = ("difference", "difference_low", "difference_high", "p", "smallest_p")


def setting_table(collection: Collection, question: Question, experiment: str) -> pd.DataFrame:
    """All numbers of an experiment, a row per setting in the experiment's order.

    Means, standard deviations and intervals are over the seeds that did not diverge, and where
    some collapsed, over those that did not; their numbers stand beside them. Differences are
    paired by seed, with a diverged seed's accuracy counted as 0; where some seeds collapsed, the
    difference is their median.

    Columns:
        setting, cells, status, reason, num_seeds, num_diverged, num_collapsed, collapsed_low,
        collapsed_high: the ends of the interval of their share;
        for each of `METRICS`: `<metric>_mean`, `_std`, `_low`, `_high`;
        baseline, difference, `_low`, `_high`: of test accuracy from the baseline's; p, p_holm,
        smallest_p; epochs_to_target, steps_to_target, seconds_to_target: medians, infinite if
        most seeds missed; num_reached; seconds, both kinds of seconds only if taken alone.
    """
    settings = collection.settings_of(experiment)
    rows = [
        _row(collection, question, setting, question.baseline_of(setting, settings))
        for setting in settings
    ]
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(table["p"]))
    return table


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that a reader wants, as text."""
    shown = pd.DataFrame({"setting": table["setting"]})
    columns = ("status", "num_seeds", "num_diverged", "num_collapsed")
    counts = zip(*(table[name] for name in columns), strict=True)
    shown["seeds"] = [_seeds(*each) for each in counts]
    for metric, digits in (("test_accuracy", 4), ("train_loss", 3), ("generalisation_gap", 4)):
        pairs = zip(table[f"{metric}_mean"], table[f"{metric}_std"], strict=True)
        shown[metric.replace("_", " ")] = [_mean_std(*pair, digits) for pair in pairs]
    shown.insert(3, "95 % interval", _intervals(table, "test_accuracy"))
    shown["difference"] = [number(value, 4, "+") for value in table["difference"]]
    shown["its interval"] = _intervals(table, "difference", "+")
    shown["Holm's p"] = [number(value, 3) for value in table["p_holm"]]
    shown["epochs to target"] = [number(value, 0) for value in table["epochs_to_target"]]
    shown["steps to target"] = [number(value, 0) for value in table["steps_to_target"]]
    shown["seconds to target"] = [number(value, 1) for value in table["seconds_to_target"]]
    shown["seconds"] = [number(value, 1) for value in table["seconds"]]
    return shown


def write_tables(table: pd.DataFrame, stem: Path, mark: str = "") -> None:
    """Write a table as CSV, Markdown and LaTeX; `mark` is a line that says what it holds."""
    shown = readable(table)
    # with_suffix would take a dot in an experiment's name for a suffix.
    for suffix, text in (
        ("csv", table.to_csv(index=False, lineterminator="\n")),
        ("md", markdown(shown, mark)),
        ("tex", _latex(shown, mark)),
    ):
        write_atomically(stem.with_name(f"{stem.name}.{suffix}"), text)


def _row(
    collection: Collection, question: Question, setting: Setting, baseline: Setting | None
) -> dict[str, Any]:
    seeds = collection.seeds_of(setting.cells)
    row: dict[str, Any] = {
        "setting": setting.label,
        "cells": " ".join(setting.cells),
        "status": setting.status,
        "reason": setting.reason,
        "num_seeds": len(seeds),
        "num_diverged": int((seeds["status"] != "completed").sum()),
    }
    which = collapsed(collection, setting.cells)
    found = share(which)
    row |= {"num_collapsed": int(which.sum())}
    row |= {"collapsed_low": found.low, "collapsed_high": found.high}
    counted = seeds[~which] if has_two_modes(which) else seeds
    for metric in METRICS:
        values = counted[metric].astype(float)
        found = mean_interval(values)
        row |= {f"{metric}_mean": found.estimate, f"{metric}_std": values.std()}
        row |= {f"{metric}_low": found.low, f"{metric}_high": found.high}
    row |= {
        "baseline": baseline.label if baseline else "",
        **_difference(collection, setting, baseline),
    }
    row |= _target(collection, question, setting)
    alone = collection.timed_alike(setting.cells)
    seconds = collection.cells.loc[alone, "seconds"].astype(float).dropna()
    return row | {"seconds": seconds.median() if len(seconds) else math.nan}


def _difference(
    collection: Collection, setting: Setting, baseline: Setting | None
) -> dict[str, float]:
    if baseline is None or not setting.is_trained or not baseline.is_trained:
        return dict.fromkeys(_DIFFERENCES, math.nan)
    where = difference(collection, setting.cells, baseline.cells, "test_accuracy")
    found = where.interval()
    p_values = (wilcoxon_p(where.values), smallest_p(found.n)) if found.n else (math.nan,) * 2
    return dict(zip(_DIFFERENCES, (*found[:3], *p_values), strict=True))


def _target(collection: Collection, question: Question, setting: Setting) -> dict[str, float]:
    names = ("epochs", "steps", "seconds")
    if not setting.is_trained:
        return {f"{name}_to_target": math.nan for name in names} | {"num_reached": math.nan}
    ((column, target),) = question.target.items()
    times = time_to_target(collection.history_of(setting.cells), column, target)
    if len(collection.timed_alike(setting.cells)) < len(setting.cells):
        times["seconds"] = math.nan  # beside other work, they tell of that
    # The upper of two middle values: half of the seeds have reached the target by then.
    medians = times.quantile(interpolation="higher")
    reached = int((times["epochs"] < math.inf).sum())
    return {f"{name}_to_target": medians[name] for name in names} | {"num_reached": reached}


def _seeds(status: str, num_seeds: int, num_diverged: int, num_collapsed: int) -> str:
    """The number of seeds, and of those that diverged or collapsed otherwise."""
    if status not in TRAINED:
        return status
    failed = {"diverged": num_diverged, "collapsed": num_collapsed - num_diverged}
    return ", ".join([str(num_seeds), *(f"{n} {what}" for what, n in failed.items() if n)])


def _mean_std(mean: float, spread: float, digits: int) -> str:
    return number(mean, digits) + ("" if math.isnan(spread) else f" ± {number(spread, digits)}")


def _intervals(table: pd.DataFrame, column: str, sign: str = "") -> list[str]:
    limits = zip(table[f"{column}_low"], table[f"{column}_high"], strict=True)
    return [interval(*pair, 4, sign) for pair in limits]


def markdown(shown: pd.DataFrame, mark: str = "") -> str:
    """A table of text as Markdown, below a line that says what it holds.

    >>> print(markdown(pd.DataFrame({"setting": ["default"], "seeds": ["10"]})))
    | setting | seeds |
    | --- | ---: |
    | default | 10 |
    <BLANKLINE>
    """
    rows = [list(shown.columns), ["---"] + ["---:"] * (len(shown.columns) - 1)]
    rows += [[_one_line(text).replace("|", r"\|") for text in row] for row in shown.to_numpy()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*([f"*{mark}*", ""] if mark else []), *lines, ""])


def _latex(shown: pd.DataFrame, mark: str) -> str:
    rows = [[_latex_text(text) for text in row] for row in [shown.columns, *shown.to_numpy()]]
    head, *body = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" + "r" * (len(shown.columns) - 1)
    lines = [f"% {_one_line(mark)}"] if mark else []
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline", *body, r"\hline"]
    return "\n".join([*lines, r"\end{tabular}", ""])


def _latex_text(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    special |= {"−": "$-$", "±": r"$\pm$", "∞": r"$\infty$", "–": "--", "…": r"\dots{}"}
    return "".join(special.get(character, character) for character in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
