"""The whole report, from a folder of runs: page, claims, tables and figures."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from optsweep.report.answers import answer
from optsweep.report.claims import Judgement, claims_table, judge_claims
from optsweep.report.collect import collect_runs
from optsweep.report.figures import draw_question
from optsweep.report.machine import measure_machine
from optsweep.report.page import Section, render_page
from optsweep.report.pictures import save
from optsweep.report.questions import Question, assign
from optsweep.report.study import Study
from optsweep.report.tables import setting_table, write_tables
from optsweep.report.wording import count
from optsweep.runs import STUDY_FILE, write_atomically

if TYPE_CHECKING:
    from optsweep.report.search_report import SearchSection

# Questions that a process has to draw to be worth its start, of about a second.
_LEAST_QUESTIONS = 3
QUICK = "Quick settings: these numbers only show that everything runs."


def write_report(
    runs: Path,
    out: Path,
    say: Callable[[str], None] = lambda line: None,
    num_processes: int = 1,
) -> Path:
    """Write `index.html`, `claims.csv`, `tables/` and `figures/`.

    Args:
        runs: A folder such as `multirun/`.
        out: Where to write; files of the same names are replaced.
        say: Told what is being done, a line at a time.
        num_processes: Questions that are drawn side by side, if there are many. More than one
            is for programs that do nothing when they are imported: each process imports them.

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
    for section in _sections(study, judgements, out, num_processes):
        sections.append(section)
        num_tables, num_pictures = len(section.tables), len(section.pictures)
        say(f"{section.question.id}: {num_tables} tables, {num_pictures} figures")
    searches = _searches(runs, out / "figures")
    for search in searches:
        say(f"search {search.name}: {len(search.pictures)} figures")
    page = out / "index.html"
    write_atomically(page, render_page(study, sections, searches))
    return page


def _searches(runs: Path, figures: Path) -> list[SearchSection]:
    """The sections of all searches; Optuna is loaded only if there is one."""
    folders = sorted(path.parent for path in runs.glob(f"*/{STUDY_FILE}"))
    if not folders:
        return []
    from optsweep.report.search_report import search_section  # noqa: PLC0415

    return [search_section(folder, figures) for folder in folders]


def write_claims(judgements: list[Judgement], path: Path, study: Study) -> None:
    """Write claims.csv; of a quick study it says so in a column of its own."""
    table = claims_table(judgements)
    if study.quick is not None:
        table["quick"] = True
    write_atomically(path, table.to_csv(index=False, lineterminator="\n"))


def _sections(
    study: Study, judgements: Sequence[Judgement], out: Path, num_processes: int
) -> Iterator[Section]:
    """The sections of all questions in their order, by several processes if it is worth it."""
    tasks = [
        (study, question, names, judgements, out) for question, names in assign(study.experiments)
    ]
    num_processes = min(num_processes, len(tasks) // _LEAST_QUESTIONS)
    if num_processes < 2:
        yield from (_section(*task) for task in tasks)
        return
    # Not forked: the report may be that of a process whose threads have trained.
    pool = ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"), _be_quiet)
    try:
        for section in [pool.submit(_section, *task) for task in tasks]:
            yield section.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _be_quiet() -> None:
    """Leave an interruption to the process that waits for this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _section(
    study: Study,
    question: Question,
    experiments: list[str],
    judgements: Sequence[Judgement],
    out: Path,
) -> Section:
    own = [each for each in judgements if each.claim.question == question.id]
    tables: dict[str, pd.DataFrame] = {}
    for experiment in experiments:
        tables[experiment] = setting_table(study, question, experiment)
        table = tables[experiment]
        if study.quick is not None:
            table["quick"] = True
        write_tables(table, out / "tables" / experiment, QUICK if study.quick is not None else "")
    drawn = draw_question(study, question, experiments)
    pictures = [save(picture, out / "figures") for picture in drawn]
    paragraph = answer(study, question, tables, own)
    return Section(question, paragraph, pictures, tables, own)
