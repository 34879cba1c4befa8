"""The claims: complete, well formed, answerable by the experiments there are, and judged."""

import dataclasses
import math

import pytest
import yaml
from study_tree import config_of, curve, write_cell, write_experiment

from optsweep.report import claims
from optsweep.report.claims import Claim, claims_table, judge, load_claims
from optsweep.report.collect import collect_runs
from optsweep.report.comparisons import RULES
from optsweep.report.questions import load_questions
from optsweep.report.settings import matches
from optsweep.report.study import Setting
from optsweep.report.verdicts import CONTRADICTED, HOLDS, MISSING, UNDECIDED, Options

# What shared/study.md says the report claims, by question, with the rows that decide it.
STUDY = {
    "R1.1 gaussian is slower at the start": ["r1_init_gaussian_slow_start"],
    "R1.1 xavier is faster than gaussian": ["r1_init_xavier_faster"],
    "R1.1 xavier is about like default": ["r1_init_xavier_like_default"],
    "R1.2 s = 1 learns well": ["r1_batch_size_single_learns"],
    "R1.2 s = 1 is far too slow": ["r1_batch_size_single_slow"],
    "R1.2 256 is the right choice": ["r1_batch_size_256_accuracy", "r1_batch_size_256_time"],
    "R1.3 factor(2.0, 0.9) falls fast, then slows": [
        "r1_scheduler_factor_fast_start",
        "r1_scheduler_factor_fast_slows",
    ],
    "R1.3 factor(0.2, 0.8) stops improving": ["r1_scheduler_factor_slow_stops"],
    "R1.3 'polynomial' is steadier than factor": [
        "r1_scheduler_multistep_steadier",
        "r1_scheduler_multistep_cause",
    ],
    "R1.3 cosine is steadier and ends better": [
        "r1_scheduler_cosine_steadier",
        "r1_scheduler_cosine_better",
    ],
    "R1.3 all do worse than no schedule": [
        "r1_scheduler_none_best",
        "r1_scheduler_none_best_tuned",
    ],
    "R2.1 gaussian overfits least at the same accuracy": [
        "r2_init_gaussian_overfits_least",
        "r2_init_same_accuracy",
    ],
    "R2.2 final accuracies hardly differ": ["r2_scheduler_same_accuracy"],
    "R2.2 only cosine with warm-up suppresses overfitting": [
        "r2_scheduler_only_warmup_cosine",
        "r2_scheduler_warmup_alone",
    ],
    "R2 the final choice": ["r2_scheduler_final_choice"],
    "R3.1 Adam is far worse than SGD": ["r3_batch_size_adam_worse"],
    "R3.1 a larger batch rescues it": ["r3_batch_size_rescues"],
    "R3.1 the cause is parallelism": ["r3_batch_size_parallelism", "r3_batch_size_more_than_lr"],
    "R3.2 gaussian ends near 0.6": ["r3_init_gaussian"],
    "R3.2 xavier at 0.799 and 0.784": [
        "r3_init_xavier_train",
        "r3_init_xavier_test",
        "r3_init_xavier_better",
    ],
    "R3.2 default is best": ["r3_init_default_best"],
    "R3.3 only 'polynomial' keeps reasonable results": ["r3_scheduler_only_multistep"],
    "R3.3 plain cosine makes the loss rise": [
        "r3_scheduler_cosine_rises",
        "r3_scheduler_cosine_cause",
    ],
    "B1 larger batches are faster": ["b1_timing_larger_faster", "b1_timing_speedup"],
    "B1 with diminishing returns": ["b1_timing_diminishing"],
    "B1 because more work is parallel": ["b1_timing_parallel"],
    "B1 the table's scores": [
        "b1_timing_loss_rises",
        "b1_timing_accuracy_falls",
        *(f"b1_timing_{split}_{size}" for split in ("test", "train") for size in (256, 500, 1000)),
    ],
    "B2.1 1e-3: train 0.87, test 0.85, overfits": [
        "b2_weight_decay_light_train",
        "b2_weight_decay_light_test",
        "b2_weight_decay_light_overfits",
    ],
    "B2.1 1e-2: both drop": [
        "b2_weight_decay_strong_gap",
        "b2_weight_decay_strong_train",
        "b2_weight_decay_strong_test",
    ],
    "B2.1 5.5e-3 is chosen": ["b2_weight_decay_middle_gap", "b2_weight_decay_middle_best"],
    "B2.2 1.5 cannot learn": ["b2_momentum_high_fails"],
    "B2.2 0.3 overfits and ends lower": ["b2_momentum_low_overfits", "b2_momentum_low_worse"],
    "B2.2 0.9 is best": ["b2_momentum_best"],
    "B2.3 Nesterov is faster, overfits more": ["b2_nesterov_faster", "b2_nesterov_overfits"],
    "B3 low betas are steadier, with a low ceiling": ["b3_betas_steadier", "b3_betas_ceiling"],
    "B3 neither Adam nor AMSGrad suits": [
        "b3_betas_adam_limited",
        "b3_amsgrad_unsuited",
        "b3_amsgrad_adam_cause",
        "b3_amsgrad_amsgrad_cause",
        "b3_amsgrad_tuned",
    ],
    "B4 AdamW suppresses overfitting even without decay": [
        "b4_adamw_as_run",
        "b4_adamw_without_decay",
    ],
    "B4 AdamW(1e-3) is better than Adam": ["b4_adamw_better"],
    "B4 AdamW leaves biases undecayed": ["b4_adamw_biases"],
    "B4 the coupling of learning rate and decay": ["b4_adamw_coupling"],
    "B5 updates start at epoch 15 or 18": [
        "b5_gradients_late_start",
        "b5_gradients_signal_late",
        "b5_gradients_pixel_black",
    ],
    "B5 one swings around 0 (rate just too large)": [
        "b5_gradients_swings",
        "b5_gradients_lr_too_large",
    ],
    "B5 one keeps its sign (rate too small)": [
        "b5_gradients_keeps_sign",
        "b5_gradients_lr_too_small",
    ],
    "B5 one settles": ["b5_gradients_settles"],
    "B5 saddle points, local minima, or something else": ["b5_gradients_critical_point"],
    "B6 all three: oscillation and overfitting": [
        "b6_layernorm_all_oscillates",
        "b6_layernorm_all_overfits",
    ],
    "B6 first only: fast, test accuracy above train": [
        "b6_layernorm_first_fast",
        "b6_layernorm_only_first",
        "b6_layernorm_first_test_above_train",
        "b6_layernorm_first_generalises",
    ],
    "B6 second or third only: clearly worse": [
        "b6_layernorm_second_worse",
        "b6_layernorm_third_worse",
    ],
    "B6 layer-wise normalised updates help at large batch": [
        "b6_layerwise_lars",
        "b6_layerwise_lamb",
        "b6_layerwise_lars_tuned",
        "b6_layerwise_lamb_tuned",
    ],
}


def test_every_claim_of_the_study_is_a_row_and_every_row_is_a_claim():
    listed = [name for names in STUDY.values() for name in names]
    assert sorted(listed) == sorted(claim.id for claim in load_claims())


def test_ids_are_unique_and_start_with_the_question():
    ids = [claim.id for claim in load_claims()]
    assert len(set(ids)) == len(ids)
    questions = {question.id for question in load_questions()}
    for claim in load_claims():
        assert claim.question in questions
        assert claim.id.startswith(claim.question + "_")


def test_no_verdict_is_written_by_hand():
    entries = yaml.safe_load(claims._CLAIMS_FILE.read_text())["claims"]
    allowed = {each.name for each in (*dataclasses.fields(Claim), *dataclasses.fields(Options))}
    assert not [entry["id"] for entry in entries if set(entry) - allowed]
    assert not [entry["id"] for entry in entries if "verdict" in entry or "options" in entry]


@pytest.mark.parametrize("claim", load_claims(), ids=lambda claim: claim.id)
def test_a_claim_is_well_formed(claim):
    assert claim.kind in RULES
    assert claim.claim.endswith(".")
    assert not claim.cause or claim.test, "a cause needs a test"
    timed = str(claim.measure["name"]).startswith("seconds")  # machines differ too much
    if claim.kind in ("greater", "less", "similar", "highest", "lowest") and not timed:
        assert claim.options.margin > 0, "practical equivalence has to be said"


@pytest.fixture(scope="session")
def experiments(planned_experiments) -> dict[str, list[Setting]]:
    """The settings of every experiment of the study, as the report will find them."""
    return planned_experiments


@pytest.mark.parametrize("claim", load_claims(), ids=lambda claim: claim.id)
def test_a_claims_cells_exist_in_their_experiments(claim, experiments):
    many = claim.measure["name"] in claims._OF_MANY
    for cell in [*claim.cells, *([claim.others] if claim.others is not None else [])]:
        where = {key: value for key, value in cell.items() if key not in ("in", "best")}
        experiment = claim.experiment(cell)
        assert experiment in experiments, f"conf/experiment/{experiment}.yaml is not there"
        found = [one for one in experiments[experiment] if matches(where, one.chosen, one.facets)]
        assert found, f"{experiment} has no {where}"
        if cell is not claim.others and not many and "best" not in cell:
            assert len(found) == 1, f"{experiment} has several {where}"


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
    study = two_cells([0.5, 0.6, 0.7, 0.8, 0.9], [0.6, 0.7, 0.8, 0.9, 1.0])
    judged = judge(claim_of(), study)
    assert judged.verdict == HOLDS
    assert judged.finding.effect == pytest.approx((-0.1, -0.1, -0.1, 5))
    assert judged.evidence == (
        "Test accuracy: gaussian = 0.7; default = 0.8. Decided by gaussian − default: −0.1, "
        "interval −0.1 … −0.1, n = 5 seeds."
    )
    assert judge(claim_of(kind="greater"), study).verdict == CONTRADICTED


def test_a_diverged_seed_counts_as_accuracy_0_and_is_told(two_cells):
    study = two_cells([0.5, None, 0.5, None, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5])
    judged = judge(claim_of(), study)
    assert judged.finding.effect.mean == pytest.approx(-0.2)
    assert judged.verdict == UNDECIDED  # the interval reaches 0
    assert "Diverged seeds: gaussian 2 of 5." in judged.evidence
    assert judge(claim_of(), two_cells([None] * 5, [0.5] * 5)).verdict == HOLDS


def test_what_a_diverged_seed_has_not_is_left_out_and_told(two_cells):
    study = two_cells([0.5, None, 0.5, 0.5, 0.5], [0.5] * 5)
    judged = judge(claim_of(measure={"name": "generalisation_gap"}), study)
    assert judged.verdict == UNDECIDED  # four pairs are left
    assert judged.finding.effect.n == 4
    assert "1 value not known and left out." in judged.evidence
    assert "fewer than 5 decide nothing" in judged.evidence


def test_a_claim_without_its_cells_says_so(tree, two_cells):
    study = collect_runs(tree)
    for init, told in (
        ("xavier", "xavier in r1_init: missing, not trained yet"),
        ("kaiming", "kaiming in r1_init: partial, begun, but not finished"),
        ("other", "other: no such cell in r1_init"),
    ):
        judged = judge(claim_of(cells=[{"init": init}, {"init": "default"}]), study)
        assert (judged.verdict, judged.evidence) == (MISSING, told)
        assert judged.finding.effect.n == 0
    judged = judge(claim_of(cells=[{"in": "r9", "init": "a"}, {"init": "default"}]), study)
    assert judged.evidence == "a (r9): no such cell in r9"
    judged = judge(claim_of(cells=[{"epochs": 10}, {"init": "default"}]), two_cells([1], [1]))
    assert judged.evidence == "epochs 10: 2 settings of the experiment fit"


def test_others_of_the_experiment_join_the_comparison(two_cells):
    study = two_cells([0.5] * 5, [0.6] * 5)
    judged = judge(claim_of(kind="highest", cells=[{"init": "default"}], others={}), study)
    assert (judged.verdict, judged.finding.of) == (HOLDS, "default − gaussian")


def test_the_table_has_a_row_per_claim(two_cells):
    study = two_cells([0.5] * 5, [0.6] * 5)
    missing = claim_of(cells=[{"init": "xavier"}, {"init": "default"}])
    table = claims_table([judge(claim_of(), study), judge(missing, study)])
    assert list(table.columns) == [
        *("id", "question", "claim", "reported", "effect", "low", "high", "n", "verdict"),
        "evidence",
    ]
    assert table["verdict"].tolist() == [HOLDS, MISSING]
    assert table["effect"][0] == pytest.approx(-0.1)
    assert math.isnan(table["effect"][1])


def test_a_full_study_leaves_no_claim_missing(planned_study):
    """With every cell of every experiment trained, nothing is missing for a verdict."""
    lacking = {
        each.claim.id: each.evidence
        for each in (judge(claim, planned_study) for claim in load_claims())
        if each.verdict == MISSING
    }
    assert lacking == {}
