"""Searches as their users meet them: run as a program, on the slice."""

import contextlib
import csv
import json
import signal
import sqlite3
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


def is_free(database: Path) -> bool:
    with contextlib.closing(sqlite3.connect(database, timeout=0.1)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
    return True


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
        "tuned_comparison": ["trainer.epochs=2"],
    }
    if name.startswith("tuned_comparison_"):  # whose spaces are those of tuned_comparison
        small[name] = ["trainer.epochs=2", "batch_size=64"]
        small[name].append("hydra.sweeper.variants=['optimizer=sgd']")
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
    assert sum(row["kind"] == "best" for row in finals) == (16 if name == "tuned_comparison" else 1)
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


def test_a_search_that_is_killed_and_continued_is_the_undisturbed_one(start, run, tmp_path):
    given = (*BY_HAND, DECAY, "hydra.sweeper.n_trials=3", "trainer.epochs=200")
    given += ("hydra.sweeper.sampler.n_startup_trials=1", "num_seeds=3")
    assert run(*given, "name=whole")[0] == 0
    killed = (*given, "hydra.sweep.dir=killed")
    for number in (0, 1):
        process = start(*killed)
        for line in process.stdout:
            if line.startswith(f"trial {number},"):
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, output, errors = run(*killed)
    assert (code, errors) == (0, "")
    assert "trial 1 was left by a process that stopped: taken up" in output
    whole, continued = (
        optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / folder}/study.db")
        for name, folder in (("whole", "multirun/whole"), ("grid", "killed/grid"))
    )
    assert [(trial.params, trial.value) for trial in continued.trials] == [
        (trial.params, trial.value) for trial in whole.trials
    ]


def test_an_interrupted_trial_is_for_the_next_process(start, run, tmp_path):
    given = (*BY_HAND, DECAY, "trainer.epochs=3000", "hydra.sweeper.n_trials=1")
    process = start(*given)
    for line in process.stdout:
        if line.startswith("epoch 3/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.endswith("optsweep: interrupted; the same command continues\n")
    (trial,) = study_of(tmp_path).trials
    assert trial.state is TrialState.RUNNING
    process = start(*given)
    for line in process.stdout:
        if line.startswith("epoch 3/"):  # without a wait for the sign of life to be stale
            break
        assert "waiting" not in line
    process.kill()
    process.communicate()


def test_a_process_that_stood_still_accepts_that_its_trial_was_made_up_for(start, run, tmp_path):
    given = (*BY_HAND, DECAY, "trainer.epochs=150", "hydra.sweeper.n_trials=2")
    given += ("hydra.sweeper.stale_seconds=2",)
    stopped = start(*given)
    for line in stopped.stdout:
        if line.startswith("epoch 3/"):
            break
    while True:  # not in the middle of its sign of life, with the database locked
        stopped.send_signal(signal.SIGSTOP)
        if is_free(tmp_path / "multirun" / "grid" / "study.db"):
            break
        stopped.send_signal(signal.SIGCONT)
    try:
        code, output, errors = run(*given)
        assert (code, errors) == (0, "")
        assert "trial 0 was left by a process that stopped: taken up" in output
    finally:
        stopped.send_signal(signal.SIGCONT)
    output, errors = stopped.communicate()
    assert (stopped.returncode, errors) == (0, "")
    assert "trial 0 had been made up for by then" in output
    assert [trial.state for trial in study_of(tmp_path).trials] == [TrialState.COMPLETE] * 2


def test_a_finite_space_is_searched_once(run, tmp_path):
    given = (*BY_HAND, "init=default,gaussian,xavier", "hydra.sweeper.n_trials=10")
    for _ in range(2):
        code, output, errors = run(*given)
        assert (code, errors) == (0, "")
        assert "all 3 points that there are have been tried" in output
        inits = [trial.params["init"] for trial in finished(study_of(tmp_path))]
        assert sorted(inits) == ["default", "gaussian", "xavier"]


def test_a_combination_that_cannot_be_built_fails_its_trial_alone(run, tmp_path):
    code, output, errors = run(
        *BY_HAND, "depth=choice(1,3)", "layernorm_position=none,third", "hydra.sweeper.n_trials=9"
    )
    assert (code, errors) == (0, "")
    trials = study_of(tmp_path).trials
    assert len(trials) == 4
    (refused,) = [trial for trial in trials if trial.state is TrialState.FAIL]
    assert refused.params == {"model.depth": 1, "layernorm_position": "third"}
    assert f"trial {refused.number} cannot be trained: layernorm_position=[3]: there is" in output
    assert "1 trial could not be built." in output


def test_a_cell_is_trained_by_one_process_at_a_time(start, tmp_path):
    grid = ("--multirun", "init=default,gaussian", "trainer.epochs=300", "trainer.num_threads=1")
    processes = [start(*grid) for _ in range(3)]
    told = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    assert [errors for _, errors in told] == [""] * 3
    output = "".join(lines for lines, _ in told)
    assert output.count("epoch 300/300") == 2
    assert output.count("results: ") == 2
    assert not list(tmp_path.glob("multirun/cells/*/.lease*"))


def test_an_optuna_pruner_ends_cells_and_keeps_no_result_of_them(run, tmp_path):
    code, output, errors = run(
        *BY_HAND,
        "hydra/sweeper/pruner=successive_halving",
        "hydra.sweeper.pruner.reduction_factor=2",
        "trainer.epochs=4",
        "batch_size=16",
        "optimizer.lr=tag(log,interval(1e-5,0.3))",
        "hydra.sweeper.n_trials=6",
        "name=halving",
    )
    assert (code, errors) == (0, "")
    trials = study_of(tmp_path, "halving").trials
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert len(pruned) < len(finished(study_of(tmp_path, "halving"))) == 6
    for trial in pruned:
        assert trial.user_attrs["epochs"] == max(trial.intermediate_values) < 4
        assert trial.value == trial.intermediate_values[trial.user_attrs["epochs"]]
        assert f"trial {trial.number} was pruned after epoch" in output
    cells = list((tmp_path / "multirun" / "cells").iterdir())
    whole = [cell for cell in cells if (cell / "result.json").exists()]
    assert len(cells) - len(whole) == len(pruned)
    assert all(len(rows(cell / "history.csv")) > 4 for cell in whole)


def test_a_pruner_may_compare_seeds_in_pairs(run, tmp_path):
    code, _, errors = run(
        *BY_HAND,
        "hydra/sweeper/pruner=wilcoxon",
        "trainer.epochs=3",
        "batch_size=16",
        "num_seeds=5",
        "optimizer.lr=0.1,1e-5",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=1",
        "hydra.sweeper.sampler.seed=2",
    )
    assert (code, errors) == (0, "")
    states = {trial.params["optimizer.lr"]: trial.state for trial in study_of(tmp_path).trials}
    assert states == {0.1: TrialState.COMPLETE, 1e-5: TrialState.PRUNED}


def test_a_cell_that_ends_by_patience_is_complete(run, tmp_path):
    code, _, errors = run(
        *BY_HAND, "optimizer.lr=1e-9,2e-9", "trainer.epochs=5", "stopping.patience=1"
    )
    assert (code, errors) == (0, "")
    trials = study_of(tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert all(trial.user_attrs["epochs"] < 5 for trial in trials)


def test_a_search_in_which_all_diverged_names_no_best(run, tmp_path):
    code, output, errors = run(
        *BY_HAND, "optimizer.lr=1e30,1e31", "hydra.sweeper.final_num_seeds=1"
    )
    assert (code, errors) == (0, "")
    assert "Of 2 trials, none is best: 2 diverged, and 0 stopped early." in output
    summary = json.loads((tmp_path / "multirun" / "grid" / "summary.json").read_text())
    assert summary["variants"][0]["best_trial"] is summary["variants"][0]["best_params"] is None
    assert rows(tmp_path / "multirun" / "grid" / "finals.csv") == []


def test_a_summary_is_json_that_others_can_read(run, tmp_path):
    code, _, errors = run(
        *BY_HAND, DECAY, "hydra.sweeper.n_trials=1", "hydra.sweeper.final_num_seeds=1"
    )
    assert (code, errors) == (0, "")
    text = (tmp_path / "multirun" / "grid" / "summary.json").read_text()
    (final,) = json.loads(text, parse_constant=pytest.fail)["finals"]
    assert final["test_accuracy"]["low"] is None  # of one seed, there is no interval


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
    page = (folder / "trials.md").read_text()
    assert page.startswith("2 variants, 4 trials, 0 of them stopped early. Trained again on")
    assert "| best setting | validation accuracy | trial | trials | stopped early |" in page
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


def test_joblib_runs_trials_side_by_side_and_by_the_same_chance(run, tmp_path):
    given = (*BY_HAND, DECAY, "hydra.sweeper.n_trials=5", "trainer.epochs=30")
    assert run(*given, "name=serial")[0] == 0
    code, output, errors = run(*given, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert (code, errors) == (0, "")
    assert output.index("trial 1, 5 in all") < output.index("trial 0: objective")
    serial, parallel = (study_of(tmp_path, name).trials for name in ("serial", "grid"))
    assert [trial.state for trial in parallel] == [TrialState.COMPLETE] * 5
    assert [trial.params for trial in parallel] == [trial.params for trial in serial]


def test_an_error_in_one_of_several_trials_ends_the_search_and_loses_nothing(run, tmp_path):
    given = (*BY_HAND, DECAY, "hydra.sweeper.n_trials=4")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert run(*given, "hydra.sweeper.final_num_seeds=1")[0] == 0
    cell = study_of(tmp_path).trials[1].user_attrs["cell"]
    (tmp_path / "multirun" / "grid" / "study.db").unlink()
    path = tmp_path / "multirun" / "cells" / cell
    path.rename(tmp_path / "aside")
    path.write_text("a file where a folder should be")
    code, _, errors = run(*given, *joblib)
    assert code == 2
    assert cell in errors.splitlines()[-1]
    path.unlink()
    (tmp_path / "aside").rename(path)
    code, _, errors = run(*given, *joblib)
    assert (code, errors) == (0, "")
    assert [trial.state for trial in study_of(tmp_path).trials] == [TrialState.COMPLETE] * 4
