"""What can be measured on a cell: one number per seed (or per run, for times).

A diverged seed is never dropped. Its accuracy counts as 0, as in a search's objective, its loss
and its times to a target as infinite; what it has none of, such as a generalisation gap, is NaN,
and whoever uses it says how many were left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from optsweep import runs
from optsweep.report import diagnosis, gradients
from optsweep.report.collection import Collection, Setting
from optsweep.report.findings import Sample
from optsweep.report.language import ENGLISH, Text, language, say
from optsweep.report.statistics import Interval, Location, time_to_target


def measure(collection: Collection, cells: Sequence[str], of: Mapping[str, Any]) -> pd.Series:
    """Measure a setting.

    Args:
        collection: Where its cells are.
        cells: Their names; they differ in nothing but their seeds.
        of: `name` of the measure, and its options.

    Returns:
        A float per seed; for `seconds_per_epoch` and `seconds_per_step`, which all seeds of a
        stack share, per cell.

    Raises:
        ValueError: If there is no such measure.
    """
    options = dict(of)
    name = str(options.pop("name"))
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](collection, cells, **options).astype(float)
    if name in collection.seeds.columns:
        return score(collection, cells, name, **options)
    raise ValueError(f"there is no measure {name}")


# A seed whose final test accuracy is not above it has collapsed: three times what guesses among ten
# classes get. Networks of one or two classes are below it, and those that train slowly, such as one
# epoch at 0.1 and nine at 0.001, are above it.
LEARNED = 0.3


def collapsed(collection: Collection, cells: Sequence[str]) -> pd.Series:
    """Which seeds of a setting diverged or did not learn."""
    return score(collection, cells, "test_accuracy") <= LEARNED


def has_two_modes(which: pd.Series) -> bool:
    """Whether some seeds have collapsed and others have not, so that one mean tells of neither."""
    return bool(which.any() and not which.all())


def none_learned(collection: Collection, settings: Iterable[Setting]) -> bool:
    """Whether every seed of all settings has collapsed, so that their curves show nothing."""
    return all(bool(collapsed(collection, one.cells).all()) for one in settings)


def sample_of(
    collection: Collection, cells: Sequence[str], of: Mapping[str, Any], name: str
) -> Sample:
    """What a setting has of a measure, and which of its seeds have collapsed."""
    values = measure(collection, cells, of)
    return Sample(name, values, collapsed(collection, cells)[values.index].astype(int))


def located(collection: Collection, cells: Sequence[str], name: str) -> Location:
    """Where a setting's values of a score lie."""
    return sample_of(collection, cells, {"name": name}, name).located


def difference(
    collection: Collection, cells: Sequence[str], baseline: Sequence[str], name: str
) -> Location:
    """Where the differences of a score between two settings lie, seed by seed."""
    left, right = (sample_of(collection, each, {"name": name}, name) for each in (cells, baseline))
    return left.less(right).located


def possible(found: Interval, of: Mapping[str, Any]) -> Interval:
    """An interval cut to what a measure can be: accuracies up to 1, nothing of these below 0.

    >>> possible(Interval(0.5, -0.6, 1.6, 7), {"name": "test_accuracy"})
    Interval(estimate=0.5, low=0.0, high=1.0, n=7)
    """
    name = str(of["name"])
    most = 1.0 if name.endswith("accuracy") else math.inf
    if most == 1.0 or name.endswith("loss") or name.startswith("seconds"):
        low, high = np.clip((found.low, found.high), 0.0, most).tolist()
        return found._replace(low=low, high=high)
    return found


def describe(of: Mapping[str, Any]) -> str:
    """A measure in words.

    >>> describe({"name": "train_loss", "epoch": 1}), describe({"name": "wobble"})
    ('train loss at epoch 1', 'lost from epoch to epoch, test accuracy')
    """
    options = dict(of)
    name = str(options.pop("name"))
    if name.endswith("_to") and options:
        ((column, target),) = options.items()
        return say(f"measure.{name}", column=in_words(column), target=target)
    if f"measure.{name}" not in language(ENGLISH).messages:
        return name.replace("_", " ")
    options.pop("keys", None)
    if name in _WHOLE_RUN:
        options = {"of": "test_accuracy", "start": 0.0, "end": 1.0} | options
    if "epoch" in options:
        return say("measure.at_epoch", measure=in_words(name), epoch=options["epoch"])
    return say(f"measure.{name}", **{key: _told(value) for key, value in options.items()})


def in_words(column: str) -> str:
    """A column of the results in words."""
    if f"measure.{column}" in language(ENGLISH).messages:
        return say(f"measure.{column}")
    return column.replace("_", " ")


def _told(value: Any) -> Any:
    if isinstance(value, list):
        return _either([str(each) for each in value])
    if not isinstance(value, str):
        return value
    if weight := re.fullmatch(r"linear1\.weight\[\d+,(\d+)\]", value):
        return say("measure.weight_of_pixel", pixel=weight[1])
    return in_words(value)


def _either(items: Sequence[str]) -> str:
    """One of several, as a sentence has them."""
    told = Text(items[0])
    for each in items[1:]:
        told = say("join.or", one=told, other=each)
    return told


def score(
    collection: Collection, cells: Sequence[str], name: str, epoch: int | None = None
) -> pd.Series:
    """A column of the results, or of the history at an epoch (negative: from the end)."""
    seeds = collection.seeds_of(cells)
    if epoch is None:
        values = seeds[name]
    else:
        history = collection.history_of(cells)
        last = int(history["epoch"].max())
        at = history[history["epoch"] == (epoch if epoch >= 0 else last + 1 + epoch)]
        values = at.set_index("seed")[name].reindex(seeds.index)
        if not -last <= epoch <= last:
            return values  # the run was shorter than that: not known
    if name.endswith("accuracy"):
        return pd.Series(runs.counted_accuracies(values), values.index)
    return values.fillna(math.inf) if name.endswith("loss") else values


def improvement(
    collection: Collection, cells: Sequence[str], of: str, start: float = 0.0, end: float = 1.0
) -> pd.Series:
    """How much better a score became between two fractions of the run; 0 is epoch 0."""
    last = int(collection.history_of(cells)["epoch"].max())
    first, final = (
        score(collection, cells, of, round(fraction * last)) for fraction in (start, end)
    )
    better = first - final if of.endswith("loss") else final - first
    return better.where(final.abs() < math.inf, -math.inf)


def early_share(
    collection: Collection, cells: Sequence[str], of: str, end: float = 0.2
) -> pd.Series:
    """How much of what the whole run gains in a score is gained in its first part."""
    whole = improvement(collection, cells, of)
    return (improvement(collection, cells, of, end=end) / whole).where(whole > 0)


def wobble(collection: Collection, cells: Sequence[str], of: str = "test_accuracy") -> pd.Series:
    """All that a score lost from one epoch to the next, after the first: 0 for a steady curve.

    Not known for a seed that has collapsed: one that never learns is steady.
    """
    curves = (
        collection.history_of(cells)
        .query("epoch >= 1")
        .pivot(index="epoch", columns="seed", values=of)
    )
    steps = curves.diff().iloc[1:] if not of.endswith("loss") else -curves.diff().iloc[1:]
    lost = -steps.clip(upper=0).sum(skipna=False)
    return lost.where(~collapsed(collection, cells))


def best(collection: Collection, cells: Sequence[str], of: str = "test_accuracy") -> pd.Series:
    """The best score that a seed had at any epoch."""
    scores = collection.history_of(cells).groupby("seed")[of]
    return scores.min() if of.endswith("loss") else scores.max()


def running_gap(collection: Collection, cells: Sequence[str]) -> pd.Series:
    """Train accuracy averaged over the last epoch's batches, less test accuracy.

    As the report has it; the final weights' own accuracy is usually higher, so this is less
    than the generalisation gap. Not known for a seed that has collapsed.
    """
    seeds = collection.seeds_of(cells)
    gap = seeds["train_accuracy"] - seeds["test_accuracy"]
    return gap.where(~collapsed(collection, cells))


def generalisation_gap(collection: Collection, cells: Sequence[str]) -> pd.Series:
    """Accuracy of the final weights on the training split, less that on the test split.

    Not known for a seed that has collapsed: one that never learns overfits nothing.
    """
    gap = collection.seeds_of(cells)["generalisation_gap"]
    return gap.where(~collapsed(collection, cells))


def epochs_to(collection: Collection, cells: Sequence[str], **target: float) -> pd.Series:
    """Epochs until a target, such as `test_accuracy: 0.8`; a miss is infinity."""
    return _times(collection, cells, target)["epochs"]


def seconds_to(collection: Collection, cells: Sequence[str], **target: float) -> pd.Series:
    """Seconds of training until a target; a miss is infinity.

    Not known where other processes kept the machine busy meanwhile, or of other numbers of threads
    than most.
    """
    of_cell = collection.seeds_of(cells)["cell"]
    alone = of_cell.isin(collection.timed_alike(cells))
    return _times(collection, cells, target)["seconds"].where(alone)


def seconds_per_epoch(collection: Collection, cells: Sequence[str]) -> pd.Series:
    """The median seconds of an epoch but the first, which warms up, if there are others.

    One for each process, by the first seed of its first cell: epochs of one run are not
    independent of each other, nor are runs of one process. Not known where other processes kept
    the machine busy meanwhile, or of other numbers of threads than most.
    """
    history = collection.history_of(cells)
    history = history[history["seed"] == history.groupby("cell")["seed"].transform("min")]
    epochs = history.sort_values("epoch").set_index(["cell", "seed", "epoch"])["seconds"]
    spent = epochs.groupby(["cell", "seed"]).diff().dropna()
    warm = spent[spent.index.get_level_values("epoch") > 1]
    runs_of = (warm if len(warm) else spent).groupby(["cell", "seed"]).median().reset_index("seed")
    runs_of["seconds"] = runs_of["seconds"].where(runs_of.index.isin(collection.timed_alike(cells)))
    process = collection.cells.loc[runs_of.index, "process"]
    of_process = runs_of.groupby(process.fillna(pd.Series(runs_of.index, runs_of.index)))
    found = of_process.agg({"seed": "min", "seconds": "median"})
    return found.set_index("seed")["seconds"].sort_index()


def seconds_per_step(collection: Collection, cells: Sequence[str]) -> pd.Series:
    """Seconds per optimizer step, by `seconds_per_epoch`."""
    history = collection.history_of(cells)
    steps = history["step"].max() / max(1, history["epoch"].max())
    return seconds_per_epoch(collection, cells) / steps


def _times(
    collection: Collection, cells: Sequence[str], target: Mapping[str, float]
) -> pd.DataFrame:
    ((column, value),) = target.items()
    return time_to_target(collection.history_of(cells), column, value)


_FUNCTIONS: dict[str, Callable[..., pd.Series]] = {
    "pixel_nonzero": gradients.pixel_nonzero,
    "first_moving_epoch": gradients.first_moving_epoch,
    "gradient_size": gradients.gradient_size,
    "initial_gradient": gradients.initial_gradient,
    "sign_changes": gradients.sign_changes,
    "settling": gradients.settling,
    "verdict_share": diagnosis.verdict_share,
    "improvement": improvement,
    "early_share": early_share,
    "wobble": wobble,
    "best": best,
    "running_gap": running_gap,
    "generalisation_gap": generalisation_gap,
    "epochs_to": epochs_to,
    "seconds_to": seconds_to,
    "seconds_per_epoch": seconds_per_epoch,
    "seconds_per_step": seconds_per_step,
}
# Measures of a score over the run, or over a part of it.
_WHOLE_RUN = ("improvement", "early_share", "wobble", "best")
