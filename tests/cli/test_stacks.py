"""Cells of a grid that are trained as one stack, as users meet them: as if each were alone."""

import csv
import json
import signal

import pandas as pd
import pytest
from rich.console import Console

from optsweep import runs
from optsweep.cli.jobs import Job
from optsweep.cli.stacks import train_stack
from optsweep.config.identity import cell_name
from optsweep.liveness import alone_in

REPORTED = "optsweep: error: "
SMALL = (
    *("model.hidden_sizes=[12,8]", "batch_size=48", "trainer.epochs=2", "num_seeds=2"),
    *("dataset.train_size=150", "trainer.precision=float64"),
)
TORCH = (*SMALL, "trainer.engine=torch")
ON = "stack_cells=on"
# An optimizer whose step can be made to fail.
OWN = """
import torch

class Tires(torch.optim.SGD):
    def __init__(self, params, lr=0.1, after=1000):
        super().__init__(params, lr=lr)
        self.left = after

    def step(self, closure=None):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("it is tired")
        super().step()
"""


@pytest.fixture
def cells(tmp_path):
    """`cells()`: the directories of all cells by name."""
    folder = tmp_path / runs.RUNS_FOLDER / runs.CELLS_FOLDER
    return lambda: {path.name: path for path in sorted(folder.iterdir())}


@pytest.fixture
def cell_of(tmp_path, cells):
    """`cell_of(*words)`: the directory of the cell of a grid that has these overrides."""

    def found(*words):
        listed = pd.read_csv(tmp_path / runs.RUNS_FOLDER / "grid" / runs.SWEEP_FILE)
        has_words = [set(words) <= set(text.split()) for text in listed["overrides"]]
        (name,) = listed["cell"][has_words]
        return cells()[name]

    return found


def numbers_of(path):
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return [{k: float(v) for k, v in row.items() if v and k != "seconds"} for row in rows]


def assert_close(one, other):
    """Values of two rows: floats the same but for rounding."""
    plain, floats = (
        [{k: v for k, v in row.items() if isinstance(v, float) is is_float} for row in (one, other)]
        for is_float in (False, True)
    )
    assert plain[0] == plain[1]
    assert floats[0] == pytest.approx(floats[1], rel=1e-9)


def assert_alike(one, other):
    """Two directories of a cell: the same but for rounding, times and what tells of the stack."""
    assert (one / runs.CONFIG_FILE).read_text() == (other / runs.CONFIG_FILE).read_text()
    overrides = [
        (each / runs.COMPOSED_FOLDER / "overrides.yaml").read_text().splitlines()
        for each in (one, other)
    ]
    told = [[line for line in lines if "stack_cells" not in line] for lines in overrides]
    assert told[0] == told[1] != []
    rows = [numbers_of(each / runs.HISTORY_FILE) for each in (one, other)]
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, rel=1e-9)
    results = [runs.read_result(each) for each in (one, other)]
    objectives = [result.pop("objective") for result in results]
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-9)
    seeds = [result.pop("per_seed") for result in results]
    for a, b in zip(*seeds, strict=True):
        assert_close(a, b)
    for result in results:
        for key in ("seconds", "warnings", "other_cores", "process", "sha256"):
            del result[key]
    assert results[0] == results[1]
    files = [sorted(path.name for path in each.rglob("*")) for each in (one, other)]
    assert files[0] == files[1]


def train_both_ways(run, tmp_path, cells, *grid):
    """Train a grid as stacks, then each of its cells alone; both outputs, the logs of the first."""
    code, output, errors = run("--multirun", *grid)
    assert (code, errors) == (0, "")
    folder = tmp_path / runs.RUNS_FOLDER
    stacked = {name: (path / runs.LOG_FILE).read_text() for name, path in cells().items()}
    folder.rename(tmp_path / "stacked")
    code, alone, errors = run("--multirun", *grid, "stack_cells=off")
    assert (code, errors) == (0, "")
    assert cells().keys() == stacked.keys()  # the way of training is no part of a cell's name
    for name, path in cells().items():
        assert_alike(tmp_path / "stacked" / runs.CELLS_FOLDER / name, path)
    return output, alone, stacked


def test_cells_of_a_grid_are_as_each_alone(run, tmp_path, cells):
    """Optimizers, rates, decay, momentum, schedules and initialisations differ."""
    pairs = (
        "optimizer,optimizer.lr,weight_decay,momentum=[sgd,0.1,null,null],[sgd,0.02,0.1,0.9],"
        "[adam,0.001,null,null],[lars,0.5,null,null]"
    )
    grid = (*TORCH, ON, pairs, "scheduler,init=[constant,default],[cosine,kaiming]")
    output, alone, logs = train_both_ways(run, tmp_path, cells, *grid)
    assert "\ncells 1 to 8 of 8\none stack of 8 cells, 16 networks, engine: torch, " in output
    assert "stack" not in alone
    assert output.count("results: ") == 8
    for log in logs.values():
        assert "\none stack of 8 cells, " in log
        assert log.count("\nepoch 2/2  lr ") == 1
        assert log.count("results: ") == 1
    result = runs.read_result(tmp_path / "stacked" / runs.CELLS_FOLDER / next(iter(cells())))
    assert result["warnings"] == ["trained in one stack with 7 other cells; the time is its share"]


def test_cells_of_another_shape_are_other_stacks_or_alone(run, tmp_path, cells):
    varied = ("batch_size=48,64", "optimizer.lr=0.1,0.2", "record.weights=false,true")
    grid = (*TORCH, ON, *varied)  # of two values for a key the last counts
    output, _, _ = train_both_ways(run, tmp_path, cells, *grid)
    told = [line.partition(" networks")[0] for line in output.splitlines() if "one stack" in line]
    assert told == ["one stack of 2 cells, 4"] * 2
    numbers = [line for line in output.splitlines() if line.startswith("cell")]
    assert numbers[:3] == ["cells 1 to 2 of 8", "cells 3 to 4 of 8", "cell 5 of 8"]


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_auto_stacks_nothing_on_a_cpu(run, engine):
    code, output, errors = run("--multirun", *SMALL, f"trainer.engine={engine}", "seed=0,5")
    assert (code, errors) == (0, "")
    assert "stack" not in output


def test_auto_stacks_what_is_replayed_as_a_graph(run, tmp_path, cells):
    grid = (*SMALL, "trainer.engine=torch_graph", "optimizer=sgd,adam", "init=default,xavier")
    output, _, _ = train_both_ways(run, tmp_path, cells, *grid)
    assert "one stack of 4 cells, 8 networks, engine: torch_graph, " in output


def test_a_cell_that_fails_leaves_the_others_alone(run, tmp_path, cell_of):
    (tmp_path / "own.py").write_text(OWN)
    own = (*TORCH, ON, "optimizer=own.Tires", "allow_targets=[own]")
    code, output, errors = run("--multirun", *own, "+optimizer.after=1000,2,1001", "seed=0,4")
    assert code == 2
    tired = [f"+optimizer.after=2 seed={seed}" for seed in (0, 4)]
    reason = "optimizer: it is tired (--debug shows where)"
    assert errors == f"{REPORTED}{reason} [{'; '.join(tired)}]\n"
    assert f"the stack of 6 cells failed ({reason}); its halves are trained by themselves" in output
    for after, seed in ((1000, 0), (1000, 4), (1001, 0), (1001, 4)):
        directory = cell_of(f"+optimizer.after={after}", f"seed={seed}")
        assert runs.read_result(directory)["status"] == "completed"
    failed = cell_of("+optimizer.after=2", "seed=0")
    assert runs.read_result(failed) is None
    assert (failed / runs.LOG_FILE).read_text().endswith("optimizer: it is tired\n")


def test_a_cell_that_diverges_leaves_the_others_alone(run, tmp_path, cells, cell_of):
    grid = (*TORCH, ON, "trainer.epochs=3", "optimizer.lr,weight_decay=[0.1,0],[1e38,1e38],[0.2,0]")
    output, _, _ = train_both_ways(run, tmp_path, cells, *grid)
    assert "1 of the cells diverged" in output
    statuses = [runs.read_result(path)["status"] for path in cells().values()]
    assert sorted(statuses) == ["completed", "completed", "diverged"]


def test_only_what_is_missing_is_trained(run, cells, cell_of):
    """What is done stays, and what has a checkpoint goes on from there by itself."""
    grid = ("--multirun", *TORCH, ON)
    assert run(*grid, "optimizer.lr=0.1,0.2")[0] == 0
    before = {path: (path / runs.RESULT_FILE).stat().st_mtime_ns for path in cells().values()}
    code, output, _ = run(*grid, "optimizer.lr=0.1,0.2,0.3,0.4")
    assert code == 0
    assert output.count("done before: ") == 2
    assert "\ncells 1 to 2 of 2\none stack of 2 cells, 4 networks" in output
    assert all((path / runs.RESULT_FILE).stat().st_mtime_ns == at for path, at in before.items())
    for lr in (0.2, 0.3, 0.4):
        (cell_of(f"optimizer.lr={lr}") / runs.RESULT_FILE).unlink()
    (cell_of("optimizer.lr=0.3") / runs.CHECKPOINT_FILE).write_text("torn")
    code, output, _ = run(*grid, "optimizer.lr=0.1,0.2,0.3,0.4")
    assert code == 0
    assert "\ncells 1 to 2 of 3\none stack of 2 cells, 4 networks" in output
    assert "begins anew: " in output[output.index("\ncell 3 of 3\n") :]
    assert all(runs.read_result(path) for path in cells().values())


def test_a_cell_that_another_process_trains_is_waited_for(start, cells, cell_of, run):
    grid = ("--multirun", *TORCH, ON, "optimizer.lr=0.1,0.2,0.3")
    assert run(*grid)[0] == 0
    for path in cells().values():
        (path / runs.RESULT_FILE).unlink()
    taken = cell_of("optimizer.lr=0.2")
    told = []
    with alone_in(taken, print):
        process = start(*grid)
        for line in process.stdout:
            told.append(line)
            if line.startswith("waiting for "):
                break
        assert f"waiting for {taken.name}, which another process is training\n" in told
        assert any(line.startswith("one stack of 2 cells, 4 networks") for line in told)
        assert runs.read_result(taken) is None
        assert runs.read_result(cell_of("optimizer.lr=0.3")) is not None
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert output.count("results: ") == 1
    assert runs.read_result(taken) is not None


def test_an_interrupted_stack_leaves_its_cells_to_the_same_command(start, cells):
    long = [text for text in TORCH if "epochs" not in text]
    process = start("--multirun", *long, ON, "trainer.epochs=100000", "seed=0,5")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors == "optsweep: interrupted; the same command continues\n"
    for path in cells().values():
        assert not list(path.glob(".lease*"))
        assert not (path / runs.RESULT_FILE).exists()
        assert (path / runs.LOG_FILE).read_text().endswith("Interrupted: SIGINT\n")


def test_a_result_that_cannot_be_written_is_the_matter_of_its_cell(
    slice_config, tmp_path, monkeypatch
):
    configs = [slice_config(*TORCH, f"optimizer.lr={lr}") for lr in (0.1, 0.2, 0.3)]
    jobs = [Job(config, tmp_path / cell_name(config), False, {}) for config in configs]
    write = runs.write

    def without_room(directory, *arguments):
        if directory == jobs[1].directory:
            raise OSError(28, "No space left on device")
        write(directory, *arguments)

    monkeypatch.setattr(runs, "write", without_room)
    assert train_stack(jobs, Console(quiet=True)) == [jobs[0], jobs[2]]
    written = [(job.directory / runs.RESULT_FILE).exists() for job in jobs]
    assert written == [True, False, True]
    result = json.loads((jobs[0].directory / runs.RESULT_FILE).read_text())
    assert result["num_seeds"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--multirun", "seed=0,1", "stack_cells=maybe"], "stack_cells=maybe: expected auto or on"),
        ([ON], "stack_cells=on: without effect on a single cell; add --multirun"),
        (
            ["--multirun", "seed=0,1", ON, "hydra/launcher=joblib"],
            "stack_cells=on: without effect, for joblib trains each cell by itself",
        ),
        (
            ["--multirun", "search=lr", "dataset.val_size=200", ON],
            "stack_cells=on: without effect, for a search tells from some trials",
        ),
    ],
    ids=["unknown", "single", "joblib", "search"],
)
def test_what_has_no_effect_is_refused(run, arguments, message):
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith(REPORTED + message)
    assert errors.count("\n") == 1


def test_on_tells_if_nothing_can_be_stacked(run):
    code, output, _ = run("--multirun", *SMALL, ON, "seed=0,5")
    assert code == 0
    assert output.startswith("no cells are stacked: engine numba trains seeds one by one\n")
