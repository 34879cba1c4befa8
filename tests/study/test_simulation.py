"""The rules of thousands of studies at once are those of the report."""

import numpy as np
import pandas as pd
import pytest

from optsweep.report import findings
from optsweep.report.findings import HOLDS, NEGLIGIBLE, REVERSED, Sample
from optsweep.report.multiplicity import verdicts
from optsweep.report.rules import RULES, Options
from optsweep.study.calibration import EFFECTS, SCENARIOS
from optsweep.study.simulation import (
    DECIDED,
    NOISES,
    Chances,
    Part,
    Population,
    any_reading,
    chances,
    look_again,
    parts,
    truth,
)

STUDIES = 4


def samples_of(studies: Population, study: int) -> list[Sample]:
    """What the report would have of a study."""
    drawn = []
    for at, values in enumerate(studies.values[:, study]):
        modes = None
        if studies.collapsed is not None:
            modes = pd.Series(studies.collapsed[at, study].astype(int))
        drawn.append(Sample("abcd"[at], pd.Series(values), modes))
    return drawn


def found_by(rule: str, studies: Population, study: int, options: Options, reported: float):
    samples = samples_of(studies, study)
    if rule == "times":
        samples = [one._replace(values=np.exp(one.values)) for one in samples]
        options = Options(value=float(np.exp(options.value)))
    if rule == "near":
        options = Options(value=reported + options.value)
    return RULES[rule](samples, options)


@pytest.mark.parametrize("num_seeds", [10, 20])
@pytest.mark.parametrize("noise", NOISES)
def test_p_values_are_those_of_the_rules(noise, num_seeds):
    rng = np.random.default_rng(num_seeds)
    for scenario in SCENARIOS:
        num_settings = len(scenario.locations(0))
        whole = NOISES[noise](num_settings, rng)
        for effect in EFFECTS:
            moved = whole.moved(scenario.locations(effect))
            studies = moved.draw(rng.integers(moved.values.shape[1], size=(STUDIES, num_seeds)))
            options = Options(margin=1.0, value=0.2, ties=scenario.ties)
            reported = rng.normal(size=STUDIES)
            comparisons = parts(scenario.rule, num_settings, scenario.ties)
            found = chances(studies, comparisons, options, reported)
            for study in range(STUDIES):
                given = reported[study]
                expected = found_by(scenario.rule, studies, study, options, given)
                p = [expected.p.get(verdict, 1.0) for verdict in DECIDED]
                assert found.p[:, study] == pytest.approx(p), (scenario.rule, effect)


def test_the_p_value_of_any_reading_is_that_of_the_findings():
    rng = np.random.default_rng(0)
    whole = NOISES["two modes"](4, rng).moved([1.5, -1.0, 0.3, 0.0])
    studies = whole.draw(rng.integers(whole.values.shape[1], size=(20, 10)))
    contrasts = [tuple(float(i == at) - float(i == 3) for i in range(4)) for at in range(3)]
    options = Options(margin=1.0)
    readings = [chances(studies, [Part(each, "greater")], options, None) for each in contrasts]
    found = any_reading(readings)
    for study in range(20):
        samples = samples_of(studies, study)
        expected = findings.any_holds(
            {one.name: RULES["greater"]([one, samples[3]], options) for one in samples[:3]}
        )
        p = [expected.p.get(verdict, 1.0) for verdict in DECIDED]
        assert found.p[:, study] == pytest.approx(p)


def test_verdicts_are_corrected_as_those_of_a_report():
    """With one look at which everything is decided, or too little to be."""
    rng = np.random.default_rng(1)
    p = rng.uniform(size=(6, 3, 50)) ** 4
    question = [[Chances(each, np.zeros(each.shape, dtype=bool))] * 5 for each in p]
    found = look_again(question)
    for study in range(50):
        of_study = [
            findings.Finding(
                dict(zip(DECIDED, each[:, study], strict=True)), findings.Interval(0, 0, 0, 10), ""
            )
            for each in p
        ]
        told = [(*DECIDED, findings.UNDECIDED)[each.verdict[study]] for each in found]
        assert told == verdicts(of_study)


def test_a_study_goes_on_until_it_is_decided():
    undecided, decided = np.full((3, 1), 0.5), np.array([[1e-6], [1.0], [1.0]])
    looks = [Chances(p, np.zeros((3, 1), dtype=bool)) for p in (*[undecided] * 2, *[decided] * 3)]
    (outcome,) = look_again([looks])
    assert (outcome.verdict.item(), outcome.seeds.item()) == (0, 30)
    (outcome,) = look_again([[looks[0]] * 5])
    assert (outcome.verdict.item(), outcome.seeds.item()) == (-1, 50)


@pytest.mark.parametrize(
    ("rule", "locations", "options", "right"),
    [
        ("greater", (1.5, 0), {"margin": 1}, {HOLDS}),
        ("greater", (1.0, 0), {"margin": 1}, set()),  # at the margin, neither side is right
        ("greater", (0.5, 0), {"margin": 1}, {NEGLIGIBLE}),
        ("less", (1.5, 0), {"margin": 1}, {REVERSED}),
        ("highest", (0, 2, 0.5), {"margin": 1}, {REVERSED, NEGLIGIBLE}),
        ("highest", (0, 0.5), {"margin": 1, "ties": True}, {HOLDS}),
        ("similar", (0, 0.5, -0.6), {"margin": 1}, {REVERSED}),
        ("gains_shrink", (10, 4, 2), {"margin": 1}, {HOLDS}),
        ("gains_more", (0, 5, 0, 3), {"margin": 1}, {HOLDS}),
        ("only", (2, 0, 2), {"margin": 1}, {REVERSED}),
        ("only_less", (-2, 0, 0), {"margin": 1}, {HOLDS}),
        ("at_most", (0.5,), {"value": 0.4}, {REVERSED}),
        ("only_at_least", (1, 0), {"value": 0.5}, {HOLDS}),
    ],
)
def test_what_is_right_of_a_population(rule, locations, options, right):
    rng = np.random.default_rng(0)
    population = NOISES["normal"](len(locations), rng).moved(locations)
    given = Options(**options)
    comparisons = parts(rule, len(locations), given.ties)
    for by_median in (True, False):
        assert truth(population, comparisons, given, by_median) == right
