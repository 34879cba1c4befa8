"""`optsweep lr-range`: pieces with rates of their own, every optimizer, a suggestion."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import options
from optsweep.commands import lr_range
from optsweep.report.rate_range import suggest, table
from optsweep.training.plan import plan_cell
from optsweep.training.rate_range import measure_range, rising_rates

OPTIMIZERS = [name for name in options("optimizer", config_dir()) if name != "custom"]


def measured(config, *range_of, num_steps=24, num_pieces=3):
    rates = rising_rates(*range_of, num_pieces, num_steps)
    return measure_range(plan_cell(config), rates, lambda step: None)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(slice_config, optimizer):
    config = slice_config(f"optimizer={optimizer}", "batch_size=64", "num_seeds=2")
    found = measured(config, 1e-9, 10.0)
    assert found.losses.shape == (3, 2, 24)
    first = found.losses[:, :, 0]
    assert (first == first[0]).all()  # all pieces begin with one network for each seed
    # Nothing happens at a rate of 1e-9 …
    assert np.abs(found.losses[0, :, -1] - np.log(10)).max() < 0.2
    assert np.nanmin(found.losses[1:]) < np.log(10) - 0.1  # … and something at another


@pytest.mark.parametrize(
    ("optimizer", "range_of"), [("adam", (1e-4, 1e-2)), ("sophia", (1e-2, 1.0))]
)
def test_a_piece_is_a_training_of_its_own_at_rising_rates(slice_config, optimizer, range_of):
    config = slice_config(f"optimizer={optimizer}", "batch_size=64", "num_seeds=2", "seed=3")
    rates = rising_rates(*range_of, 2, 6)
    whole = measure_range(plan_cell(config), rates, lambda step: None)
    alone = slice_config(f"optimizer={optimizer}", "batch_size=64", "num_seeds=1", "seed=4")
    steps = []
    second = measure_range(plan_cell(alone), rates[1:], steps.append)
    assert steps == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(whole.losses[1, 1], second.losses[0, 0], rtol=1e-5)


def test_smiths_own_test_is_a_plain_loop(slice_config):
    config = slice_config("batch_size=100", "optimizer.lr=0.5", "momentum=0.9")
    rates = rising_rates(1e-3, 1.0, 1, 8)
    found = measure_range(plan_cell(config), rates, lambda step: None)
    from optsweep.data.tensors import epoch_orders, load_dataset

    train = load_dataset(config.dataset, torch.device("cpu"), torch.float32).train
    torch.manual_seed(0)
    sizes = (784, 128, 56, 10)
    linear = [torch.nn.Linear(*pair) for pair in itertools.pairwise(sizes)]
    network = torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1], torch.nn.ReLU(), linear[2])
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    (order,) = epoch_orders([0], 1, len(train), torch.device("cpu"))
    for step, rate in enumerate(rates[0]):
        batch = order[100 * step : 100 * step + 100]
        loss = torch.nn.functional.cross_entropy(network(train.flat[batch]), train.labels[batch])
        assert loss.item() == pytest.approx(found.losses[0, 0, step], rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.step()


def test_a_suggestion_is_read_off_the_losses():
    rates = rising_rates(1e-3, 1e3, 3, 50)
    falling = np.linspace(2.0, 1.0, 50)
    losses = np.stack([np.full(50, 2.0), falling, np.linspace(2.0, 9.0, 50)])[:, None]
    found = suggest(table(rates, losses, range(1), 0.0))
    assert found.low == pytest.approx(rates[1, 0])
    assert found.best == pytest.approx(rates[1, -1])
    assert rates[1, -1] <= found.high < rates[2, 5]
    assert not found.is_open
    losses[1:, :, 1:] = np.nan
    losses[1:, :, 0] = 2.0
    assert suggest(table(rates, losses, range(1), 0.0)) is None
    losses[2] = np.linspace(2.0, 0.5, 50)
    assert suggest(table(rates, losses, range(1), 0.0)).is_open


def test_the_program(slice_settings, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--steps", "20", "--pieces", "3", "--low", "1e-3", "--high", "10", "--out", str(out)]
    given = [*slice_settings, "optimizer=sgd,adam", "batch_size=64", *flags]
    assert lr_range.main(given) == 0
    output = capsys.readouterr().out
    assert output.count("for a search: optimizer.lr='tag(log,interval(") == 2
    tables = [pd.read_csv(path) for path in out.glob("*/rate_range.csv")]
    assert [list(rows) for rows in tables] == [
        ["piece", "seed", "step", "lr", "loss", "smoothed_loss"]
    ] * 2
    assert [len(rows) for rows in tables] == [60, 60]
    assert (out / "rate_ranges.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--low", "1", "--high", "0.1"], "expected a range that rises"),
        (["--low", "-1"], "expected a learning rate > 0"),
        (["--steps", "2"], "--steps 2: expected at least 5"),
        (["--smoothing", "1"], r"expected a number in \[0, 1\)"),
        (["optimizer=adm"], "did you mean adam"),
        (["--stepz", "3"], "stepz"),
    ],
)
def test_mistakes(arguments, wanted, capsys):
    with pytest.raises(SystemExit) as ended:
        lr_range.main(arguments)
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert re.search(wanted, errors)
