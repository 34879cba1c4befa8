"""The whole report, from a folder of runs: page, claims, tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from optsweep.analysis.answers import answer
from optsweep.analysis.claims import Judgement, claims_table, judge_claims
from optsweep.analysis.collect import collect_runs
from optsweep.analysis.figures import draw_question
from optsweep.analysis.machine import measure_machine
from optsweep.analysis.page import Section, render_page
from optsweep.analysis.pictures import Picture, save
from optsweep.analysis.questions import Question, assign
from optsweep.analysis.study import Study
from optsweep.analysis.tables import setting_table, write_tables
from optsweep.analysis.wording import count
from optsweep.runs import write_atomically

if TYPE_CHECKING:
    from optsweep.analysis.search_report import SearchSection

QUICK = "Quick settings: these numbers only show that everything runs."


def write_report(runs: Path, out: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """Write `index.html`, `claims.csv`, `tables/` and `figures/`.

    Args:
        runs: A folder such as `multirun/`.
        out: Where to write; files of the same names are replaced.
        say: Told what is being done, a line at a time.

    Returns:
        The page's path.

    Raises:
        InputError: If there are no runs.
    """
    study = collect_runs(runs)
    found = count(len(study.experiments), "experiment")
    say(f"read {count(len(study.cells), 'cell')} of {found} in {runs}")
    for folder in (out / "tables", out / "figures"):
        folder.mkdir(parents=True, exist_ok=True)
    judgements = judge_claims(study)
    write_claims(judgements, out / "claims.csv", study)
    say(f"decided {len(judgements)} claims")
    if any("timing" in question.figures and names for question, names in assign(study.experiments)):
        say(f"measured this machine: {measure_machine(runs).told}")
    sections = []
    for question, names in assign(study.experiments):
        own = [each for each in judgements if each.claim.question == question.id]
        sections.append(_section(study, question, names, own, out))
        made = sections[-1]
        say(f"{question.id}: {len(made.tables)} tables, {len(made.pictures)} figures")
    searches = _searches(runs, out / "figures")
    for search in searches:
        say(f"search {search.name}: {len(search.pictures)} figures")
    page = out / "index.html"
    write_atomically(page, render_page(study, sections, searches))
    return page


def _searches(runs: Path, figures: Path) -> list[SearchSection]:
    """The sections of all searches; Optuna is loaded only if there is one."""
    folders = sorted(path.parent for path in runs.glob("*/study.db"))
    if not folders:
        return []
    from optsweep.analysis.search_report import search_section  # noqa: PLC0415

    return [search_section(folder, figures) for folder in folders]


def write_claims(judgements: list[Judgement], path: Path, study: Study) -> None:
    """Write claims.csv; of a quick study it says so in a column of its own."""
    table = claims_table(judgements)
    if study.quick is not None:
        table["quick"] = True
    write_atomically(path, table.to_csv(index=False, lineterminator="\n"))


def _section(
    study: Study, question: Question, experiments: list[str], judgements: list[Judgement], out: Path
) -> Section:
    tables: dict[str, pd.DataFrame] = {}
    for experiment in experiments:
        tables[experiment] = setting_table(study, question, experiment)
        table = tables[experiment]
        if study.quick is not None:
            table["quick"] = True
        write_tables(table, out / "tables" / experiment, QUICK if study.quick is not None else "")
    pictures: list[tuple[Picture, str]] = []
    for picture in draw_question(study, question, experiments):
        pictures.append((picture, save(picture, out / "figures")))
    paragraph = answer(study, question, tables, judgements)
    return Section(question, paragraph, pictures, tables, judgements)
