"""One self-contained HTML page: questions, answers, figures, tables and claims."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup

from optsweep.report.claims import Judgement
from optsweep.report.collection import TRAINED, Collection
from optsweep.report.comparison import Comparison, remarks
from optsweep.report.comparison import readable as readable_scores
from optsweep.report.drawing import COLOUR_NAMES, COLOURS, ORDERED
from optsweep.report.findings import VERDICTS
from optsweep.report.measures import LEARNED
from optsweep.report.multiplicity import LOOKS, expected_errors
from optsweep.report.optimizers import best_per_optimizer, warnings
from optsweep.report.outline import Outline, Question
from optsweep.report.pictures import Picture, SavedPicture, svg_of
from optsweep.report.rules import RULES
from optsweep.report.settings import family, phrase_value
from optsweep.report.tables import readable
from optsweep.report.wording import count, interval, number, short

if TYPE_CHECKING:
    from optsweep.report.search_report import SearchSection

SYMBOLS = dict(zip(VERDICTS, ("✓", "✗", "≈", "?", "–"), strict=True))
# Columns of the table of all cells: facets, then means over seeds.
_SETTINGS = {
    "optimizer": "optimizer",
    "lr": "lr",
    "batch size": "batch_size",
    "init": "init",
    "scheduler": "scheduler",
    "weight decay": "weight_decay",
    "hidden layers": "depth",
    "layer norm": "layernorm_position",
    "epochs": "epochs",
}
_SCORES = {
    "validation accuracy": "val_accuracy",
    "test accuracy": "test_accuracy",
    "test loss": "test_loss",
    "train loss": "train_loss",
    "generalisation gap": "generalisation_gap",
}
_WORDS = ("optimizer", "init", "scheduler", "status", "experiments", "cell")


@dataclass(frozen=True)
class Section:
    """All that the page shows of a question."""

    question: Question
    answer: str
    pictures: Sequence[SavedPicture]
    tables: dict[str, pd.DataFrame]
    judgements: Sequence[Judgement]
    cause: str = ""  # where something was diagnosed: why it trains slowly
    diagnoses: dict[str, pd.DataFrame] = field(default_factory=dict)


def render_page(
    collection: Collection,
    outline: Outline,
    sections: Sequence[Section],
    searches: Sequence[SearchSection] = (),
) -> str:
    """The page as HTML text. Whatever came from a configuration is escaped."""
    judgements = [each for section in sections for each in section.judgements]
    questions = [[each.finding for each in one.judgements] for one in sections if one.judgements]
    best = best_per_optimizer(collection)
    return (
        _environment()
        .get_template("page.html")
        .render(
            collection=collection,
            outline=outline,
            sections=[_shown(section) for section in sections],
            searches=searches,
            markup=Markup,
            counts=Counter(each.verdict for each in judgements),
            by_verdict={
                verdict: [each for each in judgements if each.verdict == verdict]
                for verdict in VERDICTS
            },
            num_claims=len(judgements),
            looks=LOOKS,
            num_tested=len(questions),
            expected=[short(each) for each in expected_errors(questions)],
            not_alone=_not_alone(collection),
            learned=LEARNED,
            best=best,
            warnings=warnings(collection, best),
            totals=_totals(collection),
            problems=_problems(collection),
            damaged=[(str(each.path), each.reason) for each in collection.damaged],
            mixed_code=collection.mixed_code,
            cell_columns=[
                *_SETTINGS,
                *_SCORES,
                "seconds",
                "seeds",
                "status",
                "experiments",
                "cell",
            ],
            word_columns=_WORDS,
            cells=_cells(collection, searches),
            rules={name: inspect.getdoc(rule) for name, rule in RULES.items()},
        )
    )


def render_comparison(comparison: Comparison, picture: Picture | None) -> str:
    """The page of two cells or sweeps beside each other."""
    return (
        _environment()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            tables=[
                (pair.title or "Scores", readable_scores(pair.scores)) for pair in comparison.pairs
            ],
            remarks=remarks(comparison),
            picture=picture,
            svg=Markup(svg_of(picture)) if picture else "",
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("optsweep.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    dark = COLOURS | ORDERED
    colours = [(name, colour, dark[colour]) for colour, name in COLOUR_NAMES.items()]
    environment.filters |= {"number": number, "short": short, "whisker": _whisker}
    environment.globals |= {"interval": interval, "symbols": SYMBOLS, "zip": zip}
    environment.globals["colours"] = colours
    return environment


def _shown(section: Section) -> dict[str, Any]:
    return {
        "question": section.question,
        "cause": section.cause,
        "answer": section.answer,
        "pictures": section.pictures,
        "tables": {
            **{name: _of_words(table) for name, table in section.diagnoses.items()},
            **{name: _table(table) for name, table in section.tables.items()},
        },
        "judgements": section.judgements,
        "counts": Counter(each.verdict for each in section.judgements),
    }


def _table(table: pd.DataFrame) -> dict[str, Any]:
    shown = readable(table)
    p_values = table["smallest_p"].dropna()
    return {
        "columns": list(shown.columns),
        "rows": list(zip(shown.to_numpy().tolist(), table["status"], table["reason"], strict=True)),
        "smallest_p": float(p_values.min()) if len(p_values) else None,
    }


def _of_words(table: pd.DataFrame) -> dict[str, Any]:
    """A table that is shown as it is."""
    rows = [(row, "completed", "") for row in table.astype(str).to_numpy().tolist()]
    return {"columns": list(table.columns), "rows": rows, "smallest_p": None}


def _totals(collection: Collection) -> list[str]:
    trained = collection.cells[collection.cells["status"].isin(TRAINED)]
    hours = trained["seconds"].astype(float).sum() / 3600
    devices = sorted({str(device) for device in trained["device"]})
    return [
        count(len(trained), "trained cell"),
        f"{len(collection.seeds):,} trained networks",
        f"{number(hours, 1)} hours of training",
        *devices,
    ]


def _not_alone(collection: Collection) -> int:
    """How many trained cells have times that were taken beside other work."""
    trained = collection.cells.index[collection.cells["status"].isin(TRAINED)]
    return len(trained) - len(collection.taken_alone(list(trained)))


def _problems(collection: Collection) -> list[tuple[str, str, str]]:
    """Cells that are not simply completed: name, status, reason."""
    rows = collection.cells[collection.cells["status"] != "completed"]
    return [(str(cell), row["status"], row["reason"]) for cell, row in rows.iterrows()]


def _cells(
    collection: Collection, searches: Sequence[SearchSection]
) -> list[list[tuple[str, object]]]:
    """Every row of the table of all cells: what each column shows, and what it is sorted by."""
    means = collection.seeds.groupby("cell")[list(_SCORES.values())].mean().T.to_dict()
    experiments = collection.members.groupby("cell")["experiment"].agg(list).to_dict()
    for search in searches:
        for cell in search.cells:
            experiments.setdefault(cell, []).append(f"search {search.name}")
    chosen = collection.members.set_index("cell")["settings"].to_dict()
    rows = []
    for cell, row in collection.cells.iterrows():
        facets = row["facets"]
        named = {**facets, "optimizer": family(facets)} if facets else chosen.get(cell, {})
        shown = [_setting(named.get(key)) for key in _SETTINGS.values()]
        shown += [_sortable(means.get(cell, {}).get(column), 4) for column in _SCORES.values()]
        shown += [_sortable(row["seconds"], 1), _sortable(row["num_seeds"], 0)]
        shown += [(row["status"], ""), (", ".join(experiments.get(cell, [])) or "–", "")]
        rows.append([*shown, (str(cell), "")])
    return rows


def _setting(value: Any) -> tuple[str, object]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return ("–" if value is None else phrase_value(value), value if is_number else "")


def _sortable(value: Any, digits: int) -> tuple[str, object]:
    if value is None or math.isnan(value):
        return "–", ""
    return number(float(value), digits), float(value)


def _whisker(judgement: Judgement) -> dict[str, float] | None:
    """Where an interval lies, in percent of a strip that also holds what it is held against."""
    found = judgement.finding
    mean, low, high, n = found.effect
    if n < 2 or not all(abs(value) < float("inf") for value in (mean, low, high)):
        return None
    ends = (low, high, found.reference)
    room = (max(ends) - min(ends)) * 0.12 or 1.0
    start, width = min(ends) - room, max(ends) - min(ends) + 2 * room
    places = {"low": low, "high": high, "mean": mean, "reference": found.reference}
    return {name: round(100 * (value - start) / width, 1) for name, value in places.items()}
