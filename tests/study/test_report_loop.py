"""The report's own loop: its forms train alike, and the times of each are kept."""

import pandas as pd
import pytest
import torch

from optsweep.data.tensors import load_dataset
from optsweep.report.loops import BARE, LOOPS, NO_PLOTTING, WHOLE
from optsweep.runs import LOOPS_FILE
from optsweep.study.report_loop import BATCH_SIZES, measure_loops, train_epoch


@pytest.fixture
def loaded(slice_config):
    return load_dataset(slice_config().dataset, torch.device("cpu"), torch.float32)


def test_all_forms_take_the_same_step_with_all_images(loaded):
    found = [train_epoch(loaded.train, loaded.test, loop, len(loaded.train)) for loop in LOOPS]
    assert found[0] == found[1]
    # Only the order of the images differs, in which their losses are added up.
    assert found[2] == pytest.approx(found[0], rel=1e-5)


def test_plotting_changes_nothing_and_sgd_learns(loaded):
    with_figures = train_epoch(loaded.train, loaded.test, WHOLE, 10)  # two, and one at the end
    assert with_figures == train_epoch(loaded.train, loaded.test, NO_PLOTTING, 10)
    loss, accuracy = train_epoch(loaded.train, loaded.test, BARE, 10)
    assert 0 < loss < 2.0  # ln 10 = 2.3 before
    assert accuracy > 0.4  # a guess gets 0.1


def test_times_are_measured_once_in_a_process_of_their_own(slice_config, tmp_path):
    said = []
    measure_loops(tmp_path, slice_config().dataset, said.append, num_repeats=1)
    timings = pd.read_csv(tmp_path / LOOPS_FILE)
    found = set(zip(timings["loop"], timings["batch_size"], strict=True))
    assert found == {(loop, size) for loop in LOOPS for size in BATCH_SIZES}
    assert (timings["seconds"] > 0).all()
    measure_loops(tmp_path, slice_config().dataset, said.append, num_repeats=1)
    assert pd.read_csv(tmp_path / LOOPS_FILE).equals(timings)
    assert said == ["timing the report's own loop, 1 process"]
