"""Several processes on one search in a real PostgreSQL."""

import gc
import signal
import warnings

import optuna
import pytest
from optuna.trial import TrialState

from optsweep.search.storage import open_study, storage_url

pytestmark = pytest.mark.postgresql


@pytest.fixture(autouse=True)
def _connections():
    """Optuna leaves its connections to the garbage collector, of which psycopg warns."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


TOTAL = 12
NUM_PROCESSES = 4


def test_processes_share_a_search_and_one_of_them_is_killed(start, postgresql, tmp_path):
    given = (
        "--multirun",
        "search=weight_decay",
        "name=shared",
        f"hydra.sweeper.storage={postgresql}",
        f"hydra.sweeper.n_trials={TOTAL}",
        "hydra.sweeper.stale_seconds=5",
        "hydra.sweeper.final_num_seeds=2",
        "dataset.val_size=200",
        "trainer.epochs=20",
        "trainer.num_threads=1",
        "num_seeds=2",
    )
    processes = [start(*given) for _ in range(NUM_PROCESSES)]
    victim = processes[0]
    killed = None
    for line in victim.stdout:
        if line.startswith("trial "):
            killed = int(line.split(",")[0].split()[1])
        if killed is not None and line.startswith("epoch 2/"):
            break
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    told = [process.communicate() for process in processes[1:]]
    assert [process.returncode for process in processes[1:]] == [0] * (NUM_PROCESSES - 1)
    assert [errors for _, errors in told] == [""] * (NUM_PROCESSES - 1)

    study = optuna.load_study(study_name="shared", storage=postgresql)
    states = [trial.state for trial in study.trials]
    done = [
        trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    assert len(done) == TOTAL  # reached, and not exceeded
    assert TrialState.RUNNING not in states  # none lost
    assert len(study.trials) == TOTAL
    assert study.trials[killed].state in (TrialState.COMPLETE, TrialState.PRUNED)  # made up for
    cells = [trial.user_attrs["cell"] for trial in done]
    assert len(set(cells)) == TOTAL  # none doubled
    assert len({trial.params["optimizer.weight_decay"] for trial in done}) == TOTAL

    folder = tmp_path / "multirun" / "shared"
    copied = optuna.load_study(study_name="shared", storage=f"sqlite:///{folder / 'study.db'}")
    assert len(copied.trials) == len(study.trials)  # for the report, which asks no server
    assert (folder / "summary.json").is_file()
    for name in ("trials.csv", "finals.csv"):
        assert (folder / name).is_file()


def test_the_url_of_a_server_is_a_storage(postgresql, tmp_path):
    url = storage_url(postgresql, tmp_path)
    sampler = optuna.samplers.RandomSampler()
    for _ in range(2):
        study = open_study(url, "opened twice", sampler, {"lr": 0.1})
    assert study.user_attrs["settings"] == {"lr": 0.1}
