"""Two cells or sweeps beside each other: what differs in them, and every score, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from optsweep import runs
from optsweep.config.identity import flat_values
from optsweep.report.collection import Collection, Setting, longest
from optsweep.report.curves import with_errors
from optsweep.report.drawing import band, epochs, legend, log_scale, style, styles, without_start
from optsweep.report.findings import MIN_VALUES
from optsweep.report.measures import sample_of
from optsweep.report.multiplicity import LEVEL
from optsweep.report.pictures import Picture
from optsweep.report.rules import RULES, Options
from optsweep.report.settings import phrase_value, varying
from optsweep.report.wording import count, interval, number

# Every score of a seed, and what a reader calls it.
SCORES = {
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "val_accuracy": "val accuracy",
    "val_loss": "val loss",
    "final_train_accuracy": "train accuracy",
    "final_train_loss": "train loss",
    "train_accuracy": "train accuracy while training",
    "train_loss": "train loss while training",
    "generalisation_gap": "generalisation gap",
}
_LOWER = ("loss", "gap")  # of which less is better
_DIGITS = 4
_ABSENT = "–"
_CURVES = ("train_loss", "train_error", "test_error")
_MAX_ROWS = 12  # of a figure


class Side(NamedTuple):
    """One of the two: what it is called, where its cells are, and those that are trained."""

    name: str
    collection: Collection
    settings: Sequence[Setting]


class Pair(NamedTuple):
    """A setting of each side.

    Attributes:
        title: What the two have in common that others have not; empty if it is the only pair.
        left: Of A.
        right: Of B.
        scores: A row per score: score, a, b, difference, low, high, seeds, verdict.
    """

    title: str
    left: Setting
    right: Setting
    scores: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """What there is to say of two sides.

    Attributes:
        a: The first side.
        b: The second.
        configuration: A row per setting that differs: key, A, B.
        pairs: Settings that were compared.
        alone: Settings without a counterpart, in words.
    """

    a: Side
    b: Side
    configuration: pd.DataFrame
    pairs: list[Pair]
    alone: list[str]


def compare(a: Side, b: Side) -> Comparison:
    """Compare two sides: their settings that agree in all that varies within a side.

    A side with one setting is compared with every one of the other side. Where nothing agrees,
    nothing is compared but the configurations.
    """
    of_a, of_b = ([_values(side, setting) for setting in side.settings] for side in (a, b))
    within = {key for values in (of_a, of_b) for key in varying(values)} - {"seed"}
    single = len(a.settings) == 1 or len(b.settings) == 1
    found = [
        (left, right)
        for left, values in zip(a.settings, of_a, strict=True)
        for right, others in zip(b.settings, of_b, strict=True)
        if single or all(values.get(key) == others.get(key) for key in within)
    ]
    pairs = [
        Pair(
            _title(left, right, a, b) if len(found) > 1 else "",
            left,
            right,
            _scores(a, b, left, right),
        )
        for left, right in found
        if left.cells != right.cells
    ]
    alone = [
        f"{name}: {setting.label}"
        for name, side, index in (("A", a, 0), ("B", b, 1))
        for setting in side.settings
        if not any(pair[index] is setting for pair in found)
    ]
    return Comparison(a, b, _differing(of_a, of_b), pairs, alone)


def _values(side: Side, setting: Setting) -> dict[str, Any]:
    """All that decides the setting's result, by dotted keys, and what it was trained on."""
    directory = side.collection.folder / runs.CELLS_FOLDER / setting.cells[0]
    values = flat_values(runs.read_config(directory))
    cell = side.collection.cells.loc[setting.cells[0]]
    measured = {f"({key})": cell[key] for key in ("device", "engine")}
    return values | measured | {"num_seeds": len(side.collection.seeds_of(setting.cells))}


def _differing(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The keys that do not have the same values on both sides, each with its values."""
    rows = []
    for key in dict.fromkeys(key for values in (*a, *b) for key in values):
        sides = [list(dict.fromkeys(each.get(key, _ABSENT) for each in side)) for side in (a, b)]
        if set(sides[0]) != set(sides[1]):
            rows.append({"setting": key} | dict(zip("AB", map(_listed, sides), strict=True)))
    return pd.DataFrame(rows, columns=["setting", "A", "B"])


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(phrase(value) for value in values)


def phrase(value: Any) -> str:
    """A value of a configuration, in which a path keeps its underscores."""
    return value if isinstance(value, str) else phrase_value(value)


def _title(left: Setting, right: Setting, a: Side, b: Side) -> str:
    if len(a.settings) == 1 or len(b.settings) == 1:
        return left.label if len(a.settings) > 1 else right.label
    return left.label if left.label == right.label else f"{left.label} and {right.label}"


def _scores(a: Side, b: Side, left: Setting, right: Setting) -> pd.DataFrame:
    rows = []
    held_out = left.facets["val_size"] and right.facets["val_size"]
    for name in (each for each in SCORES if held_out or not each.startswith("val_")):
        samples = [
            sample_of(side.collection, setting.cells, {"name": name}, title)
            for title, side, setting in (("A", a, left), ("B", b, right))
        ]
        rule = RULES["less" if name.endswith(_LOWER) else "greater"]
        found = rule(samples, Options())
        estimates = (each.located.interval().estimate for each in samples)
        told = (*found.effect[:3], found.effect.n, found.verdict(LEVEL))
        rows.append((name, *estimates, *told))
    columns = ["score", "a", "b", "difference", "low", "high", "seeds", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def readable(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of a pair as text."""
    rows = []
    for row in scores.itertuples():
        rows.append(
            {
                "score": SCORES[str(row.score)],
                "A": number(row.a, _DIGITS),
                "B": number(row.b, _DIGITS),
                "A − B": number(row.difference, _DIGITS, "+"),
                "its interval": interval(row.low, row.high, _DIGITS, "+"),
                "seeds": str(row.seeds),
                "A is better": str(row.verdict),
            }
        )
    return pd.DataFrame(rows)


def remarks(comparison: Comparison) -> list[str]:
    """What a reader has to know of the numbers."""
    told = [
        "Differences are of the same seeds, with 95 % intervals; a diverged seed has accuracy 0 "
        "and an infinite loss. Where some seeds collapsed, medians take the place of means. While "
        "training: averages over the last epoch's batches. Each verdict is of its one score, and "
        "not corrected for the others."
    ]
    seeds = [int(pair.scores["seeds"].max()) for pair in comparison.pairs if len(pair.scores)]
    if seeds and min(seeds) == 0:
        told.append("Some have no seed in common: give them the same seed and num_seeds.")
    elif seeds and min(seeds) < MIN_VALUES:
        told.append(
            f"Fewer than {MIN_VALUES} seeds decide nothing: train more, by num_seeds={MIN_VALUES} "
            "or more."
        )
    if not comparison.pairs:
        told.append("No setting of A has the values of one of B in all that varies.")
    if comparison.alone and comparison.pairs:
        told.append(f"Without a counterpart: {'; '.join(comparison.alone)}.")
    return told


def draw(comparison: Comparison) -> Picture | None:
    """Train loss, train error and test error of both against epochs, a row for each pair."""
    pairs = comparison.pairs[:_MAX_ROWS]
    if not pairs:
        return None
    with style():
        figure = Figure(figsize=(10, 3.1 * len(pairs) + 0.8), layout="constrained")
        rows = figure.subplots(len(pairs), 3, squeeze=False)
        names = [f"A: {comparison.a.name}", f"B: {comparison.b.name}"]
        looks = styles(names)
        for axes, pair in zip(rows, pairs, strict=True):
            for panel, column in zip(
                axes, ("train_loss", "train_error", "test_error"), strict=True
            ):
                for side, setting, name in (
                    (comparison.a, pair.left, names[0]),
                    (comparison.b, pair.right, names[1]),
                ):
                    history = with_errors(side.collection.history_of(setting.cells))
                    band(panel, history, "epoch", column, looks[name], name)
                measured = column.replace("_", " ")
                panel.set_title(f"{pair.title}: {measured}" if pair.title else measured)
                without_start(panel)
                log_scale(panel, "y")
                epochs(panel, longest([pair.left, pair.right]))
        legend(figure, rows[0][0])
    left_out = len(comparison.pairs) - len(pairs)
    caption = "Train loss, train error and test error; median and interquartile band over seeds."
    caption += f" {count(left_out, 'pair')} left out." if left_out else ""
    return Picture("comparison", figure, caption)


def same_cells(a: Side, b: Side) -> bool:
    """Whether both sides are the same cells of the same folder."""
    cells = [sorted(cell for one in side.settings for cell in one.cells) for side in (a, b)]
    roots = [Path(side.collection.folder).resolve() for side in (a, b)]
    return cells[0] == cells[1] and roots[0] == roots[1]
