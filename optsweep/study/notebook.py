"""The study in a notebook: the report's text, tables, figures and claims as displayed output.

Whatever is said here of the runs is made from them, so that a notebook's own prose need not
state a result. IPython is there in any notebook; nothing else imports this module.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown, display

from optsweep.config.checks import InputError
from optsweep.report.answers import answer, brief, by_verdicts, cause
from optsweep.report.claims import Judgement, judge
from optsweep.report.collection import TRAINED, Collection, collect_runs, empty_collection
from optsweep.report.figures import draw_question
from optsweep.report.findings import VERDICTS
from optsweep.report.language import ENGLISH, Language, language
from optsweep.report.optimizers import best_per_optimizer, warnings
from optsweep.report.outline import Question
from optsweep.report.page import SYMBOLS, balance
from optsweep.report.pictures import Picture, png
from optsweep.report.report import QUICK
from optsweep.report.tables import markdown, readable, setting_table
from optsweep.report.wording import count, interval, number
from optsweep.study.content import outline

_MAX_ROWS = 8  # of a search, no more than its best are shown
_UNBROKEN = re.compile(" (±|…) ")
# The page of the report has these as well.
_LEFT_OUT = ["steps to target", "seconds"]
_DIFFERENCES = ["difference", "its interval", "Holm's p"]  # of a search, which only chooses
_MAX_NAMED = 12  # of the cells without a result


@dataclass(frozen=True)
class Reader:
    """Displays what the runs of the study say, part by part."""

    collection: Collection
    judgements: Sequence[Judgement]

    def summary(self) -> None:
        """The answer to every question in two sentences, and how many claims stand."""
        _say(_totals(self.collection))
        _say(_without_result(self.collection))
        told = []
        for question, experiments in outline().sections(self.collection.experiments):
            if answered := self._brief(question, experiments):
                told.append(f"- **{escaped(question.title)}**: {answered}")
        _say("\n".join(told))
        _say("\n".join(f"- {escaped(sentence)}" for sentence in balance(self.judgements)))
        _say(_table(self._verdicts()))

    def question(self, name: str, *figures: str) -> None:
        """One question: what is asked, the answer, figures, tables, and the claims on it.

        Args:
            name: The question's id.
            figures: Names of figures; without any, the question's first.

        Raises:
            InputError: If there is no such question.
        """
        question, experiments = self._find(name)
        own = [each for each in self.judgements if each.claim.question == name]
        tables = {each: setting_table(self.collection, question, each) for each in experiments}
        if question.question:
            _say(f"*{escaped(question.question)}*")
        if answered := self._brief(question, experiments):
            _say(f"**{answered}**")
        _say(_told(cause(self.collection, question, experiments)))
        drawn = {each.name: each for each in draw_question(self.collection, question, experiments)}
        for figure in figures or list(drawn)[:1] or [name]:
            _show(drawn.get(figure), figure)
        _say(_told(answer(self.collection, question, tables, own)))
        _say(self._optimizers(experiments) if not own else "")
        for experiment, table in tables.items():
            _say(_settings(self.collection, experiment, table))
        _say("\n".join(_claim(each) for each in own))

    def others(self) -> None:
        """The sweeps that belong to no question of the study."""
        sections = outline().sections(self.collection.experiments)
        others = [question for question, _ in sections[len(outline().questions) :]]
        if not others:
            _say("There are no other sweeps in this folder.")
        for question in others:
            _say(f"### {escaped(question.title)}")
            self.question(question.id)

    def _find(self, name: str) -> tuple[Question, list[str]]:
        for question, experiments in outline().sections(self.collection.experiments):
            if question.id == name:
                return question, experiments
        raise InputError(f"{name}: there is no such question, and no such sweep")

    def _brief(self, question: Question, experiments: Sequence[str]) -> str:
        claims = {each.id: each for each in outline().claims}
        told = by_verdicts(question, self.judgements, claims)
        return " ".join(map(_told, told or brief(self.collection, question, experiments)))

    def _optimizers(self, experiments: Sequence[str]) -> str:
        """The best setting of every optimizer of a search that gives each as many."""
        best = best_per_optimizer(self.collection, experiments)
        if not best:
            return ""
        rows = [
            {
                "optimizer": one.optimizer,
                "best setting": one.setting,
                "validation accuracy": number(one.chosen, 4),
                "test accuracy": number(one.test.estimate, 4),
                "95 % interval": interval(one.test.low, one.test.high, 4),
                "seeds": str(one.test.n),
                "of settings": str(one.num_settings),
            }
            for one in best
        ]
        doubts = [f"- {_told(text)}" for text in warnings(self.collection, best)]
        return "\n".join([_table(pd.DataFrame(rows)), "", *doubts])

    def _verdicts(self) -> pd.DataFrame:
        """How many claims of each question have each verdict."""
        rows = []
        for question in outline().questions:
            counts = Counter(e.verdict for e in self.judgements if e.claim.question == question.id)
            if counts:
                row = {"question": question.title} | {
                    verdict: str(counts[verdict] or "–") for verdict in VERDICTS
                }
                rows.append(row)
        counts = Counter(each.verdict for each in self.judgements)
        rows.append({"question": "all"} | {verdict: str(counts[verdict]) for verdict in VERDICTS})
        return pd.DataFrame(rows)


def read_study(folder: str | Path) -> Reader:
    """Read a folder of runs, and say in a sentence what there is or that there is nothing."""
    try:
        collection = collect_runs(Path(folder))
    except InputError as error:
        collection = empty_collection(Path(folder))
        _say(
            f"**{escaped(str(error))}.** `python scripts/reproduce.py` trains the study, and the "
            "environment variable `OPTSWEEP_RUNS` names another folder of runs."
        )
    if collection.quick is not None:
        _say(f"**{QUICK}**")
    return Reader(collection, judge(outline().claims, collection))


def escaped(text: str) -> str:
    """Text for Markdown, with everything in it as it stands.

    >>> print(escaped("lr_grid & <b>"))
    lr&#95;grid &#38; &#60;b&#62;
    """
    return re.sub(r"[\\`*_\[\]<>&$|~#]", lambda found: f"&#{ord(found[0])};", text)


def _spoken() -> Language:
    return language(ENGLISH).knowing(outline().terms)


def _told(text: str) -> str:
    """A text with the study's own names for its experiments, for Markdown."""
    return escaped(_spoken().tell(text))


def _say(text: str) -> None:
    if text:
        display(Markdown(text))


def _show(picture: Picture | None, name: str) -> None:
    if picture is None:
        _say(f"*No run is there from which {escaped(name)} could be drawn.*")
        return
    display(Image(png(picture), alt=picture.caption))
    _say(f"*{_told(picture.caption)}*")


def _table(shown: pd.DataFrame) -> str:
    """A table of text as Markdown, without the columns in which nothing is known."""
    known = shown.loc[:, (shown != "–").any()]
    return markdown(known.map(lambda text: _UNBROKEN.sub(r"&#160;\1&#160;", escaped(text))))


def _settings(collection: Collection, experiment: str, table: pd.DataFrame) -> str:
    """The table of an experiment; of a search with many settings the best ones."""
    if not collection.searches([experiment]):
        return f"**{_told(experiment)}**:\n\n{_table(readable(table).drop(columns=_LEFT_OUT))}"
    told = f"**{_told(experiment)}**, a search on validation images"
    if len(table) > _MAX_ROWS:
        told += f", its best {_MAX_ROWS} of {len(table)} settings"
        absent = (~table["status"].isin(TRAINED)).sum()
        told += f" ({absent} without a result)" if absent else ""
    best = table.sort_values("val_accuracy_mean", ascending=False).head(_MAX_ROWS)
    shown = readable(best).drop(columns=[*_LEFT_OUT, *_DIFFERENCES])
    shown.insert(2, "validation", [number(mean, 4) for mean in best["val_accuracy_mean"]])
    return f"{told}:\n\n{_table(shown)}"


def _claim(judgement: Judgement) -> str:
    claim = judgement.claim
    told = [f"- {SYMBOLS[judgement.verdict]} **{judgement.verdict}**: {escaped(claim.claim)}"]
    told += [f"**{escaped(claim.outcomes[judgement.verdict])}**"] if claim.outcomes else []
    told += [f"Reported: {escaped(str(claim.reported))}."] if claim.reported else []
    told += [f"Cause given: {escaped(claim.cause)}"] if claim.cause else []
    told += [f"Test: {escaped(claim.test)}"] if claim.test else []
    return " ".join([*told, f"*{_told(judgement.evidence)}*"])


def _totals(collection: Collection) -> str:
    trained = collection.cells[collection.cells["status"].isin(TRAINED)]
    hours = trained["seconds"].astype(float).sum() / 3600
    devices = ", ".join(sorted({str(device) for device in trained["device"]})) or "no device"
    return (
        f"{count(len(collection.experiments), 'experiment')}, "
        f"{count(len(trained), 'trained cell')} of {len(collection.cells):,}, "
        f"{count(len(collection.seeds), 'trained network')}, "
        f"{number(hours, 1)} hours of training on {escaped(devices)}."
    )


def _without_result(collection: Collection) -> str:
    """The cells that are not simply completed, by their status."""
    told = []
    for status, cells in collection.cells.groupby("status"):
        if status != "completed":
            names = [escaped(str(name)) for name in cells.index[:_MAX_NAMED]]
            more = len(cells) - len(names)
            names += [f"{more} more"] if more > 0 else []
            told.append(f"- {status}: {count(len(cells), 'cell')}: {', '.join(names)}")
    return "\n".join(told)
