"""The program that reproduces the study: run as a program, on the slice."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from optsweep import runs
from optsweep.cli.grids import Cell
from optsweep.cli.time_left import Clock, guess
from optsweep.config.schema import Config, InputError, TrainerConfig
from optsweep.data.tensors import load_dataset
from optsweep.report.claims import judge
from optsweep.report.collection import collect_runs
from optsweep.report.findings import UNDECIDED
from optsweep.study import looks
from optsweep.study.content import outline
from optsweep.study.experiments import QUICK_ROOT, plan_experiment
from optsweep.sweeps import latest_list

TESTS = Path(__file__).resolve().parents[1]

# The report itself is tested elsewhere; here it says only that it was asked for.
PROGRAM = """
import sys, types
report = types.ModuleType("optsweep.report.report")
report.write_report = lambda runs, out, outline, num_processes, pages: (
    print("write_report", runs, out) or types.SimpleNamespace(damaged=(), mixed_code={})
)
sys.modules["optsweep.report.report"] = report
from optsweep.__main__ import main
sys.argv.insert(1, "reproduce")
main()
"""


@pytest.fixture
def start(tmp_path, slice_settings):
    """`start(*arguments, set=[...])`: the program, in an empty folder."""

    def started(*arguments: str, settings=()) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments, "--set", *slice_settings, *settings],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(TESTS.parent), "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return started


@pytest.fixture
def run(start):
    def ran(*arguments: str, **keywords) -> tuple[int, str, str]:
        process = start(*arguments, **keywords)
        output, errors = process.communicate()
        return process.returncode, output, errors

    return ran


def results(folder: Path) -> dict[str, int]:
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in (folder / runs.RUNS_FOLDER / runs.CELLS_FOLDER).glob(f"*/{runs.RESULT_FILE}")
    }


def test_two_experiments_are_stopped_and_continued(start, run, tmp_path):
    arguments = ("--only", "r2_init", "r1_init", "--num-seeds", "2")
    settings = ("trainer.epochs=10",)
    process = start(*arguments, settings=settings)
    for line in process.stdout:
        if line.startswith("results: "):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors == "optsweep: interrupted; the same command continues\n"
    before = results(tmp_path)
    assert 1 <= len(before) < 6

    code, output, errors = run(*arguments, settings=settings)
    assert (code, errors) == (0, "")
    after = results(tmp_path)
    assert len(after) == 6
    assert before.items() <= after.items()  # none of them was trained again
    assert "experiment 2 of 2" in output
    assert output.endswith("write_report multirun multirun/report\n")
    for name in ("r1_init", "r2_init"):
        with (tmp_path / runs.RUNS_FOLDER / name / runs.SWEEP_FILE).open() as file:
            rows = list(csv.DictReader(file))
        assert {row["cell"] for row in rows} <= set(after)
        assert [row["overrides"].split()[0] for row in rows if "init=gaussian" in row["overrides"]]

    code, output, errors = run(*arguments, "--out", "elsewhere", settings=settings)
    assert (code, errors) == (0, "")
    assert "to train" not in output
    assert output.endswith("write_report multirun elsewhere\n")
    assert results(tmp_path) == after


def test_undecided_claims_get_more_seeds(run, tmp_path, slice_settings, monkeypatch):
    # Four seeds decide nothing; the next look is at ten, and four at a time make twelve.
    arguments = ("--only", "r1_init", "--num-seeds", "4", "--max-seeds", "10")
    code, output, errors = run(*arguments, settings=["trainer.epochs=2"])
    assert (code, errors) == (0, "")
    num_claims = sum(claim.question == "r1_init" for claim in outline().claims)
    assert f"{num_claims} claims are undecided; 6 cells with further seeds to train" in output
    folder = tmp_path / runs.RUNS_FOLDER
    collection = collect_runs(folder)
    assert collection.experiments == ["r1_init"]
    assert not collection.damaged
    settings = collection.settings_of("r1_init")
    assert [setting.label for setting in settings] == ["default", "gaussian", "xavier"]
    for setting in settings:
        assert setting.is_trained
        assert sorted(collection.seeds_of(setting.cells).index) == list(range(12))
    accuracies = collection.seeds_of(settings[0].cells)["test_loss"]
    assert accuracies.nunique() == 12  # they are seeds of their own

    monkeypatch.chdir(tmp_path)
    experiment = plan_experiment("r1_init", 4, settings=[*slice_settings, "trainer.epochs=2"])
    claims = [claim for claim in outline().claims if claim.question == "r1_init"]
    undecided = [replace(each, verdict=UNDECIDED) for each in judge(claims, collection)]
    asked = looks.wanted(undecided, collection, [experiment], 20)
    assert list(asked) == [claim.id for claim in claims]
    for needed in asked.values():
        assert {one.cell.config.seed for one in needed} == {12, 16}
    hopeless = [replace(each, is_hopeless=True) for each in undecided]
    assert looks.wanted(hopeless, collection, [experiment], 20) == {}
    # An experiment that shares these cells could add seeds to itself alone, over and over.
    other = replace(experiment, name="r2_init")
    assert looks.wanted(undecided, collection, [other], 20) == {}

    before = results(tmp_path)
    assert len(before) == 9
    code, output, errors = run(*arguments, settings=["trainer.epochs=2"])
    assert (code, errors) == (0, "")
    assert "to train" not in output
    assert results(tmp_path) == before
    # Another sweep of the same name has none of them.
    run("--only", "r1_init", "--num-seeds", "1", settings=["trainer.epochs=1"])
    assert len(latest_list(folder / "r1_init")) == 3


def test_a_failure_is_told_at_the_end_and_the_others_go_on(run, tmp_path):
    # A warm-up of 4 epochs does not fit.
    code, output, errors = run(
        "--only", "r1_scheduler", "r1_init", "--num-seeds", "1", settings=["trainer.epochs=3"]
    )
    assert code == 1
    told, summary = errors.splitlines()
    assert told.startswith("optsweep: error: scheduler: a warm-up of 4 does not fit")
    assert summary == "optsweep: error: failed: r1_scheduler (exit code 2)"
    assert len(results(tmp_path)) == 3
    assert "write_report" in output


def test_quick_marks_its_folder(run, tmp_path):
    settings = ["dataset.train_size=300", "trainer.epochs=1"]
    code, output, errors = run("--quick", "--only", "r1_init", settings=settings)
    assert (code, errors) == (0, "")
    root = tmp_path / QUICK_ROOT
    assert json.loads((root / runs.QUICK_FILE).read_text())["quick"] is True
    assert len(list(root.glob(f"{runs.CELLS_FOLDER}/*/{runs.RESULT_FILE}"))) == 3
    assert (root / "r1_init" / runs.SWEEP_FILE).exists()
    assert output.endswith("write_report multirun/quick multirun/quick/report\n")
    constraints = (root / runs.REPORT_FOLDER / runs.CONSTRAINTS_FILE).read_text()
    assert f"\ntorch=={torch.__version__.partition('+')[0]}\n" in constraints


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "r1_inti"], "--only r1_inti: there is no such experiment; did you mean r1_"),
        (["--num-seeds", "0"], "argument --num-seeds: 0: expected a whole number from 1"),
        (["--only", "r1_init", "--set", "trainer.epoch=1"], "there is no key trainer.epoch; did"),
        (["--set", "report.language=fr"], "report.language=fr: give one of both, en, zh"),
        (["--onyl", "r1_init"], "unrecognized arguments: --onyl r1_init"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message):
    done = subprocess.run(
        [sys.executable, TESTS.parent / "scripts" / "reproduce.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"optsweep: error: {message}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def cell(batch_size: int, epochs: int = 10, engine: str = "auto") -> Cell:
    trainer = TrainerConfig(epochs=epochs, batch_size=batch_size, engine=engine)
    return Cell("", "", Config(trainer=trainer))


def test_the_clock_learns_from_finished_cells():
    clock = Clock()
    clock.learn_overhead(1.0, 4)
    assert clock.estimate([cell(256)]) == pytest.approx(guess(cell(256)) + 0.25)
    clock.learn(cell(256), {"status": "completed", "seconds": 3.0})
    clock.learn(cell(256), {"status": "diverged", "seconds": 0.1})
    assert clock.estimate([cell(256, epochs=20)] * 2) == pytest.approx(2 * (6.0 + 0.25))
    # A batch size that has not been seen is as much slower than guessed as the others were.
    ratio = 3.0 / guess(cell(256))
    assert clock.estimate([cell(1)]) == pytest.approx(ratio * guess(cell(1)) + 0.25)
    # Another engine is not: loops that call PyTorch are a hundred times as slow at a batch of 1.
    eager = cell(1, engine="torch")
    clock.learn(eager, {"status": "completed", "seconds": 100 * guess(eager)})
    assert clock.estimate([cell(1)]) == pytest.approx(ratio * guess(cell(1)) + 0.25)
    other = cell(8, engine="torch")
    assert clock.estimate([other]) == pytest.approx(100 * guess(other) + 0.25)


def test_train_size_takes_the_first_examples_that_are_not_held_out(slice_config):
    def load(*overrides):
        return load_dataset(slice_config(*overrides).dataset, torch.device("cpu"), torch.float32)

    whole = load("dataset.val_size=100")
    part = load("dataset.val_size=100", "dataset.train_size=300")
    assert part.train.images.equal(whole.train.images[:300])
    assert part.train.labels.equal(whole.train.labels[:300])
    assert part.val.images.equal(whole.val.images)
    assert len(part.test) == len(whole.test)


def test_train_size_is_checked_and_canonical(slice_config):
    assert slice_config("dataset.train_size=1000") == slice_config()
    config = slice_config("dataset.val_size=100", "dataset.train_size=30", "batch_size=full")
    assert (config.trainer.batch_size, config.steps_per_epoch) == (30, 1)
    for size in ("0", "901", "2.5"):
        with pytest.raises(InputError, match=r"dataset.train_size=.*from 1 to 900"):
            slice_config("dataset.val_size=100", f"dataset.train_size={size}")


def test_a_comparison_is_not_cut_short(run):
    code, _, errors = run("--budget", "3", "--quick")
    assert code == 2
    assert errors.startswith("optsweep: error: --budget, --quick: ")
