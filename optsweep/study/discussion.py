"""What the verdicts mean together: discussion.yaml has the words, the runs choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optsweep.report.claims import Judgement
from optsweep.report.findings import HOLDS, NEGLIGIBLE, NOT_TESTED, REVERSED, UNDECIDED, tally
from optsweep.report.wording import count
from optsweep.study.content import topics

_REPORTED_FIGURE = "near"  # the rule of claims that are a figure of the report


@dataclass(frozen=True)
class Point:
    """A sentence about a claim, chosen by its verdict, and the evidence behind it."""

    verdict: str
    sentence: str
    evidence: str


@dataclass(frozen=True)
class Topic:
    """What claims on one matter say together."""

    title: str
    about: str
    points: tuple[Point, ...]


def discuss(judgements: Sequence[Judgement]) -> list[Topic]:
    """Every topic, in words that agree with the verdicts.

    Args:
        judgements: On all claims of the study.
    """
    of_claim = {each.claim.id: each for each in judgements}
    return [
        Topic(
            entry["topic"],
            entry["about"],
            tuple(_point(words, of_claim[words["claim"]]) for words in entry["claims"]),
        )
        for entry in topics()
    ]


def balance(judgements: Sequence[Judgement]) -> list[str]:
    """How many claims, causes and figures of the report stand, a sentence each."""
    causes = [each for each in judgements if each.claim.cause]
    figures = [each for each in judgements if each.claim.kind == _REPORTED_FIGURE]
    observed = [each for each in judgements if each not in causes and each not in figures]
    return [
        f"Of {count(len(group), *noun)}, {tally([each.verdict for each in group])}."
        for group, noun in (
            (figures, ("figure of the report", "figures of the report")),
            (observed, ("other observation",)),
            (causes, ("test of a cause", "tests of causes")),
        )
        if group
    ]


def _point(words: dict[str, str], judgement: Judgement) -> Point:
    claim = f"“{judgement.claim.claim}”"
    sentence = {
        HOLDS: words["holds"],
        REVERSED: words["reversed"],
        NEGLIGIBLE: words.get("negligible", words["reversed"]),
        UNDECIDED: f"The runs do not decide whether it is so: {claim}",
        NOT_TESTED: f"Not tested here is: {claim}",
    }[judgement.verdict]
    return Point(judgement.verdict, sentence, judgement.evidence)
