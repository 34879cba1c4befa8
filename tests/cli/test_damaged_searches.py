"""What a search and a sweep keep, damaged in every way: named, left out, and made again."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest

from optsweep import runs, seals
from optsweep.report.report import write_report
from optsweep.search.integrity import damage_of_search, mend
from optsweep.study.content import outline

SEARCH = (
    *(
        "--multirun",
        "hydra/sweeper=optuna",
        "name=mine",
        "weight_decay=tag(log,interval(1e-6,0.1))",
    ),
    *("dataset.val_size=200", "trainer.epochs=1", "trainer.engine=torch", "trainer.num_threads=1"),
    *("hydra.sweeper.n_trials=3", "hydra.sweeper.final_num_seeds=2"),
)
GRID = ("--multirun", "name=listed", "trainer.epochs=1", "trainer.engine=torch", "seed=0,1")


@pytest.fixture(scope="module")
def made(tmp_path_factory, data_root):
    """A search of three trials, twice, and a grid of two cells, as programs leave them."""
    root = tmp_path_factory.mktemp("made")
    tests = Path(__file__).resolve().parents[1]
    for command in (SEARCH, GRID):
        subprocess.run(
            [
                *(sys.executable, "-m", "optsweep", "--config-dir", str(tests / "conf")),
                *("dataset=slice", f"dataset.root={data_root}", "trainer.device=cpu", *command),
            ],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(tests.parent)},
            check=True,
            capture_output=True,
        )
    shutil.copytree(root / runs.RUNS_FOLDER / "mine", root / runs.RUNS_FOLDER / "other")
    return root / runs.RUNS_FOLDER


def another_s(path: Path) -> None:
    """Put in a file's place that of another search."""
    if path.name != runs.STUDY_FILE:
        return write(path, b"variant,trial,kind,objective,overrides,cell\n")
    path.unlink()
    study = optuna.create_study(study_name="mine", storage=f"sqlite:///{path}")
    study.optimize(lambda trial: trial.suggest_float("optimizer.weight_decay", 0, 1), n_trials=3)


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made, tmp_path / runs.RUNS_FOLDER)
    return tmp_path / runs.RUNS_FOLDER


def write(path: Path, content: bytes) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.write_bytes(content)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def by_sql(statement: str):
    def damage(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            assert connection.execute(statement).rowcount

    return damage


DAMAGE = {
    "gone": Path.unlink,
    "emptied": lambda path: write(path, b""),
    "truncated": lambda path: write(path, path.read_bytes()[: path.stat().st_size // 2]),
    "not UTF-8": lambda path: write(path, b"\xff\xfe\xfa" + path.read_bytes()),
    "a folder": as_folder,
    "another's": another_s,
}
OF_TABLES = DAMAGE | {
    "a digit": lambda path: write(path, re.sub(rb"\d(?=\D*$)", b"x", path.read_bytes(), count=1)),
    "a row": lambda path: write(path, b"".join(path.read_bytes().splitlines(True)[:-1])),
    "NaN": lambda path: write(path, re.sub(rb"0\.\d+", b"nan", path.read_bytes(), count=1) + b""),
}
OF_STUDIES = DAMAGE | {
    "a page": lambda path: write(
        path, path.read_bytes()[:4096] + os.urandom(8192) + path.read_bytes()[12288:]
    ),
    "a value": by_sql("UPDATE trial_values SET value = 0.99 WHERE trial_id = 2"),
    "NaN": by_sql("UPDATE trial_values SET value = NULL, value_type = 'INF_POS'"),
    "a parameter": by_sql("UPDATE trial_params SET param_value = 1e-5 WHERE trial_id = 1"),
    "a setting": by_sql(
        "UPDATE study_user_attributes SET value_json = replace(value_json, 'SGD', 'Adam')"
        " WHERE key = 'settings'"
    ),
    "the last trial": by_sql("DELETE FROM trials WHERE number = 2"),
    "the first trial": by_sql("DELETE FROM trials WHERE number = 0"),
    "all trials": by_sql("DELETE FROM trials"),
    "all studies": by_sql("DELETE FROM studies"),
    "a checksum": by_sql("DELETE FROM trial_user_attributes WHERE key = 'sha256'"),
    "a cell": by_sql("UPDATE trial_user_attributes SET value_json = '\"x\"' WHERE key = 'cell'"),
    "a table": by_sql("DROP TABLE trial_values")
    if False
    else by_sql("DELETE FROM trial_values WHERE trial_id = 3"),
}
NAMES = (runs.FINALS_FILE, runs.TRIALS_FILE, runs.TRIALS_PAGE, runs.SUMMARY_FILE)


def test_nothing_is_damaged_if_nobody_damages_it(made):
    for name in ("mine", "other"):
        studies, damaged = damage_of_search(made / name)
        assert (len(studies), damaged) == (1, [])
        assert mend(made / name) == []
    assert seals.damage(made / "listed") == []
    checked = subprocess.run(["sha256sum", "-c", seals.SUMS_FILE], cwd=made / "mine", check=False)
    assert checked.returncode == 0


@pytest.fixture
def small_copy(made, tmp_path):
    """The two searches without their figures."""
    for name in ("mine", "other"):
        shutil.copytree(made / name, tmp_path / name, ignore=shutil.ignore_patterns("figures"))
    return tmp_path


@pytest.mark.parametrize("damage", OF_STUDIES)
def test_a_study_that_is_not_as_it_was_told_is_found_and_set_aside(small_copy, damage):
    path = small_copy / "mine" / runs.STUDY_FILE
    OF_STUDIES[damage](path)
    studies, damaged = damage_of_search(path.parent)
    assert studies == []
    assert [each.path for each in damaged] == [path]
    (line,) = mend(path.parent)
    assert line.startswith(f"{path} ")
    assert not path.exists()
    assert (path.parent / "damaged_1").exists() == (damage != "gone")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_that_is_not_as_it_was_written_is_found_and_set_aside(small_copy, name):
    path = small_copy / "mine" / name
    before = path.read_bytes()
    for number, damage in enumerate(OF_TABLES.values(), 1):
        damage(path)
        if path.is_file() and path.read_bytes() == before:
            continue  # it has no such thing
        (found,) = seals.damage(path.parent)
        assert found.path == path
        (line,) = seals.set_aside(path.parent)
        assert line.startswith(f"{path} ")
        assert number == 1 or " it was set aside in " in line
        assert seals.damage(path.parent) == []
        seals.write(path.parent, {name: before.decode()})
        assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [*DAMAGE, "a digit"])
def test_checksums_that_are_damaged_leave_nothing_to_trust(small_copy, damage):
    folder = small_copy / "mine"
    OF_TABLES[damage](folder / seals.SUMS_FILE)
    found = seals.damage(folder)
    assert bool(found) == (damage != "gone")  # then it is as one of a version without checksums
    if damage not in ("gone", "a digit", "truncated", "another's"):
        assert [each.path.name for each in found] == [seals.SUMS_FILE]
    seals.set_aside(folder)
    assert seals.damage(folder) == []


def test_a_kill_between_a_table_and_its_checksum_is_no_damage(small_copy, monkeypatch):
    folder = small_copy / "mine"
    original, calls = runs.write_atomically, []

    def killed(path, content):
        calls.append(path.name)
        if len(calls) > steps:
            raise KeyboardInterrupt
        original(path, content)

    monkeypatch.setattr(runs, "write_atomically", killed)
    for steps in range(4):
        calls.clear()
        with contextlib.suppress(KeyboardInterrupt):
            seals.write(folder, {runs.FINALS_FILE: f"{steps}\n", runs.SWEEP_FILE: "new\n"})
        assert seals.damage(folder) == []
        assert seals.set_aside(folder) == []


def test_the_report_names_all_that_is_damaged_and_shows_the_rest(copy, tmp_path):
    for name, damage in (("mine", "truncated"), ("other", "a value")):
        OF_STUDIES[damage](copy / name / runs.STUDY_FILE)
    OF_TABLES["a row"](copy / "other" / runs.FINALS_FILE)
    OF_TABLES["not UTF-8"](copy / "listed" / runs.SWEEP_FILE)
    one, *_ = sorted((copy / runs.CELLS_FOLDER).iterdir())
    OF_TABLES["NaN"](one / runs.HISTORY_FILE)
    report = write_report(copy, tmp_path / "out", outline())
    assert sorted(str(each.path.relative_to(copy)) for each in report.damaged) == sorted(
        [
            *(f"cells/{one.name}", "listed/cells.csv", "mine/study.db"),
            *("other/finals.csv", "other/study.db"),
        ]
    )
    text = report.page.read_text()
    for each in report.damaged:
        assert f'<span class="code">{each.path}</span> {each.reason.split("(")[0]}' in text
    assert 'id="listed-' in text  # the list under its hash is as it was
    assert "search_mine" not in text


def test_a_bad_search_does_not_take_the_report_away(copy, tmp_path):
    """As a kill in the first moments leaves one, and one without checksums."""
    for damage in ("empty", "no tables", "no trials", "old and torn"):
        make_bad(copy, copy / f"bad_{damage.replace(' ', '_')}", damage)
    report = write_report(copy, tmp_path / "out", outline())
    torn = copy / "bad_old_and_torn" / runs.FINALS_FILE
    assert [each.path for each in report.damaged] == [torn]
    assert "search_mine" in report.page.read_text()
    fresh = pd.read_csv(tmp_path / "out" / runs.TABLES_FOLDER / "mine.csv")
    assert fresh["test accuracy"].between(0, 1).all()
    assert len(fresh) == len(pd.read_csv(copy / "mine" / runs.FINALS_FILE))
    for folder in copy.glob("bad_*"):
        assert mend(folder) == []
        assert (folder / runs.STUDY_FILE).exists()


def make_bad(copy: Path, folder: Path, damage: str) -> None:
    folder.mkdir()
    path = folder / runs.STUDY_FILE
    if damage == "empty":
        path.touch()
    elif damage == "no tables":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
    else:
        shutil.copy(copy / "mine" / runs.STUDY_FILE, path)
        statement = "DELETE FROM trials" if damage == "no trials" else "DELETE FROM studies"
        by_sql(statement)(path)
        if damage == "old and torn":
            (folder / runs.FINALS_FILE).write_bytes(b"\xff\x00variant,kind\n1,2,3\n")


def test_the_search_makes_again_what_was_damaged(copy, run, tmp_path):
    folder = copy / "mine"
    before = {name: (folder / name).read_bytes() for name in NAMES}
    OF_STUDIES["a value"](folder / runs.STUDY_FILE)
    OF_TABLES["a row"](folder / runs.SUMMARY_FILE)
    code, output, errors = run(*SEARCH)
    assert (code, errors) == (0, "")
    for name in (runs.STUDY_FILE, runs.SUMMARY_FILE):
        assert f"multirun/mine/{name} " in output
    assert output.count("it was set aside in multirun/mine/damaged_1") == 2
    assert output.count("done before") == 4
    assert {name: (folder / name).read_bytes() for name in NAMES} == before
    assert damage_of_search(folder)[1] == []


def test_a_grid_makes_its_list_again(copy, run):
    folder = copy / "listed"
    lists = {path.name: path.read_bytes() for path in folder.glob("cells*.csv")}
    assert len(lists) == 2
    for damage, path in zip(("a row", "a folder"), sorted(folder.glob("cells*.csv")), strict=True):
        OF_TABLES[damage](path)
    code, output, errors = run(*GRID)
    assert (code, errors) == (0, "")
    assert output.count("it was set aside in multirun/listed/damaged_1") == 2
    assert {path.name: path.read_bytes() for path in folder.glob("cells*.csv")} == lists
    assert seals.damage(folder) == []


def test_a_search_trains_again_what_other_code_made(copy, run):
    """Here a version that did not say what it was."""
    for path in (copy / runs.CELLS_FOLDER).glob(f"*/{runs.RESULT_FILE}"):
        result = json.loads(path.read_text())
        path.write_text(
            json.dumps({k: v for k, v in result.items() if k not in ("sources", "sha256")})
        )
    code, output, errors = run(*SEARCH)
    assert (code, errors) == (0, "")
    told = "3 of 3 trials done before by other code: an unknown version (rerun=stale trains these"
    assert output.count(told) == 1
    code, output, errors = run(*SEARCH, "rerun=stale")
    assert (code, errors) == (0, "")
    assert "study.db has trials by an unknown version; it was set aside in" in output
    assert output.count("results: ") == 4
