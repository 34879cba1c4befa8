"""The questions of the study, which are data: questions.yaml."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from optsweep.report.settings import matches, varying
from optsweep.report.study import Setting

_QUESTIONS_FILE = Path(__file__).with_name("questions.yaml")


@dataclass(frozen=True)
class Question:
    """One question and how it is answered; questions.yaml explains the fields."""

    id: str
    title: str
    question: str
    baseline: dict[str, Any]
    target: dict[str, float]
    part: str = ""
    figures: Sequence[str] = field(default=())

    @property
    def is_timed(self) -> bool:
        """Whether it asks for seconds, so that its cells are to be trained alone."""
        return not {"loss_against_seconds", "timing"}.isdisjoint(self.figures)

    def baseline_of(self, setting: Setting, among: Sequence[Setting]) -> Setting | None:
        """What a setting is compared with: the baseline that shares its other settings.

        None for a baseline itself, and where there is none or more than one.
        """
        found = [one for one in among if matches(self.baseline, one.chosen, one.facets)]
        if setting in found:
            return None
        if len(found) > 1:
            varied = set(varying([one.chosen for one in among])) - set(self.baseline) - {"seed"}
            alike = {key: setting.chosen.get(key) for key in varied}
            found = [one for one in found if matches(alike, one.chosen)]
        return found[0] if len(found) == 1 else None


@functools.cache
def load_questions() -> tuple[Question, ...]:
    """All questions, in the order of the study."""
    entries = yaml.safe_load(_QUESTIONS_FILE.read_text(encoding="utf-8"))
    return tuple(Question(**entry) for entry in entries)


def assign(experiments: Sequence[str]) -> list[tuple[Question, list[str]]]:
    """Every question with its experiments, the one of its own name first.

    An experiment that no question asks for gets a question of its own, so that any sweep of
    a user has its section too.

    >>> [(question.id, names) for question, names in assign(["r3_init_tuned", "r3_init"]) if names]
    [('r3_init', ['r3_init', 'r3_init_tuned'])]
    """
    questions = load_questions()
    of_question: dict[str, list[str]] = {question.id: [] for question in questions}
    others = []
    for name in sorted(experiments):
        owners = [key for key in of_question if name == key or name.startswith(f"{key}_")]
        if owners:
            of_question[max(owners, key=len)].append(name)
        else:
            title = name.replace("_", " ")
            others.append((Question(name, title, "", {}, {"test_accuracy": 0.8}), [name]))
    assigned = [(question, of_question[question.id]) for question in questions]
    if others:
        first, names = others[0]
        others[0] = (Question(**{**vars(first), "part": "Other sweeps"}), names)
    return assigned + others
