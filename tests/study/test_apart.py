"""Cells that are timed, each in a process of its own."""

import os

import pytest

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.study.apart import train_apart
from optsweep.surroundings import process_name


def test_every_cell_has_a_process_of_its_own(slice_config, tmp_path):
    told = {process_name()}
    for seed in (0, 1):
        train_apart(slice_config(f"seed={seed}", "trainer.epochs=1"), tmp_path / str(seed))
        result = runs.read_result(tmp_path / str(seed))
        told.add(result["process"])
        if result["other_cores"] is not None:
            assert 0 <= result["other_cores"] <= os.cpu_count()
    assert len(told) == 3


def test_a_process_that_fails_is_a_mistake_of_one_line(slice_config, tmp_path, capfd):
    (tmp_path / "cell").write_text("in the way")
    with pytest.raises(InputError, match="cell: its process ended with exit code 2"):
        train_apart(slice_config("trainer.epochs=1"), tmp_path / "cell")
    assert capfd.readouterr().err.startswith("optsweep: error: ")
