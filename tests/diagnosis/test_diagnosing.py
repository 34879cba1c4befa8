"""A cell is trained, keeps its weights, and is diagnosed: by a run, afterwards, and again."""

import csv
import dataclasses
import json
import math

import pytest
import torch
import yaml

from optsweep import runs
from optsweep.cli.composition import config_dir
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.diagnosis import records
from optsweep.diagnosis.cell import Diagnosis
from optsweep.diagnosis.done import Asked
from optsweep.diagnosis.settings import Settings, log_spaced
from optsweep.diagnosis.states import state_of_seed
from optsweep.diagnosis.verdicts import SADDLE, VERDICTS
from optsweep.diagnosis.walker import Method, Walker
from optsweep.optim.resolved import resolve_optimizer
from optsweep.training.cell import train_cell
from optsweep.training.checkpoints import read
from optsweep.training.plan import plan_cell

QUICK = Settings(examples=100, lanczos_steps=15, batches=2, steps=3, epoch=False, checkpoints=2)
SMALL = ("trainer.epochs=2", "batch_size=100", "trainer.keep_weights=all", "num_seeds=2")


@pytest.fixture
def kept(slice_config, tmp_path):
    """`kept(*overrides) -> directory` of a cell that was trained and kept its weights."""

    def trained(*overrides):
        given = {override.partition("=")[0] for override in overrides}
        small = (each for each in SMALL if each.partition("=")[0] not in given)
        config = slice_config(*small, *overrides)
        directory = tmp_path / "cell"
        runs.start(directory, config)
        record = train_cell(plan_cell(config), directory=directory)
        runs.write(directory, record.history, record.result, record.gradients, config)
        return directory

    return trained


def table(directory, name):
    with (directory / runs.DIAGNOSIS_FOLDER / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "given",
    [
        ["model.hidden_sizes=[8,6]"],
        ["model.hidden_sizes=[8,6]", "optimizer=adam"],  # by the compiled engine's own moments
        ["model=lenet"],
    ],
)
def test_any_network_is_diagnosed(kept, given):
    directory = kept(*given, "dataset.train_size=200")
    diagnosis = Diagnosis(directory, QUICK)
    assert diagnosis.expected_seconds() > 0
    told = []
    summary = diagnosis.run(told.append)
    assert [each["epoch"] for each in summary["epochs"]] == [0, 2]
    assert (told[0].done, told[-1].done, told[-1].total) == (0, 3, 4)
    verdicts = table(directory, runs.VERDICTS_FILE)
    assert [(row["epoch"], row["seed"]) for row in verdicts] == [
        ("0", "0"), ("0", "1"), ("2", "0"), ("2", "1"),
    ]  # fmt: skip
    assert all(row["verdict"] in VERDICTS and row["decided_by"] for row in verdicts)
    readings = table(directory, runs.READINGS_FILE)
    found = {(r["epoch"], r["seed"], r["quantity"]): r["value"] for r in readings}
    assert float(found["2", "1", "loss"]) > 0
    assert float(found["2", "1", "largest"]) > 0
    spectra = table(directory, runs.SPECTRA_FILE)
    weights = [float(r["weight"]) for r in spectra if r["kind"] == "density"]
    assert sum(weights) == pytest.approx(4, abs=1e-4)  # 1 of each seed and checkpoint
    forks = table(directory, runs.FORKS_FILE)
    starts = {r["train_loss"] for r in forks if r["step"] == "0" and r["fork"] != "kick"}
    assert len(starts) == 4
    # The files that a cell is made of are as they were.
    assert runs.read_result(directory)["status"] == "completed"


def test_a_killed_diagnosis_goes_on(kept, monkeypatch):
    directory = kept("model.hidden_sizes=[8,6]", "num_seeds=1")
    whole = Diagnosis(directory, QUICK)
    whole.run()
    folder = directory / runs.DIAGNOSIS_FOLDER
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "epoch_2.json").unlink()
    (folder / runs.DIAGNOSIS_FILE).unlink()
    again = Diagnosis(directory, QUICK)
    assert again.missing == [2]
    again.run()
    # The same to the last digit: everything that is drawn is drawn from the seed.
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert Diagnosis(directory, QUICK).missing == []
    assert Diagnosis(directory, dataclasses.replace(QUICK, steps=4)).missing == [0, 2]


def test_a_cell_diagnosed_in_another_way_is_not_done(kept):
    directory = kept("model.hidden_sizes=[8,6]", "num_seeds=1")
    config = runs.read_config(directory)
    assert not Asked.of(directory, config, QUICK).is_done
    Diagnosis(directory, QUICK).run()
    assert Asked.of(directory, config, QUICK).is_done
    other = dataclasses.replace(QUICK, steps=4)
    assert not Asked.of(directory, config, other).is_done
    summary = directory / runs.DIAGNOSIS_FOLDER / runs.DIAGNOSIS_FILE
    before = summary.read_text()
    Diagnosis(directory, other).run()
    assert not Asked.of(directory, config, QUICK).is_done
    summary.write_text(before)  # as if it were killed before the new one
    assert not Asked.of(directory, config, other).is_done
    weights = runs.weights_file(directory, 2)
    weights.write_bytes(weights.read_bytes() + b" ")  # trained anew
    assert Asked.of(directory, config, other).missing == [2]


def test_what_the_rules_say_of_kept_readings_is_told_anew(kept):
    """A verdict is not kept with what was measured; infinite and unknown readings are."""
    directory = kept("model.hidden_sizes=[8,6]", "num_seeds=1")
    Diagnosis(directory, QUICK).run()
    path = directory / runs.DIAGNOSIS_FOLDER / "epoch_2.json"
    examined = json.loads(path.read_text())
    readings = examined["seeds"][0]["readings"]
    readings |= {"loss": "inf", "decrement": None, "critical_multiple": "inf"}
    path.write_text(json.dumps(examined))
    found = records.readings_of(examined["seeds"][0])
    assert (found.loss, found.critical_multiple) == (math.inf, math.inf)
    assert math.isnan(found.decrement)
    Diagnosis(directory, QUICK).run()
    rows = table(directory, runs.VERDICTS_FILE)
    assert rows[1]["decided_by"] == "the loss is not finite"


def test_a_cell_without_weights_cannot_be_diagnosed(kept):
    directory = kept("trainer.keep_weights=false")
    with pytest.raises(InputError, match="has kept no weights; train it with diagnose=curvature"):
        Diagnosis(directory, QUICK)


@pytest.mark.parametrize("settings", [
    ("optimizer=sgd", "momentum=0.9"),
    ("optimizer=adam", "optimizer.lr=1e-3"),
    ("optimizer=amsgrad", "optimizer.lr=1e-3"),
    ("optimizer=rmsprop", "optimizer.lr=1e-3"),
    ("optimizer=adagrad", "optimizer.lr=1e-2"),
])  # fmt: skip
def test_the_compiled_engine_s_state_is_torch_s(kept, settings):
    """A step on from what each engine has kept of the same training is the same step."""
    steps = {}
    for engine in ("numba", "torch"):
        directory = kept("model.hidden_sizes=[8,6]", f"trainer.engine={engine}", *settings)
        config = runs.read_config(directory)
        snapshot, _ = read(runs.weights_file(directory, 2))
        optimizer = resolve_optimizer(config.optimizer)
        index = 1
        shapes = [(name, tensor.shape[1:]) for name, tensor in snapshot.tensors.items()]
        state = state_of_seed(snapshot, index, shapes)
        assert state is not None
        method = Method(optimizer.build, optimizer.target, optimizer.lr, 100, state=state)
        point = torch.cat([tensor[index].flatten() for tensor in snapshot.tensors.values()])
        walker = Walker(method, point, shapes)
        assert walker.has_state
        generator = torch.Generator().manual_seed(0)
        steps[engine] = walker.update(0.01 * torch.randn(len(point), generator=generator))
        assert torch.equal(walker.update(steps[engine]), walker.copy().update(steps[engine]))
    assert float(steps["torch"].norm()) > 0
    # Float32, and two loops over a few hundred examples.
    assert torch.allclose(steps["numba"], steps["torch"], rtol=1e-2, atol=1e-5)


def test_each_seed_has_its_own_optimizer_where_seeds_cannot_share_one(kept):
    """Of a class that looks at a whole tensor, a copy goes its own way too."""
    directory = kept("model.hidden_sizes=[8,6]", "optimizer=torch.optim.Adafactor")
    config = runs.read_config(directory)
    snapshot, _ = read(runs.weights_file(directory, 2))
    shapes = [(name, tensor.shape[1:]) for name, tensor in snapshot.tensors.items()]
    optimizer = resolve_optimizer(config.optimizer)
    state = state_of_seed(snapshot, 0, shapes)
    method = Method(optimizer.build, optimizer.target, optimizer.lr, 100, state=state)
    point = torch.cat([tensor[0].flatten() for tensor in snapshot.tensors.values()])
    walker = Walker(method, point, shapes)
    moved = walker.update(torch.ones_like(point))
    assert float(moved.norm()) > 0
    assert torch.equal(walker.point, point)


def test_a_run_is_diagnosed_with_the_checkpoints_it_keeps(run, tmp_path):
    asked = ("trainer.epochs=3", "batch_size=100", "model.hidden_sizes=[8]", "diagnose=curvature")
    quick = ("diagnose.examples=100", "diagnose.lanczos_steps=15", "diagnose.steps=2")
    code, output, errors = run(*asked, *quick, "diagnose.checkpoints=3", "diagnose.epoch=false")
    assert (code, errors) == (0, "")
    assert "diagnosis: 3 checkpoints of 1 seed, about " in output
    (cell,) = (tmp_path / "multirun" / "cells").iterdir()
    assert runs.kept_epochs(cell) == log_spaced(3, 3) == [0, 2, 3]
    summary = json.loads((cell / runs.DIAGNOSIS_FOLDER / runs.DIAGNOSIS_FILE).read_text())
    assert summary["config_hash"] == config_hash(runs.read_config(cell))
    assert [sum(each["verdicts"].values()) for each in summary["epochs"]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"examples": 0}, "diagnose.examples=0: expected a whole number from 1"),
        ({"lanczos_steps": 3}, "diagnose.lanczos_steps=3: expected a whole number from 15"),
        ({"epoch": 1}, "diagnose.epoch=1: expected true or false"),
        ({"example": 1}, "diagnose.example"),
        ({"tolerance": -1}, "diagnose.tolerance=-1"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(InputError, match=message):
        Settings.from_mapping(settings)


def test_the_file_of_settings_is_the_default():
    text = (config_dir() / "diagnose" / "curvature.yaml").read_text()
    assert Settings.from_mapping(yaml.safe_load(text)) == Settings()


def test_small_gaussian_weights_begin_on_a_plateau(kept):
    """The positive control: after 40 steps of the full batch, all is still as at the start."""
    directory = kept(
        "init=gaussian", "batch_size=full", "trainer.epochs=40", "trainer.keep_weights=[40]",
        "dataset.train_size=300", "num_seeds=1",
    )  # fmt: skip
    settings = Settings(examples=None, lanczos_steps=40, epoch=False, checkpoints=1)
    (found,) = Diagnosis(directory, settings).run()["epochs"]
    assert (found["epoch"], found["verdicts"]) == (40, {SADDLE: 1})
