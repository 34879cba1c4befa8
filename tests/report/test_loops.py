"""Ratios of the times that the report's own loop takes."""

import pytest

from optsweep.config.checks import InputError
from optsweep.report.collection import empty_collection
from optsweep.report.loops import BARE, WHOLE, Timing, keep_timings, loop_ratio
from optsweep.runs import LOOPS_FILE

FORMS = {"of": "whole, batch size 256", "to": "bare, batch size 500"}


def test_a_ratio_is_of_times_of_the_same_process(tmp_path):
    keep_timings(
        tmp_path,
        [
            Timing(repeat, loop, size, seconds * (repeat + 1))
            for repeat in (0, 1)
            for loop, size, seconds in ((WHOLE, 256, 6.0), (BARE, 256, 3.0), (BARE, 500, 1.5))
        ],
    )
    ratios = loop_ratio(empty_collection(tmp_path), [], **FORMS)
    assert ratios.to_dict() == {0: 4.0, 1: 4.0}


def test_times_beside_other_work_are_not_used(tmp_path):
    loads = {0: 0.05, 1: 1.5, 2: None}
    timings = [
        Timing(repeat, loop, size, 2.0, load)
        for repeat, load in loads.items()
        for loop, size in ((WHOLE, 256), (BARE, 500))
    ]
    keep_timings(tmp_path, timings)
    ratios = loop_ratio(empty_collection(tmp_path), [], **FORMS)
    assert ratios.isna().to_dict() == {0: False, 1: True, 2: False}


@pytest.mark.parametrize("content", ["", "repeat,loop\n0,whole\n", "\0"])
def test_what_is_no_table_of_times_is_said_in_a_line(tmp_path, content):
    (tmp_path / LOOPS_FILE).write_text(content)
    with pytest.raises(InputError, match=r"report_loop.csv cannot be read as times of loops"):
        loop_ratio(empty_collection(tmp_path), [], **FORMS)


def test_without_times_it_says_who_measures_them(tmp_path):
    with pytest.raises(InputError, match=r"report_loop.csv is not there; optsweep reproduce"):
        loop_ratio(empty_collection(tmp_path), [], **FORMS)
