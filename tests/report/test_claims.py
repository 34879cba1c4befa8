"""Claims judged by runs with known numbers."""

import math

import pytest
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep.report.claims import claims_table, judge
from optsweep.report.collection import collect_runs
from optsweep.report.outline import Claim
from optsweep.report.rules import CONTRADICTED, HOLDS, MISSING, UNDECIDED, Options


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
    collection = two_cells([0.5, 0.6, 0.7, 0.8, 0.9], [0.6, 0.7, 0.8, 0.9, 1.0])
    judged = judge(claim_of(), collection)
    assert judged.verdict == HOLDS
    assert judged.finding.effect == pytest.approx((-0.1, -0.1, -0.1, 5))
    assert judged.evidence == (
        "Test accuracy: gaussian = 0.7; default = 0.8. Decided by gaussian − default: −0.1, "
        "interval −0.1 … −0.1, n = 5 seeds."
    )
    assert judge(claim_of(kind="greater"), collection).verdict == CONTRADICTED


def test_a_diverged_seed_counts_as_accuracy_0_and_is_told(two_cells):
    collection = two_cells([0.5, None, 0.5, None, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5])
    judged = judge(claim_of(), collection)
    assert judged.finding.effect.mean == pytest.approx(-0.2)
    assert judged.verdict == UNDECIDED  # the interval reaches 0
    assert "Diverged seeds: gaussian 2 of 5." in judged.evidence
    assert judge(claim_of(), two_cells([None] * 5, [0.5] * 5)).verdict == HOLDS


def test_what_a_diverged_seed_has_not_is_left_out_and_told(two_cells):
    collection = two_cells([0.5, None, 0.5, 0.5, 0.5], [0.5] * 5)
    judged = judge(claim_of(measure={"name": "generalisation_gap"}), collection)
    assert judged.verdict == UNDECIDED  # four pairs are left
    assert judged.finding.effect.n == 4
    assert "1 value not known and left out." in judged.evidence
    assert "fewer than 5 decide nothing" in judged.evidence


def test_a_claim_without_its_cells_says_so(tree, two_cells):
    collection = collect_runs(tree)
    for init, told in (
        ("xavier", "xavier in r1_init: missing, not trained yet"),
        ("kaiming", "kaiming in r1_init: partial, begun, but not finished"),
        ("other", "other: no such cell in r1_init"),
    ):
        judged = judge(claim_of(cells=[{"init": init}, {"init": "default"}]), collection)
        assert (judged.verdict, judged.evidence) == (MISSING, told)
        assert judged.finding.effect.n == 0
    judged = judge(claim_of(cells=[{"in": "r9", "init": "a"}, {"init": "default"}]), collection)
    assert judged.evidence == "a (r9): no such cell in r9"
    judged = judge(claim_of(cells=[{"epochs": 10}, {"init": "default"}]), two_cells([1], [1]))
    assert judged.evidence == "epochs 10: 2 settings of the experiment fit"


def test_others_of_the_experiment_join_the_comparison(two_cells):
    collection = two_cells([0.5] * 5, [0.6] * 5)
    judged = judge(claim_of(kind="highest", cells=[{"init": "default"}], others={}), collection)
    assert (judged.verdict, judged.finding.of) == (HOLDS, "default − gaussian")


def test_the_table_has_a_row_per_claim(two_cells):
    collection = two_cells([0.5] * 5, [0.6] * 5)
    missing = claim_of(cells=[{"init": "xavier"}, {"init": "default"}])
    table = claims_table([judge(claim_of(), collection), judge(missing, collection)])
    assert list(table.columns) == [
        *("id", "question", "claim", "reported", "effect", "low", "high", "n", "verdict"),
        "evidence",
    ]
    assert table["verdict"].tolist() == [HOLDS, MISSING]
    assert table["effect"][0] == pytest.approx(-0.1)
    assert math.isnan(table["effect"][1])
