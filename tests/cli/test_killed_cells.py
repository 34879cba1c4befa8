"""Checkpoints by the real command line: killed as an operating system kills, and gone on with."""

import shutil
import time

import pytest
from faults.records import files, tables

import optsweep
from optsweep import runs

NETWORK = '''
from torch import nn


class Drops(nn.Sequential):
    """Draws random numbers in training, and keeps running statistics."""

    def __init__(self, num_inputs, num_classes):
        layers = [nn.Flatten(), nn.Linear(num_inputs, 20), nn.BatchNorm1d(20), nn.Dropout(0.4)]
        super().__init__(*layers, nn.ReLU(), nn.Linear(20, num_classes))
'''


def scores(root) -> dict[str, bytes]:
    """What the cells below a folder have scored: neither how nor when."""
    names = (runs.HISTORY_FILE, runs.RESULT_FILE, runs.GRADIENTS_FILE)
    return {name: text for name, text in tables(root).items() if name.endswith(names)}


# Sweeps of two cells, each of which trains for a second or so. That every optimizer, schedule and
# loop goes on to the last bit is seen in tests/training, where a kill is cheaper.
SWEEPS = {
    "with all that is recorded": (
        "trainer.engine=numba,torch",
        "record.gradients=true",
        "optimizer=adam",
        "num_seeds=2",
        "trainer.epochs=12",
        "batch_size=20",
        "dataset.val_size=100",
        "stopping.patience=10",
        "scheduler=one_cycle",
        "scheduler.interval=step",
    ),
    "random, and diverging": (
        "allow_targets=[mine]",
        "model,trainer.engine,momentum,optimizer.lr=[mine.Drops,torch,0.9,0.1],[mlp,numba,high,1]",
        "num_seeds=3",
        "trainer.epochs=30",
    ),
}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_that_is_killed_in_every_cell_is_as_one_that_was_not(start, run, tmp_path, sweep):
    (tmp_path / "mine.py").write_text(NETWORK)
    command = ("--multirun", *SWEEPS[sweep], "trainer.checkpoint=1")
    cells, killed, continued = tmp_path / "multirun" / "cells", set(), 0
    while True:
        process = start(*command)
        while process.poll() is None:
            begun = {path.parent for path in cells.glob(f"*/{runs.CHECKPOINT_FILE}")}
            if begun - killed:
                process.kill()
                killed |= begun
            time.sleep(0.002)
        output, errors = process.communicate()
        continued += output.count("continues after epoch")
        assert "begins anew" not in output
        if process.returncode != -9:
            break
    assert (process.returncode, errors) == (0, "")
    # A cell may be killed when it has written its result and not yet said so.
    assert len(killed) - 1 <= continued <= len(killed)
    assert continued >= 2
    folder = tmp_path / "multirun"
    disturbed = scores(folder), files(folder)
    shutil.rmtree(folder)
    assert run("--multirun", *SWEEPS[sweep])[0] == 0
    assert (scores(folder), files(folder)) == disturbed


CELL = ("trainer.epochs=3", "num_seeds=2", "optimizer=adam")


def cell_of(output: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith("results: ")]
    return line.removeprefix("results: ")


def test_weights_are_kept_loaded_and_begun_with(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output, _ = run(*CELL)
    assert code == 0
    cell = cell_of(output)
    files = sorted(path.name for path in (tmp_path / cell).iterdir())
    assert runs.WEIGHTS_FOLDER not in files

    code, output, _ = run(*CELL, "trainer.keep_weights=[1,2]")
    assert code == 0
    assert f"done before, but without its weights: {cell}" in output
    assert cell_of(output) == cell
    weights = sorted(path.name for path in (tmp_path / cell / runs.WEIGHTS_FOLDER).iterdir())
    assert weights == ["epoch_1.pt", "epoch_2.pt", "epoch_3.pt"]
    networks = optsweep.load(cell)
    assert len(networks) == 2

    for keep in ("[1,2]", "true", "false"):
        assert "\ndone before: " in "\n" + run(*CELL, f"trainer.keep_weights={keep}")[1]

    sweep = ("--multirun", *CELL, f"start_from={cell}@1,{cell}", "optimizer=adam,sgd")
    code, output, errors = run(*sweep)
    assert (code, errors) == (0, "")
    assert output.count(f"begins with epoch 1 of {cell}; its optimizer goes on") == 1
    assert output.count(f"begins with epoch 3 of {cell}; its optimizer begins anew") == 1
    assert "4 cells" in output
    assert run(*sweep)[1].count("done before: ") == 4


def test_a_mistake_is_one_line_before_anything_is_trained(run, tmp_path):
    _, output, _ = run(*CELL, "trainer.keep_weights=true")
    cell, before = cell_of(output), sorted((tmp_path / "multirun" / "cells").iterdir())
    for given, reason in (
        ("start_from=nowhere", "start_from=nowhere: there is no folder nowhere"),
        (f"start_from={cell}@2", f"start_from={cell}@2: weights are kept of epochs 3, not of 2"),
        (
            f"start_from={cell} depth=3",
            f"start_from={cell}: it has another network: "
            "linear3.weight is 10x56, and 32x56 in this cell's",
        ),
        (f"--multirun start_from={cell},nowhere", "start_from=nowhere: there is no folder nowhere"),
        ("trainer.keep_weights=[9]", "trainer.keep_weights=[9]: expected epochs from 0 to 3"),
    ):
        code, _, errors = run(*CELL, *given.split())
        assert (code, errors) == (2, f"optsweep: error: {reason}\n")
        assert sorted((tmp_path / "multirun" / "cells").iterdir()) == before


def test_a_damaged_checkpoint_is_said_in_one_line(start, run, tmp_path):
    command = ("trainer.epochs=400", "batch_size=10", "trainer.checkpoint=1")
    process = start(*command)
    while not (found := list(tmp_path.rglob(runs.CHECKPOINT_FILE))):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    found[0].write_bytes(found[0].read_bytes()[:1000])
    process = start(*command)
    for line in process.stdout:
        if line.startswith("begins anew"):
            break
    assert f"{runs.CHECKPOINT_FILE} cannot be read" in line
    assert process.stdout.readline().startswith("epoch 0/400")
    process.kill()
    process.communicate()
