"""What the report says of cells that were diagnosed."""

import math

import pandas as pd
import pytest
from run_tree import config_of, curve, write_cell, write_diagnosis, write_experiment

from optsweep import runs
from optsweep.diagnosis.readings import FASTER, SLOWER
from optsweep.diagnosis.verdicts import EDGE, INCONCLUSIVE, NOT_SLOW, SADDLE, VERDICTS
from optsweep.report.causes import causes
from optsweep.report.claims import judge
from optsweep.report.collection import collect_runs
from optsweep.report.diagnosis import cause_of, diagnosed, gains, kinds_table, readings_table
from optsweep.report.findings import HOLDS, REVERSED
from optsweep.report.measures import measure
from optsweep.report.outline import Claim, Question
from optsweep.report.rules import Options

SEEDS = 10
QUESTION = Question("why", "Why?", network="Ours")


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A cell of ten seeds at the edge, one of them only half of the time, and one undiagnosed."""
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
    assert shares.tolist() == [0.5, *[1] * (SEEDS - 1)]


@pytest.mark.parametrize(("verdict", "expected"), [(EDGE, HOLDS), (SADDLE, REVERSED)])
def test_a_claim_is_decided_by_the_shares_of_seeds(collection, verdict, expected):
    of = {"name": "verdict_share", "of": [verdict]}
    where = [{"init": "default"}]
    claim = Claim("why_x", "why", "It is so.", "mostly", of, where, options=Options(value=0.5))
    (judged,) = judge([claim], collection)
    assert judged.verdict == expected
    assert verdict in judged.evidence


def test_the_cause_is_told_in_three_sentences(collection):
    told = causes(collection, QUESTION, ["why"])
    assert len(told) == 3
    own = "Ours (SGD at learning rate 0.1, batch size 256, default initialisation, 2 hidden layers)"
    assert told[0].startswith(f"{own} trains slowly because it is at the edge of stability")
    assert "so say 95% of the checkpoints after the start" in told[0]
    assert "half of them or more for 10 of 10 seeds" in told[0]
    # Seeds differ by a hundredth: in the middle all is 1.045 times what the first one has.
    assert "at 1.04 of what the rate allows" in told[1]
    assert "42.8 % higher (95 % 42.0 to 43.7) at three times the rate" in told[2]
    assert "14.6 % lower (95 % 14.3 to 14.9) at a tenth of the rate" in told[2]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_has_its_wording(tmp_path, verdict):
    scores = {seed: curve((2, 0.1), (1, 0.5)) for seed in range(2)}
    cell = write_cell(tmp_path, config_of(num_seeds=2, epochs=1), scores)
    write_diagnosis(tmp_path / runs.CELLS_FOLDER / cell, {0: [NOT_SLOW] * 2, 1: [verdict] * 2})
    write_experiment(tmp_path, "why", {cell: "lr=0.1"})
    of_one = collect_runs(tmp_path)
    (one,) = diagnosed(of_one, ["why"])
    assert cause_of(of_one, one.cells)[0] == verdict
    said, readings, forks = causes(of_one, QUESTION, ["why"])
    assert "so say 100% of the checkpoints" in said
    assert "nan" not in f"{said}{readings}{forks}"


def test_a_table_has_a_row_for_each_kind_of_cell(collection):
    (row,) = kinds_table(collection, diagnosed(collection, ["why"])).to_dict("records")
    kind = {"init": "default", "hidden layers": "2", "optimizer": "sgd", "lr": "0.1"}
    assert row.items() >= {**kind, "batch": "256", "cause": EDGE, "of checkpoints": "95%"}.items()
    assert (row["λ min by max"], row["3 × lr, %"], row["0.1 × lr, %"]) == (
        "−0.025", "−42.8", "+14.6",
    )  # fmt: skip


def test_readings_have_a_column_for_each_checkpoint(collection):
    (one,) = diagnosed(collection, ["why"])
    table = readings_table(collection, one).set_index("reading")
    assert list(table.columns) == ["epoch 0", "epoch 1", "epoch 2"]
    assert table.loc["noise scale", "epoch 2"] == "104 (102 … 107)"
    assert table.loc["smallest eigenvalue by the largest", "epoch 1"] == "−0.025 (−0.025 … −0.025)"


def test_gains_are_paired_at_the_last_horizon_of_both():
    """A fork that diverged alone has lost everything; where both have, nothing is known."""
    falls = {
        "fall after 50 steps, lr x 1": [0.1, 0.1, -math.inf],
        "fall after 235 steps, lr x 1": [0.2, 0.3, -math.inf],
        "fall after 50 steps, lr x 3": [0.5, -math.inf, -math.inf],
        "fall after 235 steps, lr x 3": [0.25, -math.inf, -math.inf],
        "fall after 50 steps, lr x 0.1": [0.3, 0.05, 0.4],
    }
    rows = [
        {"seed": seed, "epoch": 1, "quantity": quantity, "value": value}
        for quantity, values in falls.items()
        for seed, value in enumerate(values)
    ]
    readings = pd.DataFrame(rows)
    faster = gains(readings, FASTER).loc[1].tolist()
    assert faster[:2] == [pytest.approx(0.05), -math.inf]
    assert math.isnan(faster[2])
    assert gains(readings, SLOWER[1]).loc[1].tolist()[:2] == pytest.approx([0.2, -0.05])


def test_nothing_is_said_of_what_was_not_diagnosed(collection):
    assert causes(collection, QUESTION, []) == []
    assert kinds_table(collection, []).empty
