"""Figures: what is drawn for which question, and how a figure becomes part of a page."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep import runs
from optsweep.report import curves
from optsweep.report.answers import answer
from optsweep.report.collection import TRAINED, collect_runs
from optsweep.report.drawing import COLOURS, INK, MAX_LINES, ORDERED, styles
from optsweep.report.figures import draw_question
from optsweep.report.grids import gains
from optsweep.report.outline import Outline, Question
from optsweep.report.pictures import Picture, save
from optsweep.report.tables import setting_table
from optsweep.report.tuned import profile

OUTLINE = Outline(questions=[Question("r1_init", "Initialisation", baseline={"init": "default"})])


def test_a_figure_tells_what_it_does_not_show(tree):
    (picture,) = draw_first(tree)
    assert "Gaussian: 1 of 3 seeds diverged" in picture.caption
    for told in ("Xavier: missing", "Kaiming: partial", "orthogonal: corrupt"):
        assert told in picture.caption


def draw_first(tree):
    collection = collect_runs(tree)
    question, names = OUTLINE.sections(collection.experiments)[0]
    return draw_question(collection, question, names)


def test_files_and_the_part_of_a_page(tree, tmp_path):
    (picture,) = draw_first(tree)
    inline = save(picture, tmp_path).svg
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r1_init.png", "r1_init.svg"]
    root = ElementTree.fromstring(inline)
    assert root.get("width") is None
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert len(set(ids)) == len(ids)
    assert all(each.startswith("r1_init-") for each in ids)
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', inline)
    assert used
    assert set(used) <= set(ids)
    assert "<style" not in inline  # it would be the whole page's
    assert INK not in inline
    assert "currentColor" in inline
    assert not re.search(r"#(?:0072b2|d55e00)", inline)
    for name in ("default", "gaussian"):
        assert f">{name}</text>" in inline


def test_the_picture_keeps_the_colours_of_its_lines(tmp_path):
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    for height, colour in enumerate(COLOURS):
        axes.axhline(height, color=colour, lw=6)
        axes.axhspan(height, height + 0.5, color=colour, alpha=0.18)
    save(Picture("colours", figure, ""), tmp_path)
    pixels = np.asarray(Image.open(tmp_path / "colours.png").convert("RGB")).reshape(-1, 3)
    for colour in COLOURS:
        wanted = [round(255 * part) for part in matplotlib.colors.to_rgb(colour)]
        assert abs(pixels.astype(int) - wanted).max(axis=1).min() <= 3


def test_files_do_not_change_from_one_time_to_the_next(tree, tmp_path):
    texts = []
    for time in ("first", "second"):
        folder = tmp_path / time
        folder.mkdir()
        save(draw_first(tree)[0], folder)
        texts.append((folder / "r1_init.svg").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x^", "a & b", "line\nbreak"])
def test_a_name_is_drawn_as_it_is(tmp_path, name):
    cell = write_cell(tmp_path, config_of(), {0: curve((2, 0.1), (1, 0.5))})
    other = write_cell(tmp_path, config_of(epochs=3), {0: curve((2, 0.1), (1, 0.5))})
    write_experiment(tmp_path, "mine", {cell: f"init='{name}'", other: "init=default"})
    collection = collect_runs(tmp_path)
    question, names = OUTLINE.sections(collection.experiments)[-1]
    (picture,) = draw_question(collection, question, names)
    inline = save(picture, tmp_path).svg
    ElementTree.fromstring(inline)
    assert "<script" not in inline


def test_lines_are_told_apart_by_colour_dash_and_marker():
    names = [f"setting {index}" for index in range(MAX_LINES)]
    found = styles(names, baseline="setting 3")
    assert found["setting 3"].color == INK
    assert len({str(one.linestyle) for one in found.values()}) == MAX_LINES
    assert len({one.marker for one in found.values()}) == MAX_LINES
    assert len({one.color for one in found.values()}) == MAX_LINES


def test_of_many_lines_some_from_best_to_worst_are_told_apart_and_the_others_grey():
    names = [f"setting {index}" for index in range(10)]
    found = styles(names, baseline="setting 3", ranked=names[::-1])
    shown = [name for name, look in found.items() if not look.is_grey]
    assert len(shown) == MAX_LINES
    assert {"setting 0", "setting 3", "setting 9"} <= set(shown)
    assert len({found[name].color for name in shown}) == MAX_LINES
    assert list(found) == names


def test_ordered_colours_get_lighter_and_can_be_read_on_paper():
    def lightness(colour: str) -> float:
        red, green, blue = matplotlib.colors.to_rgb(colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    found = [one.color for one in styles(["a", "b", "c", "d"], ordered=True).values()]
    order = [lightness(colour) for colour in found]
    assert order == sorted(order)
    assert all(lightness(colour) < 0.75 for colour in [*COLOURS, *ORDERED])


def test_the_curves_of_one_cell(tree, tmp_path):
    collection = collect_runs(tree)
    for cell in collection.cells.index[collection.cells["status"].isin(TRAINED)]:
        curves.draw_curves(tree / runs.CELLS_FOLDER / cell, tmp_path / f"{cell}.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_gains_are_paired_and_each_baseline_has_its_panel(tmp_path):
    networks = {"mlp": {}, "lenet": {"model": {"_target_": "optsweep.models.lenet.LeNet"}}}
    cells = {}
    for model, gain in (("mlp", 0.0), ("lenet", 0.1)):
        for init in ("default", "xavier"):
            start = 0.5 + gain * (init == "xavier")
            scores = {seed: curve((2, 0.1), (1, start + seed / 10)) for seed in range(3)}
            name = write_cell(tmp_path, config_of(init=init, **networks[model]), scores)
            cells[name] = f"model={model} init={init}"
    write_experiment(tmp_path, "mine", cells)
    question = Question("mine", "Mine", baseline={"init": "default"})
    panels = gains(collect_runs(tmp_path), question, ["mine"]).figure.axes
    for axes, model, expected in zip(panels, ("mlp", "lenet"), (0.0, 0.1), strict=True):
        assert axes.get_title() == f"less {model}, default"
        assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"{model}, xavier"]
        dots = next(line for line in axes.lines if len(line.get_xdata()) == 3)
        assert list(dots.get_xdata()) == pytest.approx([expected] * 3)


def test_the_curves_of_one_cell_spare_the_statistics():
    """They are drawn at the end of every single run, which would take 0.6 s longer."""
    code = "import sys, optsweep.report.curves; assert 'scipy.stats' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_of_the_analysis_needs_torch():
    code = "import sys, optsweep.report.report; assert not {'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_performance_profile_by_hand():
    # Three tasks; b is twice as slow at the first, faster at the second, fails at the third.
    times = pd.DataFrame({"a": [1.0, 3.0, 2.0], "b": [2.0, 2.0, math.inf]})
    found = profile(times)
    assert found.loc[1.0].to_dict() == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}
    assert found.loc[1.5].to_dict() == {"a": 1.0, "b": pytest.approx(1 / 3)}
    assert found.loc[2.0].to_dict() == {"a": 1.0, "b": pytest.approx(2 / 3)}


def test_a_task_that_nobody_solves_counts_for_nobody():
    times = pd.DataFrame({"a": [1.0, math.inf], "b": [2.0, math.inf]})
    assert profile(times).loc[2.0].to_dict() == {"a": 0.5, "b": 0.5}


def test_a_picture_is_written_whole_or_not_at_all(tree, tmp_path, monkeypatch):
    def killed(source, target):
        raise KeyboardInterrupt

    (cell,) = collect_runs(tree).find("r1_init", {"init": "default"})[0].cells
    before = (tree / "cells" / cell / "history.csv").read_bytes()
    (tmp_path / "history.csv").write_bytes(before)
    monkeypatch.setattr(runs.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        curves.draw_curves(tmp_path, tmp_path / "curves.png")
    with pytest.raises(KeyboardInterrupt):
        save(Picture("empty", Figure(), ""), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
    monkeypatch.undo()
    curves.draw_curves(tmp_path, tmp_path / "curves.png")
    save(Picture("empty", Figure(), ""), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"history.csv", "curves.png", "empty.png", "empty.svg"}


def test_times_beside_other_work_are_not_drawn(tmp_path):
    cells = {}
    for size, load in ((32, 0.0), (256, 0.05), (1000, 0.9)):
        scores = {seed: curve((2, 0.1), (1, 0.5), (0.8, 0.6)) for seed in range(2)}
        cell = write_cell(tmp_path, config_of(batch_size=size), scores, other_cores=load)
        cells[cell] = f"batch_size={size}"
    write_experiment(tmp_path, "sizes", cells)
    collection, asked = collect_runs(tmp_path), Question("sizes", "Sizes")
    drawn = curves.loss_against_seconds(collection, asked, ["sizes"])
    names = drawn.figure.axes[0].get_legend_handles_labels()[1]
    assert names == ["batch size 32", "batch size 256"]
    assert "1 setting is left out" in drawn.caption
    assert len(curves.equal_steps(collection, asked, ["sizes"]).figure.axes[0].get_lines()) == 3


def test_seeds_that_were_added_beside_other_work_leave_the_others_times_as_they_are(tmp_path):
    scores = curve((2, 0.1), (1, 0.5), (0.8, 0.6))
    cells = {}
    for seed, load in ((0, 0.0), (3, 0.9)):
        config = config_of(batch_size=32, seed=seed)
        drawn = dict.fromkeys(range(seed, seed + 3), scores)
        cells[write_cell(tmp_path, config, drawn, other_cores=load)] = f"batch_size=32 seed={seed}"
    few = config_of(batch_size=1)
    few = replace(few, dataset=replace(few.dataset, train_size=100))  # of which an epoch is short
    cells[write_cell(tmp_path, few, {0: scores})] = "batch_size=1"
    write_experiment(tmp_path, "sizes", cells)
    picture = curves.loss_against_seconds(
        collect_runs(tmp_path), Question("sizes", "Sizes"), ["sizes"]
    )
    names = picture.figure.axes[0].get_legend_handles_labels()[1]
    assert names == ["batch size 32"]
    assert "3 seeds" in picture.caption.replace("\u00a0", " ")
    assert "left out" not in picture.caption


def test_networks_that_have_not_learned_have_no_curves_beside_those_of_the_question(tmp_path):
    experiments = (("sizes", 0.1, 1), ("sizes_eager", 0.1, 2), ("sizes_steps", 0.6, 3))
    for name, accuracy, seed in experiments:
        cells = {}
        for size in (1, 256):
            scores = {seed: curve((2, 0.1), (2, accuracy))}
            config = config_of(batch_size=size, seed=seed, num_seeds=1)
            cells[write_cell(tmp_path, config, scores)] = f"batch_size={size}"
        write_experiment(tmp_path, name, cells)
    names = [name for name, *_ in experiments]
    collection, asked = collect_runs(tmp_path), Question("sizes", "Sizes")
    drawn = draw_question(collection, asked, names)
    assert [picture.name for picture in drawn] == ["sizes", "sizes_steps"]
    table = setting_table(collection, asked, "sizes_eager")
    told = answer(collection, asked, {"sizes": table, "sizes_eager": table}, [])
    assert told.replace("\u00a0", " ").endswith("In sizes_eager, no setting learns.")
