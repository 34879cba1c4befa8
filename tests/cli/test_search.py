"""Searches as their users meet them: run as a program, on the slice."""

import csv
import json
import signal
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from optsweep.cli.composition import config_dir
from optsweep.cli.overrides import options

SMALL = ("dataset.val_size=200", "trainer.epochs=1", "num_seeds=1", "trainer.num_threads=1")
FINALS = ("hydra.sweeper.final_num_seeds=2",)
BY_HAND = ("--multirun", "hydra/sweeper=optuna", *SMALL, *FINALS)
DECAY = "weight_decay=tag(log,interval(1e-6,1e-1))"


def study_of(folder: Path, name: str = "grid") -> optuna.Study:
    url = f"sqlite:///{folder / 'multirun' / name / 'study.db'}"
    return optuna.load_study(study_name=name, storage=url)


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def result(folder: Path, cell: str) -> dict:
    return json.loads((folder / "multirun" / "cells" / cell / "result.json").read_text())


def test_a_search_runs_to_its_total_and_continues_to_a_greater_one(run, tmp_path):
    given = ("--multirun", "search=weight_decay", *SMALL, *FINALS)
    code, output, errors = run(*given, "hydra.sweeper.n_trials=3")
    assert (code, errors) == (0, "")
    assert "Of 3 trials, trial" in output
    before = finished(study_of(tmp_path, "weight_decay"))
    assert len(before) == 3

    code, output, errors = run(*given, "hydra.sweeper.n_trials=5")
    assert (code, errors) == (0, "")
    study = study_of(tmp_path, "weight_decay")
    trials = finished(study)
    assert [trial.params for trial in trials[:3]] == [trial.params for trial in before]
    assert len({trial.params["optimizer.weight_decay"] for trial in trials}) == 5

    for trial in trials:
        of_cell = result(tmp_path, trial.user_attrs["cell"])
        assert trial.value == of_cell["objective"] == of_cell["per_seed"][0]["val_accuracy"]
        assert trial.intermediate_values == {1: trial.value}

    folder = tmp_path / "multirun" / "weight_decay"
    assert [row["trial"] for row in rows(folder / "trials.csv")] != []
    assert len(rows(folder / "trials.csv")) == 5
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg", ".png"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["variants"][0]["best_params"] == study.best_params
    finals = rows(folder / "finals.csv")
    assert [row["kind"] for row in finals] == ["best", "baseline", "baseline"]
    for row in finals:
        of_cell = result(tmp_path, row["cell"])
        assert [seed["seed"] for seed in of_cell["per_seed"]] == [1000, 1001]
        assert of_cell["per_seed"][0]["val_accuracy"] is None
        assert of_cell["per_seed"][0]["steps"] == 4  # 1000 images, none held out

    code, output, errors = run(*given, "hydra.sweeper.n_trials=5")
    assert (code, errors) == (0, "")
    assert len(finished(study_of(tmp_path, "weight_decay"))) == 5


@pytest.mark.parametrize("name", options("search", config_dir()))
def test_every_search_runs(name, run, tmp_path):
    small = {  # room for a warm-up of four epochs, and no more than the slice's examples a batch
        "everything": ["trainer.epochs=5", "batch_size=choice(32,64)"],
        "schedule": ["trainer.epochs=choice(5,6)"],
    }
    code, _, errors = run(
        "--multirun",
        f"search={name}",
        *SMALL,
        *small.get(name, []),
        "hydra.sweeper.n_trials=1",
        "hydra.sweeper.final_num_seeds=1",
    )
    assert (code, errors) == (0, "")
    finals = rows(tmp_path / "multirun" / name / "finals.csv")
    assert sum(row["kind"] == "best" for row in finals) == (12 if name == "tuned_comparison" else 1)
    lines = (config_dir() / "search" / f"{name}.yaml").read_text().splitlines()
    assert lines[1].endswith("?") or lines[1].endswith(".")
    assert lines[2] == f"# python -m optsweep --multirun search={name}"


def test_the_test_set_is_no_objective(run, tmp_path):
    code, _, errors = run(*BY_HAND, DECAY, "dataset.val_size=0")
    assert code == 2
    assert errors.startswith("optsweep: error: dataset.val_size=0: a search needs validation")
    assert errors.count("\n") == 1
    assert not (tmp_path / "multirun" / "cells").exists()


def test_a_name_belongs_to_one_search(run):
    assert run(*BY_HAND, DECAY, "hydra.sweeper.n_trials=1")[0] == 0
    code, _, errors = run(*BY_HAND, DECAY, "hydra.sweeper.n_trials=2", "init=gaussian")
    assert code == 2
    assert errors.startswith("optsweep: error: the search grid was begun with init._target_: ")
    assert "name=NAME" in errors
    code, _, errors = run(*BY_HAND, "weight_decay=interval(0.0,0.1)", "hydra.sweeper.n_trials=2")
    assert code == 2
    assert "begun with range of optimizer.weight_decay: " in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a search needs something to search"),
        ((DECAY, "hydra.sweeper.n_trials=0"), "hydra.sweeper.n_trials=0: expected a whole number"),
        ((DECAY, "hydra.sweeper.storage=nonsense"), "hydra.sweeper.storage=nonsense: expected a"),
        ((DECAY, "hydra/sweeper/sampler=grid"), "hydra/sweeper/sampler=grid: for a grid, use"),
        (("momentum=interval(0.0,2.0)", "optimizer=adam"), "momentum=2.0: expected a number in"),
        (("search=weight_dcay",), "search=weight_dcay: there is no such option; did you mean"),
    ],
)
def test_mistakes_are_one_line(arguments, message, run):
    code, _, errors = run(*BY_HAND, *arguments)
    assert code == 2
    assert errors.startswith(f"optsweep: error: {message}")
    assert errors.count("\n") == 1


def test_a_killed_search_continues_to_its_total(start, run, tmp_path):
    given = (*BY_HAND, DECAY, "hydra.sweeper.n_trials=3", "hydra.sweeper.stale_seconds=2")
    process = start(*given, "trainer.epochs=3000")
    for line in process.stdout:
        if line.startswith("epoch 3/"):
            break
    process.kill()
    process.communicate()
    assert [trial.state for trial in study_of(tmp_path).trials] == [TrialState.RUNNING]
    (tmp_path / "multirun" / "grid" / "study.db").unlink()  # another length is another search

    process = start(*given)
    for line in process.stdout:
        if line.startswith("trial 1,"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    states = [trial.state for trial in study_of(tmp_path).trials]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]

    code, output, errors = run(*given)
    assert (code, errors) == (0, "")
    assert "trial 1 was left running by a dead process: failed" in output
    states = [trial.state for trial in study_of(tmp_path).trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, *[TrialState.COMPLETE] * 2]


def test_an_interrupt_leaves_no_running_trial(start, tmp_path):
    process = start(*BY_HAND, DECAY, "trainer.epochs=3000")
    for line in process.stdout:
        if line.startswith("epoch 3/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.endswith("optsweep: interrupted; the same command continues\n")
    assert [trial.state for trial in study_of(tmp_path).trials] == [TrialState.FAIL]


def test_a_diverged_cell_is_a_bad_value_and_the_search_goes_on(run, tmp_path):
    rates = "optimizer.lr=choice(0.1,1e30)"
    code, _, errors = run(*BY_HAND, rates, "hydra.sweeper.n_trials=6")
    assert (code, errors) == (0, "")
    trials = study_of(tmp_path).trials
    values = {float(trial.params["optimizer.lr"]): trial.value for trial in trials}
    assert values[1e30] == 0.0 < values[0.1]
    assert float(study_of(tmp_path).best_params["optimizer.lr"]) == 0.1


def test_hopeless_cells_end_early_and_what_is_saved_is_told(run, tmp_path):
    code, output, errors = run(
        *BY_HAND,
        "trainer.epochs=4",
        "batch_size=16",
        "optimizer.lr=tag(log,interval(1e-5,0.3))",
        "hydra.sweeper.n_trials=12",
    )
    assert (code, errors) == (0, "")
    study = study_of(tmp_path)
    stopped = study.get_trials(states=(TrialState.PRUNED,))
    assert stopped
    assert len(finished(study)) == 12
    for trial in stopped:
        told = result(tmp_path, trial.user_attrs["cell"])["stopped"]
        assert told["rule"] == "floor"
        assert told["best"] < told["wanted"]
        assert trial.user_attrs["epochs"] == told["epoch"] < 4
    epochs = sum(trial.user_attrs["epochs"] for trial in finished(study))
    saved = json.loads((tmp_path / "multirun" / "grid" / "summary.json").read_text())
    assert saved["variants"][0]["saved_epochs_fraction"] == pytest.approx(1 - epochs / 48)
    assert f"stopped early, which saved {1 - epochs / 48:.0%} of all epochs" in output


def test_variants_have_the_same_budget_and_are_compared(run, tmp_path):
    code, _, errors = run(
        *BY_HAND,
        "optimizer.lr=tag(log,interval(1e-3,1.0))",
        "hydra.sweeper.variants=['optimizer=sgd','optimizer=adam']",
        "hydra.sweeper.n_trials=2",
        "name=compared",
    )
    assert (code, errors) == (0, "")
    folder = tmp_path / "multirun" / "compared"
    summary = json.loads((folder / "summary.json").read_text())
    assert [each["num_trials"] for each in summary["variants"]] == [2, 2]
    first, second = (each["best_params"] for each in summary["variants"])
    assert first == second  # trial n proposes the same for both, until the estimator decides
    assert len({row["cell"] for row in rows(folder / "finals.csv")}) == 2
    assert (folder / "figures" / "compared_budget.svg").is_file()


def test_standard_errors_are_taken_off(run, tmp_path):
    given = (*BY_HAND, DECAY, "num_seeds=3", "hydra.sweeper.n_trials=1")
    assert run(*given, "hydra.sweeper.standard_errors=1.0")[0] == 0
    (trial,) = study_of(tmp_path).trials
    accuracies = [
        seed["val_accuracy"] for seed in result(tmp_path, trial.user_attrs["cell"])["per_seed"]
    ]
    mean = sum(accuracies) / 3
    error = (sum((each - mean) ** 2 for each in accuracies) / 2 / 3) ** 0.5
    assert trial.value == pytest.approx(mean - error, abs=1e-12)


def test_joblib_trains_the_same_on_its_share_of_threads(run, tmp_path):
    grid = ("--multirun", "init=default,gaussian", "trainer.epochs=2", "num_seeds=2")
    assert run(*grid, "hydra.sweep.dir=plain")[0] == 0
    code, _, errors = run(
        *grid, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=joblib"
    )
    assert (code, errors) == (0, "")
    histories = {}
    for way in ("plain", "joblib"):
        for cell in sorted((tmp_path / way / "cells").iterdir()):
            told = [{**row, "seconds": ""} for row in rows(cell / "history.csv")]
            histories.setdefault(cell.name, []).append(told)
    assert len(histories) == 2
    for plain, joblib in histories.values():
        assert plain == joblib


def test_joblib_runs_trials_side_by_side(run, tmp_path):
    code, _, errors = run(
        *BY_HAND,
        DECAY,
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.sweeper.n_trials=3",
    )
    assert (code, errors) == (0, "")
    assert [trial.state for trial in study_of(tmp_path).trials] == [TrialState.COMPLETE] * 3
