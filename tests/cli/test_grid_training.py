"""Grids as their users meet them: checked whole, trained whatever fails, listed and logged."""

import re
import shutil
import signal

import pandas as pd
import pytest

from optsweep import runs
from optsweep.report.collection import collect_runs
from optsweep.seals import SUMS_FILE
from optsweep.sweeps import cell_lists

REPORTED = "optsweep: error: "
# The step of an optimizer that its settings let fail, as an error of its own kind.
OWN = """
import torch

class Tired(Exception):
    pass

class Tires(torch.optim.SGD):
    def __init__(self, params, lr=0.1, after=1000):
        super().__init__(params, lr=lr)
        self.left = after

    def step(self, closure=None):
        self.left -= 1
        if self.left < 0:
            print("no more of this")
            raise Tired("it is tired")
        super().step()
"""
LAUNCHERS = [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")]


def folder(tmp_path, name="grid"):
    return tmp_path / runs.RUNS_FOLDER / name


def cells(tmp_path):
    found = folder(tmp_path, runs.CELLS_FOLDER)
    return sorted(found.iterdir()) if found.exists() else []


def cell_of(tmp_path, *words):
    listed = pd.read_csv(folder(tmp_path) / runs.SWEEP_FILE)
    (name,) = listed["cell"][[set(words) <= set(text.split()) for text in listed["overrides"]]]
    return folder(tmp_path, runs.CELLS_FOLDER) / name


def rows(output):
    """The final table: the first two columns."""
    return dict(re.findall(r"^│ (.*?) +│ +(.*?) │", output, re.MULTILINE))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            ["optimizer=lars,adam", "optimizer.trust_coefficient=0.001,0.002"],
            "there is no key optimizer.trust_coefficient with optimizer=adam; ",
        ),
        (["batch_size=100,1001"], "batch_size=1001: expected a whole number from 1 to 1000 "),
        (["init=gaussian,xavir"], "init=xavir: there is no such option; did you mean xavier?"),
        (
            ["scheduler=constant,warmup", "trainer.epochs=4"],
            "scheduler: a warm-up of 4 does not fit into a run of 4; ",
        ),
        (["optimizer.lr=1e-3,1e-400"], "optimizer.lr=1e-3,1e-400: 1e-400 is too small a number"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["basic", "joblib"])
def test_no_cell_trains_if_one_cannot(run, tmp_path, grid, message, launcher):
    code, output, errors = run("--multirun", *grid, *launcher)
    assert (code, output) == (2, "")
    assert errors.startswith(REPORTED + message)
    assert errors.count("\n") == 1
    assert cells(tmp_path) == []
    assert not folder(tmp_path).exists()


def test_a_bug_in_the_check_ends_the_program(run, tmp_path):
    program = """
import optsweep.cli.validation as validation
from optsweep.cli import main
def plan(config):
    raise TypeError("a bug")
validation.plan = plan
main()
"""
    code, output, errors = run("--multirun", "seed=0,1", module=("-c", program))
    assert (code, output) == (1, "")
    assert errors.endswith("TypeError: a bug\n")
    assert cells(tmp_path) == []


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["basic", "joblib"])
def test_cells_that_fail_are_named_and_the_others_are_trained(run, tmp_path, launcher):
    (tmp_path / "own.py").write_text(OWN)
    grid = ("--multirun", "optimizer=own.Tires", "allow_targets=[own]", "trainer.epochs=1")
    grid = (*grid, *launcher)
    code, output, errors = run(*grid, "+optimizer.after=2,3,1000", "seed=0,1")
    assert code == 2
    tired = [f"+optimizer.after={after} seed={seed}" for after in (2, 3) for seed in (0, 1)]
    reason = "optimizer: it is tired (--debug shows where)"
    assert errors == f"{REPORTED}{reason} [{'; '.join(tired)}]\n"
    table = rows(output)
    assert [name for name, told in table.items() if told == "failed"] == tired
    trained = [table[f"+optimizer.after=1000 seed={seed}"] for seed in (0, 1)]
    assert all(0 < float(accuracy) < 1 for accuracy in trained)

    log = (cell_of(tmp_path, "+optimizer.after=2", "seed=1") / runs.LOG_FILE).read_text()
    assert "epoch 0/1" in log
    assert "no more of this\n" in log
    assert log.endswith("ForeignError: optimizer: it is tired\n")
    assert "own.Tired: it is tired\n" in log
    log = (cell_of(tmp_path, "+optimizer.after=1000", "seed=1") / runs.LOG_FILE).read_text()
    assert re.fullmatch(r"--- \d{4}-.*\n(.*\n)+epoch 1/1 .*\nresults: .*\n", log)

    _, _, errors = run(*grid, "+optimizer.after=2,3,1000", "seed=0,1", "--debug")
    assert "own.Tired: it is tired\n" in errors
    assert errors.endswith(f"{REPORTED}{reason} [{'; '.join(tired)}]\n")


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["basic", "joblib"])
def test_a_broken_folder_is_the_matter_of_its_cell(run, tmp_path, launcher):
    grid = ("--multirun", "trainer.epochs=1", "seed=0,1,2,3", *launcher)
    assert run(*grid)[0] == 0
    damaged, blocked, killed, _ = (cell_of(tmp_path, f"seed={seed}") for seed in range(4))
    (damaged / runs.RESULT_FILE).write_text("{")
    shutil.rmtree(blocked)
    blocked.touch()
    (killed / runs.RESULT_FILE).unlink()
    code, output, errors = run(*grid)
    assert code == 2
    shown = f"{runs.RUNS_FOLDER}/{runs.CELLS_FOLDER}"
    assert errors == f"{REPORTED}{shown}/{blocked.name}: Not a directory [seed=1]\n"
    assert f"it was set aside in {damaged / 'damaged_1'}\n" in output
    for trained in (damaged, killed):
        assert (trained / runs.RESULT_FILE).exists()
    assert output.count("done before") == 1
    assert [name for name, told in rows(output).items() if told == "failed"] == ["seed=1"]


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["basic", "joblib"])
def test_a_bug_in_one_cell_is_told_from_a_mistake(run, tmp_path, launcher):
    """The optimizer's package is the user's, but what fails in it is optsweep's own function."""
    (tmp_path / "own.py").write_text(
        "import torch, optsweep.runs\n"
        "class Buggy(torch.optim.SGD):\n"
        "    def __init__(self, params, lr=0.1, bug=False):\n"
        "        super().__init__(params, lr=lr)\n"
        "        self.calls, self.bug = 0, bug\n"
        "    def step(self, closure=None):\n"
        "        self.calls += 1\n"
        "        if self.bug and self.calls > 2:\n"
        "            optsweep.runs.mean_accuracy(None)\n"
        "        super().step()\n"
    )
    own = ("optimizer=own.Buggy", "allow_targets=[own]", "trainer.epochs=1", *launcher)
    code, output, errors = run("--multirun", *own, "+optimizer.bug=true,false")
    assert code == 1
    assert rows(output)["+optimizer.bug=True"] == "failed"
    assert 0 < float(rows(output)["+optimizer.bug=False"]) < 1
    assert errors.startswith("Traceback (most recent call last):\n")
    assert "\nTypeError: 'NoneType' object is not iterable\n" in errors
    assert errors.endswith(
        f"{REPORTED}a bug of optsweep's: TypeError: 'NoneType' object is not iterable "
        "[+optimizer.bug=True]\n"
    )


def test_a_process_that_is_killed_takes_no_other_cell_along(run, tmp_path):
    """As by the system for want of memory: joblib's other processes end with it."""
    (tmp_path / "own.py").write_text(
        "import os, torch\n"
        "class Killed(torch.optim.SGD):\n"
        "    def __init__(self, params, lr=0.1, after=1000):\n"
        "        super().__init__(params, lr=lr)\n"
        "        self.left = after\n"
        "    def step(self, closure=None):\n"
        "        self.left -= 1\n"
        "        if self.left < 0:\n"
        "            os._exit(9)\n"
        "        super().step()\n"
    )
    own = ("optimizer=own.Killed", "allow_targets=[own]", "batch_size=50", "trainer.epochs=5")
    after = "+optimizer.after=1000,70,2000"  # more than the trial steps, fewer than the run's
    code, output, errors = run("--multirun", *own, after, *LAUNCHERS[1])
    assert code == 2
    assert errors == (
        f"{REPORTED}its process ended without a word; the system kills one that takes too much "
        "memory [+optimizer.after=70]\n"
    )
    told = list(rows(output).values())
    assert told[1] == "failed"
    assert all(0 < float(told[index]) < 1 for index in (0, 2))


def test_what_is_printed_is_shown_while_it_happens(start, tmp_path):
    process = start("--multirun", "trainer.epochs=100000", "trainer.batch_size=10", "seed=0,1")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    (log,) = folder(tmp_path, runs.CELLS_FOLDER).glob(f"*/{runs.LOG_FILE}")
    assert "\nepoch 2/100000 " in log.read_text()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors == "optsweep: interrupted; the same command continues\n"
    assert log.read_text().endswith("Interrupted: SIGINT\n")


def test_a_sweep_does_not_cost_another_its_list(run, tmp_path):
    def listed(path):
        return [text.split()[-1] for text in pd.read_csv(path)["overrides"]]

    grids = ["seed=0,1", "init=gaussian,xavier", "seed=1,0"]
    for grid in grids:
        assert run("--multirun", "trainer.epochs=1", grid)[0] == 0
    assert listed(folder(tmp_path) / runs.SWEEP_FILE) == ["seed=1", "seed=0"]
    lists = cell_lists(folder(tmp_path))
    assert next(iter(lists)) == "grid"
    assert [listed(path) for path in lists.values()] == [
        ["seed=1", "seed=0"],
        ["init=gaussian", "init=xavier"],
    ]
    collected = collect_runs(tmp_path / runs.RUNS_FOLDER)
    sections = collected.members.groupby("experiment")["label"].apply(list).to_dict()
    latest, other = sections
    assert latest == "grid"
    assert re.fullmatch("grid-[0-9a-f]{10}", other)
    assert sections[other] == ["gaussian", "xavier"]
    assert set(collected.cells["status"]) == {"completed"}


def test_a_list_of_an_earlier_version_is_kept(run, tmp_path):
    assert run("--multirun", "trainer.epochs=1", "seed=0,1")[0] == 0
    for path in (*folder(tmp_path).glob(runs.SWEEP_FILES), folder(tmp_path) / SUMS_FILE):
        path.unlink()
    earlier = (folder(tmp_path) / runs.SWEEP_FILE).read_text()
    assert list(cell_lists(folder(tmp_path))) == ["grid"]
    assert run("--multirun", "trainer.epochs=1", "init=gaussian,xavier")[0] == 0
    _, other = cell_lists(folder(tmp_path)).values()
    assert other.read_text() == earlier
