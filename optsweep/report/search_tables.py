"""Tables and sentences about a search."""

from __future__ import annotations

from typing import Any

import pandas as pd

from optsweep.report.searches import Final, Search, Variant
from optsweep.report.settings import in_words
from optsweep.report.wording import count, interval, listing, number


def trials_table(search: Search) -> pd.DataFrame:
    """All trials of all variants, best objective first, trials that were stopped last."""
    tables = [
        variant.trials.assign(variant=variant.name) if variant.name else variant.trials
        for variant in search.variants
    ]
    table = pd.concat(tables, ignore_index=True)
    table = table.sort_values(["status", "objective"], ascending=[True, False], kind="stable")
    last = [name for name in ("cell",) if name in table]
    first = [
        name for name in ("variant", "trial", "status", "objective", "epochs") if name in table
    ]
    return table[[*first, *(name for name in table if name not in {*first, *last}), *last]]


def readable_trials(table: pd.DataFrame) -> pd.DataFrame:
    """The same as text, without the cells' names."""
    shown = pd.DataFrame(index=table.index)
    for name in table.columns.drop("cell", errors="ignore"):
        column = name.rpartition(".")[2].replace("_", " ") if isinstance(name, str) else name
        if name == "objective":
            shown[column] = [number(value, 4) for value in table[name].astype(float)]
        else:
            shown[column] = [_shown(value) for value in table[name]]
    return shown


def finals_table(search: Search) -> pd.DataFrame:
    """Test accuracy on fresh seeds of what was found and what it is compared with."""
    rows = []
    for final in search.finals:
        difference = search.difference(final)
        rows.append(
            {
                "setting": _named(search, final),
                "test accuracy": number(final.test.mean, 4),
                "95 % interval": interval(final.test.low, final.test.high, 4),
                "seeds": str(final.test.n),
                "best less this": number(difference.mean, 4, "+") if difference else "–",
                "its interval": (
                    interval(difference.low, difference.high, 4, "+") if difference else "–"
                ),
            }
        )
    return pd.DataFrame(rows)


def sentences(search: Search) -> list[str]:
    """What was found, what it is worth on fresh seeds, what it cost, and what to doubt."""
    told = []
    for variant in search.variants:
        told += _of_variant(variant)
    winner = search.winner
    if winner is not None:
        told.append(
            f"Trained again on {count(winner.test.n, 'fresh seed')}, validation images included, "
            f"{_named(search, winner)} reaches {number(winner.test.mean, 4)} test accuracy "
            f"({interval(winner.test.low, winner.test.high, 4)})."
        )
    for final in search.finals:
        difference = search.difference(final)
        if difference is not None:
            told.append(
                f"Against {_named(search, final)}, the difference is "
                f"{number(difference.mean, 4, '+')} "
                f"({interval(difference.low, difference.high, 4, '+')})."
            )
    return told


def _of_variant(variant: Variant) -> list[str]:
    best = variant.best
    trials = variant.trials
    name = f"{in_words(variant.name)}: " if variant.name else ""
    if best is None:
        return [f"{name}No trial of {len(trials)} has come to its end."]
    stopped = int((trials["status"] == "stopped").sum())
    params = in_words(" ".join(f"{key}={value}" for key, value in best.params.items()))
    told = [
        f"{name}Of {count(len(trials), 'trial')}, trial {best.number} is best with "
        f"{number(best.value, 4)} validation accuracy: {params}."
    ]
    if stopped:
        told.append(
            f"{count(stopped, 'trial')} stopped early, which saved "
            f"{variant.saved_fraction:.0%} of all epochs."
        )
    if variant.edges:
        told.append(
            f"The best {listing([_last(key).replace('_', ' ') for key in variant.edges])} lies at "
            "an end of its range: a better one may lie beyond."
        )
    return told


def _named(search: Search, final: Final) -> str:
    words = in_words(final.variant) if final.variant else ""
    named = ", ".join(filter(None, (words, final.setting)))
    return f"{named} ({final.kind})" if final.kind != "best" else named


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _shown(value: Any) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
