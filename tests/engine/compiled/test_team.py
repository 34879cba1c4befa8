"""Every input belongs to one share; members of a team see what others wrote before a meeting."""

import threading

import numpy as np
import pytest
from numba import njit

from optsweep.engine.compiled.team import SHARES, inputs_of, meet, new_stop, new_team, vectors_of


@njit
def bounds(share, num_inputs, width):
    return (*vectors_of(share, num_inputs, width), *inputs_of(share, num_inputs, width))


@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize("num_inputs", [1, 7, 37, 64, 130, 784])
def test_shares_are_vectors_one_after_the_other(num_inputs, width):
    found = [bounds(share, num_inputs, width) for share in range(SHARES)]
    vectors = np.array_split(np.arange(-(-num_inputs // width)), SHARES)
    assert sum(last - first for first, last, *_ in found) == sum(map(len, vectors))
    inputs = [i for *_, first, last in found for i in range(first, last)]
    assert inputs == list(range(num_inputs))
    sizes = [last - first for first, last, *_ in found]
    assert max(sizes) - min(sizes) <= 1
    for first_vector, last_vector, first, last in found:
        assert (first, last) == (first_vector * width, min(last_vector * width, num_inputs))


@njit(nogil=True)
def pass_notes(member, notes, num_rounds):
    """Write a note in every round; count those of others that are not of this round."""
    wrong = 0
    for number in range(num_rounds):
        notes[number % 2, member.rank] = number
        meet(member)
        for other in range(member.size):
            wrong += notes[number % 2, other] != number
    return wrong


@pytest.mark.parametrize("size", range(1, SHARES + 1))
def test_what_was_written_before_a_meeting_is_read_after_it(size):
    """Notes are written by turns to two places: at the other one a member may still be reading."""
    num_rounds = 300
    notes = np.full((2, SHARES), -1)
    wrong = [None] * size

    def work(member):
        wrong[member.rank] = pass_notes(member, notes, num_rounds)

    team = new_team(size, new_stop())
    threads = [threading.Thread(target=work, args=(member,)) for member in team]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * size
    assert (notes[(num_rounds - 1) % 2, :size] == num_rounds - 1).all()
