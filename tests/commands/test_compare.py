"""`optsweep compare`: what differs, paired differences, and whatever a user names."""

import pytest
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep.commands.named import find
from optsweep.config.checks import InputError
from optsweep.report.comparison import Side, compare


def side(text, root):
    named = find(text, root)
    collection = named.collect()
    return Side(text, collection, named.trained(collection))


def cell(root, init, shift=0.0, **groups):
    curves = {
        seed: curve((2.3, 0.1), (1.0 - seed / 10, 0.7 + seed / 100 + shift * (1 + seed / 20)))
        for seed in range(5)
    }
    return write_cell(root, config_of(init=init, num_seeds=5, **groups), curves)


def test_two_cells_differ_by_their_seeds_differences(tmp_path):
    a, b = cell(tmp_path, "default", 0.1), cell(tmp_path, "gaussian")
    found = compare(side(a, tmp_path), side(f"{tmp_path}/cells/{b}", tmp_path))
    rooms = "optsweep.models.initializers"
    (row,) = found.configuration.to_numpy().tolist()
    assert row == ["init._target_", f"{rooms}.default", f"{rooms}.gaussian"]
    scores = found.pairs[0].scores.set_index("score")
    assert scores.loc["test_accuracy", "difference"] == pytest.approx(0.11)
    assert scores.loc["test_accuracy", "verdict"] == "holds"
    assert scores.loc["test_loss", "difference"] == 0
    assert scores.loc["test_loss", "verdict"] == "undecided"
    assert "val_accuracy" not in scores.index


def test_two_sweeps_are_paired_where_they_agree(tmp_path):
    for name, init, rates in (("a", "default", (0.1, 0.2)), ("b", "gaussian", (0.2, 0.4))):
        cells = {cell(tmp_path, init, lr=lr): f"optimizer.lr={lr}" for lr in rates}
        write_experiment(tmp_path, name, cells)
    found = compare(side("a", tmp_path), side("b", tmp_path))
    assert [(one.left.label, one.right.label) for one in found.pairs] == [("lr 0.2", "lr 0.2")]
    assert found.alone == ["A: lr 0.1", "B: lr 0.4"]
    assert set(found.configuration["setting"]) == {"optimizer.lr", "init._target_"}


def test_names_that_are_no_runs(tmp_path):
    cell(tmp_path, "default")
    for text, wanted in (
        ("gausian-seeds_0..4", "neither a folder, nor"),
        (str(tmp_path), "neither a cell"),
        ("optimizer=adam", "no cell of it is trained"),
    ):
        with pytest.raises(InputError, match=wanted):
            side(text, tmp_path)


def test_the_program_on_real_runs(trained, optsweep_in, on_slice, tmp_path):
    page, picture = tmp_path / "page.html", tmp_path / "curves.png"
    overrides = " ".join(["init=gaussian optimizer.lr=0.1,0.3", *on_slice])
    files = ["--html", str(page), "--png", str(picture)]
    code, output, errors = optsweep_in(trained, "compare", "rates", overrides, *files)
    assert (code, errors) == (0, "")
    assert "init._target_" in output
    assert output.count("A is better") == 2
    assert "lr 0.3" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in page.read_text()
    code, _, errors = optsweep_in(trained, "compare", "rates", "multirun/rates")
    assert (code, errors) == (2, "optsweep: error: rates and multirun/rates are the same\n")
    code, _, errors = optsweep_in(trained, "compare", "rates", "optimizer=adm")
    assert (code, errors.count("\n")) == (2, 1)
    assert "did you mean adam" in errors
    code, output, errors = optsweep_in(trained, "compare", "mine", "rates")
    assert (code, errors) == (0, "")
    assert "Fewer than 5 seeds decide nothing" in output
