"""Trials shared out among processes, and proposals that do not repeat themselves."""

import itertools
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from optsweep.config.checks import InputError
from optsweep.runs import STUDY_FILE
from optsweep.search.sampling import SeededByTrial
from optsweep.search.scores import median_floor
from optsweep.search.storage import alone, open_study, sqlite_url, storage_url
from optsweep.search.trials import FINISHED, Worker

ROOT = Path(__file__).resolve().parents[2]


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=3)


@pytest.fixture
def study(tmp_path):
    return opened(tmp_path)


def opened(folder: Path, **settings) -> optuna.Study:
    return open_study(sqlite_url(folder), "search", SeededByTrial(tpe, 0), settings)


def worker(study, total, stale_seconds=60.0, said=None) -> Worker:
    return Worker(study, total, stale_seconds, (lambda line: None) if said is None else said.append)


def finish(study, trial) -> float:
    x = trial.suggest_float("x", 0.0, 1.0)
    study.tell(trial, 1 - (x - 0.3) ** 2)
    return x


def count(study, *states) -> int:
    return len(study.get_trials(states=states))


def test_a_continued_study_proposes_what_an_uninterrupted_one_does(tmp_path):
    whole = opened(tmp_path / "whole")
    at_once = [finish(whole, whole.ask()) for _ in range(8)]
    in_parts = []
    for _ in range(4):
        study = opened(tmp_path / "parts")
        in_parts += [finish(study, study.ask()) for _ in range(2)]
    assert in_parts == at_once
    assert len(set(at_once)) == 8


def test_a_total_is_the_total_of_all_processes(tmp_path):
    studies = [opened(tmp_path) for _ in range(2)]
    both = [worker(study, 5) for study in studies]
    done = 0
    for process in itertools.cycle((0, 1)):
        trials = both[process].take(1)
        if not trials:
            break
        finish(studies[process], trials[0])
        done += 1
    assert both[1 - process].take(1) == []
    assert done == 5
    assert count(studies[0], *FINISHED) == 5
    assert count(studies[0], TrialState.RUNNING) == 0


def test_of_two_that_ask_at_once_only_one_gets_the_last_trial(study, tmp_path):
    other = opened(tmp_path)
    first, second = worker(study, 1), worker(other, 1)
    kept = [*first._ask(1), *second._ask(1)]
    assert [trial.number for trial in kept] == [0]
    assert count(study, TrialState.FAIL) == 1


def test_a_dead_process_trial_is_failed_and_made_up_for(study):
    lost = study.ask()
    said: list[str] = []
    mine = worker(study, 2, stale_seconds=0.0, said=said)
    mine.fail_stale()  # first seen
    mine.fail_stale()
    assert study.trials[lost.number].state is TrialState.FAIL
    assert said == ["trial 0 was left running by a dead process: failed"]
    for _ in range(2):
        (trial,) = mine.take(1)
        finish(study, trial)
    assert mine.take(1) == []
    assert count(study, TrialState.COMPLETE) == 2


def test_a_living_process_trial_is_not_failed(study, tmp_path):
    theirs, mine = (
        worker(study, 3, stale_seconds=0.6),
        worker(opened(tmp_path), 3, stale_seconds=0.6),
    )
    (trial,) = theirs.take(1)
    with theirs.running([trial]):
        for _ in range(4):
            mine.fail_stale()
            threading.Event().wait(0.3)
        finish(study, trial)
    assert study.trials[trial.number].state is TrialState.COMPLETE


def test_waiting_ends_when_the_other_process_does(study, tmp_path):
    theirs, said = worker(study, 1), []
    (trial,) = theirs.take(1)
    timer = threading.Timer(0.5, finish, [opened(tmp_path), trial])
    timer.start()
    assert worker(opened(tmp_path), 1, said=said).take(1) == []
    timer.join()
    assert said == ["waiting for 1 trials that other processes are running"]


def test_a_trial_that_was_taken_for_dead_is_not_done_twice(study):
    mine = worker(study, 1)
    (trial,) = mine.take(1)
    with mine.running([trial]):
        study.tell(trial.number, state=TrialState.FAIL)  # as another process does
        study.tell(trial, 0.5, skip_if_finished=True)
    assert study.trials[0].state is TrialState.FAIL
    assert len(mine.take(1)) == 1


def test_trials_that_an_error_leaves_have_failed(study):
    mine = worker(study, 2)
    trials = mine.take(2)

    def run() -> None:
        with mine.running(trials):
            finish(study, trials[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]


def test_a_floor_is_the_median_of_the_best_so_far_less_a_margin(study):
    curves = [[0.1, 0.5, 0.7], [0.2, 0.6, 0.5], [0.3, 0.4, 0.8], [0.4, 0.3, 0.6], [0.5, 0.5, 0.9]]
    for number, curve in enumerate(curves):
        assert median_floor(study, 0.01) == []
        trial = study.ask()
        for epoch, accuracy in enumerate(curve, start=1):
            trial.report(accuracy, epoch)
        study.tell(trial, curve[-1])
        assert count(study, TrialState.COMPLETE) == number + 1
    # best so far after epoch 2: 0.5 0.6 0.4 0.4 0.5; the last epoch is never stopped at
    assert median_floor(study, 0.01) == [0.0, 0.49]
    assert median_floor(study, 1.0) == [0.0, 0.0]


def test_a_study_of_something_else_is_refused(tmp_path):
    opened(tmp_path, lr=0.1)
    opened(tmp_path, lr=0.1)
    with pytest.raises(InputError, match=r"search was begun with lr: 0\.1, not 0\.2; .* name=NAME"):
        opened(tmp_path, lr=0.2)


def test_a_storage_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / STUDY_FILE).write_text("not a database, but long enough to be taken for one " * 20)
    with pytest.raises(InputError, match=r"the storage sqlite:///.*study\.db cannot be used"):
        opened(tmp_path)
    with pytest.raises(
        InputError, match=r"hydra\.sweeper\.storage=nonsense: expected a database's"
    ):
        storage_url("nonsense", tmp_path)


def test_processes_that_begin_a_study_at_once_share_it(tmp_path):
    program = (
        "import sys; from pathlib import Path; from optsweep.search.storage import *; "
        "from optuna.samplers import RandomSampler; "
        "study = open_study(sqlite_url(Path(sys.argv[1])), 'search', RandomSampler(), {'a': 1}); "
        "study.tell(study.ask(), 1.0)"
    )
    command = [sys.executable, "-W", "error", "-c", program, tmp_path]
    with alone(sqlite_url(tmp_path)):  # all are there before one of them may begin
        processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
        threading.Event().wait(1)
    assert [process.wait() for process in processes] == [0] * 4
    study = optuna.load_study(study_name="search", storage=sqlite_url(tmp_path))
    assert sorted(trial.number for trial in study.trials) == [0, 1, 2, 3]
