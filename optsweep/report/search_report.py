"""A search's own files: its trials, its finals, its figures, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from optsweep.report.drawing import style
from optsweep.report.pictures import SavedPicture, save
from optsweep.report.search_figures import draw_search
from optsweep.report.search_tables import (
    finals_table,
    readable_trials,
    sentences,
    trials_table,
)
from optsweep.report.searches import Variant, read_search
from optsweep.report.tables import markdown
from optsweep.runs import SUMMARY_FILE, TRIALS_FILE, write_atomically


@dataclass(frozen=True)
class SearchSection:
    """All that is shown of a search."""

    name: str
    answer: str
    pictures: list[SavedPicture]
    finals: pd.DataFrame
    trials: pd.DataFrame
    cells: list[str]


def search_section(folder: Path, figures: Path) -> SearchSection:
    """Read a search and draw its figures into a folder.

    Raises:
        InputError: If its study cannot be read.
    """
    search = read_search(folder)
    with style():
        pictures = draw_search(search)
    return SearchSection(
        search.name,
        " ".join(sentences(search)),
        [save(picture, figures) for picture in pictures],
        finals_table(search),
        readable_trials(trials_table(search)),
        search.cells,
    )


def report_search(folder: Path, say: Callable[[str], None] = print) -> None:
    """Write trials.csv, trials.md, summary.json and figures/ into a search's folder."""
    search = read_search(folder)
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    section = search_section(folder, figures)
    table = trials_table(search)
    write_atomically(folder / TRIALS_FILE, table.to_csv(index=False, lineterminator="\n"))
    text = f"{section.answer}\n\n{markdown(section.finals)}\n{markdown(section.trials)}"
    write_atomically(folder / "trials.md", text)
    summary = {
        "variants": [_summary(variant) for variant in search.variants],
        "finals": [
            {
                "variant": final.variant,
                "kind": final.kind,
                "setting": final.setting,
                "cell": final.cell,
                "test_accuracy": final.test._asdict(),
            }
            for final in search.finals
        ],
    }
    write_atomically(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    say("")
    for sentence in sentences(search):
        say(sentence)
    say(f"search: {folder}")


def _summary(variant: Variant) -> dict[str, Any]:
    best = variant.best
    return {
        "variant": variant.name,
        "num_trials": len(variant.trials),
        "num_stopped": int((variant.trials["status"] == "stopped").sum()),
        "saved_epochs_fraction": variant.saved_fraction,
        "best_trial": best.number if best else None,
        "best_objective": best.value if best else None,
        "best_params": best.params if best else None,
        "edges": variant.edges,
    }
