"""Claims judged by runs with known numbers."""

import math

import pytest
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep.report.claims import claims_table, judge
from optsweep.report.collection import collect_runs
from optsweep.report.evidence import in_short
from optsweep.report.findings import (
    HOLDS,
    NOT_TESTED,
    REVERSED,
    UNDECIDED,
    Finding,
    any_holds,
)
from optsweep.report.outline import Claim
from optsweep.report.rules import Options
from optsweep.report.statistics import Interval


def claim_of(**changes) -> Claim:
    given = {
        "id": "r1_init_x",
        "question": "r1_init",
        "claim": "Gaussian is worse.",
        "kind": "less",
        "measure": {"name": "test_accuracy"},
        "cells": [{"init": "gaussian"}, {"init": "default"}],
        "options": Options(margin=0.005),
    }
    return Claim(**(given | changes))


def judged_one(claim: Claim, collection):
    (found,) = judge([claim], collection)
    return found


@pytest.fixture
def two_cells(tmp_path):
    """`two_cells(gaussian, default)`: a study of two settings, test accuracies by seed."""

    def made(gaussian, default):
        cells = {}
        for init, accuracies in (("gaussian", gaussian), ("default", default)):
            curves = {
                seed: curve((2, 0.1), (1, each)) if each is not None else [*curve((2, 0.1)), None]
                for seed, each in enumerate(accuracies)
            }
            config = config_of(init=init, num_seeds=len(accuracies))
            cells[write_cell(tmp_path, config, curves)] = f"init={init}"
        write_experiment(tmp_path, "r1_init", cells)
        return collect_runs(tmp_path)

    return made


def test_a_verdict_rests_on_the_paired_differences(two_cells):
    values = [0.55, 0.6, 0.7, 0.8, 0.9, 0.65, 0.75, 0.85, 0.6, 0.7]
    collection = two_cells(values, [each + 0.1 for each in values])
    judged = judged_one(claim_of(), collection)
    assert judged.verdict == HOLDS
    assert judged.finding.effect == pytest.approx((-0.1, -0.1, -0.1, 10))
    assert judged.evidence == (
        "Test accuracy: Gaussian = 0.71; default = 0.81. Decided by Gaussian − default: −0.1, "
        "interval −0.1 … −0.1, p = 0.002, n = 10 seeds."
    )
    assert in_short(judged.claim, judged.finding) == (
        "Test accuracy, Gaussian − default: −0.1 (−0.1 … −0.1), margin 0.005, 10 seeds"
    )
    assert judged_one(claim_of(kind="greater"), collection).verdict == REVERSED


def test_a_diverged_seed_counts_and_is_told(two_cells):
    collection = two_cells([0.6, None, 0.6, None, 0.6], [0.6] * 5)
    judged = judged_one(claim_of(), collection)
    assert judged.finding.by_median  # of -0.6, -0.6, 0, 0, 0
    assert judged.finding.effect.estimate == 0
    assert judged.verdict == UNDECIDED
    assert "Diverged seeds: Gaussian 2 of 5." in judged.evidence
    assert judged_one(claim_of(), two_cells([None] * 10, [0.6] * 10)).verdict == HOLDS


def test_collapsed_seeds_are_told_apart_from_the_others(two_cells):
    judged = judged_one(claim_of(), two_cells([0.1, 0.8, *[0.8] * 8], [0.9] * 10))
    assert judged.finding.by_median
    assert judged.finding.effect.estimate == pytest.approx(-0.1)
    told = "Collapsed seeds: Gaussian 1 of 10 (share 0.02 … 0.40), the others reach 0.800."
    assert told in judged.evidence
    assert judged.verdict == HOLDS  # all ten are worse: p = 2 / 1024, at five looks


def test_what_a_collapsed_seed_has_not_is_left_out_and_told(two_cells):
    for failed in (None, 0.3):
        collection = two_cells([0.6, failed, 0.6, 0.6, 0.6], [0.6] * 5)
        judged = judged_one(claim_of(measure={"name": "generalisation_gap"}), collection)
        assert judged.verdict == UNDECIDED  # four pairs are left
        assert judged.finding.effect.n == 4
        assert "1 value not known and left out." in judged.evidence
        assert "fewer than 5 decide nothing" in judged.evidence


def test_the_claims_of_a_question_are_right_together(two_cells):
    # A shift of 0.1 among noise: alone it is decided, among many it is not.
    noise = [0.02, -0.02, 0.05, -0.05, 0.08, -0.08, 0.03, -0.03]
    collection = two_cells([0.7 + each for each in noise], [0.8] * 8)
    one, other = claim_of(), claim_of(kind="identical", cells=[{"init": "default"}] * 2)
    assert judged_one(one, collection).verdict == HOLDS
    many = [one, *(claim_of(id=f"r1_init_{i}") for i in range(20))]
    found = judge(many, collection)
    assert {each.verdict for each in found} == {UNDECIDED}
    assert "too little for so many claims and looks" in found[0].evidence
    elsewhere = [claim_of(id=f"r2_{i}", question="r2") for i in range(20)]
    first, *_ = judge([one, *elsewhere, other], collection)
    assert first.verdict == HOLDS  # those of other questions take nothing from it


def test_an_effect_of_its_sign_that_may_be_too_small_is_said_to_be_so(two_cells):
    noise = [0.004, -0.004, 0.002, -0.002, 0.003, -0.003, 0.001, -0.001]
    judged = judged_one(claim_of(), two_cells([0.795 + each for each in noise], [0.8] * 8))
    assert judged.verdict == UNDECIDED
    assert "below 0, but it may be by less than the margin of 0.005" in judged.evidence


def test_of_two_readings_that_is_told_which_is_not_contradicted():
    effects = {"far": (0.02, 0.017, 0.023), "near": (0.001, -0.012, 0.014)}
    contrary = {"far": 1e-6, "near": 1.0}
    found = any_holds(
        {
            name: Finding({HOLDS: 1.0, REVERSED: contrary[name]}, Interval(*effect, 30), "a - b")
            for name, effect in effects.items()
        }
    )
    assert found.verdict(0.05) == UNDECIDED
    assert found.effect == Interval(*effects["near"], 30)
    assert found.of == "a - b (near)"


def test_what_cannot_be_tested_here_says_why(two_cells):
    claim = claim_of(not_tested="There is no GPU.")
    judged = judged_one(claim, two_cells([0.6] * 5, [0.6] * 5))
    assert (judged.verdict, judged.evidence) == (NOT_TESTED, "There is no GPU.")


def test_seconds_are_compared_as_ratios(two_cells):
    claim = claim_of(kind="less", measure={"name": "seconds_to", "test_accuracy": 0.8})
    collection = two_cells([0.9] * 6, [0.7] * 6)
    judged = judged_one(claim, collection)
    assert judged.finding.effect[:3] == (0, 0, 0)  # the second never gets there
    assert judged.finding.reference == 1
    assert judged.finding.of == "Gaussian : default"


def test_times_of_different_numbers_of_threads_are_not_compared(tmp_path):
    cells = {}
    for init, threads in (("gaussian", 1), ("default", 2)):
        curves = {seed: curve((2, 0.1), (1, 0.8)) for seed in range(6)}
        config = config_of(init=init, num_seeds=6)
        cells[write_cell(tmp_path, config, curves, num_threads=threads)] = f"init={init}"
    write_experiment(tmp_path, "r1_init", cells)
    collection = collect_runs(tmp_path)
    timed = claim_of(measure={"name": "seconds_to", "test_accuracy": 0.8})
    judged = judged_one(timed, collection)
    told = "times of different numbers of threads cannot be compared: Gaussian = 1 and default = 2"
    assert (judged.verdict, judged.evidence) == (NOT_TESTED, told)
    assert judged_one(claim_of(), collection).finding.effect.n == 6
    chosen = {name: f"{given} trainer.num_threads=1" for name, given in cells.items()}
    write_experiment(tmp_path, "r1_init", chosen)  # asked for
    assert judged_one(timed, collect_runs(tmp_path)).finding.effect.n == 6


def test_a_claim_without_its_cells_says_so(tree, two_cells):
    collection = collect_runs(tree)
    for init, told in (
        ("xavier", "Xavier in r1_init: missing, not trained yet"),
        ("kaiming", "Kaiming in r1_init: partial, begun, but not finished"),
        ("other", "other: no such cell in r1_init"),
    ):
        judged = judged_one(claim_of(cells=[{"init": init}, {"init": "default"}]), collection)
        assert (judged.verdict, judged.evidence) == (NOT_TESTED, told)
        assert judged.finding.effect.n == 0
    judged = judged_one(
        claim_of(cells=[{"in": "r9", "init": "a"}, {"init": "default"}]), collection
    )
    assert judged.evidence == "a (r9): no such cell in r9"
    judged = judged_one(claim_of(cells=[{"epochs": 10}, {"init": "default"}]), two_cells([1], [1]))
    assert judged.evidence == "epochs 10: 2 settings of the experiment fit"


def test_others_of_the_experiment_join_the_comparison(two_cells):
    collection = two_cells([0.6] * 10, [0.7] * 10)
    judged = judged_one(
        claim_of(kind="highest", cells=[{"init": "default"}], others={}), collection
    )
    assert (judged.verdict, judged.finding.of) == (HOLDS, "default − Gaussian")


def test_the_table_has_a_row_per_claim(two_cells):
    collection = two_cells([0.6] * 10, [0.7] * 10)
    missing = claim_of(id="r1_init_y", cells=[{"init": "xavier"}, {"init": "default"}])
    table = claims_table(judge([claim_of(), missing], collection))
    assert list(table.columns) == [
        *("id", "question", "claim", "reported", "effect", "low", "high", "n", "margin"),
        *("p", "verdict", "evidence"),
    ]
    assert table["verdict"].tolist() == [HOLDS, NOT_TESTED]
    assert table["effect"][0] == pytest.approx(-0.1)
    assert math.isnan(table["effect"][1])


def readings_of(**changes) -> Claim:
    readings = {"first": {"init": "gaussian"}, "second": {"init": "default"}}
    cells = [{"init": "$init"}]
    given = {"kind": "at_least", "cells": cells, "readings": readings}
    return claim_of(**(given | changes))


def test_a_claim_holds_if_it_does_under_one_reading(two_cells):
    collection = two_cells([0.7, 0.71, 0.72, 0.7, 0.71], [0.8, 0.81, 0.82, 0.8, 0.81])
    judged = judged_one(readings_of(options=Options(value=0.75)), collection)
    assert judged.verdict == HOLDS
    assert judged.finding.of == "default (second)"
    assert "It holds under the reading “second”." in judged.evidence
    alone = judged_one(
        claim_of(kind="at_least", cells=[{"init": "default"}], options=Options(value=0.75)),
        collection,
    )
    assert judged.finding.least_p == 2 * alone.finding.least_p  # it had two chances


def test_a_claim_is_reversed_only_if_it_is_under_all_readings(two_cells):
    collection = two_cells([0.7, 0.71, 0.72, 0.7, 0.71], [0.8, 0.81, 0.82, 0.8, 0.81])
    judged = judged_one(readings_of(options=Options(value=0.9)), collection)
    assert (judged.verdict, judged.finding.of) == (REVERSED, "default (second)")
    assert "It holds under none of its readings." in judged.evidence
    undecided = two_cells([0.7, 0.71, 0.72, 0.7, 0.71], [0.8, 0.91, 0.99, 0.86, 0.95])
    assert judged_one(readings_of(options=Options(value=0.9)), undecided).verdict == UNDECIDED


def test_a_reading_under_which_nothing_learned_is_left_out_and_told(two_cells):
    learned, failed = [0.7, 0.71, 0.72, 0.7, 0.71] * 2, [0.1] * 10
    given = {"measure": {"name": "wobble"}, "kind": "at_most", "options": Options(value=1.0)}
    collection = two_cells(learned, failed)
    judged = judged_one(readings_of(**given), collection)
    assert (judged.verdict, judged.finding.of) == (HOLDS, "Gaussian (first)")
    assert "With too few seeds to compare: second." in judged.evidence
    alone = judged_one(readings_of(**given, readings={"only": {"init": "gaussian"}}), collection)
    assert judged.finding.least_p == alone.finding.least_p
    neither = judged_one(readings_of(**given), two_cells(failed, failed))
    assert neither.verdict == UNDECIDED
    assert "too few" not in neither.evidence


def test_a_claim_that_more_seeds_would_not_decide_is_given_up(two_cells):
    noise = [0.02, -0.02, 0.05, -0.05, 0.08, -0.08, 0.03, -0.03, 0.01, -0.01]

    def judged(shift, *, others=(), num=10):
        ours = [0.7 + each for each in noise[:num]]
        theirs = [0.7 + each + shift for each in noise[::-1][:num]]
        return judged_one(claim_of(), two_cells([*ours, *others], [*theirs, *others]))

    assert judged(0.0).is_hopeless
    assert "; 100 seeds like these would not decide it." in judged(0.0).evidence
    for found in (
        judged(0.04),  # between 0.02 and 0.06, which would
        judged(0.0, num=8),  # too few to foresee anything by
        judged(0.0, others=[0.1]),  # of a collapsed seed
    ):
        assert (found.verdict, found.is_hopeless) == (UNDECIDED, False)
    decided = judged(0.2)
    assert (decided.verdict, decided.is_hopeless) == (HOLDS, False)
