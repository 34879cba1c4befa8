"""How sure many verdicts are together.

Two things multiply the chances of a wrong verdict. A claim that stays undecided gets more seeds and
is looked at again, at up to `LOOKS` numbers of them: each look may spend its share of the error
(Bonferroni), whatever the distribution; to give up a claim that more seeds will not decide spends
nothing. And a question has many claims: Holm's correction keeps the probability that any verdict of
a question is wrong at most at `LEVEL`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from optsweep.report.findings import Finding
from optsweep.report.statistics import PREDICTION_CONFIDENCE, holm

LEVEL = 0.05
# What corrected p values are held against: of seeds that are skewed, as those of real cells are,
# Student's are too small. Calibration shows that a quarter of the level is enough.
NOMINAL = LEVEL / 4
# At most so often a figure is called incompatible though it is not, also where seeds are skewed.
FIGURE_ERROR = 0.025
# Numbers of seeds at which a claim is decided, or goes on to the next.
LOOKS = (10, 20, 30, 40, 50)
# A claim that so many seeds like those it has would not decide is left undecided, and gets no more.
FORESEEN = 2 * LOOKS[-1]


def next_look(num_seeds: int) -> int | None:
    """How many seeds a claim gets that so many did not decide; None after the last look.

    >>> next_look(10), next_look(15), next_look(50)
    (20, 20, None)
    """
    return next((look for look in LOOKS if look > num_seeds), None)


def may_decide(finding: Finding) -> bool:
    """Whether a finding decides its claim if it is the last of its question by Holm's order."""
    return len(LOOKS) * finding.least_p <= NOMINAL


def verdicts(findings: Sequence[Finding]) -> list[str]:
    """The verdicts of one question's findings, which are right together at `LEVEL`.

    The figures of a report are not among them: whether a single run could be one of ours is asked
    of each alone, and `expected_errors` tells how many are wrong by chance.
    """
    tests = [each for each in findings if _is_test(each)]
    p_values = pd.Series([min(1.0, len(LOOKS) * each.least_p) for each in tests], dtype=float)
    corrected = iter(holm(p_values))
    return [
        _at(each, next(corrected)) if _is_test(each) else each.verdict(1 - PREDICTION_CONFIDENCE)
        for each in findings
    ]


def expected_errors(questions: Sequence[Sequence[Finding]]) -> tuple[float, float]:
    """How many wrong verdicts chance may give: of questions with one, and of figures.

    Both are upper limits, which are reached only where the truth lies on a margin.
    """
    num_questions = sum(any(_is_test(each) for each in findings) for findings in questions)
    num_figures = sum(each.of_one_run for findings in questions for each in findings)
    return LEVEL * num_questions, FIGURE_ERROR * num_figures


def _is_test(finding: Finding) -> bool:
    """Whether it asks what is true of the settings, and not where a single run may lie."""
    return bool(finding.p) and not finding.of_one_run


def _at(finding: Finding, corrected: float) -> str:
    return finding.verdict(finding.least_p if corrected <= NOMINAL else 0.0)
