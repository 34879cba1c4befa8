"""How often verdicts are wrong, from what `optsweep calibrate` has counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optsweep.report.collection import Collection
from optsweep.report.drawing import FAINT, INK, styles
from optsweep.report.findings import HOLDS, NEGLIGIBLE, REVERSED, VERDICTS
from optsweep.report.language import Text, listing, say
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.statistics import wilson

EXPERIMENT = "calibration"
# In the experiment's folder: a row per seed of its cells, and a row per truth.
SEEDS_FILE, RATES_FILE = "seeds.csv", "rates.csv"
# Of the seeds; the first is the one that every rule is tried on.
MEASURES = ("test_accuracy", "train_loss", "generalisation_gap")
# What is accepted of a kind of error: its rate, and the upper end of its interval.
MOST, MOST_HIGH = 0.025, 0.04
ERRORS = (HOLDS, REVERSED, NEGLIGIBLE)
SIMULATED, REAL, NULL = "simulated", "real", "nothing differs"
NULL_QUESTION = "nothing differs, any of a question"


def worst(rates: pd.DataFrame) -> pd.DataFrame:
    """Of each part and rule the truth with the most errors of each kind.

    Returns:
        Columns part, what, error, rate, low, high, noise, effect: of the claims on which nothing
        differs, only the worst of all.
    """
    rows = []
    for (part, what), group in _grouped(rates):
        for error in ERRORS if "false_any" not in group or part != NULL_QUESTION else ("any",):
            most = group.loc[(group[f"false_{error}"] / group["draws"]).idxmax()]
            found = wilson(int(most[f"false_{error}"]), int(most["draws"]))
            told = {"part": part, "what": what, "error": error, "rate": found.estimate}
            told |= {"low": found.low, "high": found.high}
            rows.append(told | {"noise": most["noise"], "effect": most["effect"]})
    return pd.DataFrame(rows)


def promise(collection: Collection) -> list[Text]:
    """Whether verdicts are wrong as seldom as was promised, and how often at worst."""
    path = collection.folder / EXPERIMENT / RATES_FILE
    if not path.exists():
        return [say("calibration.nothing")]
    rates = read_rates(path)
    found = worst(rates)
    found = found[found["error"] != "any"]
    broken = found[(found["rate"] > MOST) & (found["high"] > MOST_HIGH)]
    most = found.loc[found["rate"].idxmax()]
    told = say(
        "calibration.worst",
        rate=f"{most['rate']:.1%}",
        high=f"{most['high']:.1%}",
        draws=f"{int(rates['draws'].max()):,}",
    )
    if broken.empty:
        return [say("calibration.kept"), told]
    return [say("calibration.broken", rules=listing(dict.fromkeys(broken["what"]))), told]


def _grouped(rates: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    of_rules = rates[rates["part"].isin((SIMULATED, REAL))]
    found = [((str(p), str(w)), g) for (p, w), g in of_rules.groupby(["part", "what"], sort=False)]
    for part, name in ((NULL, "a claim"), (NULL_QUESTION, "a question, any error")):
        group = rates[rates["part"] == part]
        if len(group):
            found.append(((part, f"{name}, nothing differs"), group))
    return found


def calibration(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """The rates that lie beside the experiment, if they have been counted."""
    path = collection.folder / EXPERIMENT / RATES_FILE
    return draw_calibration(read_rates(path)) if path.exists() else None


def read_rates(path: Path) -> pd.DataFrame:
    """The table of rates."""
    return pd.read_csv(path)


def draw_calibration(rates: pd.DataFrame) -> Picture:
    """Verdicts against the true effect, and each rule's worst rates of error."""
    found = worst(rates)
    names = list(dict.fromkeys(found["what"]))
    figure = Figure(figsize=(10, 4.0 + 0.27 * len(names)), layout="constrained")
    heights = [2.8, 1.2 + 0.27 * len(names)]
    above, below = np.array(figure.subfigures(2, 1, height_ratios=heights))
    curves = above.subplots(1, 4, sharey=True)
    greater = rates[(rates["part"] == SIMULATED) & (rates["what"] == "greater")]
    for axes, noise in zip(curves, greater["noise"].unique(), strict=False):
        _shares(axes, greater[greater["noise"] == noise])
        axes.set(title=f"noise: {noise}", xlabel="true effect, margins")
    curves[0].set(ylabel="share of the studies")
    handles, labels = curves[0].get_legend_handles_labels()
    above.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    _errors(below.subplots(), found, names)
    handles, labels = below.axes[0].get_legend_handles_labels()
    below.legend(handles, labels, loc="outside lower center", ncols=4)
    tests = found[found["error"] != "any"]
    most = tests.loc[tests["rate"].idxmax()]
    caption = say(
        "caption.calibration",
        most=f"{MOST:.1%}",
        most_high=f"{MOST_HIGH:.1%}",
        draws=int(rates["draws"].max()),
        **{key: str(most[key]) for key in ("what", "part", "noise", "error")},
        **{key: f"{most[key]:.2%}" for key in ("rate", "low", "high")},
    )
    return Picture("calibration_rates", figure, caption)


def _shares(axes: Axes, rows: pd.DataFrame) -> None:
    given = rows.groupby("effect")[[*ERRORS, "draws"]].sum()
    shares = given[list(ERRORS)].div(given["draws"], axis=0)
    shares[VERDICTS[3]] = 1 - shares.sum(axis=1)
    for name, look in styles(list(shares)).items():
        axes.plot(shares.index, shares[name], **vars(look), markevery=4, label=name)
    for margin in (-1, 1):
        axes.axvline(margin, color=INK, lw=0.6, ls=":")


def _errors(axes: Axes, found: pd.DataFrame, names: Sequence[str]) -> None:
    looks = styles([SIMULATED, REAL, NULL, NULL_QUESTION])
    places = {name: -float(at) for at, name in enumerate(names)}
    shifts = dict(zip((*ERRORS, "any"), (0.24, 0.0, -0.24, 0.0), strict=True))
    markers = dict(zip((*ERRORS, "any"), ("o", "s", "^", "D"), strict=True))
    for bound, dash in ((MOST, "-"), (MOST_HIGH, "--")):
        axes.axvline(100 * bound, color=INK, lw=0.8, ls=dash)
    for place in places.values():
        axes.axhline(place - 0.5, color=FAINT, lw=0.5)
    for row in found.itertuples():
        place = places[str(row.what)] + shifts[str(row.error)]
        place += 0.08 * (row.part == REAL) - 0.04
        color = looks[str(row.part)].color
        axes.plot([100 * row.low, 100 * row.high], [place] * 2, color=color, lw=1)
        axes.plot([100 * row.rate], [place], marker=markers[str(row.error)], color=color, ls="")
    for part in dict.fromkeys(found["part"]):
        axes.plot([], [], color=looks[part].color, lw=3, label=part)
    for error in dict.fromkeys(found["error"]):
        label = f"wrongly {error}" if error != "any" else "any wrong verdict"
        axes.plot([], [], color=INK, marker=markers[error], ls="", label=label)
    axes.set(xlabel="wrong verdicts, % of the studies", ylim=(min(places.values()) - 0.6, 0.6))
    axes.set_yticks(list(places.values()), list(places))
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, max(6.0, np.ceil(100 * found["high"].max())))
