"""One self-contained HTML page in one language: answers, figures, tables and claims."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd
from markupsafe import Markup

from optsweep.report import forest
from optsweep.report.answers import by_verdicts
from optsweep.report.claims import Judgement
from optsweep.report.collection import TRAINED, Collection
from optsweep.report.comparison import Comparison, remarks
from optsweep.report.comparison import readable as readable_scores
from optsweep.report.drawing import COLOUR_NAMES, DARK
from optsweep.report.evidence import in_short
from optsweep.report.findings import VERDICTS, tally
from optsweep.report.language import ENGLISH, Language, Text, language, listing, say
from optsweep.report.measures import LEARNED
from optsweep.report.multiplicity import FORESEEN, LOOKS, expected_errors
from optsweep.report.numbers import SINGLE, numbers
from optsweep.report.outline import Outline, Question
from optsweep.report.pictures import Picture, SavedPicture, svg_of
from optsweep.report.rules import RULES
from optsweep.report.settings import family, phrase_value
from optsweep.report.tables import readable
from optsweep.report.timing import arithmetic_told
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
_WORDS = ("optimizer", "init", "scheduler", "status", "experiments", "code", "cell")
_COLUMNS = (*_SETTINGS, *_SCORES, "seconds", "seeds", "status", "experiments", "code", "cell")
_BESIDE_OTHERS = "beside other work"
# What of a page's typography must not be broken at the end of a line.
_UNBROKEN = ((" ± ", "\u00a0±\u00a0"), (" %", "\u00a0%"), (" µs", "\u00a0µs"))


@dataclass(frozen=True)
class Section:
    """All that the page shows of a question."""

    question: Question
    answering: Sequence[Judgement]  # on the claims that answer it, of whatever question
    brief: Sequence[str]  # the answer in two sentences where no claim gives it
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
    links: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML text, in the outline's language.

    Args:
        collection: The runs.
        outline: What they are asked, in one language.
        sections: What was found, in no language yet.
        searches: What searches found.
        links: Languages of further pages, each with the file's name.

    Whatever came from a configuration is escaped.
    """
    spoken = language(outline.language).knowing(outline.terms)
    judgements = [each for section in sections for each in section.judgements]
    questions = [[each.finding for each in one.judgements] for one in sections if one.judgements]
    shown = [_shown(section, outline, spoken) for section in sections]
    return (
        _environment(spoken)
        .get_template("page.html")
        .render(
            collection=collection,
            outline=outline,
            language=outline.language,
            links=links or {},
            sections=shown,
            searches=searches,
            compared=[each for each in searches if each.is_comparison],
            counts=Counter(each.verdict for each in judgements),
            balance=balance(judgements),
            forest=_forest(shown),
            ticks=[(tick, forest.place(tick)) for tick in forest.TICKS],
            num_claims=len(judgements),
            numbers=numbers(collection, judgements, outline.figures),
            claims={each.id: each for each in outline.claims},
            single=SINGLE,
            looks=LOOKS,
            foreseen=FORESEEN,
            num_tested=len(questions),
            expected=[short(each) for each in expected_errors(questions)],
            not_alone=_not_alone(collection),
            arithmetic=arithmetic_told(collection),
            num_trained=int(collection.cells["status"].isin(TRAINED).sum()),
            learned=LEARNED,
            totals=_totals(collection),
            problems=_problems(collection),
            damaged=[(str(each.path), each.reason) for each in collection.damaged],
            mixed_code=collection.mixed_code,
            cell_columns=_COLUMNS,
            word_columns=_WORDS,
            cells=_cells(collection, searches),
            rules=list(RULES),
        )
    )


def balance(judgements: Sequence[Judgement]) -> list[Text]:
    """How many figures, observations and causes of the report stand, a sentence each."""
    causes = [each for each in judgements if each.claim.cause]
    figures = [each for each in judgements if each.claim.kind == SINGLE]
    others = [each for each in judgements if each not in causes and each not in figures]
    groups = {"figure": figures, "observation": others, "cause": causes}
    return [
        say(
            "answer.claims",
            claims=count(len(group), noun),
            tally=tally([each.verdict for each in group]),
        )
        for noun, group in groups.items()
        if group
    ]


def render_comparison(comparison: Comparison, picture: Picture | None) -> str:
    """The page of two cells or sweeps beside each other."""
    return (
        _environment(language(ENGLISH))
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


def _environment(spoken: Language) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("optsweep.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    colours = [(name, colour, DARK[colour]) for colour, name in COLOUR_NAMES.items()]

    def tell(text: Any) -> str:
        told = spoken.tell(text)
        for loose, tight in _UNBROKEN:
            told = told.replace(loose, tight)
        return told

    environment.filters |= {
        "number": number,
        "short": short,
        "told": tell,
        "drawn": lambda svg: Markup(spoken.drawn(svg)),
    }
    environment.globals |= {
        "interval": interval,
        "symbols": SYMBOLS,
        "zip": zip,
        "colours": colours,
    }
    environment.globals |= {"say": spoken.say, "messages": spoken.messages}
    return environment


def _shown(section: Section, outline: Outline, spoken: Language) -> dict[str, Any]:
    """A section in a language."""
    asked = {each.id: each for each in outline.questions}
    claims = {each.id: each for each in outline.claims}
    return {
        "question": asked.get(section.question.id, section.question),
        "cause": section.cause,
        "brief": by_verdicts(section.question, section.answering, claims) or section.brief,
        "sure": [
            (each, told)
            for each in section.answering
            if (told := in_short(each.claim, each.finding))
        ],
        "answer": section.answer,
        "pictures": section.pictures,
        "tables": {
            **{name: _of_words(table) for name, table in section.diagnoses.items()},
            **{name: _table(table) for name, table in section.tables.items()},
        },
        "claims": [
            (each, claims.get(each.claim.id, each.claim), forest.mark(each))
            for each in section.judgements
        ],
        "counts": Counter(each.verdict for each in section.judgements),
    }


def _forest(shown: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every question that has claims with an interval, and these."""
    groups = [
        {
            "question": one["question"],
            "claims": [
                (each, claim, found)
                for each, claim, found in one["claims"]
                if found is not None and each.claim.kind != SINGLE
            ],
        }
        for one in shown
    ]
    return [group for group in groups if group["claims"]]


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
        count(len(collection.seeds), "trained network"),
        say("page.hours", hours=number(hours, 1)),
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
            experiments.setdefault(cell, []).append(say("page.search", name=search.name))
    chosen = collection.members.set_index("cell")["settings"].to_dict()
    alone = set(collection.taken_alone([str(cell) for cell in collection.cells.index]))
    rows = []
    for cell, row in collection.cells.iterrows():
        facets = row["facets"]
        named = {**facets, "optimizer": family(facets)} if facets else chosen.get(cell, {})
        shown = [_setting(named.get(key)) for key in _SETTINGS.values()]
        shown += [_sortable(means.get(cell, {}).get(column), 4) for column in _SCORES.values()]
        timed = row["seconds"] is None or cell in alone
        seconds = _sortable(row["seconds"], 1) if timed else (_BESIDE_OTHERS, "")
        shown += [seconds, _sortable(row["num_seeds"], 0), (row["status"], "")]
        names = dict.fromkeys(experiments.get(cell, []))
        shown += [(listing(names) if names else "–", ""), (_code(row["code"]), "")]
        rows.append([*shown, (str(cell), "")])
    return rows


def _code(code: Mapping[str, str] | None) -> str:
    """The fingerprint of the sources that trained a cell."""
    return str(code["optsweep"])[:8] if code else "–"


def _setting(value: Any) -> tuple[str, object]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return ("–" if value is None else phrase_value(value), value if is_number else "")


def _sortable(value: Any, digits: int) -> tuple[str, object]:
    if value is None or math.isnan(value):
        return "–", ""
    return number(float(value), digits), float(value)
