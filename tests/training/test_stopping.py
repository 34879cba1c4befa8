"""Hopeless cells end early, and say so; others are what they were."""

import pytest

from optsweep.config.checks import InputError
from optsweep.config.identity import cell_name, config_hash
from optsweep.config.schema import StoppingConfig
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell
from optsweep.training.stopping import Stop, find_stop


@pytest.mark.parametrize(
    ("config", "accuracies", "stop"),
    [
        (StoppingConfig(), [0.1, 0.1, 0.1], None),
        (StoppingConfig(floor=(0.5,)), [], None),
        (StoppingConfig(floor=(0.5,)), [0.5], None),
        (StoppingConfig(floor=(0.5,)), [0.4], Stop(1, "floor", 0.4, 0.5)),
        (StoppingConfig(floor=(0.5,)), [0.4, 0.4], None),  # beyond the floor's end
        (StoppingConfig(floor=(0.0, 0.5)), [0.6, 0.1], None),  # its best was good enough
        (StoppingConfig(patience=2), [0.5, 0.5], None),
        (StoppingConfig(patience=2), [0.5, 0.5, 0.5], Stop(3, "patience", 0.5, 0.5)),
        (StoppingConfig(patience=2), [0.5, 0.4, 0.6], None),
    ],
)
def test_rules(config, accuracies, stop):
    assert find_stop(config, accuracies) == stop


def test_a_cell_below_the_floor_ends_and_tells(slice_config):
    config = slice_config(
        "dataset.val_size=200", "num_seeds=2", "trainer.epochs=4", "stopping.floor=[0,1.0]"
    )
    record = train_cell(plan_cell(config))
    stopped = record.result["stopped"]
    assert (stopped["epoch"], stopped["rule"], stopped["wanted"]) == (2, "floor", 1.0)
    rows = [row["val_accuracy"] for row in record.history if row["epoch"] in (1, 2)]
    best = max((rows[0] + rows[2]) / 2, (rows[1] + rows[3]) / 2)  # epochs 1 and 2, of both seeds
    assert stopped["best"] == pytest.approx(best, abs=1e-12)
    assert {seed["epochs"] for seed in record.result["per_seed"]} == {2}
    assert {seed["status"] for seed in record.result["per_seed"]} == {"completed"}
    assert max(row["epoch"] for row in record.history) == 2


def test_until_it_ends_it_is_the_same_cell(slice_config):
    given = ("dataset.val_size=200", "trainer.epochs=3")
    whole = train_cell(plan_cell(slice_config(*given)))
    short = train_cell(plan_cell(slice_config(*given, "stopping.floor=[1.0]")))

    def without_time(rows):
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    assert whole.result["stopped"] is None
    assert without_time(short.history) == without_time(whole.history[:2])


def test_the_last_epoch_is_no_early_end(slice_config):
    config = slice_config("dataset.val_size=200", "trainer.epochs=1", "stopping.floor=[1.0]")
    assert train_cell(plan_cell(config)).result["stopped"] is None


def test_a_rule_makes_another_cell_and_none_makes_none(compose):
    plain = compose("dataset.val_size=100")
    assert config_hash(compose("dataset.val_size=100", "stopping.floor=[]")) == config_hash(plain)
    stopped = compose("dataset.val_size=100", "stopping.patience=3")
    assert config_hash(stopped) != config_hash(plain)
    assert "stopping" in cell_name(stopped)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stopping.patience=3"], r"stopping needs validation examples .* dataset\.val_size"),
        (["dataset.val_size=9", "stopping.patience=0"], r"stopping\.patience=0: expected a whole"),
        (["dataset.val_size=9", "stopping.floor=[2]"], r"stopping\.floor=\[2\]: an accuracy is at"),
        (["dataset.val_size=9", "stopping.floor=0.5"], r"stopping\.floor=0\.5: expected a list"),
    ],
)
def test_mistakes(overrides, message, compose):
    with pytest.raises(InputError, match=message):
        compose(*overrides)
