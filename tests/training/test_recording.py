"""What is recorded of a training, against networks of PyTorch's own, and without a trace in it."""

import csv
import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optsweep import runs
from optsweep.config.schema import MLPConfig, ModuleConfig, RecordConfig
from optsweep.config.targets import allow_targets
from optsweep.data.tensors import Split
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP
from optsweep.training import recording
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell
from optsweep.training.recording import REPORT_COLUMN, Recorder, chosen_columns, loss_gradients

SEEDS = (3, 8)
HIDDEN_SIZES = (16, 8)


@pytest.fixture
def train() -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(50, 784, generator=generator, dtype=torch.float64)
    images[:, REPORT_COLUMN] = 0.0
    return Split(images, torch.randint(10, (50,), generator=generator))


def stack(seeds=SEEDS, **settings) -> StackedMLP:
    config = MLPConfig(hidden_sizes=HIDDEN_SIZES, **settings)
    return StackedMLP(config, seeds, default, 784, 10, torch.device("cpu"), torch.float64)


def network_of(seed: int, norms=()) -> nn.Sequential:
    """The same seed's network as PyTorch would build it."""
    torch.manual_seed(seed)
    sizes = (784, *HIDDEN_SIZES)
    linears = [nn.Linear(*pair) for pair in itertools.pairwise(sizes)]
    last = nn.Linear(HIDDEN_SIZES[-1], 10)
    layers: list[nn.Module] = []
    for number, linear in enumerate(linears, start=1):
        layers += [linear, nn.ReLU()]
        layers += [nn.LayerNorm(linear.out_features)] if number in norms else []
    return nn.Sequential(*layers, last).double()


@pytest.mark.parametrize("norms", [(), (1, 2)])
def test_gradients_are_those_of_each_seeds_own_network(train, monkeypatch, norms):
    monkeypatch.setattr(recording, "SUBSET_SIZE", 20)
    model = stack(layernorm_position=norms)
    # Chunks of 7: neither 20 nor 50 is a multiple.
    monkeypatch.setattr(recording, "_VALUES", 2 * 7 * model.num_activations)
    gradients = loss_gradients(model, train)
    for found, num_examples in zip(gradients, (20, 50), strict=True):
        for index, seed in enumerate(SEEDS):
            network = network_of(seed, norms)
            logits = network(train.images[:num_examples])
            functional.cross_entropy(logits, train.labels[:num_examples]).backward()
            for ours, parameter in zip(found, network.parameters(), strict=True):
                torch.testing.assert_close(ours[index], parameter.grad, rtol=1e-12, atol=1e-15)


def test_the_rows_of_two_epochs(train):
    model = stack()
    recorder = Recorder(RecordConfig(weights=True, gradients=True), model, train, SEEDS)
    recorder.record(0, np.array([True, True]))
    before = [parameter.detach().clone() for _, parameter in model.named_parameters()]
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            parameter.add_(0.5)
    recorder.record(1, np.array([True, False]))
    found = {
        (row["seed"], row["epoch"], row["quantity"], row["parameter"]): row["value"]
        for row in recorder.rows
    }
    assert len(found) == len(recorder.rows)
    assert {key[:2] for key in found} == {(3, 0), (8, 0), (3, 1)}  # seed 8 diverged in epoch 1
    names = [name for name, _ in model.named_parameters()]
    for name, first, (_, last) in zip(names, before, model.named_parameters(), strict=True):
        change = 0.5 * math.sqrt(first[0].numel())
        assert found[3, 1, "update_norm", name] == pytest.approx(change, rel=1e-12)
        assert (3, 0, "update_norm", name) not in found
        assert found[8, 0, "weight_norm", name] == pytest.approx(first[1].norm().item())
        assert found[3, 1, "weight_norm", name] == pytest.approx(last[0].norm().item())
    _, whole = loss_gradients(model, train)
    column = chosen_columns(train.images)[1]
    single = f"linear1.weight[0,{column}]"
    assert found[3, 1, "gradient", single] == whole[0][0, 0, column]
    assert found[3, 1, "weight", single] == model.weights[0][0, 0, column]
    assert found[3, 1, "gradient_norm", "linear1.weight"] == pytest.approx(whole[0][0].norm())
    # With 50 examples the subset is all of them.
    assert found[3, 1, "subset_gradient", single] == found[3, 1, "gradient", single]
    # A pixel that is always zero: the weight gets no gradient, and the file says why.
    assert found[3, 0, "gradient", "linear1.weight[0,725]"] == 0
    assert found[3, 0, "pixel_nonzero_fraction", "linear1.weight[0,725]"] == 0
    assert found[3, 0, "pixel_nonzero_fraction", single] > 0
    assert (3, 1, "pixel_nonzero_fraction", single) not in found


def test_chosen_columns_are_the_reports_one_and_pixels_with_signal():
    images = torch.zeros(2, 784)
    images[1] = torch.arange(784) / 784  # the variance grows with the column
    assert chosen_columns(images) == [725, 783, 783 - 196, 783 - 392]


class Normalised(nn.Sequential):
    """Statistics of the batch in training, running ones in evaluation; and dropout."""

    def __init__(self, num_inputs, num_classes):
        layers = [nn.Flatten(), nn.Linear(num_inputs, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)]
        super().__init__(*layers, nn.Linear(16, num_classes))


@pytest.fixture
def module_stack(train):
    """`module_stack(target) -> Stack, Split`, on grey images of 28 x 28."""
    allow_targets([__name__])
    images = Split(train.images.view(-1, 1, 28, 28), train.labels)
    shape, cpu = (1, 28, 28), torch.device("cpu")
    yield lambda target: (
        build_stack(ModuleConfig(target), default, SEEDS, shape, 10, cpu, torch.float64),
        images,
    )
    allow_targets([])


def test_gradients_of_a_network_as_it_is_evaluated(module_stack):
    """With running statistics and without dropout, and nothing of it is left in the stack."""
    model, train = module_stack(f"{__name__}.Normalised")
    model.train(True)
    model.forward(train.images)  # moves the running statistics away from 0 and 1
    buffers = [buffer.clone() for _, buffer in model.named_buffers()]
    states = [state.clone() for state in model.rng_states]
    _, whole = loss_gradients(model, train)
    assert all(map(torch.equal, buffers, (buffer for _, buffer in model.named_buffers())))
    assert all(map(torch.equal, states, model.rng_states))
    for index in range(len(SEEDS)):
        network = Normalised(784, 10).double().eval()
        values = {name: stacked[index] for name, stacked in model.named_parameters()}
        values |= {name: stacked[index] for name, stacked in model.named_buffers()}
        network.load_state_dict(values)
        functional.cross_entropy(network(train.images), train.labels).backward()
        for ours, parameter in zip(whole, network.parameters(), strict=True):
            torch.testing.assert_close(ours[index], parameter.grad, rtol=1e-12, atol=1e-15)


def test_a_network_without_a_weight_for_each_pixel_has_norms_alone(module_stack):
    model, train = module_stack("optsweep.models.lenet.LeNet")
    recorder = Recorder(RecordConfig(weights=True, gradients=True), model, train, SEEDS)
    recorder.record(0, np.array([True, True]))
    names = {name for name, _ in model.named_parameters()}
    assert {(row["quantity"], row["parameter"]) for row in recorder.rows} == {
        (quantity, name)
        for quantity in ("weight_norm", "gradient_norm", "subset_gradient_norm")
        for name in names
    }


def test_vectors_have_no_columns_of_the_report():
    generator = torch.Generator().manual_seed(0)
    columns = chosen_columns(torch.rand(5, 37, generator=generator))
    assert len(columns) == 3
    assert max(columns) < 37


def test_weights_alone_need_no_gradient(train, monkeypatch):
    monkeypatch.delattr(recording, "loss_gradients")
    recorder = Recorder(RecordConfig(weights=True), stack(), train, SEEDS)
    recorder.record(0, np.array([True, True]))
    recorder.record(1, np.array([True, True]))
    assert {row["quantity"] for row in recorder.rows} == {"weight_norm", "update_norm"}


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_recording_does_not_change_the_training(slice_config, engine, optimizer):
    settings = (f"trainer.engine={engine}", f"optimizer={optimizer}", "batch_size=100")
    shape = ("model.hidden_sizes=[16,8]", "num_seeds=2", "trainer.epochs=2")
    plain, recorded = (
        train_cell(plan_cell(slice_config(*settings, *shape, f"record.gradients={on}")))
        for on in ("false", "true")
    )

    def without_seconds(record):
        return [{**row, "seconds": None} for row in record.history]

    assert without_seconds(recorded) == without_seconds(plain)
    assert plain.gradients == []
    quantities = {row["quantity"] for row in recorded.gradients}
    assert quantities == {
        "weight_norm",
        "update_norm",
        "gradient_norm",
        "subset_gradient_norm",
        "weight",
        "gradient",
        "subset_gradient",
        "pixel_nonzero_fraction",
    }
    moved = [row["value"] for row in recorded.gradients if row["quantity"] == "update_norm"]
    assert min(moved) > 0  # the recorder sees the weights that the engine trains


def test_gradients_are_written_before_the_result(tmp_path):
    row = {"seed": 0, "epoch": 1, "quantity": "weight", "parameter": "linear1.weight[0,725]"}
    runs.write(tmp_path, [], {"config_hash": "0"}, [row | {"value": 0.25}])
    with (tmp_path / runs.GRADIENTS_FILE).open() as file:
        assert list(csv.DictReader(file)) == [
            {**row, "seed": "0", "epoch": "1", "value": "0.25"},
        ]
    assert json.loads((tmp_path / runs.RESULT_FILE).read_text())["config_hash"] == "0"
    written = [(tmp_path / name).stat().st_mtime_ns for name in ("gradients.csv", "result.json")]
    assert written == sorted(written)


def test_a_cell_without_recording_has_no_such_file(tmp_path):
    runs.write(tmp_path, [], {"config_hash": "0"})
    assert not (tmp_path / runs.GRADIENTS_FILE).exists()
