"""A search's own section: its figures, its tables and words, and the files in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from optsweep import runs, seals
from optsweep.config.checks import InputError
from optsweep.report import language, tuned
from optsweep.report.drawing import style
from optsweep.report.pictures import SavedPicture, save
from optsweep.report.search_figures import draw_search
from optsweep.report.searches import (
    Search,
    Variant,
    brief,
    finals_table,
    read_search,
    readable_trials,
    sentences,
    trials_table,
    variants_table,
)
from optsweep.report.tables import markdown
from optsweep.seals import Damage


@dataclass(frozen=True)
class SearchSection:
    """All that is shown of a search."""

    name: str
    answer: str
    pictures: list[SavedPicture]
    variants: pd.DataFrame
    finals: pd.DataFrame
    trials: pd.DataFrame
    cells: list[str]
    is_comparison: bool = False  # of optimizers over tasks


def search_sections(
    folders: Iterable[Path], figures: Path, png: bool = False
) -> tuple[list[SearchSection], list[Damage]]:
    """Read searches and draw their figures into a folder.

    Args:
        folders: The searches.
        figures: Where figures are written, as SVG.
        png: Whether as PNG too.

    Returns:
        What there is to show, comparisons over several searches first, and what is damaged.
    """
    searches, damaged = [], []
    for folder in folders:
        try:
            search, found = read_search(folder)
        except InputError as error:
            search, found = None, [Damage(folder, f"is left out: {error}")]
        searches += [search] if search is not None else []
        damaged += found
    compared = tuned.comparisons(searches)
    sections = [_over_tasks(each, figures, png) for each in compared]
    shown = {name for each in compared for name in each.searches}
    return sections + [_section(one, figures, png, one.name in shown) for one in searches], damaged


def _over_tasks(compared: tuned.Tuned, figures: Path, png: bool) -> SearchSection:
    with style():
        pictures = tuned.draw(compared)
    return SearchSection(
        f"{compared.name}_over_tasks",
        language.sentences(tuned.sentences(compared)),
        [save(picture, figures, png) for picture in pictures],
        pd.DataFrame(),
        tuned.scores_table(compared),
        pd.DataFrame(),
        [],
        is_comparison=True,
    )


def _section(search: Search, figures: Path, png: bool, is_compared: bool = False) -> SearchSection:
    """A search's section; what a comparison shows of it is not drawn again."""
    with style():
        pictures = draw_search(search, with_budget=not is_compared)
    return SearchSection(
        search.name,
        language.sentences(brief(search)),
        [save(picture, figures, png) for picture in pictures],
        variants_table(search),
        finals_table(search),
        readable_trials(trials_table(search)),
        search.cells,
    )


def report_search(folder: Path, say: Callable[[str], None] = print) -> None:
    """Write trials.csv, trials.md, summary.json and figures/ into a search's folder, and tell.

    On a disk that is read-only by now, they are as they were.

    Raises:
        InputError: If something there is damaged, of which a search that runs has made sure.
    """
    search, damaged = read_search(folder)
    if search is None or damaged:
        raise InputError("; ".join(map(str, damaged)) or f"{folder} holds no search")
    if not runs.refusal(folder):
        _write(search, folder)
    say("")
    for sentence in sentences(search):
        say(sentence)
    say(f"search: {folder}")


def _write(search: Search, folder: Path) -> None:
    figures = folder / runs.FIGURES_FOLDER
    figures.mkdir(exist_ok=True)
    runs.remove_partials(figures)
    section = _section(search, figures, png=True)
    table = trials_table(search)
    tables = (section.variants, section.finals, section.trials)
    page = "\n".join([f"{section.answer}\n", *(markdown(each) for each in tables if len(each))])
    summary = {
        "variants": [_summary(variant) for variant in search.variants],
        "finals": [
            {
                "variant": final.variant,
                "kind": final.kind,
                "setting": final.setting,
                "cell": final.cell,
                "test_accuracy": {
                    key: None if math.isnan(value) else value  # of one seed, there is no interval
                    for key, value in final.test._asdict().items()
                },
            }
            for final in search.finals
        ],
    }
    files = {
        runs.TRIALS_FILE: table.to_csv(index=False, lineterminator="\n"),
        runs.TRIALS_PAGE: page,
        runs.SUMMARY_FILE: json.dumps(summary, indent=2, allow_nan=False) + "\n",
    }
    seals.write(folder, files)


def _summary(variant: Variant) -> dict[str, Any]:
    best = variant.best
    return {
        "variant": variant.name,
        "num_trials": len(variant.trials),
        "num_stopped": variant.num_stopped,
        "num_diverged": variant.num_diverged,
        "num_refused": variant.num_refused,
        "saved_epochs_fraction": variant.saved_fraction,
        "best_trial": best.number if best else None,
        "best_objective": best.value if best else None,
        "best_params": best.params if best else None,
        "edges": variant.edges,
    }
