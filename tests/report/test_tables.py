"""Tables: exact numbers for a study that is known, and text that each format can hold."""

import math

import pandas as pd
import pytest
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep.report.collection import collect_runs
from optsweep.report.outline import Question
from optsweep.report.tables import readable, setting_table, write_tables

INF, NAN = math.inf, math.nan
# Student's 97.5 % quantiles, over the roots of three values and (times √2 · 0.005 = s) of two.
THREE, TWO = 4.302653 / math.sqrt(3), 12.706205
QUESTION = Question("r1_init", "Initialisation", baseline={"init": "default"})


@pytest.fixture(scope="module")
def table(tree):
    return setting_table(collect_runs(tree), QUESTION, "r1_init")


def test_every_setting_has_a_row_in_the_experiments_order(table):
    expected = pd.DataFrame(
        {
            "setting": ["default", "gaussian", "xavier", "kaiming", "orthogonal"],
            "status": ["completed", "partly diverged", "missing", "partial", "corrupt"],
            "num_seeds": [3, 3, 0, 0, 0],
            "num_diverged": [0, 1, 0, 0, 0],
            "num_collapsed": [0, 1, 0, 0, 0],
            "test_accuracy_mean": [0.81, 0.705, NAN, NAN, NAN],
            "test_accuracy_std": [0.01, math.sqrt(0.5) * 0.01, NAN, NAN, NAN],
            "test_accuracy_low": [0.81 - THREE * 0.01, 0.705 - TWO * 0.005, NAN, NAN, NAN],
            "test_accuracy_high": [0.81 + THREE * 0.01, 0.705 + TWO * 0.005, NAN, NAN, NAN],
            "generalisation_gap_mean": [0.03, 0.03, NAN, NAN, NAN],
            "baseline": ["", "default", "default", "default", "default"],
            # The median of -0.1, -0.1 and 0 - 0.82; of three values it has no interval.
            "difference": [NAN, -0.1, NAN, NAN, NAN],
            "difference_low": [NAN] * 5,
            "difference_high": [NAN] * 5,
            "p": [NAN, 0.25, NAN, NAN, NAN],
            "p_holm": [NAN, 0.25, NAN, NAN, NAN],
            "smallest_p": [NAN, 0.25, NAN, NAN, NAN],
            "epochs_to_target": [2.0, INF, NAN, NAN, NAN],
            "steps_to_target": [470.0, INF, NAN, NAN, NAN],
            "seconds_to_target": [4.0, INF, NAN, NAN, NAN],
            "num_reached": [3.0, 0.0, NAN, NAN, NAN],
            "seconds": [4.0, 4.0, NAN, NAN, NAN],
        }
    )
    found = table[list(expected.columns)]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-7)


def test_holms_family_is_the_experiment(tmp_path):
    cells = {}
    for init, shift in (("default", 0.0), ("gaussian", 0.1), ("xavier", 0.2)):
        scores = {seed: curve((2, 0.1), (1, 0.5 + shift + seed / 100)) for seed in range(5)}
        config = config_of(init=init, num_seeds=5)
        cells[write_cell(tmp_path, config, scores)] = f"init={init}"
    write_experiment(tmp_path, "r1_init", cells)
    table = setting_table(collect_runs(tmp_path), QUESTION, "r1_init")
    assert table["p"].tolist()[1:] == [0.0625, 0.0625]
    assert table["p_holm"].tolist()[1:] == [0.125, 0.125]


def test_a_baseline_shares_the_other_settings(tmp_path):
    cells = {}
    for lr in (0.1, 0.2):
        for init in ("default", "gaussian"):
            accuracy = lr + (0.05 if init == "gaussian" else 0)
            config = config_of(init=init, lr=lr)
            name = write_cell(tmp_path, config, {0: curve((2, 0.1), (1, accuracy))})
            cells[name] = f"init={init} optimizer.lr={lr}"
    write_experiment(tmp_path, "r3_init", cells)
    question = Question("r3_init", "", baseline={"init": "default"})
    table = setting_table(collect_runs(tmp_path), question, "r3_init")
    assert table["baseline"].tolist() == ["", "default, lr 0.1", "", "default, lr 0.2"]
    assert table["difference"].tolist() == pytest.approx([NAN, 0.05, NAN, 0.05], nan_ok=True)


def test_readers_get_text(table):
    shown = readable(table)
    assert shown.loc[0].to_dict() == {
        "setting": "default",
        "seeds": "3",
        "test accuracy": "0.8100 ± 0.0100",
        "95 % interval": "0.7852 … 0.8348",
        "train loss": "0.600 ± 0.100",
        "generalisation gap": "0.0300 ± 0.0000",
        "difference": "–",
        "its interval": "–",
        "Holm's p": "–",
        "epochs to target": "2",
        "steps to target": "470",
        "seconds to target": "4.0",
        "seconds": "4.0",
    }
    assert shown["seeds"].tolist()[1:] == ["3, 1 diverged", "missing", "partial", "corrupt"]
    assert shown["epochs to target"][1] == "∞"


def test_the_three_files(table, tmp_path):
    write_tables(table, tmp_path / "r1_init.v2", "Quick settings.")
    written = pd.read_csv(tmp_path / "r1_init.v2.csv", keep_default_na=True)
    pd.testing.assert_series_equal(written["difference"], table["difference"])
    markdown = (tmp_path / "r1_init.v2.md").read_text().splitlines()
    assert markdown[0] == "*Quick settings.*"
    assert markdown[4].startswith("| default | 3 | 0.8100 ± 0.0100 |")
    latex = (tmp_path / "r1_init.v2.tex").read_text()
    assert latex.startswith("% Quick settings.\n\\begin{tabular}{lrrrrrrrrrrrr}")
    assert r"0.8100 $\pm$ 0.0100" in latex


def test_what_a_user_wrote_does_no_harm(table, tmp_path):
    hostile = table.assign(setting=[r"a|b", "x & y_z", "50 %", "{#}$", "\\input{x}"])
    write_tables(hostile, tmp_path / "hostile")
    assert r"| a\|b |" in (tmp_path / "hostile.md").read_text()
    latex = (tmp_path / "hostile.tex").read_text()
    assert r"x \& y\_z" in latex
    assert r"50 \%" in latex
    assert r"\{\#\}\$" in latex
    assert r"\textbackslash{}input\{x\}" in latex
