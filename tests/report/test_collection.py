"""The collector on a tree with cells of every status."""

import math

import pandas as pd
import pytest
from run_tree import config_of, curve, write_cell, write_experiment, write_raw

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.report.collection import collect_runs


@pytest.fixture(scope="module")
def collection(tree):
    return collect_runs(tree)


def test_every_cell_has_a_status_and_a_reason(collection):
    found = {
        one.label: (one.status, one.reason, one.is_trained)
        for one in collection.settings_of("r1_init")
    }
    assert found == {
        "default": ("completed", "", True),
        "gaussian": ("partly diverged", "1 of 3 seeds diverged", True),
        "xavier": ("missing", "not trained yet", False),
        "kaiming": ("partial", "begun, but not finished", False),
        "orthogonal": ("corrupt", found["orthogonal"][1], False),
    }
    assert found["orthogonal"][1].startswith("result.json cannot be read")


def test_seeds_are_exact_and_a_diverged_one_stays(collection):
    cell = collection.find("r1_init", {"init": "gaussian"})[0].cells
    expected = pd.DataFrame(
        {
            "seed": [0, 1, 2],
            "status": ["completed", "completed", "diverged"],
            "epochs": [2.0, 2.0, 1.0],
            "steps": [470.0, 470.0, 235.0],
            "train_loss": [1.0, 1.1, math.nan],
            "test_accuracy": [0.70, 0.71, math.nan],
            "final_train_accuracy": [0.73, 0.74, math.nan],
            "generalisation_gap": [0.03, 0.03, math.nan],
        }
    ).set_index("seed")
    pd.testing.assert_frame_equal(
        collection.seeds_of(cell)[list(expected.columns)], expected, check_dtype=False
    )


def test_the_history_has_every_row(collection):
    cell = collection.find("r1_init", {"init": "gaussian"})[0].cells
    history = collection.history_of(cell)
    assert list(history.columns) == [*runs.HISTORY_COLUMNS, "cell"]
    assert len(history) == 9
    assert history["test_accuracy"].isna().sum() == 1
    assert len(collection.history) == 18  # of the two that are trained


def test_facets_are_there_as_soon_as_a_cell_has_begun(collection):
    by_label = {one.label: one for one in collection.settings_of("r1_init")}
    assert by_label["kaiming"].facets["epochs"] == 2
    assert by_label["xavier"].facets == {}
    assert by_label["xavier"].value("epochs") == 2  # from its overrides


def test_only_the_seeds_differ_in_a_repeated_run(tmp_path):
    names = [
        write_cell(tmp_path, config_of(seed=seed, num_seeds=1), {seed: curve((2, 0.1), (1, 0.5))})
        for seed in (0, 1)
    ]
    overrides = {name: f"seed={seed} init=default" for seed, name in enumerate(names)}
    write_experiment(tmp_path, "b1_timing", overrides)
    (one,) = collect_runs(tmp_path).settings_of("b1_timing")
    assert one.cells == tuple(names)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"result_json": "[]"}, "result.json is not the result of a cell"),
        ({"result_json": {"config_hash": "0"}}, "result.json belongs to another configuration"),
        ({"history_csv": ""}, "history.csv is not as it was written"),
        ({"gradients_csv": "seed,epoch\n0,1\n"}, "gradients.csv is not as it was written"),
        ({"config_yaml": "["}, "config.yaml is not the configuration of a cell"),
        ({"config_yaml": "a: b"}, "config.yaml is not the configuration of a cell"),
    ],
)
def test_damage_is_told_and_does_not_stop_the_others(tmp_path, damage, reason):
    assert_told(tmp_path, damage, reason, lambda result: result)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"history_csv": "seed,epoch\n0,1\n"}, "history.csv cannot be read as a history"),
        ({"history_csv": ""}, "history.csv cannot be read as a history"),
        ({"history_csv": ",".join(runs.HISTORY_COLUMNS)}, "history.csv has no rows"),
        ({"gradients_csv": "seed,epoch\n0,1\n"}, "gradients.csv cannot be read"),
    ],
)
def test_damage_of_cells_of_the_first_version_is_told(tmp_path, damage, reason):
    """They have no checksums."""

    def first(result):
        return {key: value for key, value in result.items() if key != "sha256"}

    assert_told(tmp_path, damage, reason, first)


def assert_told(tmp_path, damage, reason, version):
    good = write_cell(tmp_path, config_of(epochs=1), {0: curve((2, 0.1), (1, 0.5))})
    bad = write_cell(tmp_path, config_of(epochs=3), {0: curve((2, 0.1), (1, 0.5))})
    result = runs.read_result(tmp_path / runs.CELLS_FOLDER / bad)
    write_raw(tmp_path / runs.CELLS_FOLDER / bad, **{"result_json": version(result)} | damage)
    cells = collect_runs(tmp_path).cells
    assert cells.at[good, "status"] == "completed"
    assert cells.at[bad, "status"] == "corrupt"
    assert cells.at[bad, "reason"].startswith(reason)


@pytest.mark.parametrize("file", ["config.yaml", "history.csv"])
def test_a_missing_file_is_damage(tmp_path, file):
    name = write_cell(tmp_path, config_of(), {0: curve((2, 0.1), (1, 0.5))})
    (tmp_path / runs.CELLS_FOLDER / name / file).unlink()
    assert collect_runs(tmp_path).cells.at[name, "reason"] == f"{file} is missing"


@pytest.mark.parametrize("per_seed", [[], [{"seed": 0}], None, "x", [1]])
def test_results_without_usable_seeds_are_damage(tmp_path, per_seed):
    name = write_cell(tmp_path, config_of(), {0: curve((2, 0.1), (1, 0.5))}, per_seed=per_seed)
    assert collect_runs(tmp_path).cells.at[name, "status"] == "corrupt"


def test_quick_runs_are_known(tmp_path, tree):
    write_cell(tmp_path, config_of(), {0: curve((2, 0.1), (1, 0.5))})
    assert collect_runs(tmp_path).quick is None
    write_raw(tmp_path, quick_json={"quick": True, "num_seeds": 2})
    assert collect_runs(tmp_path).quick == {"quick": True, "num_seeds": 2}
    write_raw(tmp_path, quick_json="{")
    assert collect_runs(tmp_path).quick == {"quick": True}  # rather too careful


def test_a_folder_without_runs_is_a_mistake(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        collect_runs(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no runs in it"):
        collect_runs(tmp_path)
    (tmp_path / "cells").write_text("not a folder")
    with pytest.raises(InputError, match="no runs in it"):
        collect_runs(tmp_path)


def test_a_list_of_cells_without_its_columns_is_left_out(tmp_path):
    write_raw(tmp_path / "foreign", cells_csv="a,b\n1,2\n")
    collection = collect_runs(tmp_path)
    assert collection.experiments == []
    (damage,) = collection.damaged
    assert str(damage) == f"{tmp_path / 'foreign' / 'cells.csv'} is not a list of cells"


def test_a_cell_that_was_killed_in_its_first_moments_is_partial(tmp_path):
    """Its log and its lease are there before its configuration is."""
    directory = tmp_path / "cells" / "default_0123456789"
    directory.mkdir(parents=True)
    (directory / runs.LOG_FILE).touch()
    collection = collect_runs(tmp_path)
    assert (*collection.cells["status"],) == ("partial",)
    assert collection.damaged == []
