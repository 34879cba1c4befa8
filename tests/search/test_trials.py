"""Trials shared out among processes, and what becomes of those whose process dies."""

import functools
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from optsweep.config.checks import InputError
from optsweep.runs import STUDY_FILE
from optsweep.search.sampling import Proposer
from optsweep.search.scores import median_floor
from optsweep.search.space import Space
from optsweep.search.storage import alone, open_study, sqlite_url, storage_url
from optsweep.search.trials import DIVERGED, FINISHED, REFUSED, Worker, best_trial

ROOT = Path(__file__).resolve().parents[2]
LINE = Space({"x": FloatDistribution(0.0, 1.0)})
THREE = Space({"init": CategoricalDistribution(["a", "b", "c"])})


@pytest.fixture
def study(tmp_path):
    return opened(tmp_path)


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=3)


def opened(folder: Path, space: Space = LINE, **settings) -> optuna.Study:
    return open_study(sqlite_url(folder), "search", Proposer(tpe, 0, space), settings)


def worker(folder: Path, total, stale_seconds=60.0, said=None, space=LINE) -> Worker:
    """A worker of another process, as far as the storage can tell."""
    made = Worker(
        opened(folder, space),
        space,
        total,
        stale_seconds=stale_seconds,
        alone=functools.partial(alone, sqlite_url(folder)),
        say=(lambda line: None) if said is None else said.append,
    )
    made._sign |= {"machine": "another"}  # or else its process would be known to live
    return made


def finish(study, taken) -> dict:
    trial, point = taken
    study.tell(trial, 1 - (point.get("x", 0.0) - 0.3) ** 2)
    return point


def points(study) -> list[dict]:
    return [trial.params for trial in study.get_trials(states=FINISHED)]


def count(study, *states) -> int:
    return len(study.get_trials(states=states))


def run_all(one: Worker) -> list[dict]:
    done = []
    with one:
        while taken := one.take():
            done.append(finish(one.study, taken))
            one.leave(taken[0])
    return done


def test_a_total_is_the_total_of_all_processes(study, tmp_path):
    with worker(tmp_path, 5) as first, worker(tmp_path, 5) as second:
        numbers = []
        for one in itertools.cycle((first, second)):
            taken = one.take()
            if taken is None:
                break
            finish(one.study, taken)
            numbers.append(taken[0].number)
    assert numbers == [0, 1, 2, 3, 4]
    assert count(study, TrialState.COMPLETE) == len(study.trials) == 5


def test_two_that_ask_at_once_get_one_trial_each_and_no_more(study, tmp_path):
    workers = [worker(tmp_path, 3) for _ in range(4)]
    with alone(sqlite_url(tmp_path)):  # all are there before one of them may take any
        threads = [threading.Thread(target=run_all, args=[one]) for one in workers]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3


def test_a_search_that_is_killed_and_continued_is_the_undisturbed_one(tmp_path):
    whole = run_all(worker(tmp_path / "whole", 9))
    assert len({point["x"] for point in whole}) == 9
    for folder, asked in (("asked", True), ("chosen", False)):
        for killed_at in (1, 6):
            with worker(tmp_path / folder, killed_at) as one:
                while taken := one.take():
                    finish(one.study, taken)
            if asked:  # killed before it had chosen, or after
                one.study.ask()
            else:
                worker(tmp_path / folder, 9, stale_seconds=0.5).take()
            if killed_at == 1:
                run_all(worker(tmp_path / folder, 4, stale_seconds=0.5))
        assert run_all(worker(tmp_path / folder, 9, stale_seconds=0.5))[-1] == whole[-1]
        study = opened(tmp_path / folder)
        assert points(study) == whole
        assert len(study.trials) == 9


def test_a_dead_process_trial_is_taken_up_before_a_new_one(study, tmp_path):
    lost, point = worker(tmp_path, 2).take()
    said: list[str] = []
    with worker(tmp_path, 2, stale_seconds=0.6, said=said) as mine:
        trial, again = mine.take()
        assert (trial.number, again) == (lost.number, point)
        assert said == [
            "waiting for a sign of life from trial 0",
            "trial 0 was left by a process that stopped: taken up",
        ]
        finish(study, (trial, again))
        finish(study, mine.take())
        assert mine.take() is None
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


def test_a_process_that_is_gone_from_this_machine_is_known_to_be_dead(study, tmp_path):
    program = (
        "import sys; sys.path.insert(0, 'tests/search'); from test_trials import *; "
        "one = worker(Path(sys.argv[1]), 1); one._sign = sign_of_life(); one.take()"
    ).replace("import *;", "import *; from optsweep.liveness import sign_of_life;")
    subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, check=True)
    assert count(study, TrialState.RUNNING) == 1
    said: list[str] = []
    with worker(tmp_path, 1, stale_seconds=600, said=said) as mine:
        assert mine.take()[0].number == 0
    assert said == ["trial 0 was left by a process that stopped: taken up"]


def test_a_trial_that_an_error_leaves_is_taken_up_at_once(study, tmp_path):
    def fail() -> None:
        with worker(tmp_path, 2) as mine:
            mine.take()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with worker(tmp_path, 2, stale_seconds=600) as mine:
        assert mine.take()[0].number == 0


def test_a_living_process_trial_is_left_to_it(study, tmp_path):
    said: list[str] = []
    with (
        worker(tmp_path, 1, stale_seconds=0.6) as theirs,
        worker(tmp_path, 1, stale_seconds=0.6, said=said) as mine,
    ):
        taken = theirs.take()
        timer = threading.Timer(2.0, finish, [theirs.study, taken])
        timer.start()
        assert mine.take() is None
        timer.join()
    assert said[-1] == "waiting for other processes: trial 0"
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]


def test_a_process_that_was_taken_for_dead_may_come_back(study, tmp_path):
    theirs = worker(tmp_path, 1, stale_seconds=0.5)
    taken = theirs.take()  # it shows no life outside of its `with`
    with worker(tmp_path, 1, stale_seconds=0.5) as mine:
        again = mine.take()
        finish(study, taken)  # whoever is first
        study.tell(again[0], 0.0, skip_if_finished=True)
        assert mine.take() is None
    theirs.leave(taken[0])
    assert theirs.take() is None
    assert study.trials[0].value == pytest.approx(1 - (taken[1]["x"] - 0.3) ** 2)


def test_a_space_with_no_more_points_ends_the_search(tmp_path):
    one = worker(tmp_path, 10, space=THREE)
    assert sorted(point["init"] for point in run_all(one)) == ["a", "b", "c"]
    assert one.total == 3


def test_processes_that_exhaust_a_space_together_try_each_point_once(tmp_path):
    with worker(tmp_path, 10, space=THREE) as first, worker(tmp_path, 10, space=THREE) as second:
        taken = [first.take(), second.take(), first.take()]
        assert sorted(point["init"] for _, point in taken) == ["a", "b", "c"]
        for one in taken:
            finish(first.study, one)
        assert first.take() is second.take() is None


def test_a_trial_that_could_not_be_built_counts_and_one_of_an_older_version_does_not(
    study, tmp_path
):
    refused = study.ask()
    refused.set_user_attr(REFUSED, "why")
    study.tell(refused, state=TrialState.FAIL)
    study.tell(study.ask(), state=TrialState.FAIL)  # as versions before did with a lost one
    assert len(run_all(worker(tmp_path, 3))) == 2


def test_the_best_trial_is_not_one_that_diverged(study):
    assert best_trial(study) is None
    for value in (0.0, 0.3, 0.3):
        trial = study.ask()
        trial.set_user_attr(DIVERGED, value == 0.0)
        study.tell(trial, value)
        best = best_trial(study)
        assert best is None if value == 0.0 else best.number == 1


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
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(InputError, match="what is kept in memory ends with the process"):
            storage_url(url, tmp_path)


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
