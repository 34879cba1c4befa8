"""What is given counts or is refused, and a dry run tells what a command would do."""

import re

import pytest

FEW = ("trainer.epochs=1", "dataset.train_size=500")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("dataset.val_seed=3", "no examples are held out"),
        ("model.layernorm_placement=before", "no layer is normalised"),
        ("scheduler.interval=step", "the learning rate is constant"),
        ("optimizer.decay_biases_and_norms=false", "there is no weight decay"),
        ("scheduler=multistep scheduler.milestones=[9]", "there are only 1 epochs"),
        ("record.gradients=true record.weights=false", "record.gradients=true records them too"),
    ],
)
def test_a_setting_without_effect_is_refused(run, tmp_path, given, reason):
    code, _, errors = run(*given.split(), *FEW)
    assert code == 2
    assert errors == f"optsweep: error: {given.split()[-1]}: without effect, for {reason}\n"
    assert not (tmp_path / "multirun").exists()


@pytest.mark.parametrize("given", ["name=mine", "hydra/launcher=joblib", "hydra/sweeper=optuna"])
def test_what_is_for_sweeps_is_refused_for_a_cell(run, given):
    code, _, errors = run(given, *FEW)
    assert (code, errors) == (
        2,
        f"optsweep: error: {given}: without effect on a single cell; add --multirun\n",
    )


def test_without_effect_in_a_file_is_harmless(run):
    code, output, errors = run("scheduler=multistep", *FEW)  # whose milestones are 15 and 30
    assert code == 0
    assert "milestones: 15, 30 is never reached" in errors
    assert "results:" in output


def test_an_effect_in_one_cell_is_enough(run):
    swept = ("--multirun", "weight_decay=0,1e-3", "optimizer.decay_biases_and_norms=false")
    assert run(*swept, *FEW)[0] == 0
    code, _, errors = run("--multirun", "weight_decay=0,0.0", swept[-1], *FEW)
    assert code == 2
    assert "decay_biases_and_norms=false: without effect" in errors


def test_cells_that_train_the_same_are_said_before_training(run):
    code, output, _ = run("--multirun", "optimizer.lr=0.1,1e-1", *FEW)
    assert code == 0
    said = "1 of 2 cells train the same as others"
    assert 0 <= output.index(said) < output.index("epoch 1/1")


def test_a_dry_run_of_a_grid(run, tmp_path):
    assert run("seed=1", *FEW)[0] == 0
    before = sorted(path for path in tmp_path.rglob("*"))
    code, output, errors = run("--multirun", "seed=0,1,2", *FEW, "--dry-run")
    assert (code, errors) == (0, "")
    assert re.findall(r"seed=(\d).*(to train|done)", output) == [
        ("0", "to train"),
        ("1", "done"),
        ("2", "to train"),
    ]
    assert "3 cells, 1 done before; nothing is trained" in output
    assert re.search(r"the others take about \d+ s \(told from 1 cells\)", output)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_dry_run_checks_all_cells(run, tmp_path):
    code, _, errors = run("--multirun", "optimizer=sgd,adam", "momentum=1.5", *FEW, "--dry-run")
    assert code == 2
    assert "momentum=1.5" in errors
    assert not (tmp_path / "multirun").exists()


def test_a_dry_run_of_a_search(run, tmp_path):
    code, output, errors = run(
        "--multirun", "search=weight_decay", "dataset.val_size=100", "--dry-run"
    )
    assert (code, errors) == (0, "")
    assert re.search(r"optimizer.weight_decay.*1e-06 … 0.1, logarithmic", output)
    assert "30 trials, 0 done before; nothing is trained" in output
    assert "a guess for two cores" in output
    assert not (tmp_path / "multirun").exists()


def test_the_configuration_of_every_cell_of_a_sweep(run):
    code, output, _ = run("--multirun", "seed=0,1", "--cfg", "job")
    assert code == 0
    assert re.findall(r"^# .*(seed=\d).*\nseed: (\d)", output, re.MULTILINE) == [
        ("seed=0", "0"),
        ("seed=1", "1"),
    ]
    assert run("--multirun", "seed=0,1", "--cfg", "hydra")[1].startswith("hydra:\n")


def test_a_setting_without_effect_in_a_search_is_refused(run, tmp_path):
    given = ("--multirun", "search=lr", "dataset.val_size=100", "scheduler.interval=step")
    code, _, errors = run(*given)
    assert code == 2
    assert errors.endswith(
        "scheduler.interval=step: without effect, for the learning rate is constant\n"
    )
    assert not (tmp_path / "multirun" / "cells").exists()
