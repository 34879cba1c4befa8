"""The benchmark as a program: turns, resuming, mistakes; and what it starts."""

import json
import os
import subprocess
import sys

import pytest
from benchmark import runner
from benchmark.app import main, parse, sum_up_cells
from benchmark.peers import OURS, Keras
from benchmark.runner import Measurement, Worker, WorkerError, matrix, schedule
from benchmark.startup import start
from benchmark.tasks import Task

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.schema import Config


def test_ours_and_peers_take_turns():
    cell = Task("mlp", 1, "sgd", 10, 60_000)
    order = list(schedule([cell], ["jax", "keras", "torch"], 3, False))
    told = [(each.peer, each.task.num_examples, each.repeat) for each in order]
    one_round = [(OURS, 60_000), ("jax", 60_000), ("torch", 3000), (OURS, 3000)]  # Keras: no stack
    assert told == [(*each, repeat) for repeat in (0, 1) for each in one_round]
    assert order[-1].is_check
    seeds = {tuple(each.seeds) for each in order}
    assert len(seeds) == 2  # the same for all, new in every repeat
    assert len({seed for each in seeds for seed in each}) == 20


def test_slow_peers_are_timed_on_a_part_of_an_epoch():
    def examples(quick, *cell):
        task = Task(*cell, num_examples=60_000)
        measurements = schedule([task], ["jax", "torch"], 1, quick)
        return {each.peer: each.task.num_examples for each in measurements if not each.is_check}

    whole, lenet = 60_000, runner.LENET_EXAMPLES
    assert examples(False, "mlp", 1, "sgd", 1) == {OURS: whole, "jax": whole, "torch": 3000}
    assert examples(False, "mlp", 32, "sgd", 1) == dict.fromkeys([OURS, "jax", "torch"], whole)
    assert examples(True, "mlp", whole, "sgd", 1) == dict.fromkeys([OURS, "jax", "torch"], whole)
    assert examples(True, "mlp", 32, "sgd", 1) == dict.fromkeys([OURS, "jax", "torch"], 1000)
    assert examples(False, "lenet", 256, "sgd", 10) == {OURS: lenet, "torch": lenet}


def test_matrix_ends_with_lenet():
    cells = matrix([32, 256], ["sgd", "adam"], [1, 10], 1000)
    assert [str(cell) for cell in cells[-3:]] == [
        "Adam, 10 seeds, batch size 256",
        "lenet, SGD, 1 seed, batch size 256",
        "lenet, SGD, 10 seeds, batch size 256",
    ]
    assert len(cells) == 10


def test_measurements_name_their_seeds():
    assert Measurement("jax", Task("mlp", 1, "sgd", 2, 10), 0).seeds == [1000, 1001]


def test_workers_tell_why_they_failed(tmp_path):
    log = tmp_path / "worker.log"
    with Worker(log, list, "abc") as worker:
        assert worker.ask("count", "b") == 1
        assert worker.libraries is not None
        with pytest.raises(WorkerError, match="IndexError: pop index out of range"):
            worker.ask("pop", 7)
        assert worker.ask("pop", 0) == "a"  # it goes on
    with pytest.raises(WorkerError, match="TypeError: 'int' object is not iterable"):
        Worker(log, list, 3)


def test_a_worker_that_ends_is_told_with_its_log(tmp_path):
    log = tmp_path / "worker.log"
    with Worker(log, list) as worker:
        os.kill(worker.pid, 9)
        with pytest.raises(WorkerError, match=r"it ended; its last words are in .*worker\.log"):
            worker.ask("copy")


def test_study_is_summed_up_from_its_cells(tmp_path):
    seeds = [{"epochs": 10, "seed": 0}, {"epochs": 5, "seed": 1}]
    result = {"config_hash": "", "seconds": 4.0, "per_seed": seeds}
    for name in ("one", "two"):
        directory = tmp_path / "cells" / name
        runs.start(directory, Config())
        runs.write(directory, [], result)
        os.utime(directory / "config.yaml", (1000, 1000))
        os.utime(directory / "result.json", (1006, 1006))
    assert sum_up_cells(tmp_path) == {
        "num_cells": 2,
        "flops": 2 * 15 * 60_000 * 447_776,
        "training_seconds": 8.0,
        "cell_seconds": 12.0,
    }
    assert sum_up_cells(tmp_path / "nothing") is None


def test_starts_are_timed(tmp_path):
    found = start(["-c", "print('it is here')"], str(tmp_path), {"told": "here"})
    assert 0 < found["told"] <= found["seconds"]
    assert found["megabytes"] > 1
    with pytest.raises(RuntimeError, match=r"-c import nothing failed: (?s:.*)ModuleNotFoundError"):
        start(["-c", "import nothing"], str(tmp_path), {})


def test_missing_peers_are_left_out_or_refused(monkeypatch):
    monkeypatch.setattr(Keras, "packages", {"no_such_module": "keras"})
    assert "keras" in parse([]).missing
    assert "keras" not in parse([]).peers
    with pytest.raises(InputError, match=r"--peers keras: .* not installed; pip install keras"):
        parse(["--peers", "keras"])


@pytest.fixture
def program(tmp_path, slice_settings, monkeypatch, capsys):
    """`program(*arguments) -> (exit code, errors)`, on the slice, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str):
        try:
            code = main([*arguments, "--set", *slice_settings])
        except SystemExit as stopped:
            code = stopped.code
        return code, capsys.readouterr().err

    return ran


def test_program_measures_what_is_missing(program, tmp_path):
    small = ["--only", "matrix", "--peers", "torch", "--optimizers", "sgd", "--seeds", "1"]
    small += ["--batch-sizes", "256", "--repeats", "2", "--quick"]
    assert program(*small) == (0, "")
    folder = tmp_path / "multirun" / "benchmark-quick"
    path = folder / "measurements.csv"
    lines = path.read_text().splitlines()
    # A B A B, in separate processes; the perceptron, then lenet
    assert [line.split(",")[0] for line in lines[1:]] == [OURS, "torch"] * 4
    page = (folder / "benchmark.md").read_text()
    assert "All 2 comparisons agree" in page
    assert "## LeNet" in page
    assert {"benchmark.svg", "benchmark.png"} <= {file.name for file in folder.iterdir()}

    path.write_text("\n".join(lines[:-1]) + "\n")
    assert program(*small)[0] == 0
    again = path.read_text().splitlines()
    assert again[:-1] == lines[:-1]
    assert again[-1].startswith("torch,lenet,256,sgd,1,1000,1,")

    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps(environment | {"processor": "another"}))
    code, errors = program(*small)
    assert code == 2
    assert "measurements with other processor; --fresh" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "2000"], "--batch-sizes 2000: expected 1 to 1000"),
        (["--peers", "jaxx"], "invalid choice"),
        (["--repeats", "0"], "0: expected a whole number from 1"),
    ],
)
def test_mistakes_are_told_in_a_line(program, arguments, message):
    code, errors = program(*arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_script_starts_the_program(request, tmp_path):
    script = request.config.rootpath / "scripts" / "benchmark.py"
    command = [sys.executable, str(script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for option in ("--peers", "--quick", "--only", "--reproduce", "--runs"):
        assert option in done.stdout
