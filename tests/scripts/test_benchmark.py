"""The benchmark as a program: turns, resuming, mistakes; and what it starts."""

import json
import os
import subprocess
import sys

import pytest
from benchmark import rounds
from benchmark.app import EXPECTED_SECONDS, main, parse, sum_up_cells
from benchmark.peers import OURS, Keras
from benchmark.rounds import schedule
from benchmark.startup import start
from benchmark.tasks import Task, cells

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.schema import Config


def order(cell, peers, repeats=1, quick=False):
    planned = schedule([Task(*cell)], peers, repeats, quick)
    return [(each.peer, each.task.num_examples, each.repeat) for each in planned]


def test_ours_and_peers_take_turns():
    whole, part = 60_000, 3000
    one_round = [(OURS, whole), ("jax", whole), ("jax-pinned", whole), ("jax-singly", whole)]
    one_round += [("torch", part), (OURS, part)]  # ours again for its losses; Keras has no stack
    expected = [(*each, repeat) for repeat in (0, 1) for each in one_round]
    assert order(("mlp", 1, "sgd", 10, whole), ["jax", "keras", "torch"], 2) == expected
    alone = order(("mlp", 256, "sgd", 1, whole), ["jax", "keras", "torch.compile"])
    names = [OURS, "jax", "jax-pinned", "torch.compile", "keras"]
    assert alone == [(name, whole, 0) for name in names]
    assert order(("mlp", 32, "sgd", 1, whole), ["torch"], quick=True)[0] == (OURS, 1000, 0)
    lenet = order(("lenet", 256, "sgd", 1, 3000), ["torch", "torch.compile", "report"])
    assert lenet == [(OURS, 3000, 0), ("torch", 3000, 0)]


def test_a_whole_run_takes_no_more_than_was_promised():
    every = ["mlp", "standardised", "512-256", "1024-1024", "lenet"]
    sizes, names = (1, 32, 256, 1000, 60_000), ("sgd", "momentum", "adam")
    matrix = list(cells(every, sizes, names, (1, 10)))
    assert sum(cell.network == "mlp" for cell in matrix) == 30
    everyone = ["jax", "torch", "torch.compile", "keras", "report"]
    for peers, minutes in ((everyone, 60), (["jax"], 30)):
        seconds = [each.expected_seconds for each in schedule(matrix, peers, 5, False)]
        assert sum([*seconds, *EXPECTED_SECONDS.values()]) / 60 < minutes


def test_starts_are_timed(tmp_path):
    found = start(["-c", "print('epoch 0/1')"], tmp_path, {})
    assert 0 < found["trains"] <= found["seconds"]
    assert found["megabytes"] > 1
    with pytest.raises(RuntimeError, match=r"-c import nothing failed: (?s:.*)ModuleNotFoundError"):
        start(["-c", "import nothing"], tmp_path, {})


def test_study_is_summed_up_from_its_cells(tmp_path):
    seeds = [{"epochs": 10, "seed": 0}, {"epochs": 5, "seed": 1}]
    for name in ("one", "two"):
        directory = tmp_path / "cells" / name
        runs.start(directory, Config())
        runs.write(directory, [], {"config_hash": "", "seconds": 4.0, "per_seed": seeds})
        os.utime(directory / "config.yaml", (1000, 1000))
        os.utime(directory / "result.json", (1006, 1006))
    flops = 2 * 15 * 60_000 * 447_776
    assert sum_up_cells(tmp_path) == {"num_cells": 2, "flops": flops, "cell_seconds": 12.0}
    assert sum_up_cells(tmp_path / "nothing") is None


def test_missing_peers_are_left_out_or_refused(monkeypatch):
    monkeypatch.setattr(Keras, "packages", {"no_such_module": "keras"})
    assert "keras" not in parse([]).peers
    assert "Keras on JAX is not installed; pip install keras" in parse([]).missing
    with pytest.raises(InputError, match=r"--peers: Keras on JAX is not installed"):
        parse(["--peers", "keras"])


@pytest.fixture
def program(tmp_path, slice_settings, monkeypatch, capsys):
    """`program(*arguments) -> (exit code, output, errors)`, on the slice, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str):
        try:
            code = main([*arguments, "--set", *slice_settings])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return ran


def test_program_measures_what_is_missing(program, tmp_path):
    small = ["--only", "limits", "matrix", "--peers", "torch", "--optimizers", "sgd"]
    small += ["--networks", "mlp", "standardised", "--seeds", "1", "--batch-sizes", "256"]
    small += ["--rounds", "2", "--quick"]
    code, output, errors = program(*small)
    assert (code, errors) == (0, "")
    assert output.startswith("8 measurements to make, about ")
    folder = tmp_path / "multirun" / "benchmark-quick"
    path = folder / rounds.FILE
    lines = path.read_text().splitlines()
    # A B A B, in separate processes, on both networks
    assert [line.split(",")[0] for line in lines[1:]] == [OURS, "torch"] * 4
    page = (folder / "benchmark.md").read_text()
    assert "0 of 2 comparisons differ" in page
    assert "128-56, standardised, SGD, 1 seed: optsweep |" in page
    assert {"benchmark.svg", "benchmark.png"} <= {file.name for file in folder.iterdir()}

    path.write_text("\n".join(lines[:-1]) + "\n")
    code, output, _ = program(*small, "--only", "matrix")
    assert (code, output.partition(" ")[0]) == (0, "1")
    again = path.read_text().splitlines()
    assert again[:-1] == lines[:-1]
    assert again[-1].startswith("torch,standardised,256,sgd,1,1000,1,")

    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps(environment | {"processor": "another"}))
    code, _, errors = program(*small)
    assert code == 2
    assert "measurements with other processor; --fresh" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "2000"], "--batch-sizes 2000: expected 1 to 1000"),
        (["--peers", "jaxx"], "invalid choice"),
        (["--rounds", "0"], "0: expected a whole number from 1"),
    ],
)
def test_mistakes_are_told_in_a_line(program, arguments, message):
    code, _, errors = program(*arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_script_starts_the_program(request, tmp_path):
    script = request.config.rootpath / "scripts" / "benchmark.py"
    command = [sys.executable, str(script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for option in ("--peers", "--quick", "--only", "--networks", "--runs"):
        assert option in done.stdout
