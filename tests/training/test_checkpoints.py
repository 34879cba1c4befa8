"""A killed cell that goes on, weights that are kept, and cells that begin with these."""

import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import optsweep
from optsweep import provenance, runs
from optsweep.config.checks import InputError
from optsweep.config.identity import cell_name, config_hash
from optsweep.config.targets import allow_targets
from optsweep.data.tensors import load_dataset
from optsweep.models import initializers
from optsweep.optim.resolved import resolve_optimizer
from optsweep.optim.states import is_restorable
from optsweep.training import checkpoints
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

SMALL = ("trainer.epochs=5", "batch_size=100", "model.hidden_sizes=[16,8]")
TORCH, NUMBA = "trainer.engine=torch", "trainer.engine=numba"
GRAPH = "trainer.engine=torch_graph"


class Drops(nn.Sequential):
    """Draws random numbers in training, and keeps running statistics."""

    def __init__(self, num_inputs, num_classes):
        layers = [nn.Flatten(), nn.Linear(num_inputs, 20), nn.BatchNorm1d(20), nn.Dropout(0.4)]
        super().__init__(*layers, nn.ReLU(), nn.Linear(20, num_classes))


class Forgetful(torch.optim.SGD):
    """Its steps become longer, but its state does not say so."""

    num_steps = 0

    def step(self, closure=None):
        self.num_steps += 1
        for group in self.param_groups:
            group["lr"] *= self.num_steps
        return super().step(closure)


@pytest.fixture(autouse=True)
def _allowed():
    allow_targets([__name__])
    yield
    allow_targets([])


@pytest.fixture
def cell(slice_config):
    """`cell(*overrides) -> Config` of a small cell."""

    def config(*overrides):
        own = {override.partition("=")[0] for override in overrides}
        own |= {"model.hidden_sizes"} if own & {"model", "depth"} else set()
        given = [each for each in SMALL if each.partition("=")[0] not in own]
        found = slice_config(*given, *(o for o in overrides if not o.startswith("start_from=")))
        for override in overrides:
            if override.startswith("start_from="):
                origin = runs.find_origin(override.partition("=")[2])
                found = dataclasses.replace(found, start_from=origin)
        allow_targets([__name__])  # of which a composed configuration says nothing
        return found

    return config


def often(config):
    """The same with a checkpoint after every epoch."""
    return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, checkpoint=1))


class Killed(BaseException):
    """As sudden as can be without a process of its own."""


def train(config, directory=None, kill_in=None, tell=lambda line: None):
    """Train a cell as the program does, or up to the end of an epoch in which it is killed."""

    def on_epoch(epoch):
        if epoch.epoch == kill_in:
            raise Killed

    if directory is None:
        return train_cell(plan_cell(config))
    runs.start(directory, config)
    record = train_cell(plan_cell(config), on_epoch, directory, tell)
    runs.write(directory, record.history, record.result, record.gradients)
    return record


def timeless(record):
    """A record without times, nor what other processes did in them."""
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in record.history]
    return history, record.result | {"seconds": 0, "other_cores": 0}, record.gradients


def weights(directory, epoch):
    return checkpoints.read(runs.weights_file(directory, epoch))[0].tensors


def assert_continues(config, directory, kill_in=4):
    config = often(config)
    whole = train(config)
    with pytest.raises(Killed):
        train(config, directory, kill_in)
    told, epochs = [], []
    runs.start(directory, config)
    record = train_cell(plan_cell(config), epochs.append, directory, told.append)
    assert told == [f"continues after epoch {kill_in - 1}"]
    assert epochs[0].epoch == kill_in
    assert timeless(record) == timeless(whole)
    seconds = [row["seconds"] for row in record.history if row["seed"] == config.seed]
    assert (np.diff(seconds) > 0).all()  # those before the kill count
    runs.write(directory, record.history, record.result, record.gradients)
    assert not (directory / runs.CHECKPOINT_FILE).exists()


# --- a killed cell goes on, to the last bit

# Every loop of the compiled engine and every kind of state an optimizer may have.
CELLS = {
    "sgd": ["optimizer=sgd"],
    "weight decay": ["weight_decay=1e-2", "optimizer.decay_biases_and_norms=false"],
    "momentum": ["momentum=0.9"],
    "nesterov": ["momentum=nesterov"],
    "adam": ["optimizer=adam"],
    "amsgrad": ["optimizer=amsgrad"],
    "nadam": ["optimizer=nadam", "trainer.precision=float64"],
    "radam": ["optimizer=radam"],
    "rmsprop": ["optimizer=rmsprop"],
    "adagrad": ["optimizer=adagrad"],
    "lars": ["optimizer=lars", "layernorm_position=all"],
    "lamb": ["optimizer=lamb"],
    "full batch": ["optimizer=adam", "batch_size=full"],
    "schedule by step": ["momentum=0.9", "scheduler=one_cycle", "scheduler.interval=step"],
    "validation": ["optimizer=adam", "dataset.val_size=100", "scheduler=cosine"],
    "deferred": ["momentum=0.9", "batch_size=4", "weight_decay=1e-3"],
    "singles": ["optimizer=adam", "batch_size=1", "trainer.epochs=4"],
    "singles, largest": ["optimizer=amsgrad", "batch_size=1", "trainer.epochs=4"],
}
ON_GRAPH = ["sgd", "momentum", "amsgrad", "lars", "full batch", "schedule by step"]
ON_TORCH = [key for key in CELLS if not key.startswith(("singles", "deferred"))]


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize(
    ("engine", "overrides"),
    [(NUMBA, key) for key in CELLS]
    + [(TORCH, key) for key in ON_TORCH]
    + [(GRAPH, key) for key in ON_GRAPH],
)
def test_a_killed_cell_goes_on_as_if_nothing_had_happened(
    cell, tmp_path, engine, overrides, num_seeds
):
    config = cell(engine, *CELLS[overrides], f"num_seeds={num_seeds}")
    assert_continues(config, tmp_path, kill_in=config.trainer.epochs - 1)


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize(
    "overrides",
    [
        [f"model={__name__}.Drops"],
        [f"model={__name__}.Drops", "optimizer=adam"],
        ["model=lenet", "momentum=0.9", "dataset.train_size=200", "trainer.epochs=3"],
        ["optimizer=torch.optim.Adafactor"],  # one optimizer for each seed
        ["optimizer=torch.optim.ASGD"],
        ["optimizer=torch.optim.Rprop", "batch_size=full"],
        # What these count stands in their groups, not in the state of the parameters.
        ["optimizer=pytorch_optimizer.ScheduleFreeAdamW"],
        ["optimizer=pytorch_optimizer.Prodigy", "optimizer.lr=1.0"],
        ["optimizer=schedulefree_sgd"],
        ["model.dropout=0.3", "scheduler=one_cycle", "scheduler.cycle_momentum=true"],
        ["optimizer=soap", "trainer.epochs=3"],
        ["optimizer=ademamix", "+optimizer.groups.last.lr=1e-4"],
        # Its noise comes from the generators that dropout draws from.
        ["optimizer=sophia", "model.dropout=0.3", "optimizer.update_period=3"],
        pytest.param(
            ["optimizer=muon"],
            marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch without Muon"),
        ),
    ],
    ids=" ".join,
)
def test_any_network_and_optimizer_goes_on(cell, tmp_path, overrides, num_seeds):
    config = cell(TORCH, *overrides, f"num_seeds={num_seeds}")
    assert_continues(config, tmp_path, kill_in=config.trainer.epochs - 1)


@pytest.mark.parametrize("engine", [TORCH, NUMBA])
def test_recorded_gradients_go_on(cell, tmp_path, engine):
    config = cell(engine, "num_seeds=2", "record.gradients=true", "optimizer=adam")
    assert_continues(config, tmp_path)
    assert "update_norm" in (tmp_path / runs.GRADIENTS_FILE).read_text()


@pytest.mark.parametrize("engine", [TORCH, NUMBA])
def test_a_diverged_seed_stays_so(cell, tmp_path, engine, monkeypatch):
    def spoiled(weight, bias, generator, std=0.01):
        initializers.default(weight, bias, generator)
        if generator.initial_seed() == 1:
            weight.mul_(math.nan)

    spoiled.__module__, spoiled.__qualname__ = initializers.__name__, "gaussian"
    spoiled.__name__ = "gaussian"
    monkeypatch.setattr(initializers, "gaussian", spoiled)
    config = cell(engine, "num_seeds=3", "init=gaussian", "optimizer=adam")
    assert_continues(config, tmp_path)
    result = runs.read_result(tmp_path)
    assert [seed["status"] for seed in result["per_seed"]] == ["completed", "diverged", "completed"]


@pytest.mark.parametrize("engine", [TORCH, NUMBA])
def test_a_cell_that_stops_early_stops_at_the_same_epoch(cell, tmp_path, engine):
    config = cell(
        engine,
        "num_seeds=2",
        "dataset.val_size=100",
        "stopping.patience=2",
        "optimizer.lr=0",
        "trainer.epochs=30",
    )
    assert_continues(config, tmp_path, kill_in=2)
    assert runs.read_result(tmp_path)["stopped"]["epoch"] == 3


def test_a_cell_killed_after_its_last_epoch_knows_that_it_has_to_stop(cell, tmp_path, monkeypatch):
    """It is found out of the history, in which nothing says so."""
    config = cell("dataset.val_size=100", "stopping.patience=2", "optimizer.lr=0")
    config = often(config)

    def kill(*arguments):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(runs, "write", kill)
        with pytest.raises(Killed):
            train(config, tmp_path)
    told = []
    record = train(config, tmp_path, tell=told.append)
    assert told == ["continues after epoch 3"]
    assert record.history[-1]["epoch"] == record.result["stopped"]["epoch"] == 3


def test_several_kills_of_a_fork_with_kept_weights(cell, tmp_path):
    origin, fork = tmp_path / "origin", tmp_path / "fork"
    train(cell("trainer.keep_weights=[2]", "optimizer=adam"), origin)
    config = cell(
        f"start_from={origin}@2", "optimizer=adam", "trainer.checkpoint=2", "trainer.epochs=8",
        "trainer.keep_weights=[0,3,7]", "record.weights=true",
    )  # fmt: skip
    whole = train(config, tmp_path / "whole")
    told = []
    for epoch in (1, 4, 6, 8):
        with pytest.raises(Killed):
            train(config, fork, epoch, told.append)
    assert timeless(train(config, fork, tell=told.append)) == timeless(whole)
    assert [line.partition(";")[0] for line in told] == [
        f"begins with epoch 2 of {origin}",
        f"begins with epoch 2 of {origin}",
        "continues after epoch 2",
        "continues after epoch 4",
        "continues after epoch 6",
    ]
    assert runs.kept_epochs(fork) == [0, 3, 7, 8]
    for epoch in runs.kept_epochs(fork):
        one, other = weights(fork, epoch), weights(tmp_path / "whole", epoch)
        assert all(torch.equal(one[name], other[name]) for name in one)


# --- when it cannot go on


def begun(config, directory):
    config = often(config)
    with pytest.raises(Killed):
        train(config, directory, kill_in=3)
    return config, directory / runs.CHECKPOINT_FILE


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped", "text", "other"])
def test_a_damaged_checkpoint_is_said_in_a_line_and_the_cell_begins_anew(cell, tmp_path, damage):
    config, path = begun(cell("num_seeds=2"), tmp_path)
    content = bytearray(path.read_bytes())
    middle = content.index(b"snapshot") + len(content) // 2
    content[middle] ^= 1
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    path.write_bytes(
        {
            "torn": path.read_bytes()[:-100],
            "empty": b"",
            "flipped": bytes(content),
            "text": b"not a checkpoint",
            "other": (tmp_path / "other.pt").read_bytes(),
        }[damage]
    )
    told = []
    record = train(config, tmp_path, tell=told.append)
    assert len(told) == 1
    assert told[0].startswith(f"begins anew: {path} cannot be read")
    assert "\n" not in told[0]
    assert timeless(record) == timeless(train(config))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("optimizer.lr=0.2", "is of another configuration"),
        ("seed=1", "is of another configuration"),
        ("trainer.keep_weights=[1,4]", "comes after epoch 1, whose weights are to be kept"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_left_aside(cell, tmp_path, other, reason):
    begun(cell(), tmp_path)
    told = []
    record = train(cell(other), tmp_path, tell=told.append)
    assert told == [f"begins anew: {runs.CHECKPOINT_FILE} {reason}"]
    assert timeless(record) == timeless(train(cell(other)))


def test_a_checkpoint_of_another_engine_is_left_aside(cell, tmp_path, monkeypatch):
    """Which engine `auto` chooses may change with what is installed."""
    config, _ = begun(cell("trainer.engine=auto"), tmp_path)
    plan = plan_cell(config)
    other = dataclasses.replace(plan, engine=plan.engine._replace(name="torch"))
    told = []
    train_cell(other, directory=tmp_path, tell=told.append)
    assert told == [f"begins anew: {runs.CHECKPOINT_FILE} was trained by engine numba"]


def test_a_cell_goes_on_without_being_asked_for_more_checkpoints(cell, tmp_path):
    begun(cell(), tmp_path)
    told = []
    assert timeless(train(cell(), tmp_path, tell=told.append)) == timeless(train(cell()))
    assert told == ["continues after epoch 2"]


def test_a_full_disk_does_not_end_a_training(cell, tmp_path, monkeypatch):
    write = runs.write_atomically

    def full(path, content):
        if path.name == runs.CHECKPOINT_FILE:
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(runs, "write_atomically", full)
    told = []
    record = train(cell("trainer.checkpoint=2"), tmp_path, tell=told.append)
    assert timeless(record) == timeless(train(cell()))
    assert len(told) == 2
    assert told[0].endswith("cannot be written (No space left on device); training goes on without")


def test_an_optimizer_that_hides_its_state_has_no_checkpoints(cell, tmp_path):
    given = (TORCH, f"optimizer={__name__}.Forgetful", "optimizer.lr=1e-5")
    hides = cell(*given, "trainer.keep_weights=[2]", "trainer.checkpoint=1")
    told = []
    with pytest.raises(Killed):
        train(hides, tmp_path / "origin", 3, told.append)
    assert told == ["no checkpoints: the state of optimizer Forgetful cannot be kept"]
    assert not (tmp_path / "origin" / runs.CHECKPOINT_FILE).exists()
    fork = cell(*given, f"start_from={tmp_path / 'origin'}@2")
    train(fork, tmp_path / "fork", tell=told.append)
    assert told[-1].endswith("its optimizer begins anew")


@pytest.mark.parametrize("option", ["sgd", "adam", "nadam", "radam", "rmsprop", "lars", "lamb"])
def test_optimizers_can_be_restored(compose, option):
    settings = compose(f"optimizer={option}", "momentum=0.5").optimizer
    assert is_restorable(resolve_optimizer(settings).build)


# --- how often


@pytest.mark.parametrize(("every", "expected"), [(False, []), (1, [1, 2, 3, 4]), (2, [2, 4])])
def test_how_often_a_checkpoint_is_written(cell, tmp_path, monkeypatch, every, expected):
    written = []

    def write(path, snapshot, progress):
        written.append(snapshot.epoch)

    monkeypatch.setattr(checkpoints, "write", write)
    train(cell(f"trainer.checkpoint={every}"), tmp_path)
    assert written == expected


def test_a_checkpoint_whenever_it_costs_little(cell, tmp_path, monkeypatch):
    clock, written = [0.0], []

    def write(path, snapshot, progress):
        written.append(snapshot.epoch)
        clock[0] += 1  # so that twenty seconds of training have to follow

    monkeypatch.setattr(checkpoints, "write", write)
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
    config = cell("trainer.checkpoint=true", "trainer.epochs=40")

    def on_epoch(epoch):
        clock[0] += 5

    train_cell(plan_cell(config), on_epoch, tmp_path)
    assert written == [*range(1, 40, 4)]


# --- weights that are kept


def scored(network, config, split="test"):
    dataset = load_dataset(config.dataset, torch.device("cpu"), torch.float32)
    images, labels = (getattr(getattr(dataset, split), name) for name in ("images", "labels"))
    with torch.no_grad():
        logits = network(images.to(next(network.parameters()).dtype))
    stacked = logits if logits.ndim == 3 else logits[None]
    losses = [functional.cross_entropy(each, labels).item() for each in stacked]
    return losses, [(each.argmax(1) == labels).double().mean().item() for each in stacked]


@pytest.mark.parametrize(
    "overrides",
    [
        [NUMBA],
        [NUMBA, "optimizer=adam", "layernorm_position=all", "batch_size=1", "trainer.epochs=1"],
        [TORCH, "depth=3", "layernorm_position=[1]", "model.layernorm_placement=before"],
        [NUMBA, "trainer.precision=float64", "dataset.val_size=100"],
        [TORCH, f"model={__name__}.Drops"],
        ["model=lenet", "dataset.train_size=200", "trainer.epochs=1"],
    ],
    ids=" ".join,
)
def test_loaded_networks_score_what_the_result_says(cell, tmp_path, overrides):
    config = cell(*overrides, "seed=3", "num_seeds=2", "trainer.keep_weights=true")
    record = train(config, tmp_path)
    networks = optsweep.load(tmp_path)
    assert isinstance(networks, nn.Module)
    assert not networks.training
    per_seed = record.result["per_seed"]
    for split, name in (("test", "test"), ("train", "final_train")):
        losses, accuracies = scored(networks, config, split)
        assert accuracies == [seed[f"{name}_accuracy"] for seed in per_seed]
        # Sums of float32 losses, in two orders.
        assert losses == pytest.approx([seed[f"{name}_loss"] for seed in per_seed], rel=2e-6)
        for index, seed in enumerate((3, 4)):
            alone = optsweep.load(str(tmp_path), seed=seed)
            assert scored(alone, config, split)[1] == [accuracies[index]]
    assert len(networks) == 2
    images = torch.rand(7, *config.dataset.input_shape, dtype=next(networks.parameters()).dtype)
    assert networks(images).shape == (2, 7, 10)
    assert alone(images).shape == (7, 10)
    sum(loss.sum() for loss in alone(images)).backward()  # for curvature, say
    assert all(parameter.grad is not None for parameter in alone.parameters())


def test_weights_of_chosen_epochs_are_those_of_the_history(cell, tmp_path):
    config = cell("num_seeds=2", "trainer.keep_weights=[0,1,3]")
    record = train(config, tmp_path)
    assert runs.kept_epochs(tmp_path) == [0, 1, 3, 5]
    for epoch in (0, 1, 3, 5):
        rows = [row for row in record.history if row["epoch"] == epoch]
        losses, accuracies = scored(optsweep.load(tmp_path, epoch=epoch), config)
        assert accuracies == [row["test_accuracy"] for row in rows]
        assert losses == pytest.approx([row["test_loss"] for row in rows], rel=2e-6)


def test_weights_of_every_epoch(cell, tmp_path):
    train(cell("trainer.keep_weights=all"), tmp_path)
    assert runs.kept_epochs(tmp_path) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("keep", ["true", "[1,2,20]", "all"])
@pytest.mark.parametrize(
    ("overrides", "last"),
    [
        (["dataset.val_size=100", "stopping.patience=2", "optimizer.lr=0"], 3),
        (["momentum=high", "optimizer.lr=1e10"], None),
    ],
    ids=["stopped", "diverged"],
)
def test_the_last_weights_of_a_cell_that_ends_early(cell, tmp_path, overrides, last, keep):
    config = cell(*overrides, "trainer.epochs=30", f"trainer.keep_weights={keep}")
    record = train(config, tmp_path)
    last = last or record.history[-1]["epoch"]
    assert last < 30
    assert runs.last_epoch(record.result) == last
    assert runs.kept_epochs(tmp_path)[-1] == last
    assert runs.finished(tmp_path, config) is not None  # nothing is missing


def test_a_cell_without_its_weights_is_not_finished(cell, tmp_path):
    train(cell("trainer.keep_weights=[1]"), tmp_path)
    assert runs.finished(tmp_path, cell()) is not None
    for keep, there in (("true", True), ("[1]", True), ("[1,2]", False), ("all", False)):
        config = cell(f"trainer.keep_weights={keep}")
        assert (runs.finished(tmp_path, config) is not None) == there
    runs.weights_file(tmp_path, 5).unlink()
    assert runs.finished(tmp_path, cell("trainer.keep_weights=true")) is None


def test_without_a_directory_nothing_is_kept(cell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(cell("trainer.keep_weights=all", "trainer.checkpoint=1"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_is_named(cell, tmp_path):
    config = cell("num_seeds=2")
    train(config, tmp_path)
    with pytest.raises(InputError, match="these weights were not kept, but none"):
        optsweep.load(tmp_path)
    train(cell("num_seeds=2", "trainer.keep_weights=[1]"), tmp_path)
    with pytest.raises(InputError, match="these weights were not kept, but those of epochs 1, 5"):
        optsweep.load(tmp_path, epoch=2)
    with pytest.raises(InputError, match=r"seed=2: .* has seeds 0 to 1"):
        optsweep.load(tmp_path, seed=2)
    with pytest.raises(InputError, match=r"config\.yaml is not the configuration of a cell"):
        optsweep.load(tmp_path / "nowhere")
    (tmp_path / runs.RESULT_FILE).unlink()
    runs.start(tmp_path, cell("num_seeds=2", "optimizer=adam"))
    with pytest.raises(InputError, match="is of another cell than"):
        optsweep.load(tmp_path)


def test_a_network_of_the_users_is_loaded_if_it_is_trusted(cell, tmp_path):
    train(cell(f"model={__name__}.Drops", "trainer.keep_weights=true"), tmp_path)
    allow_targets([])
    with pytest.raises(InputError, match="to trust a package"):
        optsweep.load(tmp_path)
    assert isinstance(optsweep.load(tmp_path, 0, allow_targets=[__name__]), Drops)


def test_loading_is_all_that_needs_torch():
    program = "import sys, optsweep; print(*{'torch', 'numpy', 'hydra'} & sys.modules.keys())"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert told.stdout == "\n"


# --- cells that begin with them


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize(
    "overrides",
    [
        [NUMBA, "optimizer=adam"],
        [NUMBA, "momentum=0.9", "batch_size=4"],
        [TORCH, "optimizer=nadam"],
        [TORCH, "optimizer=lamb"],
        [TORCH, "optimizer=torch.optim.Adafactor"],
        [TORCH, f"model={__name__}.Drops", "momentum=0.9"],
    ],
    ids=" ".join,
)
def test_an_unchanged_fork_is_the_undisturbed_run(cell, tmp_path, overrides, num_seeds):
    given = [*overrides, f"num_seeds={num_seeds}"]
    whole = train(cell(*given, "trainer.keep_weights=[2]"), tmp_path / "origin")
    told = []
    fork = cell(*given, "trainer.epochs=3", f"start_from={tmp_path / 'origin'}@2")
    record = train(fork, tmp_path / "fork", tell=told.append)
    assert told == [f"begins with epoch 2 of {tmp_path / 'origin'}; its optimizer goes on"]

    def comparable(row, epochs):
        return {**row, "epoch": row["epoch"] + epochs, "step": None, "seconds": None}

    expected = [comparable(row, 0) for row in whole.history if row["epoch"] >= 2]
    found = [comparable(row, 2) for row in record.history]
    for one, other in zip(expected, found, strict=True):
        if one["epoch"] == 2:  # here of all training examples, there of the epoch's own batches
            for key in ("lr", "train_loss", "train_accuracy"):
                one[key] = other[key]
    assert found == expected
    assert record.history[0]["step"] == record.history[0]["epoch"] == 0


def test_a_fork_of_a_fork_is_the_undisturbed_run(cell, tmp_path):
    whole = train(cell("optimizer=adam"))
    folders = [tmp_path / name for name in ("one", "two", "three")]
    given = ("optimizer=adam", "trainer.epochs=2", "trainer.keep_weights=true")
    train(cell(*given), folders[0])
    train(cell(*given, f"start_from={folders[0]}"), folders[1])
    third = cell("optimizer=adam", "trainer.epochs=1", f"start_from={folders[1]}")
    record = train(third, folders[2])
    assert record.history[-1]["test_loss"] == whole.history[-1]["test_loss"]
    assert (
        record.result["per_seed"][0]["final_train_loss"]
        == (whole.result["per_seed"][0]["final_train_loss"])
    )


@pytest.mark.parametrize(
    ("origin", "fork", "goes_on"),
    [
        ([NUMBA, "optimizer=adam"], [NUMBA, "optimizer=adam", "optimizer.lr=1e-4"], True),
        ([NUMBA, "optimizer=adam"], [NUMBA, "optimizer=adam", "batch_size=full"], True),
        ([NUMBA, "optimizer=adam"], [NUMBA, "optimizer=amsgrad"], False),
        ([NUMBA, "optimizer=adam"], [NUMBA, "optimizer=adamw"], False),
        ([NUMBA, "optimizer=adam"], [NUMBA, "optimizer=sgd"], False),
        ([NUMBA, "optimizer=adam"], [TORCH, "optimizer=adam"], False),
        ([TORCH, "optimizer=adam"], [TORCH, "optimizer=adam", "weight_decay=1e-2"], True),
        ([TORCH, "optimizer=adam"], [TORCH, "optimizer=amsgrad"], False),
        ([TORCH, "optimizer=adam"], [TORCH, "optimizer=lamb"], False),
        ([TORCH, "momentum=0.9"], [TORCH, "momentum=0.5"], True),
        ([TORCH, "momentum=0.9"], [TORCH], True),
        (
            [TORCH, "momentum=0.9", "weight_decay=1e-3"],
            [TORCH, "momentum=0.9", "weight_decay=1e-3", "optimizer.decay_biases_and_norms=false"],
            False,
        ),
    ],
)
def test_a_fork_takes_the_state_of_an_optimizer_that_gathers_the_same(
    cell, tmp_path, origin, fork, goes_on
):
    given = ["num_seeds=2", "trainer.epochs=2"]
    train(cell(*origin, *given, "trainer.keep_weights=true"), tmp_path / "origin")
    told = []
    forked = cell(*fork, *given, f"start_from={tmp_path / 'origin'}")
    record = train(forked, tmp_path / "fork", tell=told.append)
    assert told[0].endswith("its optimizer goes on" if goes_on else "its optimizer begins anew")
    assert record.result["status"] == "completed"
    losses, _ = scored(optsweep.load(tmp_path / "origin"), cell(*origin))
    first = [row["test_loss"] for row in record.history if row["epoch"] == 0]
    assert first == pytest.approx(losses, rel=2e-6)


def test_a_fork_has_a_rate_and_a_schedule_of_its_own(cell, tmp_path):
    train(cell(TORCH, "optimizer=adam", "trainer.keep_weights=true"), tmp_path / "origin")
    config = cell(
        TORCH, "optimizer=adam", "optimizer.lr=0.01", "scheduler=linear", "trainer.epochs=4",
        f"start_from={tmp_path / 'origin'}",
    )  # fmt: skip
    record = train(config, tmp_path / "fork")
    rates = [row["lr"] for row in record.history]
    assert rates[1:] == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_the_identity_of_a_fork_is_of_where_it_comes_from(cell, tmp_path):
    train(cell("trainer.keep_weights=[2]"), tmp_path / "a")
    train(cell("trainer.keep_weights=[2]", "seed=0"), tmp_path / "moved")
    train(cell("trainer.keep_weights=[2]", "optimizer.lr=0.2"), tmp_path / "b")
    alike = [cell(f"start_from={tmp_path / origin}") for origin in ("a@5", "moved", "a/")]
    others = [cell(), *(cell(f"start_from={tmp_path / origin}") for origin in ("a@2", "b"))]
    assert len({config_hash(config) for config in alike}) == 1
    assert len({config_hash(config) for config in [alike[0], *others]}) == 4
    assert f"from_{config_hash(cell())}_5" in cell_name(alike[0])


def test_a_diverged_seed_is_no_better_in_a_fork(cell, tmp_path):
    config = cell("momentum=high", "optimizer.lr=1e10", "trainer.keep_weights=true")
    train(config, tmp_path / "origin")
    record = train(cell(f"start_from={tmp_path / 'origin'}"), tmp_path / "fork")
    assert record.result["status"] == "diverged"
    assert len(record.history) == 1


def refusal(config):
    with pytest.raises(InputError) as caught:
        plan_cell(config)
    return str(caught.value)


def test_weights_that_do_not_fit_are_refused_before_training(cell, tmp_path):
    origin = tmp_path / "origin"
    train(cell("num_seeds=2", "trainer.keep_weights=[2]"), origin)
    start = f"start_from={origin}"
    assert refusal(cell(start, "num_seeds=2", "model.hidden_sizes=[16,9]")).endswith(
        "it has another network: linear2.weight is 8x16, and 9x16 in this cell's"
    )
    assert "norm1.weight is not there, and 16 in" in refusal(
        cell(start, "num_seeds=2", "layernorm_position=1", "model.hidden_sizes=[16,8]")
    )
    assert "has another network" in refusal(cell(start, "num_seeds=2", "model=lenet"))
    assert refusal(cell(start)).endswith(
        "weights are kept of 2 seeds from 0; give seed=0 num_seeds=2"
    )
    runs.weights_file(origin, 5).write_bytes(runs.weights_file(origin, 2).read_bytes())
    assert "are those of another cell" in refusal(cell(start, "num_seeds=2"))
    runs.weights_file(origin, 5).write_bytes(b"")
    assert "epoch_5.pt cannot be read" in refusal(cell(start, "num_seeds=2"))


def test_where_nothing_can_begin(cell, tmp_path):
    def says(text):
        with pytest.raises(InputError) as caught:
            runs.find_origin(text)
        return str(caught.value)

    origin = tmp_path / "origin"
    assert says(f"{origin}@3").endswith(f"there is no folder {origin}")
    assert "is not the configuration of a cell" in says(str(tmp_path))
    train(cell(), origin)
    assert "has kept no weights; train it with trainer.keep_weights=true" in says(str(origin))
    train(cell("trainer.keep_weights=[1,2]"), origin)
    assert says(f"{origin}@3").endswith("weights are kept of epochs 1, 2, 5, not of 3")
    assert says(f"{origin}@last").endswith("weights are kept of epochs 1, 2, 5, not of last")
    assert runs.find_origin(f"{origin}/@2").epoch == 2
    assert runs.find_origin(str(origin)).epoch == 5
    (origin / runs.RESULT_FILE).unlink()
    assert says(str(origin)).endswith("this cell is not finished; say which epoch: DIR@4")
    assert runs.find_origin(f"{origin}@2").epoch == 2


def test_a_folder_with_an_at_sign(cell, tmp_path):
    train(cell("trainer.keep_weights=true"), tmp_path / "me@4")
    assert runs.find_origin(str(tmp_path / "me@4")).epoch == 5
    assert runs.find_origin(str(tmp_path / "me@4@5")).path.endswith("me@4")


# --- the settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.checkpoint=0", "expected true, false or a number of epochs"),
        ("trainer.checkpoint=1.5", "expected true, false or a number of epochs"),
        ("trainer.checkpoint=often", "expected true, false or a number of epochs"),
        ("trainer.checkpoint=null", "expected true, false or a number of epochs"),
        ("trainer.keep_weights=last", "expected true, false, all or epochs such as"),
        ("trainer.keep_weights=3", "expected true, false, all or epochs such as"),
        ("trainer.keep_weights=[1,6]", "expected epochs from 0 to 5"),
        ("trainer.keep_weights=[1,x]", "expected epochs from 0 to 5"),
    ],
)
def test_settings_that_cannot_be_used(cell, override, message):
    with pytest.raises(InputError) as caught:
        cell(override)
    assert str(caught.value).startswith(override.replace("null", "None"))
    assert message in str(caught.value)


def test_what_is_kept_is_no_part_of_a_cell(cell):
    names = {
        cell_name(cell(*overrides))
        for overrides in (
            [],
            ["trainer.checkpoint=true", "trainer.keep_weights=[2,1]"],
            ["trainer.checkpoint=3", "trainer.keep_weights=all"],
        )
    }
    assert len(names) == 1
    assert cell("trainer.keep_weights=[2,1,2]").trainer.keep_weights == (1, 2)


def test_a_cell_that_other_code_has_begun_is_by_neither(cell, tmp_path, monkeypatch):
    config = often(cell(TORCH))
    monkeypatch.setattr(provenance, "_own_fingerprint", lambda: "0123456789")
    with pytest.raises(Killed):
        train(config, tmp_path, kill_in=3)
    monkeypatch.undo()
    told = []
    result = train(config, tmp_path, tell=told.append).result
    assert told == ["continues after epoch 2"]
    now = provenance.sources(config)["optsweep"]
    assert result["sources"]["optsweep"] == f"0123456789 then {now}"
    assert provenance.by_other_code(result, config).startswith("other sources of optsweep (0123")
    assert result["versions"] == provenance.made_by(config)["versions"]
