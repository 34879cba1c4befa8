"""What diagnoses of cells found, as tables: shares of verdicts, causes, readings, gains of forks.

They are read from the folders of their cells, each where it is wanted; a cell that was not
diagnosed has none. Epoch 0, the untrained network, is shown and never counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from optsweep import runs
from optsweep.diagnosis.readings import BASE, BATCH, FASTER, FREED, KICKED, SLOWER
from optsweep.diagnosis.verdicts import INCONCLUSIVE, VERDICTS
from optsweep.report.collection import Collection, Setting
from optsweep.report.language import say
from optsweep.report.settings import family, phrase_value
from optsweep.report.statistics import mean_interval
from optsweep.report.wording import count, number, short

# Of the table that has a row for each kind of cell: readings, then forks, by their headings.
_OF_KINDS = {
    "lr λ by its limit": "sharpness",
    "batch sharpness by its limit": "stability",
    "largest step": "critical_multiple",
    "promise": "promise",
    "noise scale": "noise_scale",
}
_GAINS = {
    "3 × lr": FASTER,
    "0.1 × lr": SLOWER[1],
    "8 × batch": BATCH,
    "sharpest out, 3 × lr": FREED,
    "kick": KICKED,
}
# Of the table that has a column for each of one setting's checkpoints.
_OF_ONE = {
    "loss": "loss",
    "norm of the gradient": "gradient_norm",
    "largest eigenvalue": "largest",
    "lr λ by its limit": "sharpness",
    "batch sharpness by its limit": "stability",
    "largest step that does not raise the loss": "critical_multiple",
    "‖Hg‖ / ‖g‖": "hessian_gradient",
    "share of the gradient in the ten sharpest directions": "top_share",
    "promise": "promise",
    "budget: descent": "descent",
    "budget: curvature": "curvature",
    "budget: noise": "noise",
    "change of the loss in a step": "measured",
    "noise scale": "noise_scale",
    "cosine of successive gradients": "cosine",
    "update by weights": "update_ratio",
    "dead units, at most of a layer": "dead_units",
    "gradient of the least layer by the largest": "gradient_ratio",
    "inputs that never change": "constant_inputs",
}


def found(collection: Collection, cells: Sequence[str], file: str) -> pd.DataFrame:
    """A table of the diagnoses of some cells, empty where there is none."""
    folders = (collection.folder / runs.CELLS_FOLDER / cell for cell in cells)
    paths = [folder / runs.DIAGNOSIS_FOLDER / file for folder in folders]
    tables = [pd.read_csv(path) for path in paths if path.exists()]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def diagnosed(collection: Collection, experiments: Sequence[str]) -> list[Setting]:
    """The settings that were diagnosed, those with most seeds first."""
    settings = [
        setting
        for setting in collection.trained(experiments)
        if not found(collection, setting.cells, runs.VERDICTS_FILE).empty
    ]
    return sorted(settings, key=lambda setting: -len(collection.seeds_of(setting.cells)))


def verdict_shares(collection: Collection, cells: Sequence[str]) -> pd.DataFrame:
    """The share of each seed's checkpoints with each verdict: index seed, a column per verdict."""
    verdicts = found(collection, cells, runs.VERDICTS_FILE)
    if verdicts.empty:
        return pd.DataFrame(columns=list(VERDICTS))
    trained = verdicts[verdicts["epoch"] > 0]
    shares = pd.crosstab(trained["seed"], trained["verdict"], normalize="index")
    return shares.reindex(columns=list(VERDICTS), fill_value=0.0)


def verdict_share(collection: Collection, cells: Sequence[str], of: Sequence[str]) -> pd.Series:
    """Of each seed's checkpoints, the share with one of some verdicts."""
    return verdict_shares(collection, cells)[list(of)].sum(axis=1)


def cause_of(collection: Collection, cells: Sequence[str]) -> tuple[str, pd.Series]:
    """The most frequent verdict, and of each seed the share of its checkpoints that have it."""
    shares = verdict_shares(collection, cells)
    if shares.empty:
        return INCONCLUSIVE, pd.Series(dtype=float)
    cause = str(shares.mean().idxmax())
    return cause, shares[cause]


def typical(collection: Collection, cells: Sequence[str]) -> pd.Series:
    """The median of each reading over seeds and checkpoints."""
    readings = found(collection, cells, runs.READINGS_FILE)
    return readings[readings["epoch"] > 0].groupby("quantity")["value"].median()


def gains(readings: pd.DataFrame, fork: str, over: str = BASE) -> pd.DataFrame:
    """What a fork lowers the loss by beyond another one: index epoch, a column per seed.

    At the last horizon of both, relative to the loss at the checkpoint; minus infinity where it
    diverged and the other one did not.
    """
    names = readings["quantity"].astype(str).str.extract(r"^fall after (\d+) steps, (.*)$")
    falls = readings.assign(steps=names[0].astype(float), fork=names[1]).dropna(subset=["fork"])
    own, other = (falls[falls["fork"] == name] for name in (fork, over))
    both = own.merge(other, on=["seed", "epoch", "steps"], suffixes=("", "_over"))
    both = both[both["steps"] == both.groupby(["seed", "epoch"])["steps"].transform("max")]
    values = (both["value"] - both["value_over"]).where(both["value"] > -np.inf, -np.inf)
    table = both.assign(gain=values.where(both["value_over"] > -np.inf))
    return table.pivot_table(index="epoch", columns="seed", values="gain", dropna=False)


def usual_gain(collection: Collection, cells: Sequence[str], fork: str) -> pd.Series:
    """The median over each seed's checkpoints of what a fork gains."""
    readings = found(collection, cells, runs.READINGS_FILE)
    table = gains(readings[readings["epoch"] > 0], fork)
    return table.median() if len(table) else pd.Series(dtype=float)


def kinds_table(collection: Collection, settings: Sequence[Setting]) -> pd.DataFrame:
    """A row for each kind of cell: its cause, in how many checkpoints, and what decided.

    Readings are medians over seeds and checkpoints, gains means over seeds of the medians over
    checkpoints, in percent of the loss.
    """
    rows = []
    for setting in settings:
        cause, shares = cause_of(collection, setting.cells)
        middle = typical(collection, setting.cells)
        row = {**kind_of(setting), "cause": cause, "of checkpoints": f"{shares.mean():.0%}"}
        row |= {name: short(middle.get(key, np.nan)) for name, key in _OF_KINDS.items()}
        curvature = middle.get("smallest", np.nan) / middle.get("largest", np.nan)
        row["λ min by max"] = short(curvature, digits=2)
        for name, fork in _GAINS.items():
            gain = mean_interval(usual_gain(collection, setting.cells, fork)).estimate
            row[f"{name}, %"] = number(100 * gain, 1, "+")
        rows.append(row)
    return pd.DataFrame(rows)


def kind_of(setting: Setting) -> Mapping[str, str]:
    """What kind of cell a setting is: initialisation, depth, optimizer, rate and batch."""
    facets = setting.facets
    is_full = setting.value("batch_size") >= facets.get("num_train", np.inf)
    named = {
        "init": setting.value("init"),
        "hidden layers": setting.value("depth"),
        "optimizer": family(facets),
        "lr": setting.value("lr"),
        "batch": "full" if is_full else setting.value("batch_size"),
    }
    return {key: phrase_value(value) for key, value in named.items()}


def described(setting: Setting) -> str:
    """A setting in words, whatever its experiment varies."""
    kind = kind_of(setting)
    return say(
        "cause.described",
        optimizer=kind["optimizer"],
        lr=kind["lr"],
        batch=kind["batch"],
        init=kind["init"],
        layers=count(int(kind["hidden layers"]), "hidden layer"),
    )


def readings_table(collection: Collection, setting: Setting, num_epochs: int = 6) -> pd.DataFrame:
    """A row for each reading of a setting, a column for some checkpoints: median and quartiles."""
    readings = found(collection, setting.cells, runs.READINGS_FILE)
    epochs = sorted(readings["epoch"].unique())
    places = np.linspace(0, len(epochs) - 1, min(num_epochs, len(epochs))).round().astype(int)
    rows = []
    for name, quantity in _OF_ONE.items():
        values = readings[readings["quantity"] == quantity].pivot_table(
            index="seed", columns="epoch", values="value"
        )
        rows.append({"reading": name, **_told(values, [epochs[place] for place in places])})
    pairs = [
        readings[readings["quantity"] == name].set_index(["seed", "epoch"])["value"]
        for name in ("smallest", "largest")
    ]
    ratio = (pairs[0] / pairs[1]).unstack("epoch")
    rows.insert(3, {"reading": "smallest eigenvalue by the largest", **_told(ratio, epochs)})
    return pd.DataFrame(rows)[["reading", *(f"epoch {epochs[place]}" for place in places)]]


def _told(values: pd.DataFrame, epochs: Sequence[int]) -> dict[str, str]:
    told = {}
    for epoch in epochs:
        of_seeds = values[epoch].dropna() if epoch in values else pd.Series(dtype=float)
        low, middle, high = of_seeds.quantile([0.25, 0.5, 0.75]) if len(of_seeds) else [np.nan] * 3
        between = f" ({_between(low, high)})" if len(of_seeds) > 1 else ""
        told[f"epoch {epoch}"] = short(middle) + between
    return told


def _between(low: float, high: float) -> str:
    return f"{short(low)} … {short(high)}"
