"""The run directory: written whole or not at all, and read with care."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config
from optsweep.liveness import alone_in

ROW = dict.fromkeys(runs.HISTORY_COLUMNS) | {"seed": 0, "epoch": 1, "train_loss": 0.1 + 0.2}
RESULT = {"config_hash": config_hash(Config()), "status": "completed"}


def test_a_directory_without_a_result_is_not_finished(tmp_path):
    assert runs.finished(tmp_path / "nowhere", Config()) is None
    runs.start(tmp_path / "cell", Config())
    assert runs.finished(tmp_path / "cell", Config()) is None


def test_what_is_written_is_read(tmp_path):
    runs.start(tmp_path, Config())
    runs.write(tmp_path, [ROW], RESULT)
    result = runs.finished(tmp_path, Config())
    assert {key: result[key] for key in RESULT} == RESULT
    header, row = (tmp_path / runs.HISTORY_FILE).read_text().splitlines()
    assert header == (
        "seed,epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,"
        "test_loss,test_accuracy,seconds"
    )
    assert row == "0,1,,,0.30000000000000004,,,,,,"  # every digit, and nothing for None


def test_the_configuration_of_a_started_cell_can_be_read_back(tmp_path):
    runs.start(tmp_path, Config(num_seeds=3))
    values = runs.yaml.safe_load((tmp_path / runs.CONFIG_FILE).read_text())
    assert Config.from_mapping(values) == Config(num_seeds=3)


def test_the_result_of_another_configuration_is_refused(tmp_path):
    runs.write(tmp_path, [ROW], RESULT)
    with pytest.raises(InputError, match="result of another configuration"):
        runs.finished(tmp_path, Config(seed=5))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "completed"}'])
def test_a_damaged_result_is_named(tmp_path, text):
    (tmp_path / runs.RESULT_FILE).write_text(text)
    with pytest.raises(InputError, match=r"result\.json"):
        runs.read_result(tmp_path)


def test_a_number_that_json_lacks_never_becomes_a_result(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        runs.write(tmp_path, [ROW], RESULT | {"objective": float("nan")})
    assert not (tmp_path / runs.RESULT_FILE).exists()


def test_a_kill_between_the_files_leaves_no_result(tmp_path, monkeypatch):
    runs.write(tmp_path, [ROW], RESULT)
    replace = runs.os.replace

    def killed_at_the_result(source, target):
        if target.name == runs.RESULT_FILE:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(runs.os, "replace", killed_at_the_result)
    with pytest.raises(KeyboardInterrupt):
        runs.write(tmp_path, [ROW | {"epoch": 2}], RESULT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [runs.HISTORY_FILE]
    assert runs.read_result(tmp_path) is None


def test_results_are_plain_json(tmp_path):
    runs.write(tmp_path, [], RESULT | {"val_loss": None})
    assert json.loads((tmp_path / runs.RESULT_FILE).read_text())["val_loss"] is None


class Killed(BaseException):
    pass


@pytest.mark.parametrize("function", ["replace", "unlink"])
@pytest.mark.parametrize("number", range(1, 5))
def test_a_kill_while_a_record_is_replaced_leaves_the_old_or_none(
    tmp_path, monkeypatch, function, number
):
    others = [row | {"epoch": 2} for row in (ROW,)]
    gradients = [dict.fromkeys(runs.GRADIENT_COLUMNS) | {"seed": 0, "value": 1.0}]
    runs.start(tmp_path, Config())
    runs.write(tmp_path, [ROW], RESULT, gradients)

    def record():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    old, calls = record(), []
    module = os if function == "replace" else Path
    original = getattr(module, function)

    def killed(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == number:
            raise Killed
        return original(*arguments, **keywords)

    other = Config(seed=5)
    runs.start(tmp_path, other)
    assert record() == old
    result = RESULT | {"config_hash": config_hash(other)}
    monkeypatch.setattr(module, function, killed)
    with contextlib.suppress(Killed):
        runs.write(tmp_path, others, result, (), other)
    monkeypatch.undo()
    new = record()
    if runs.RESULT_FILE in new and new != old:
        assert runs.read_config(tmp_path) == other
        assert runs.finished(tmp_path, other)["status"] == "completed"
        assert runs.GRADIENTS_FILE not in new


# --- a record ties itself together


def another_digit(directory):
    path = directory / runs.HISTORY_FILE
    path.write_text(path.read_text().replace("0.3", "0.4"))


def fewer_rows(directory):
    path = directory / runs.HISTORY_FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:1]))


def better(directory):
    path = directory / runs.RESULT_FILE
    path.write_text(path.read_text().replace("completed", "diverged"))


def as_folder(path):
    path.unlink()
    path.mkdir()


def another_cell(directory):
    runs.start(directory / "other", Config(seed=5))
    (directory / runs.CONFIG_FILE).write_text((directory / "other" / runs.CONFIG_FILE).read_text())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (another_digit, "history.csv is not as it was written"),
        (fewer_rows, "history.csv is not as it was written"),
        (lambda directory: (directory / runs.HISTORY_FILE).unlink(), "history.csv is missing"),
        (lambda directory: (directory / runs.GRADIENTS_FILE).unlink(), "gradients.csv is missing"),
        (lambda directory: (directory / runs.CONFIG_FILE).unlink(), "config.yaml is missing"),
        (another_cell, "config.yaml is not as it was written"),
        (better, "result.json is not as it was written"),
        (lambda directory: (directory / runs.RESULT_FILE).write_text("{"), "cannot be read"),
        (lambda directory: (directory / runs.RESULT_FILE).write_bytes(b"\xff{}"), "cannot be read"),
        (lambda directory: as_folder(directory / runs.RESULT_FILE), "result.json is a folder"),
        (
            lambda directory: as_folder(directory / runs.HISTORY_FILE),
            "history.csv is not as it was written",
        ),
    ],
)
def test_a_record_that_does_not_fit_itself_is_set_aside(tmp_path, damage, told):
    gradients = [dict.fromkeys(runs.GRADIENT_COLUMNS) | {"seed": 0, "value": 1.0}]
    runs.start(tmp_path, Config())
    runs.write(tmp_path, [ROW], RESULT, gradients)
    assert runs.set_aside(tmp_path) == ""
    damage(tmp_path)
    names = {path.name for path in tmp_path.iterdir() if path.name != "other"}
    with pytest.raises(runs.DamagedRecord, match=told):
        runs.read_result(tmp_path)
    assert runs.finished(tmp_path, Config()) is None
    line = runs.set_aside(tmp_path)
    assert told in line
    assert line.endswith(f"; it was set aside in {tmp_path / 'damaged_1'}")
    assert {path.name for path in (tmp_path / "damaged_1").iterdir()} == names
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    runs.start(tmp_path, Config())
    runs.write(tmp_path, [ROW], RESULT)
    assert runs.finished(tmp_path, Config()) is not None


def test_gradients_of_another_training_do_not_fit(tmp_path):
    runs.start(tmp_path, Config())
    runs.write(tmp_path, [ROW], RESULT)
    (tmp_path / runs.GRADIENTS_FILE).write_text("seed\n0\n")
    with pytest.raises(runs.DamagedRecord, match=r"gradients\.csv is not as it was written"):
        runs.read_result(tmp_path)


def test_a_process_with_other_threads_does_not_damage_a_record(tmp_path):
    runs.start(tmp_path, Config())
    runs.write(tmp_path, [ROW], RESULT)
    text = (tmp_path / runs.CONFIG_FILE).read_text()
    (tmp_path / runs.CONFIG_FILE).write_text(text.replace("num_threads: null", "num_threads: 2"))
    assert runs.finished(tmp_path, Config()) is not None


def test_cells_of_the_first_version_have_no_checksums(tmp_path):
    runs.start(tmp_path, Config())
    runs.write(tmp_path, [ROW], RESULT)
    (tmp_path / runs.RESULT_FILE).write_text(json.dumps(RESULT))
    assert runs.finished(tmp_path, Config()) == RESULT
    (tmp_path / runs.HISTORY_FILE).unlink()
    assert runs.finished(tmp_path, Config()) is None


# --- written whole or not at all, and tidied up


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path):
    """Of this machine's processes at once, of another's in the end; never of one that lives."""
    runs.start(tmp_path, Config())
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    ours, foreign = runs.machine_id(), "0" * 8
    removed = [
        tmp_path / f".config.yaml.{ours}.{dead}.01234567.partial",
        tmp_path / runs.COMPOSED_FOLDER / f".hydra.yaml.{ours}.{dead}.01234567.partial",
        tmp_path / f".result.json.{foreign}.1.01234567.partial",
        tmp_path / ".config.yaml.4711.partial",  # as earlier versions called them
    ]
    kept = [
        tmp_path / f".config.yaml.{ours}.{os.getpid()}.01234567.partial",
        tmp_path / f".config.yaml.{foreign}.{dead}.01234567.partial",
    ]
    (tmp_path / runs.COMPOSED_FOLDER).mkdir()
    for path in (*removed, *kept):
        path.touch()
    for path in removed[2:]:
        os.utime(path, (0, 0))
    runs.tidy(tmp_path)
    assert not [path for path in removed if path.exists()]
    assert [path.exists() for path in kept] == [True, True]


def test_a_partial_file_belongs_to_one_writer(tmp_path, monkeypatch):
    """Two threads that write one file at once have one each."""
    names = set()
    monkeypatch.setattr(runs.os, "replace", lambda source, target: names.add(source.name))
    for _ in range(2):
        runs.write_atomically(tmp_path / "file", "")
    assert len(names) == 2


def test_a_lease_of_a_killed_process_is_removed_where_all_is_done(tmp_path):
    code = (
        "import os, pathlib, sys; from optsweep.liveness import alone_in\n"
        "with alone_in(pathlib.Path(sys.argv[1]), print): os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert [path.name for path in tmp_path.iterdir()] == [".lease.0"]
    runs.tidy(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path, print):
        runs.tidy(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
