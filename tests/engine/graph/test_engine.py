"""Replayed steps train as the reference's do: 54 of them, to 1e-12 in float64."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from optsweep.config.schema import Config
from optsweep.data.tensors import Split, epoch_orders
from optsweep.engine.choice import ENGINES, choose_engine
from optsweep.engine.graph import engine
from optsweep.engine.graph.replay import RepeatedSteps, TapedSteps
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

CPU = torch.device("cpu")
NUM_EXAMPLES, BATCH_SIZE = 43, 8  # six steps an epoch, of which the last has 3 examples
EPOCHS = {1: 2, BATCH_SIZE: 9, NUM_EXAMPLES: 9}  # by the batch size
SGD = "torch.optim.SGD"
OPTIMIZERS = {
    "sgd": {"_target_": SGD, "lr": 0.1, "weight_decay": 1e-2},
    "momentum": {"_target_": SGD, "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-3},
    "dampened": {"_target_": SGD, "lr": 0.05, "momentum": 0.9, "dampening": 0.5},
    "nesterov": {"_target_": SGD, "lr": 0.02, "momentum": 0.9, "nesterov": True},
    "maximize": {"_target_": SGD, "lr": 0.01, "maximize": True},
    "adam": {"_target_": "torch.optim.Adam", "lr": 1e-3, "weight_decay": 1e-3},
    "amsgrad": {"_target_": "torch.optim.Adam", "lr": 1e-3, "amsgrad": True},
    "adamw": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.1},
    "adagrad": {"_target_": "torch.optim.Adagrad", "lr": 1e-2},
    "lars": {"_target_": "optsweep.optim.layerwise.LARS", "lr": 0.5, "weight_decay": 1e-3},
    "groups": {
        "_target_": "torch.optim.AdamW",
        "lr": 1e-3,
        "groups": {"last": {"lr": 1e-4}, "bias": {"weight_decay": 0.0}},
    },
    "rest": {
        "_target_": SGD,
        "lr": 0.1,
        "momentum": 0.9,
        "rest": {"_target_": "torch.optim.Adam", "lr": 1e-3},
    },
}
# torch refuses to count their steps on a CPU, where it has nothing to capture.
ON_A_GPU = {
    "nadam": {"_target_": "torch.optim.NAdam", "lr": 1e-3, "weight_decay": 1e-3},
    "radam": {"_target_": "torch.optim.RAdam", "lr": 1e-3},
    "rmsprop": {"_target_": "torch.optim.RMSprop", "lr": 1e-3, "momentum": 0.9, "centered": True},
    "adamax": {"_target_": "torch.optim.Adamax", "lr": 1e-3},
    "adadelta": {"_target_": "torch.optim.Adadelta", "lr": 0.1},
    "asgd": {"_target_": "torch.optim.ASGD", "lr": 1e-2},
    "rprop": {"_target_": "torch.optim.Rprop", "lr": 1e-4},
}
NETWORKS = {
    "report": {"hidden_sizes": [12, 8]},
    "norm after": {"hidden_sizes": [12, 8], "layernorm_position": [2]},
    "norm before": {
        "hidden_sizes": [12, 8],
        "layernorm_position": "all",
        "layernorm_placement": "before",
    },
    "lenet": {"_target_": "optsweep.models.lenet.LeNet"},
}
RUNNERS = {
    "called": lambda step, *_: RepeatedSteps(step),
    "taped": lambda step, *_: TapedSteps(step),
}


@pytest.fixture
def default_dtype():
    """`default_dtype(dtype)`: NAdam keeps its product of momenta in the default type."""
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.fixture
def captured_on_a_cpu(monkeypatch):
    """`captured_on_a_cpu(optimizer)`: let torch count the steps of this one on a CPU, too."""

    def allow(optimizer):
        module = sys.modules[optimizer.target.__module__]
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda **_: ["cpu"])

    return allow


def work_of(optimizer, model, batch_size=BATCH_SIZE, num_seeds=2):
    """float64 work on a few small images."""
    values = {
        "optimizer": optimizer,
        "model": model,
        "num_seeds": num_seeds,
        "trainer": {"batch_size": batch_size, "engine": "torch", "device": "cpu"},
        "dataset": {"num_train": NUM_EXAMPLES},
    }
    return dataclasses.replace(plan_cell(Config.from_mapping(values)).work, dtype=torch.float64)


def train(build, work):
    """Scores and weights of some epochs, at rates that change with every step."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(NUM_EXAMPLES, *work.input_shape, generator=generator, dtype=torch.float64)
    split = Split(images, torch.randint(10, (NUM_EXAMPLES,), generator=generator))
    seeds = range(work.num_seeds)
    stack = build_stack(work.model, default, seeds, work.input_shape, 10, CPU, work.dtype)
    built = build(work, stack, split)
    steps = -(-NUM_EXAMPLES // work.batch_size)
    scores = []
    for epoch in range(1, 1 + EPOCHS[work.batch_size]):
        is_full = work.batch_size >= NUM_EXAMPLES
        orders = None if is_full else epoch_orders(seeds, epoch, NUM_EXAMPLES, CPU)
        scores.append(built.train_epoch(orders, work.optimizer.lr * np.linspace(0.4, 1, steps)))
        scores.append(built.evaluate(split))
    return scores, [*stack.named_parameters(), *stack.named_buffers()]


def assert_same(expected, found):
    for one, other in zip(expected[0], found[0], strict=True):
        np.testing.assert_allclose(other.loss, one.loss, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(other.accuracy, one.accuracy, rtol=1e-12)
    for (name, one), (other_name, other) in zip(expected[1], found[1], strict=True):
        assert name == other_name
        torch.testing.assert_close(other.detach(), one.detach(), rtol=1e-12, atol=1e-12, msg=name)


def assert_replays(work, runner):
    expected = train(ENGINES["torch"].build, work)
    found = train(lambda *arguments: engine.build(*arguments, RUNNERS[runner]), work)
    assert_same(expected, found)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, runner):
    work = work_of(OPTIMIZERS[optimizer], NETWORKS["norm after"])
    assert choose_engine(work, "torch_graph") == ("torch_graph", "")
    assert_replays(work, runner)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("optimizer", ON_A_GPU)
def test_every_optimizer_that_a_gpu_captures(optimizer, runner, default_dtype, captured_on_a_cpu):
    work = work_of(ON_A_GPU[optimizer], NETWORKS["report"])
    on_gpu = dataclasses.replace(work, device=torch.device("cuda"))
    assert choose_engine(on_gpu, "torch_graph") == ("torch_graph", "")
    name = work.optimizer.target.__name__
    reason = f"torch_graph: torch captures optimizer {name} on a GPU alone"
    assert choose_engine(work, "torch_graph") == ("torch", reason)
    captured_on_a_cpu(work.optimizer)
    default_dtype(torch.float64)
    assert_replays(work, runner)


@pytest.mark.parametrize("batch_size", [1, BATCH_SIZE, NUM_EXAMPLES])
@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "lenet"])
def test_every_perceptron(network, num_seeds, batch_size):
    work = work_of(OPTIMIZERS["momentum"], NETWORKS[network], batch_size, num_seeds)
    assert_replays(work, "taped")


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("batch_size", [BATCH_SIZE, NUM_EXAMPLES])
def test_another_network_by_autograd(runner, batch_size):
    work = work_of(OPTIMIZERS["adam"], NETWORKS["lenet"], batch_size)
    assert choose_engine(work, "torch_graph").name == "torch_graph"
    assert_replays(work, runner)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["optimizer=lamb"], "torch_graph cannot capture optimizer LAMB: it counts in "),
        (["optimizer=prodigy"], "torch_graph cannot capture optimizer Prodigy: it counts in "),
        (
            ["optimizer=torch.optim.Adafactor"],
            "torch_graph cannot capture optimizer Adafactor here: replayed steps would differ",
        ),
        (["optimizer=sophia"], "torch_graph cannot capture the second derivatives of optimizer"),
        (["model.dropout=0.2"], "torch_graph cannot capture a network that draws random numbers"),
        (
            ["momentum=0.9", "scheduler=one_cycle", "scheduler.cycle_momentum=true"],
            "torch_graph changes the learning rate alone, this schedule momentum too",
        ),
    ],
)
def test_what_cannot_be_captured_is_trained_by_the_reference(slice_config, overrides, reason):
    name, given = plan_cell(slice_config("trainer.engine=torch_graph", *overrides)).engine
    assert name == "torch"
    assert given.startswith(reason)
    assert "\n" not in given


def test_auto_leaves_it_alone(slice_config):
    work = plan_cell(slice_config("trainer.engine=torch")).work
    for device in ("cpu", "cuda"):
        on_device = dataclasses.replace(work, device=torch.device(device))
        assert choose_engine(on_device, "auto").name != "torch_graph"


def test_a_cell_is_what_the_reference_makes_of_it(slice_config):
    def history(name):
        settings = ("optimizer=adam", "batch_size=48", "num_seeds=2", "trainer.epochs=2")
        config = slice_config(f"trainer.engine={name}", "trainer.precision=float64", *settings)
        record = train_cell(plan_cell(config))
        assert record.result["engine"] == name
        return record.history

    for expected, found in zip(history("torch"), history("torch_graph"), strict=True):
        assert found["lr"] == expected["lr"]
        for key in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert found[key] == pytest.approx(expected[key], rel=1e-10)


def test_a_diverged_seed_leaves_the_others_untouched():
    work = work_of(OPTIMIZERS["adam"], NETWORKS["norm after"])

    def spoiled(work, stack, split):
        built = ENGINES["torch_graph"].build(work, stack, split)
        stack.biases[0][1] = float("nan")
        return built

    expected, _ = train(ENGINES["torch_graph"].build, work)
    found, _ = train(spoiled, work)
    for one, other in zip(expected, found, strict=True):
        assert other.loss[0] == one.loss[0]
        assert np.isnan(other.loss[1])
