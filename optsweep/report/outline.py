"""What a report is asked: questions and claims, as data that others write down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optsweep.report.collection import Setting
from optsweep.report.language import ENGLISH
from optsweep.report.rules import Options
from optsweep.report.settings import matches, varying

# Rules whose comparisons of seconds are of ratios; `times` is so by itself, others have thresholds.
_RATIOS = ("greater", "less", "highest", "lowest", "rising", "falling", "gains_shrink")


@dataclass(frozen=True)
class Question:
    """One question and how it is answered.

    Attributes:
        id: File stem of its experiment, table and figures, and the anchor in the page.
        title: Of its section.
        question: What is asked; empty for a sweep that nobody asked for.
        baseline: Of the setting that all others are compared with.
        target: The score whose first reaching is timed.
        part: Heading above the first question of a part.
        figures: Beside the curves: names of `figures.FIGURES`; `curves` puts these in their place.
        weight: A recorded weight whose gradient the answer compares with one that has a signal.
        network: What the network is called that was diagnosed with most seeds.
        answer: Ids of the claims that answer it, each by the sentence for its verdict.
    """

    id: str
    title: str
    question: str = ""
    baseline: Mapping[str, Any] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=lambda: {"test_accuracy": 0.8})
    part: str = ""
    figures: Sequence[str] = ()
    weight: str = ""
    network: str = ""
    answer: Sequence[str] = ()

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


@dataclass(frozen=True)
class Claim:
    """One claim, which a rule decides by the runs alone.

    Attributes:
        id: Unique.
        question: Id of the question whose experiment is meant where a cell names none.
        claim: In words.
        kind: The rule that decides: a name of `rules.RULES`.
        measure: What is compared: `name` of a measure, and its options.
        cells: The settings compared, in the order that the rule wants; `in` names another
            experiment, and `best: true` takes, of several, the one that is best on validation
            examples.
        others: All further settings of the experiment with these values join the comparison.
        reported: What its author measured, if that is known.
        cause: The cause that its author gives, if this is a test of one.
        test: How it is tested, where the rule alone does not say it.
        readings: Of what its author did, where that is not known: the values that `$name` in a cell
            stands for, by the names of the readings. It holds if it does under any of them.
        not_tested: Why it cannot be tested here, if it cannot.
        quotes: What its author says, in the own words.
        margin_reason: Why a difference inside the margin does not matter.
        options: Numbers of the rule.
        outcomes: What is found of it, in a sentence for each verdict; empty: nothing but that.
    """

    id: str
    question: str
    claim: str
    kind: str
    measure: Mapping[str, Any]
    cells: Sequence[Mapping[str, Any]]
    others: Mapping[str, Any] | None = None
    reported: str = ""
    cause: str = ""
    test: str = ""
    readings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    not_tested: str = ""
    quotes: Sequence[str] = ()
    margin_reason: str = ""
    options: Options = field(default_factory=Options)
    outcomes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_timed(self) -> bool:
        """Whether it compares times of whole runs, and not of seeds."""
        return str(self.measure["name"]).startswith(("seconds_per", "fixed_share", "loop"))

    @property
    def gains_by_seeds(self) -> bool:
        """Whether further seeds of its settings give it further values."""
        return not str(self.measure["name"]).startswith("loop")

    @property
    def is_ratio(self) -> bool:
        """Whether what is compared are ratios: a second more is much or little, by the time."""
        return str(self.measure["name"]).startswith("seconds") and self.kind in _RATIOS

    def read(self) -> dict[str, Claim]:
        """The claim under each of its readings."""
        return {
            name: replace(
                self, readings={}, cells=[_with_values(cell, values) for cell in self.cells]
            )
            for name, values in self.readings.items()
        }

    def experiment(self, cell: Mapping[str, Any]) -> str:
        """The experiment that one of the compared cells belongs to."""
        return str(cell.get("in", self.question))


def _with_values(cell: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A cell with the values of a reading in the places of their names."""
    return {
        key: values[value.removeprefix("$")] if str(value).startswith("$") else value
        for key, value in cell.items()
    }


@dataclass(frozen=True)
class Figure:
    """A number of the report that is shown beside ours, and decides nothing.

    Attributes:
        id: Unique.
        what: In words.
        value: As reported.
        unit: Of it.
        experiment: Of ours.
        cell: What is measured: values of a setting of the experiment.
        measure: `name` of a measure, and its options.
        times: What ours is multiplied by to be of the same extent, such as epochs.
        why: It is not held against ours.
    """

    id: str
    what: str
    value: float
    unit: str
    experiment: str
    cell: Mapping[str, Any]
    measure: Mapping[str, Any]
    times: float
    why: str


@dataclass(frozen=True)
class Outline:
    """All that a report is asked, in one language, and what its page is called.

    Without questions, every sweep has a section of its own all the same.

    Attributes:
        title: Of the page.
        lead: Below it.
        questions: In the page's order.
        claims: On all questions.
        figures: What the report measured and no claim holds against the runs.
        terms: What things are called that have no message: experiments, readings.
        language: One of `language.LANGUAGES`.
    """

    title: str = "What the runs say"
    lead: str = ""
    questions: Sequence[Question] = ()
    claims: Sequence[Claim] = ()
    figures: Sequence[Figure] = ()
    terms: Mapping[str, str] = field(default_factory=dict)
    language: str = ENGLISH

    def sections(self, experiments: Sequence[str]) -> list[tuple[Question, list[str]]]:
        """Every question with its experiments, the one of its own name first.

        An experiment belongs to the question whose id it starts with: r3_init_tuned to r3_init.
        One that no question asks for gets a question of its own, so that any sweep of a user
        has its section too.

        >>> outline = Outline(questions=[Question("r3_init", "Initialisation")])
        >>> [(one.id, names) for one, names in outline.sections(["r3_init_tuned", "r3_init", "me"])]
        [('r3_init', ['r3_init', 'r3_init_tuned']), ('me', ['me'])]
        """
        of_question: dict[str, list[str]] = {question.id: [] for question in self.questions}
        others = []
        for name in sorted(experiments):
            owners = [key for key in of_question if name == key or name.startswith(f"{key}_")]
            if owners:
                of_question[max(owners, key=len)].append(name)
            else:
                others.append((Question(name, name.replace("_", " ")), [name]))
        if others:
            first, names = others[0]
            others[0] = (replace(first, part="Other sweeps"), names)
        return [(question, of_question[question.id]) for question in self.questions] + others
