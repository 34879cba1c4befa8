"""What tries faults finds them: it has to tell a damaged record from a whole one."""

import random

import pytest
from faults import inputs, records, ways

from optsweep import runs

HISTORY = runs.to_csv(
    runs.HISTORY_COLUMNS,
    [
        dict.fromkeys(runs.HISTORY_COLUMNS, 0.25) | {"epoch": epoch, "seconds": 12.5}
        for epoch in range(4)
    ],
)


@pytest.fixture
def folder(tmp_path):
    for cell in ("one", "two"):
        (tmp_path / cell).mkdir()
        text = HISTORY if cell == "one" else HISTORY.replace("0.25", "0.75")
        (tmp_path / cell / runs.HISTORY_FILE).write_text(text)
    return tmp_path


@pytest.mark.parametrize("way", [*ways.OF_TEXTS, ways.swapped], ids=lambda way: way.__name__)
def test_every_way_of_damage_makes_a_difference(folder, way):
    path = folder / "one" / runs.HISTORY_FILE
    for seed in range(1 if way is ways.swapped else 20):
        path.write_text(HISTORY)
        way(path, random.Random(seed))
        assert not path.is_file() or path.read_bytes() != HISTORY.encode()
        if path.is_dir():
            path.rmdir()


def test_times_make_no_difference_and_all_else_does(folder):
    path = folder / "one" / runs.HISTORY_FILE
    before = records.tables(folder)
    path.write_text(HISTORY.replace("12.5", "13.5"))
    assert records.differences(records.tables(folder), before) == []
    path.write_text(HISTORY.replace("0.25", "0.5", 1))
    assert records.differences(records.tables(folder), before) == ["one/history.csv is another"]
    path.rename(folder / ".history.csv.partial")
    assert records.differences(records.tables(folder), before) == [
        "one/history.csv is missing",
        ".history.csv.partial should not be there",
    ]


def test_rows_of_a_report_are_those_of_experiments_and_of_searches(tmp_path):
    (tmp_path / runs.TABLES_FOLDER).mkdir()
    for name, text in {
        "r1_init.csv": "setting,cells,status\nhe,one two,completed\nzeros,three,completed\n",
        "tuned.csv": 'setting,test accuracy,seeds\n"adam, lr 0.01",0.8,10\n',
    }.items():
        (tmp_path / runs.TABLES_FOLDER / name).write_text(text)
    rows = records.rows(tmp_path)
    assert list(rows) == ["one two", "three", "tuned: adam, lr 0.01"]
    assert rows["three"]["setting"] == "zeros"
    assert rows["tuned: adam, lr 0.01"]["test accuracy"] == "0.8"


@pytest.mark.parametrize("seed", range(40))
def test_a_file_of_nothing_can_be_changed_as_any_other(tmp_path, seed):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    for _ in range(5):
        inputs.mutate(path, random.Random(seed))
    assert path.read_bytes()


def test_a_seed_decides_what_is_mistyped():
    def typed(seed):
        rng = random.Random(seed)
        return [inputs.override(rng) for _ in range(50)]

    assert typed(1) == typed(1)
    assert typed(1) != typed(2)
