"""Sweeps and searches as jobs of a real Slurm, one node wide."""

import os
import subprocess
import time
from pathlib import Path

import pytest

import optsweep
from optsweep import runs

pytestmark = pytest.mark.slurm

# One core each, so that two cells run at once on the test's node.
SLURM = (
    "--multirun",
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
    "trainer.num_threads=1",
)


def squeue(environment) -> list[tuple[str, str]]:
    told = subprocess.run(
        ["squeue", "-h", "-r", "-o", "%i %T"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(line.split()) for line in told.stdout.splitlines()]


def finished(folder) -> list[str]:
    cells = folder / "multirun" / "cells"
    return sorted(cell.name for cell in cells.iterdir() if runs.read_result(cell))


def test_a_grid_runs_as_an_array_of_jobs(run, slurm, tmp_path):
    grid = (*SLURM, "init=default,gaussian,xavier", "trainer.epochs=1")
    code, output, errors = run(*grid, **slurm)
    assert (code, errors) == (0, "")
    assert len(finished(tmp_path)) == 3
    assert "3 cells" in output
    logs = list((tmp_path / "multirun" / ".submitit").rglob("*_result.pkl"))
    assert len(logs) == 3  # it was Slurm that ran them

    results = [path.stat().st_mtime_ns for path in (tmp_path / "multirun").rglob("result.json")]
    assert run(*grid, **slurm)[0] == 0
    again = [path.stat().st_mtime_ns for path in (tmp_path / "multirun").rglob("result.json")]
    assert again == results  # found done


def test_a_sweep_whose_jobs_are_cancelled_ends_and_continues(start, run, slurm, tmp_path):
    grid = (*SLURM, "init=default,gaussian", "trainer.epochs=1,200000")
    process = start(*grid, **slurm)
    deadline = time.monotonic() + 240
    while True:  # the two short cells are done, a long one runs
        assert time.monotonic() < deadline
        assert process.poll() is None
        done = finished(tmp_path) if (tmp_path / "multirun" / "cells").exists() else []
        if len(done) == 2 and any(state == "RUNNING" for _, state in squeue(slurm)):
            break
        time.sleep(0.5)
    subprocess.run(["scancel", "-u", "root"], env=os.environ | slurm, check=True)
    _, errors = process.communicate(timeout=240)  # it does not wait for ever
    assert process.returncode == 2
    assert errors.startswith("optsweep: error: a job was cancelled, lost or failed")
    assert errors.endswith(
        "[init=default trainer.epochs=200000; init=gaussian trainer.epochs=200000]\n"
    )
    assert errors.count("\n") == 1
    assert finished(tmp_path) == done

    code, _, errors = run(*SLURM, "init=default,gaussian", "trainer.epochs=1", **slurm)
    assert (code, errors) == (0, "")
    assert finished(tmp_path) == done


def test_a_cell_that_fails_is_named_and_the_others_are_trained(run, slurm, tmp_path):
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "class Tires(torch.optim.SGD):\n"
        "    def __init__(self, params, lr=0.1, after=1000):\n"
        "        super().__init__(params, lr=lr)\n"
        "        self.left = after\n"
        "    def step(self, closure=None):\n"
        "        self.left -= 1\n"
        "        assert self.left >= 0, 'it is tired'\n"
        "        super().step()\n"
    )
    own = ("optimizer=own.Tires", "allow_targets=[own]", "trainer.epochs=1")
    slurm = slurm | {"PYTHONPATH": f"{Path(optsweep.__file__).parents[1]}:{tmp_path}"}
    code, output, errors = run(*SLURM, *own, "+optimizer.after=2,1000", "seed=0,1", **slurm)
    assert code == 2, errors
    failed = [f"+optimizer.after=2 seed={seed}" for seed in (0, 1)]
    assert errors == (
        f"optsweep: error: optimizer: it is tired (--debug shows where) [{'; '.join(failed)}]\n"
    )
    assert len(finished(tmp_path)) == 2
    assert output.count("failed") == 2
    logs = [log.read_text() for log in (tmp_path / "multirun" / "cells").glob("*/log.txt")]
    assert sum(log.endswith("ForeignError: optimizer: it is tired\n") for log in logs) == 2
    assert sum("\nresults: " in log for log in logs) == 2


def test_what_the_cluster_refuses_is_one_line(run, slurm, tmp_path):
    code, _, errors = run(*SLURM, "seed=0,1", "hydra.launcher.partition=nowhere", **slurm)
    assert code == 2
    *sbatchs, ours = errors.splitlines()
    assert ours.startswith("optsweep: error: sbatch: error: invalid partition specified: nowhere")
    assert all(line.startswith("sbatch: ") for line in sbatchs)


def test_a_search_runs_its_trials_as_jobs(run, slurm, tmp_path):
    code, output, errors = run(
        *SLURM,
        "search=weight_decay",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.final_num_seeds=2",
        "dataset.val_size=200",
        "trainer.epochs=1",
        "num_seeds=1",
        **slurm,
    )
    assert (code, errors) == (0, "")
    assert "Of 4 trials, trial" in output
    assert len(finished(tmp_path)) == 4 + 3


def test_a_cell_whose_time_is_up_is_queued_again_and_goes_on(start, slurm, tmp_path):
    process = start(*SLURM, "trainer.epochs=400", "batch_size=10", "trainer.engine=torch", **slurm)
    folder = tmp_path / "multirun"
    deadline = time.monotonic() + 240
    while not list(folder.glob(f"cells/*/{runs.CHECKPOINT_FILE}")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.5)
    ((job, _),) = squeue(slurm)
    # What Slurm sends before the limit; submitit then has the job queued again.
    subprocess.run(["scancel", "--signal=USR2", job], env=os.environ | slurm, check=True)
    _, errors = process.communicate(timeout=600)  # Slurm waits two minutes until it starts it
    assert (process.returncode, errors) == (0, "")
    assert len(finished(tmp_path)) == 1
    (log,) = folder.glob(".submitit/*/*_log.out")
    assert "Requeued job" in log.read_text()
    assert "\ncontinues after epoch " in log.read_text()
    assert not list(folder.rglob(runs.CHECKPOINT_FILE))
