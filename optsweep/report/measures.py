"""What can be measured on a cell: one number per seed (or per run, for times).

A diverged seed is never dropped. Its accuracy counts as 0, as in a search's objective, its loss
and its times to a target as infinite; what it has none of, such as a generalisation gap, is NaN,
and whoever uses it says how many were left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from optsweep import runs
from optsweep.report import diagnosis, gradients
from optsweep.report.collection import Collection
from optsweep.report.findings import Sample
from optsweep.report.statistics import Location, time_to_target


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


def describe(of: Mapping[str, Any]) -> str:
    """A measure in words.

    >>> describe({"name": "train_loss", "epoch": 1}), describe({"name": "wobble"})
    ('train loss at epoch 1', 'lost from epoch to epoch, test accuracy')
    """
    options = dict(of)
    name = str(options.pop("name"))
    if name in _WORDS:
        return (
            _WORDS[name]
            .format_map({"of": "test accuracy", "start": 0.0, "end": 1.0} | _in_words(options))
            .replace("_", " ")
        )
    at = f" at epoch {options['epoch']}" if "epoch" in options else ""
    if "to" in name and options:
        ((column, target),) = options.items()
        return f"{name} {column} {target}".replace("_", " ")
    return name.replace("_", " ") + at


def _in_words(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: " or ".join(v) if isinstance(v, list) else v for k, v in options.items()}


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

    Not known where other processes kept the machine busy meanwhile.
    """
    of_cell = collection.seeds_of(cells)["cell"]
    alone = of_cell.isin(collection.taken_alone(cells))
    return _times(collection, cells, target)["seconds"].where(alone)


def seconds_per_epoch(collection: Collection, cells: Sequence[str]) -> pd.Series:
    """The median seconds of an epoch but the first, which warms up, if there are others.

    One for each process, by the first seed of its first cell: epochs of one run are not
    independent of each other, nor are runs of one process. Not known where other processes kept
    the machine busy meanwhile.
    """
    history = collection.history_of(cells)
    history = history[history["seed"] == history.groupby("cell")["seed"].transform("min")]
    epochs = history.sort_values("epoch").set_index(["cell", "seed", "epoch"])["seconds"]
    spent = epochs.groupby(["cell", "seed"]).diff().dropna()
    warm = spent[spent.index.get_level_values("epoch") > 1]
    runs_of = (warm if len(warm) else spent).groupby(["cell", "seed"]).median().reset_index("seed")
    runs_of["seconds"] = runs_of["seconds"].where(runs_of.index.isin(collection.taken_alone(cells)))
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
_WORDS = {
    "improvement": "improvement of {of} from {start:.0%} to {end:.0%} of the run",
    "early_share": "share of the run's improvement of {of} in its first {end:.0%}",
    "wobble": "lost from epoch to epoch, {of}",
    "best": "best {of} of any epoch",
    "running_gap": "train accuracy averaged over the last epoch, less test accuracy",
    "pixel_nonzero": "fraction of images in which the pixel of {weight} is not black",
    "first_moving_epoch": "first epoch with a gradient of {weight}",
    "initial_gradient": "norm of the gradient of {parameter} before the first step",
    "sign_changes": "share of epochs at which the gradient of {weight} changes sign",
    "settling": "late gradient of {weight} relative to its largest",
    "verdict_share": "share of a seed's checkpoints with the verdict {of}",
    "fixed_share": "share of a step of {batch_size} examples that does not depend on the batch",
    "interaction": "share of the map that is interaction",
    "loop_ratio": "seconds of an epoch of the report's loop, {of} : {to}",
}
