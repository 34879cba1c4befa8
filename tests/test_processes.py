"""Work that several processes do side by side."""

import os

import pytest

from optsweep.config.checks import InputError
from optsweep.processes import side_by_side


def process_of(number):
    return number, os.getpid()


def refuse(number):
    raise InputError(f"number={number}: expected another")


@pytest.mark.parametrize(("num_processes", "least", "elsewhere"), [(2, 3, True), (2, 4, False)])
def test_results_come_in_order_from_processes_that_are_worth_it(num_processes, least, elsewhere):
    found = [*side_by_side(process_of, [(n,) for n in range(6)], num_processes, least)]
    assert [number for number, _ in found] == [*range(6)]
    assert (os.getpid() not in {process for _, process in found}) is elsewhere


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_mistake_is_the_callers(num_processes):
    with pytest.raises(InputError, match="number=0: expected another"):
        list(side_by_side(refuse, [(0,), (1,)], num_processes, 1))
