"""What a finished cell keeps: nobody changes it but the one who trains it again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optsweep import runs
from optsweep.cli import repeat
from optsweep.config.checks import InputError
from optsweep.config.schema import Config

CELL = ("trainer.epochs=2", "num_seeds=2")


def files(root) -> dict[str, tuple]:
    """Every file of every cell: when it was written, and what is in it."""
    cells = root / "multirun" / "cells"
    return {
        str(path.relative_to(cells)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in cells.rglob("*")
        if path.is_file()
    }


def test_done_before_changes_no_byte(run, tmp_path):
    assert run(*CELL)[0] == 0
    before = files(tmp_path)
    assert f"/{runs.COMPOSED_FOLDER}/overrides.yaml" in "".join(before)
    for again in (
        CELL,
        (*CELL, "trainer.num_threads=1"),
        (*CELL, "trainer.checkpoint=true"),
        ("--multirun", *CELL, "optimizer.lr=0.1,1e-1"),
    ):
        code, output, errors = run(*again)
        assert (code, errors) == (0, "")
        assert "done before" in output
        assert files(tmp_path) == before


def test_what_hydra_composed_is_kept_of_the_training(run, tmp_path):
    assert run(*CELL, "optimizer.lr=0.2")[0] == 0
    (cell,) = (tmp_path / "multirun" / "cells").iterdir()
    composed = cell / runs.COMPOSED_FOLDER
    assert sorted(path.name for path in composed.iterdir()) == [
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    ]
    assert "- optimizer.lr=0.2\n" in (composed / "overrides.yaml").read_text()
    assert "  lr: 0.2\n" in (composed / "config.yaml").read_text()
    assert "output_dir: " in (composed / "hydra.yaml").read_text()


def test_rerun_replaces_a_record_as_a_whole(start, run, tmp_path):
    """In a directory that is used for one cell after another, as hydra.run.dir can be."""
    where = ("hydra.run.dir=mine", "trainer.epochs=400", "batch_size=10")
    directory = tmp_path / "mine"
    assert run("hydra.run.dir=mine", "trainer.epochs=1", "record.gradients=true")[0] == 0
    names = (runs.CONFIG_FILE, runs.HISTORY_FILE, runs.GRADIENTS_FILE, runs.RESULT_FILE)
    before = [(directory / name).read_bytes() for name in names]
    process = start(*where, "rerun=true")
    while not process.stdout.readline().startswith("epoch 3/400"):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert [(directory / name).read_bytes() for name in names] == before

    assert run("hydra.run.dir=mine", "trainer.epochs=2", "rerun=true")[0] == 0
    assert runs.read_config(directory).trainer.epochs == 2
    assert runs.last_epoch(runs.read_result(directory)) == 2
    assert not (directory / runs.GRADIENTS_FILE).exists()
    assert "trainer.epochs=2" in (directory / runs.COMPOSED_FOLDER / "overrides.yaml").read_text()


def test_a_damaged_record_is_set_aside_and_trained_again(run, tmp_path):
    sweep = ("--multirun", "trainer.epochs=1", "seed=0,1")
    assert run(*sweep)[0] == 0
    one, _ = sorted((tmp_path / "multirun" / "cells").iterdir())
    history = (one / runs.HISTORY_FILE).read_text()
    (one / runs.HISTORY_FILE).write_text(history.replace("0.", "1."))
    code, output, errors = run(*sweep)
    assert (code, errors) == (0, "")
    line = f"{one / runs.HISTORY_FILE} is not as it was written; it was set aside in "
    assert f"{line}{one / 'damaged_1'}\n" in output
    assert output.count("done before") == 1
    assert (one / "damaged_1" / runs.RESULT_FILE).exists()
    assert run(*sweep)[1].count("done before") == 2


def test_a_cell_is_repeated_from_its_folder(run, start, tmp_path):
    """Without the files of options that it was composed from, and into the same folder."""
    (tmp_path / "mine" / "init").mkdir(parents=True)
    option = "_target_: optsweep.models.initializers.gaussian\nstd: 0.05\n"
    (tmp_path / "mine" / "init" / "narrow.yaml").write_text(option)
    search_path = f"hydra.searchpath=[file://{tmp_path / 'mine'}]"
    assert run(*CELL, search_path, "init=narrow", "trainer.engine=torch")[0] == 0
    (cell,) = (tmp_path / "multirun" / "cells").iterdir()
    (tmp_path / "mine" / "init" / "narrow.yaml").unlink()
    before = files(tmp_path)

    def repeated(*arguments: str) -> tuple[int, str, str]:
        command = (sys.executable, "-m", "optsweep", "repeat", *arguments)
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    name = str(cell.relative_to(tmp_path))
    code, output, errors = repeated(name)
    assert (code, errors) == (0, "")
    assert output.endswith("the same as before, to the last digit\n")
    assert files(tmp_path).keys() == before.keys()
    composed = f"{cell.name}/{runs.COMPOSED_FOLDER}/overrides.yaml"
    assert files(tmp_path)[composed] == before[composed]
    assert not (tmp_path / "outputs").exists()

    for arguments, told in (
        (["nowhere"], "nowhere: there is no such folder"),
        (["mine"], "mine/config.yaml is not the configuration of a cell ("),
        ([name, "--set", "seed=3"], "--set seed=3: this decides the result, and is another cell"),
        ([name, "--set", "sed=3"], "--set sed=3: expected a key of the cell's config.yaml=VALUE"),
        ([], "the following arguments are required: DIR; see --help"),
    ):
        code, output, errors = repeated(*arguments)
        assert (code, output) == (2, "")
        assert errors.startswith(f"optsweep: error: {told}")
        assert errors.count("\n") == 1
    code, _, errors = run("--experimental-rerun", name)
    assert code == 2
    assert errors.startswith("optsweep: error: --experimental-rerun: optsweep repeat DIR trains")


def test_a_cell_that_is_not_its_folder_s_is_not_repeated(tmp_path):
    directory = tmp_path / "default_0123456789"
    runs.start(directory, Config())
    with pytest.raises(InputError, match=r"config\.yaml is that of another cell"):
        repeat._config_of(directory)


def test_a_repetition_tells_where_it_differs():
    before = [{"seed": "0", "epoch": "1", "train_loss": "0.5"}]
    assert repeat._compared(before, before) == "the same as before, to the last digit"
    assert repeat._compared(before, [before[0] | {"train_loss": "0.4"}]) == (
        "not as before from seed 0, epoch 1: train_loss 0.4, not 0.5"
    )
    assert repeat._compared(before, before * 2) == "not as before: 2 rows of history, not 1"


def test_a_finished_sweep_answers_without_its_data(run, tmp_path):
    sweep = ("--multirun", "trainer.epochs=1", "seed=0,1")
    assert run(*sweep)[0] == 0
    code, output, errors = run(*sweep, f"dataset.root={tmp_path / 'nowhere'}")
    assert (code, errors) == (0, "")
    assert output.count("done before") == 2
