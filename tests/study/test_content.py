"""The study's questions and claims: well formed, and answered by the experiments there are."""

import pytest

from optsweep.report.claims import judge
from optsweep.report.drawing import FAINT, GREY, INK, MAX_LINES
from optsweep.report.figures import FIGURES, draw_question
from optsweep.report.findings import NOT_TESTED
from optsweep.report.rules import RULES
from optsweep.study.content import outline, sentences

CLAIMS = outline().claims
THRESHOLDS = ("at_least", "at_most", "times", "near", "only_at_least", "fails", "mostly")
# Beside the curves of every experiment and the map and best settings of every search.
DRAWN = {
    "r1_batch_size": {"r1_batch_size_equal_seconds", "r1_batch_size_equal_steps"},
    "r1_scheduler": {"r1_scheduler_schedules", "r1_scheduler_long_schedules"},
    "r1_scheduler_lenet": {"r1_scheduler_lenet_gains"},
    "b1_timing": {"b1_timing_cost"},
    "b4_adamw": {"b4_adamw_weight_norms"},
    "b5_gradients": {f"b5_gradients_{name}" for name in ("norms", "traces", "signal")},
    "b5_why_slow": {
        f"b5_why_slow_{name}" for name in ("stability", "forks", "spectra", "verdicts", "pixels")
    },
    "b6_layerwise": {"b6_layerwise_batch_size"},
    "lr_grid": {"lr_grid_map", "lr_grid_best"},
}


def test_questions_are_well_formed():
    ids = [question.id for question in outline().questions]
    assert len(set(ids)) == len(ids)
    for question in outline().questions:
        assert question.question
        assert set(question.figures) <= set(FIGURES)


def test_ids_of_claims_are_unique_and_start_with_the_question():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    questions = {question.id for question in outline().questions}
    for claim in CLAIMS:
        assert claim.question in questions
        assert claim.id.startswith(claim.question + "_")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_well_formed(claim):
    assert claim.kind in RULES
    assert claim.claim.endswith(".")
    assert not claim.cause or claim.test, "a cause needs a test"
    if claim.kind in THRESHOLDS:
        assert claim.options.margin == 0
        explained = claim.test or claim.not_tested or claim.kind == "near"
        assert explained, "a threshold has to be explained"
    elif claim.kind != "identical":
        assert claim.options.margin > 0, "practical equivalence has to be said"
        assert claim.margin_reason.endswith("."), "a margin needs a reason"


def test_no_claim_has_a_margin_of_its_own():
    """Claims that say the same of the same measure are held to the same margin."""
    of_reason: dict[str, set[float]] = {}
    for claim in CLAIMS:
        of_reason.setdefault(claim.margin_reason, set()).add(claim.options.margin)
    assert {reason: margins for reason, margins in of_reason.items() if len(margins) > 1} == {}


def test_overfitting_is_claimed_of_both_gaps():
    """Of the final weights, and of the curves that the report saw."""
    measured = {claim.id: claim.measure["name"] for claim in CLAIMS}
    compared = {
        name
        for name, measure in measured.items()
        if measure in ("generalisation_gap", "running_gap")
    }
    apart = {"b6_layernorm_first_generalises", "b6_layernorm_first_test_above_train"}
    for name in compared - apart:
        stem = name.removesuffix("_seen")
        assert measured[stem] == "generalisation_gap"
        assert measured[f"{stem}_seen"] == "running_gap"


def test_every_sentence_of_the_report_has_its_claims_or_a_reason_why_not():
    for sentence in sentences():
        assert bool(sentence.claims) != bool(sentence.reason), sentence.quote
        assert not sentence.reason or sentence.reason.endswith(".")
    quotes = [sentence.quote for sentence in sentences()]
    assert len(set(quotes)) == len(quotes)


def test_every_claim_is_on_a_sentence_of_the_report_unless_we_ask_it():
    tested = {name for sentence in sentences() for name in sentence.claims}
    assert tested <= {claim.id for claim in CLAIMS}
    asked = {claim.id for claim in CLAIMS if claim.reported != "asked by us"}
    assert asked <= tested


def test_a_full_study_leaves_no_claim_missing(planned):
    """With every cell of every experiment trained, nothing is missing for a verdict."""
    lacking = {
        each.claim.id: each.evidence
        for each in judge(CLAIMS, planned)
        if each.verdict == NOT_TESTED and not each.claim.not_tested
    }
    assert lacking == {}


def test_every_question_gets_its_figures(planned):
    sections = outline().sections(planned.experiments)
    assert [question for question, _ in sections] == list(outline().questions)
    for question, names in sections:
        pictures = draw_question(planned, question, names)
        found = [picture.name for picture in pictures]
        for picture in pictures:
            for axes in picture.figure.axes:
                told_apart = {line.get_color() for line in axes.lines} - {INK, GREY, FAINT}
                assert len(told_apart) <= MAX_LINES, picture.name
        assert len(set(found)) == len(found)
        assert DRAWN.get(question.id, set()) <= set(found)
        searches = planned.searches(names)
        if "calibration" in question.figures:  # its runs of one epoch have no curves
            continue
        assert set(names) - set(searches) <= set(found)  # the curves
        assert not searches or f"{question.id}_best" in found
