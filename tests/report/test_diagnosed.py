"""What the report says of cells that were diagnosed."""

import pytest
from run_tree import config_of, curve, write_cell, write_diagnosis, write_experiment

from optsweep import runs
from optsweep.diagnosis.verdicts import EDGE, INCONCLUSIVE, NOT_SLOW, SADDLE
from optsweep.report.claims import judge
from optsweep.report.collection import collect_runs
from optsweep.report.diagnosis import causes, diagnosed, verdict_table
from optsweep.report.findings import HOLDS, REVERSED
from optsweep.report.measures import measure
from optsweep.report.outline import Claim
from optsweep.report.rules import Options

SEEDS = 6


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A cell of six seeds at the edge, one of them only half of the time, and one undiagnosed."""
    root = tmp_path_factory.mktemp("runs")
    scores = {seed: curve((2, 0.1), (1, 0.5), (0.5, 0.8)) for seed in range(SEEDS)}
    cells = {}
    for init in ("default", "gaussian"):
        config = config_of(init=init, num_seeds=SEEDS, epochs=2)
        cells[write_cell(root, config, scores)] = f"init={init}"
    first = next(iter(cells))
    verdicts = {0: [NOT_SLOW] * SEEDS, 1: [EDGE] * SEEDS, 2: [INCONCLUSIVE, *[EDGE] * (SEEDS - 1)]}
    write_diagnosis(root / runs.CELLS_FOLDER / first, verdicts)
    write_experiment(root, "why", cells)
    return collect_runs(root)


def test_shares_are_of_the_checkpoints_after_the_start(collection):
    (one,) = diagnosed(collection, ["why"])
    shares = measure(collection, one.cells, {"name": "verdict_share", "of": [EDGE]})
    assert shares.tolist() == [0.5, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("verdict", "expected"), [(EDGE, HOLDS), (SADDLE, REVERSED)])
def test_a_claim_is_decided_by_the_shares_of_seeds(collection, verdict, expected):
    of = {"name": "verdict_share", "of": [verdict]}
    where = [{"init": "default"}]
    claim = Claim("why_x", "why", "It is so.", "at_least", of, where, options=Options(value=0.5))
    (judged,) = judge([claim], collection)
    assert judged.verdict == expected
    assert verdict in judged.evidence


def test_the_cause_is_told_in_three_sentences(collection):
    told = causes(collection, ["why"])
    assert len(told) == 3
    assert "12 checkpoints" in told[0]
    assert "92% edge of stability" in told[0]
    assert "at 1.02 of its limit" in told[1]
    assert "0.14" in told[2]


def test_a_table_has_a_row_for_each_diagnosed_setting(collection):
    table = verdict_table(collection, diagnosed(collection, ["why"]))
    assert table[["cause", EDGE, NOT_SLOW, INCONCLUSIVE]].to_numpy().tolist() == [[EDGE, 11, 6, 1]]


def test_nothing_is_said_of_what_was_not_diagnosed(collection):
    assert causes(collection, []) == []
    assert verdict_table(collection, []).empty
