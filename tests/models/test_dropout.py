"""Dropout of the multilayer perceptron: every seed drops what it would drop alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import optsweep
from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.identity import cell_name, config_hash
from optsweep.data.tensors import epoch_orders, load_dataset
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

CPU = torch.device("cpu")
RATE, NUM_TRAIN, BATCH_SIZE, EPOCHS = 0.3, 300, 48, 2
GIVEN = [
    *["optimizer.lr=0.1", "model.hidden_sizes=[20,12]", "trainer.precision=float64", "seed=3"],
    *[f"trainer.epochs={EPOCHS}", f"dataset.train_size={NUM_TRAIN}"],
]


def train_plainly(config, layers, batch_size):
    """After each epoch the mean loss of its batches and the loss on the test images."""
    dataset = load_dataset(config.dataset, CPU, torch.double)
    images, labels = dataset.train.images.flatten(1), dataset.train.labels
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        net = layers().double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        losses = []
        for epoch in range(1, EPOCHS + 1):
            net.train()
            loss_sum = 0.0
            order = torch.arange(len(labels))
            if batch_size < len(labels):
                order = epoch_orders([config.seed], epoch, len(labels), CPU)[0]
            for batch in order.split(batch_size):
                loss = functional.cross_entropy(net(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss_sum += loss.item() * len(batch)
            net.eval()
            with torch.no_grad():
                test = functional.cross_entropy(
                    net(dataset.test.images.flatten(1)), dataset.test.labels
                )
            losses.append((loss_sum / len(labels), test.item()))
    return losses


def plain():
    return nn.Sequential(
        *[nn.Linear(784, 20), nn.ReLU(), nn.Dropout(RATE)],
        *[nn.Linear(20, 12), nn.ReLU(), nn.Dropout(RATE), nn.Linear(12, 10)],
    )


def normalised():
    return nn.Sequential(
        *[nn.Linear(784, 20), nn.ReLU(), nn.LayerNorm(20), nn.Dropout(RATE)],
        *[nn.Linear(20, 12), nn.ReLU(), nn.Dropout(RATE), nn.Linear(12, 10)],
    )


def losses(record, seed):
    rows = [row for row in record.history if row["seed"] == seed and row["epoch"]]
    return [(row["train_loss"], row["test_loss"]) for row in rows]


@pytest.mark.parametrize("batch_size", [BATCH_SIZE, NUM_TRAIN])
@pytest.mark.parametrize(
    ("layers", "given"), [(plain, []), (normalised, ["layernorm_position=[1]"])]
)
def test_every_seed_trains_as_in_a_plain_script(slice_config, layers, given, batch_size):
    given = [*GIVEN, *given, f"model.dropout={RATE}", f"batch_size={batch_size}"]
    record = train_cell(plan_cell(slice_config(*given, "num_seeds=3")))
    for seed in range(3, 6):
        config = slice_config(*given, f"seed={seed}")
        expected = train_plainly(config, layers, batch_size)
        np.testing.assert_allclose(losses(record, seed), expected, rtol=1e-10)
        alone = train_cell(plan_cell(config))
        np.testing.assert_allclose(losses(alone, seed), expected, rtol=1e-10)


def test_what_is_recorded_leaves_no_trace(slice_config):
    given = [*GIVEN, "num_seeds=2", f"model.dropout={RATE}"]
    one, other = (
        train_cell(plan_cell(slice_config(*given, f"record.gradients={word}")))
        for word in ("true", "false")
    )
    assert losses(one, 4) == losses(other, 4)


def test_no_dropout_is_the_cell_that_it_was(compose):
    none = compose("model.dropout=0")
    assert config_hash(none) == config_hash(compose()) == config_hash(compose("model.dropout=0.0"))
    assert cell_name(compose("model.dropout=0.25")).startswith("dropout_0.25_")
    assert none.model == compose().model


def test_numba_leaves_it_to_torch(slice_config):
    plan = plan_cell(slice_config("model.dropout=0.5"))
    assert str(plan.engine) == "torch (numba knows no dropout)"
    with pytest.raises(InputError, match="numba knows no dropout; auto takes another"):
        plan_cell(slice_config("model.dropout=0.5", "trainer.engine=numba"))
    assert plan_cell(slice_config("model.dropout=0")).engine.name == "numba"


@pytest.mark.parametrize("value", [1, 1.5, -0.1, "half"])
def test_what_is_no_share_is_refused(slice_config, value):
    with pytest.raises(InputError, match=rf"model.dropout={value}: expected a number in \[0, 1\)"):
        slice_config(f"model.dropout={value}")


def test_of_another_network_it_is_a_setting_or_none(slice_config):
    with pytest.raises(InputError, match="model LeNet has no setting 'dropout'"):
        plan_cell(slice_config("model=lenet", "model.dropout=0.5"))


def test_kept_weights_are_scored_without_dropout(slice_config, tmp_path):
    config = slice_config(*GIVEN, f"model.dropout={RATE}", "trainer.keep_weights=true")
    runs.start(tmp_path, config)
    record = train_cell(plan_cell(config), directory=tmp_path)
    runs.write(tmp_path, record.history, record.result, record.gradients)
    network = optsweep.load(tmp_path, seed=3)
    test = load_dataset(config.dataset, CPU, torch.double).test
    with torch.no_grad():
        loss = functional.cross_entropy(network(test.images), test.labels).item()
    assert loss == pytest.approx(record.history[-1]["test_loss"], rel=1e-12)
    assert network.train().dropout == RATE
