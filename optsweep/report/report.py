"""The whole report, from a folder of runs and what it is asked: page, claims, tables, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from optsweep import runs
from optsweep.processes import side_by_side
from optsweep.report.answers import answer, brief, cause
from optsweep.report.claims import Judgement, claims_table, judge
from optsweep.report.collection import Collection, collect_runs
from optsweep.report.diagnosis import diagnosed, kinds_table, readings_table
from optsweep.report.figures import draw_question
from optsweep.report.outline import Outline, Question
from optsweep.report.page import Section, render_page
from optsweep.report.pictures import save
from optsweep.report.tables import setting_table, write_tables
from optsweep.report.timing import measure_machine
from optsweep.report.wording import count
from optsweep.seals import Damage

if TYPE_CHECKING:
    from optsweep.report.search_report import SearchSection

# Questions that a process has to draw to be worth its start, of about a second.
_LEAST_QUESTIONS = 3
QUICK = "Quick settings: these numbers only show that everything runs."


class Report(NamedTuple):
    """What became of a report.

    Attributes:
        page: Its path.
        damaged: What is left out of it.
        mixed_code: See `Collection.mixed_code`.
    """

    page: Path
    damaged: Sequence[Damage]
    mixed_code: Mapping[str, Sequence[str]]


def write_report(
    folder: Path,
    out: Path,
    outline: Outline,
    say: Callable[[str], None] = lambda line: None,
    num_processes: int = 1,
    pages: Sequence[Outline] = (),
    png: bool = False,
) -> Report:
    """Write `index.html`, `claims.csv`, `tables/` and `figures/`.

    The first page is `index.html`; one in another language is `index.zh.html`, by its language.

    Args:
        folder: The runs, such as `multirun/`.
        out: Where to write; files of the same names are replaced.
        outline: The questions and claims that the runs are to answer.
        say: Told what is being done, a line at a time.
        num_processes: Questions that are drawn side by side, if there are many. More than one
            is for programs that do nothing when they are imported: each process imports them.
        pages: The outline in every language that is to have a page; empty: as it is.
        png: Whether questions' figures are written as PNG beside the SVG that pages show.

    Raises:
        InputError: If there are no runs.
    """
    collection = collect_runs(folder)
    found = count(len(collection.experiments), "experiment")
    say(f"read {count(len(collection.cells), 'cell')} of {found} in {folder}")
    runs.remove_partials(folder)
    for each in (out, out / runs.TABLES_FOLDER, out / runs.FIGURES_FOLDER):
        each.mkdir(parents=True, exist_ok=True)
        runs.remove_partials(each)
    judgements = judge(outline.claims, collection)
    if judgements:
        table = _marked(claims_table(judgements), collection)
        text = table.to_csv(index=False, lineterminator="\n")
        runs.write_atomically(out / runs.CLAIMS_FILE, text)
        say(f"decided {count(len(judgements), 'claim')}")
    asked = outline.sections(collection.experiments)
    if any("timing" in question.figures and names for question, names in asked):
        say(f"measured this machine: {measure_machine(folder).told}")
    tasks = [(collection, question, names, judgements, out, png) for question, names in asked]
    sections = []
    for section in side_by_side(_section, tasks, num_processes, _LEAST_QUESTIONS):
        sections.append(section)
        num_tables, num_pictures = len(section.tables), len(section.pictures)
        say(f"{section.question.id}: {num_tables} tables, {num_pictures} figures")
    searches, unread = _searches(folder, out / runs.FIGURES_FOLDER, png)
    for search in searches:
        if len(search.finals):
            text = search.finals.to_csv(index=False, lineterminator="\n")
            runs.write_atomically(out / runs.TABLES_FOLDER / f"{search.name}.csv", text)
        say(f"search {search.name}: {len(search.pictures)} figures")
    # Tables beside a search are found by both that look for what sweeps and searches keep.
    damaged = list(dict.fromkeys([*collection.damaged, *unread]))
    collection = replace(collection, damaged=damaged)
    pages = pages or [outline]
    names = {
        each.language: runs.PAGE_FILE if each is pages[0] else f"index.{each.language}.html"
        for each in pages
    }
    for one in pages:
        others = {key: name for key, name in names.items() if key != one.language}
        text = render_page(collection, one, sections, searches, others)
        runs.write_atomically(out / names[one.language], text)
    return Report(out / runs.PAGE_FILE, collection.damaged, collection.mixed_code)


def _searches(folder: Path, figures: Path, png: bool) -> tuple[list[SearchSection], list[Damage]]:
    """The sections of all searches, and what is damaged; Optuna is loaded only if there is one."""
    names = (runs.STUDY_FILE, runs.TRIALS_FILE)
    folders = sorted({path.parent for name in names for path in folder.glob(f"*/{name}")})
    if not folders:
        return [], []
    from optsweep.report.search_report import search_sections  # noqa: PLC0415

    return search_sections(folders, figures, png)


def _marked(table: pd.DataFrame, collection: Collection) -> pd.DataFrame:
    """A table; of quick runs it says so in a column of its own."""
    return table if collection.quick is None else table.assign(quick=True)


Task = tuple[Collection, Question, list[str], Sequence[Judgement], Path, bool]


def _section(
    collection: Collection,
    question: Question,
    experiments: list[str],
    judgements: Sequence[Judgement],
    out: Path,
    png: bool,
) -> Section:
    own = [each for each in judgements if each.claim.question == question.id]
    mark = QUICK if collection.quick is not None else ""
    tables: dict[str, pd.DataFrame] = {}
    for experiment in experiments:
        table = _marked(setting_table(collection, question, experiment), collection)
        write_tables(table, out / runs.TABLES_FOLDER / experiment, mark)
        tables[experiment] = table
    drawn = draw_question(collection, question, experiments)
    pictures = [save(picture, out / runs.FIGURES_FOLDER, png) for picture in drawn]
    judged = {each.claim.id: each for each in judgements}
    answering = [judged[name] for name in question.answer if name in judged]
    paragraph = answer(collection, question, tables, own)
    told = cause(collection, question, experiments)
    return Section(
        question=question,
        answering=answering,
        brief=brief(collection, question, experiments),
        answer=paragraph,
        pictures=pictures,
        tables=tables,
        judgements=own,
        cause=told,
        diagnoses=_diagnoses(collection, experiments, out),
    )


def _diagnoses(
    collection: Collection, experiments: Sequence[str], out: Path
) -> dict[str, pd.DataFrame]:
    """A table of all kinds of cells that were diagnosed, and one of readings of the first."""
    settings = diagnosed(collection, experiments)
    if not settings:
        return {}
    tables = {
        f"{experiments[0]}_causes": kinds_table(collection, settings),
        f"{experiments[0]}_readings": readings_table(collection, settings[0]),
    }
    for name, table in tables.items():
        path = out / runs.TABLES_FOLDER / f"{name}.csv"
        runs.write_atomically(path, table.to_csv(index=False, lineterminator="\n"))
    return tables
