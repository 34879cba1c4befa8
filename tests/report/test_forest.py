"""Claims in units of their margins, and the report's numbers beside ours."""

import pytest
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep.report import forest
from optsweep.report.claims import judge
from optsweep.report.collection import collect_runs
from optsweep.report.numbers import numbers
from optsweep.report.outline import Claim, Figure
from optsweep.report.rules import Options


def claim_of(**changes) -> Claim:
    given = {
        "id": "a_x",
        "question": "a",
        "claim": "Gaussian is worse.",
        "kind": "less",
        "measure": {"name": "test_accuracy"},
        "cells": [{"init": "gaussian"}, {"init": "default"}],
        "options": Options(margin=0.01),
    }
    return Claim(**(given | changes))


@pytest.fixture
def collection(tmp_path):
    """Ten seeds each: gaussian ends 0.05 below the default, give or take a little."""
    cells = {}
    for init, accuracy in (("gaussian", 0.7), ("default", 0.75)):
        curves = {
            seed: curve((2, 0.1), (1, accuracy + 0.001 * (seed % 3) * (init == "default")))
            for seed in range(10)
        }
        config = config_of(init=init, num_seeds=10)
        cells[write_cell(tmp_path, config, curves)] = f"init={init}"
    write_experiment(tmp_path, "a", cells)
    return collect_runs(tmp_path)


def marked(collection, **changes):
    (judged,) = judge([claim_of(**changes)], collection)
    return forest.mark(judged)


def test_what_speaks_for_a_claim_is_on_the_right(collection):
    found = marked(collection)
    assert found.has_margin
    assert found.middle == pytest.approx(forest.place(5.09), abs=0.5)
    assert found.low < found.middle < found.high
    against = marked(collection, kind="greater")
    assert against.middle == pytest.approx(100 - found.middle)
    assert (against.low, against.high) == pytest.approx((100 - found.high, 100 - found.low))


def test_a_claim_without_a_margin_is_told_by_its_own_interval(collection):
    cells = [{"init": "default"}]
    found = marked(collection, kind="at_least", options=Options(value=0.6), cells=cells)
    assert not found.has_margin
    assert found.high == 100.0  # far above
    exact = marked(collection, kind="at_least", options=Options(value=0.7509), cells=cells)
    assert (exact.low, exact.middle, exact.high) == pytest.approx(
        (forest.place(-1), 50, forest.place(1))
    )


def test_what_was_not_compared_has_no_place(collection):
    assert marked(collection, cells=[{"init": "xavier"}, {"init": "default"}]) is None
    equal = [{"init": "gaussian"}, {"init": "gaussian"}]
    assert marked(collection, kind="identical", options=Options(), cells=equal) is None


def test_numbers_stand_beside_what_one_more_run_would_give(collection):
    cells = [{"init": "default"}]
    options = Options(value=0.75, rounding=0.005)
    claim = claim_of(kind="near", reported="0.75", options=options, cells=cells)
    figure = Figure(
        id="a_seconds",
        what="Seconds of ten epochs.",
        value=240.2,
        unit="s",
        experiment="a",
        cell={"init": "default"},
        measure={"name": "test_accuracy"},
        times=10,
        why="Another machine.",
    )
    judged = judge([claim, claim_of()], collection)
    compared, other = numbers(collection, judged, [figure])
    assert (compared.reported, compared.ours, compared.n) == ("0.75", "0.7509", 10)
    assert compared.prediction == "0.747 … 0.755"
    assert compared.claim.verdict == "holds"
    assert (other.reported, other.ours, other.claim) == ("240.2 s", "7.509", None)
    assert numbers(collection, [], [figure])[0].figure is figure
