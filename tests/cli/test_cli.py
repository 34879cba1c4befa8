"""The command line as its users meet it: run as a program, read on its output."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import optsweep

TESTS = Path(__file__).resolve().parents[1]
REPORTED = "optsweep: error: "


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def cells(folder: Path) -> list[Path]:
    return sorted((folder / "multirun" / "cells").iterdir())


def history(cell: Path) -> pd.DataFrame:
    return pd.read_csv(cell / "history.csv").drop(columns="seconds")


def test_a_cell_leaves_its_directory(run, tmp_path):
    code, output, errors = run("optimizer=adam", "trainer.epochs=2", "num_seeds=2")
    assert (code, errors) == (0, "")
    (cell,) = cells(tmp_path)
    assert cell.name.startswith("slice-adam-lr_0.001-")
    assert {path.name for path in cell.iterdir()} == {
        ".hydra",
        "config.yaml",
        "curves.png",
        "history.csv",
        "log.txt",
        "result.json",
    }
    assert str(cell.relative_to(tmp_path)) in output
    result = json.loads((cell / "result.json").read_text())
    assert result["status"] == "completed"
    assert [seed["seed"] for seed in result["per_seed"]] == [0, 1]
    assert result["per_seed"][0]["steps"] == 8  # 1000 examples in batches of 256, twice
    assert 0.1 < result["objective"] <= 1
    rows = history(cell)
    assert list(zip(rows["seed"], rows["epoch"], rows["step"], strict=True)) == [
        (seed, epoch, 4 * epoch) for seed in (0, 1) for epoch in (0, 1, 2)
    ]
    assert not (tmp_path / "outputs").exists()
    assert "engine: numba" in output
    assert "epoch 2/2" in output


def test_a_finished_cell_is_not_trained_again_unless_asked(run, tmp_path):
    run("trainer.epochs=1")
    (cell,) = cells(tmp_path)
    first = (cell / "history.csv").stat().st_mtime_ns
    code, output, _ = run("trainer.epochs=1")
    assert code == 0
    assert "done before" in output
    assert (cell / "history.csv").stat().st_mtime_ns == first
    before = history(cell)
    code, output, _ = run("trainer.epochs=1", "rerun=true")
    assert (code, "done before" in output) == (0, False)
    assert (cell / "history.csv").stat().st_mtime_ns > first
    assert cells(tmp_path) == [cell]
    pd.testing.assert_frame_equal(history(cell), before, check_exact=True)


def test_hydra_run_dir_is_taken_as_it_is(run, tmp_path):
    assert run("trainer.epochs=1", f"hydra.run.dir={tmp_path / 'here'}")[0] == 0
    assert (tmp_path / "here" / "result.json").exists()
    assert not (tmp_path / "multirun").exists()
    code, _, errors = run("trainer.epochs=2", f"hydra.run.dir={tmp_path / 'here'}")
    assert code == 2
    assert "result of another configuration" in errors


def test_a_grid_trains_every_cell_once(run, tmp_path):
    grid = ("--multirun", "batch_size=100,full", "trainer.epochs=1")
    code, output, errors = run(*grid)
    assert (code, errors) == (0, "")
    assert len(cells(tmp_path)) == 2
    assert "cell 2 of 2" in output
    listed = pd.read_csv(tmp_path / "multirun" / "grid" / "cells.csv")
    assert sorted(listed["cell"]) == [cell.name for cell in cells(tmp_path)]
    (cells(tmp_path)[0] / "result.json").unlink()  # as if the sweep had been killed there
    code, output, _ = run(*grid)
    assert code == 0
    assert output.count("done before") == 1


def test_a_pattern_stands_for_the_options_that_it_fits(run, tmp_path):
    code, output, errors = run("--multirun", "init=glob(*a*,exclude=x*)", "trainer.epochs=1")
    assert (code, errors) == (0, "")
    listed = pd.read_csv(tmp_path / "multirun" / "grid" / "cells.csv")["overrides"]
    chosen = [word for cell in listed for word in cell.split() if word.startswith("init=")]
    assert chosen == [f"init={name}" for name in ("default", "gaussian", "kaiming", "orthogonal")]
    code, output, errors = run("--multirun", "init=glob(q*)", "trainer.epochs=1")
    assert (code, output) == (2, "")
    assert errors == f"{REPORTED}init=glob(q*): no option has such a name\n"


def test_all_cells_are_validated_before_the_first_one_trains(run, tmp_path):
    code, output, errors = run("--multirun", "batch_size=100,1001", "trainer.epochs=1")
    assert code == 2
    assert errors == (
        f"{REPORTED}batch_size=1001: expected a whole number from 1 to 1000 "
        "(the number of training examples)\n"
    )
    assert output == ""
    assert not (tmp_path / "multirun" / "cells").exists()


def test_an_optimizer_without_a_file(run, tmp_path):
    code, _, errors = run("optimizer=torch.optim.Adamax", "num_seeds=2", "trainer.epochs=1")
    assert (code, errors) == (0, "")
    assert "adamax" in cells(tmp_path)[0].name


def test_a_milestone_that_is_never_reached_is_a_warning(run, tmp_path):
    code, _, errors = run("scheduler=multistep", "trainer.epochs=1")
    assert code == 0
    assert errors == (
        "optsweep: warning: scheduler.milestones: 15, 30 is never reached in 1 epochs\n"
    )
    result = json.loads((cells(tmp_path)[0] / "result.json").read_text())
    assert len(result["warnings"]) == 1


def test_a_diverged_cell_is_a_result(run, tmp_path):
    code, output, _ = run("optimizer.lr=1e30", "trainer.epochs=3")
    assert code == 0
    result = json.loads((cells(tmp_path)[0] / "result.json").read_text())
    assert result["status"] == "diverged"
    assert result["objective"] == 0.0
    assert result["per_seed"][0]["test_loss"] is None
    assert "diverged" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer=adma"], "optimizer=adma: there is no such option; did you mean adam?"),
        (["optimzer=adam"], "there is no key optimzer; did you mean optimizer?"),
        (["trainer.epoch=3"], "there is no key trainer.epoch; did you mean trainer.epochs?"),
        (["batch_size=0"], "batch_size=0: expected a whole number from 1 to 1000"),
        (["batch_size=-5"], "batch_size=-5: expected a whole number from 1 to 1000"),
        (["batch_size=70000"], "batch_size=70000: expected a whole number from 1 to 1000"),
        (["batch_size=2.5"], "batch_size=2.5: expected a whole number from 1 to 1000"),
        (["batch_size=abc"], "batch_size=abc: there is no such option; valid are full, large"),
        (["optimizer.lr=-1"], "optimizer.lr=-1: expected a finite number >= 0"),
        (["weight_decay=inf"], "weight_decay=inf: expected a finite number >= 0"),
        (["momentum=nan"], "momentum=nan: expected a finite number >= 0"),
        (["optimizer=adam", "optimizer.betas=[0.9,1]"], "optimizer.betas=1: expected a number in"),
        (["num_seeds=0"], "num_seeds=0: expected a whole number from 1"),
        (["trainer.epochs=-1"], "trainer.epochs=-1: expected a whole number from 1"),
        (["depth=11"], "depth=11: expected a whole number from 1 to 10"),
        (["layernorm_position=third"], "layernorm_position=[3]: there is no hidden layer 3"),
        (["momentum=0.3,0.9"], "optimizer.momentum=0.3,0.9: several values are a sweep"),
        (["momentum=report_low"], "optimizer SGD has no setting 'betas'"),
        (["optimizer=adam", "momentum=nesterov"], "optimizer Adam has no setting 'nesterov'"),
        (["trainer.device=cuda:99"], "trainer.device=cuda:99: there is no such device"),
        (["scheduler=warmup", "trainer.epochs=4"], "scheduler: a warm-up of 4 does not fit"),
        (["optimizer=torch.optim.Foo"], "optimizer._target_=torch.optim.Foo: there is no such"),
        (["optimizer=null"], "Config group override must be a string or a list"),
        (["dataset=mnst"], "dataset=mnst: there is no such option; did you mean mnist?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path, arguments, message):
    code, output, errors = run(*arguments)
    assert code == 2
    assert errors.startswith(REPORTED + message)
    assert errors.count("\n") == 1
    assert output == ""
    assert list(tmp_path.iterdir()) == []


def test_an_output_directory_that_cannot_be(run, tmp_path):
    (tmp_path / "file").touch()
    code, _, errors = run(f"hydra.run.dir={tmp_path / 'file' / 'cell'}")
    assert (code, errors) == (2, f"{REPORTED}{tmp_path / 'file' / 'cell'}: Not a directory\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_output_directory(run, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    try:
        fill(folder / "filler")
        code, _, errors = run(f"hydra.run.dir={folder / 'cell'}", "trainer.epochs=1")
        assert code == 2
        assert errors.startswith(f"{REPORTED}")
        assert "No space left on device" in errors
        assert errors.count("\n") == 1
        assert not list(folder.rglob("result.json"))
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("sweep", [(), ("--multirun", "seed=1,2")], ids=["one cell", "a grid"])
def test_corrupt_data_are_named_and_not_used(run, tmp_path, data_root, sweep):
    root = tmp_path / "data" / "slice"
    root.mkdir(parents=True)
    for file in (data_root / "slice").glob("*.gz"):
        (root / file.name).write_bytes(file.read_bytes()[:-1000])
    code, _, errors = run(f"dataset.root={tmp_path / 'data'}", "trainer.epochs=1", *sweep)
    assert code == 2
    assert errors.startswith(f"{REPORTED}{root}")
    assert errors.count("\n") == 1
    assert not list(tmp_path.rglob("result.json"))


def test_an_interrupted_cell_is_no_result_and_goes_on_by_the_same_command(start, run, tmp_path):
    process = start("trainer.epochs=100000", "trainer.batch_size=10")
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors == "optsweep: interrupted; the same command continues\n"
    assert not list(tmp_path.rglob("result.json"))
    assert not list(tmp_path.rglob("*.partial"))


def test_help_shows_groups_and_examples_and_does_not_import_torch(tmp_path):
    program = (
        "import sys; sys.argv = ['optsweep', '--help']; from optsweep.cli import main; main(); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'pandas', 'matplotlib')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "optimizer: adagrad, adam, adamw, ademamix, amsgrad" in done.stdout
    assert done.stdout.count("python -m optsweep") == 6


def test_a_cell_is_planned_without_the_compiler_of_torch():
    program = (
        "import sys; from optsweep.cli.composition import compose, plan; "
        "plan(compose('optimizer=adam', 'scheduler=cosine')); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == 0


def test_shell_completion_knows_the_groups(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "optsweep", "-sc", "query=bash"],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": str(TESTS.parent),
            "COMP_LINE": "optsweep scheduler=cos",
            "COMP_POINT": "22",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["scheduler=cosine", "scheduler=cosine_warmup"]


def test_two_processes_on_one_cell_leave_one_whole_result(start, tmp_path):
    processes = [start("trainer.epochs=2", "rerun=true") for _ in range(2)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    (cell,) = cells(tmp_path)
    assert json.loads((cell / "result.json").read_text())["status"] == "completed"
    assert len(history(cell)) == 3


def test_the_programs_of_the_study_are_commands_too(tmp_path):
    def said(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "optsweep", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    assert said("--version") == (0, f"optsweep {optsweep.__version__}\n", "")
    assert said("report") == (2, "", "optsweep: error: multirun: there is no such folder\n")
    code, output, _ = said("reproduce", "--help")
    assert code == 0
    assert "--quick" in output
    code, _, errors = said("reproduce", "--only", "r1_unit")
    assert code == 2
    assert "did you mean r1_init" in errors
