"""The benchmark as a program: turns, resuming, mistakes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from benchmark import app, rounds
from benchmark.app import main
from benchmark.peers import OURS, PEERS
from benchmark.rounds import initial_weights, turns
from benchmark.tasks import OPTIMIZERS, Task, cell_name, cells


def order(cell, others, num_rounds=1):
    return [(name, repeat) for name, _, repeat in turns([Task(*cell)], others, num_rounds)]


def test_ours_and_peers_take_turns():
    others = [name for name in PEERS if name != OURS]
    one_round = [OURS, "jax", "jax-pinned", "jax-singly", "torch", "torch.compile"]
    expected = [(name, repeat) for repeat in (0, 1) for name in one_round]
    assert order(("mlp", 256, "sgd", 10, 20_000), others, 2) == expected
    alone = [OURS, "jax", "torch", "torch.compile", "keras"]  # one core cannot win there
    assert order(("mlp", 256, "adam", 1, 60_000), others) == [(name, 0) for name in alone]
    assert order(("mlp", 1, "sgd", 1, 12_000), ["jax-pinned"])[1:] == [("jax-pinned", 0)]
    assert order(("lenet", 256, "sgd", 1, 3000), others) == [(OURS, 0), ("jax", 0), ("torch", 0)]


def test_cells_are_thirty_of_the_default_network_and_some_of_others():
    every = list(cells())
    of_first = {cell[1:4] for cell in every if cell.network == "mlp"}
    sizes = (1, 32, 256, 1000, 60_000)
    assert of_first == {(size, name, n) for size in sizes for name in OPTIMIZERS for n in (1, 10)}
    assert len({cell[:4] for cell in every}) == len(every) == 62
    examples = {cell_name(cell): cell.num_examples for cell in every}
    assert examples["SGD, 1 seed, b = 32"] == examples["Adam, 10 seeds, b = 60,000"] == 60_000
    assert examples["SGD, 10 seeds, b = 32"] == 20_000
    assert examples["Adam, 10 seeds, b = 1"] == 6000
    assert examples["1024-1024, SGD, 10 seeds, b = 32"] == 1500
    assert {cell.batch_size for cell in cells(1000)} == {1, 32, 256, 1000}
    assert max(cell.num_examples for cell in cells(1000)) == 1000


@pytest.fixture
def program(tmp_path, slice_settings, monkeypatch, capsys):
    """`program(*arguments) -> (exit code, output, errors)`, on the slice, in an empty folder.

    Without peers that compile for longer than they train.
    """
    monkeypatch.chdir(tmp_path)
    for name in PEERS.keys() - {OURS, "torch"}:
        monkeypatch.setitem(PEERS, name, PEERS[name]._replace(package="no_such_module"))
    monkeypatch.setattr(app, "ROUNDS", 2)

    def ran(*arguments: str):
        try:
            code = main([*arguments, "--set", *slice_settings])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return ran


def test_program_measures_what_is_missing(program, tmp_path):
    wanted = ["--cells", "SGD, 1 seed, b = 256", "LeNet, SGD, 10 seeds, b = 256"]
    code, output, errors = program(*wanted)
    assert (code, errors) == (0, "")
    assert "jax is left out: pip install no_such_module" in output
    folder = tmp_path / "multirun" / "benchmark"
    path = folder / rounds.FILE
    lines = path.read_text().splitlines()
    # A B A B, in separate processes, in both cells
    assert [line.split(",")[0] for line in lines[1:]] == [OURS, "torch"] * 4
    page = (folder / "benchmark.md").read_text()
    assert "| LeNet, SGD, 10 seeds, b = 256 | " in page
    assert "2 to 2 alternating rounds" in page
    assert {"benchmark.svg", "benchmark.png"} <= {file.name for file in folder.iterdir()}
    rows = rounds.read(folder)
    ours, theirs = (rows[rows["peer"] == name]["loss"].to_numpy() for name in (OURS, "torch"))
    np.testing.assert_allclose(theirs, ours, rtol=0.01)
    assert len({*ours}) == len(ours)  # other seeds in every round

    path.write_text("\n".join(lines[:-1]) + "\n")
    code, output, _ = program(*wanted)
    assert [line for line in output.splitlines() if line.endswith(" s")] == [
        line for line in output.splitlines() if line.startswith("PyTorch, LeNet, SGD, 10 seeds")
    ]
    again = path.read_text().splitlines()
    assert again[:-1] == lines[:-1]
    assert again[-1].startswith("torch,lenet,256,sgd,10,512,1,")

    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps(environment | {"processor": "another"}))
    code, _, errors = program(*wanted)
    assert code == 2
    assert "measurements with other processor; --out DIR" in errors
    assert errors.count("\n") == 1


def test_what_fails_is_told_and_the_rest_is_measured(program, monkeypatch, tmp_path):
    broken = PEERS["torch"]._replace(prepare="with_torch:no_such_function")
    monkeypatch.setitem(PEERS, "torch", broken)
    monkeypatch.setattr(rounds, "_team", lambda name: [_Here()])
    code, _, errors = program("--cells", "SGD, 1 seed, b = 1,000")
    assert code == 1
    assert errors.count("\n") == 1  # once for a cell
    assert errors.startswith("optsweep: error: PyTorch, SGD, 1 seed, b = 1,000: AttributeError: ")
    rows = rounds.read(tmp_path / "multirun" / "benchmark")
    assert rows["peer"].tolist() == [OURS] * 2


class _Here:
    """In the place of a worker, for a table that was changed here."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *arguments):
        future = rounds.Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--cells", "SGD, 1 seed, b = 60,000"],
            "b = 60,000: expected a name such as 'SGD, 1 seed",
        ),
        (["--round"], "unrecognized arguments: --round"),
        (["--page"], "environment.json"),
    ],
)
def test_mistakes_are_told_in_a_line(program, arguments, message):
    code, _, errors = program(*arguments)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_weights_do_not_depend_on_the_order_of_calls():
    first, again = (initial_weights("lenet", 3)[0][0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (initial_weights("lenet", 4)[0][0] != first).all()


def test_script_starts_the_program(request, tmp_path):
    script = request.config.rootpath / "scripts" / "benchmark.py"
    command = [sys.executable, str(script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for option in ("--cells", "--quick", "--page", "--out", "--set"):
        assert option in done.stdout
