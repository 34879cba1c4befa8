"""Who computes what, and where threads meet that train one seed together.

Examples pass in chunks of `CHUNK`, each of two halves. The inputs of the first layer are split
into `SHARES` shares, these into blocks of `BLOCK` inputs, and these into vectors of as many inputs
as one instruction takes. A member of a team lists, multiplies and updates what belongs to its
shares; of the layers behind it computes its halves of the examples. The page beside this file,
README.md, has the drawing, and what has to hold where threads meet.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numba import types

from optsweep.engine.compiled.jit import compiled
from optsweep.engine.compiled.memory import read_shared, write_shared

# Examples that pass through the network together: their lists, the weights and the gradient
# share the second-level cache.
CHUNK = 64
HALVES = 2  # of a chunk, each of which one thread passes through the layers behind the first
SHARES = 4  # of the inputs, and thus the largest team
# Inputs whose rows of 128 weights stay in the first-level cache while all examples pass.
BLOCK = 48

_SPINS = 2000  # some microseconds, then let other threads run
_LINE = 8  # int64 of a cache line
_give_way = types.ExternalFunction(
    "SwitchToThread" if os.name == "nt" else "sched_yield", types.int32()
)


class Member(NamedTuple):
    """One thread of a team.

    Attributes:
        rank: From 0 on; its shares and halves are those from `rank` on, in steps of `size`.
        size: Members of the team.
        arrived: (SHARES * line,) int64, how often each member has come to `meet`; of all members.
        stop: (1,) int64, not 0 once all threads are to leave their loops; of all teams.
    """

    rank: int
    size: int
    arrived: Any
    stop: Any


def new_stop() -> np.ndarray:
    """What tells threads to leave their loops, once its only entry is not 0."""
    return np.zeros(1, np.int64)


def new_team(size: int, stop: np.ndarray) -> list[Member]:
    """A team of 1 to `SHARES` members that has not met yet."""
    arrived = np.zeros(SHARES * _LINE, np.int64)
    return [Member(rank, size, arrived, stop) for rank in range(size)]


@compiled
def is_stopped(member):
    """Whether the loops are to be left: what they compute is of no use any more."""
    return read_shared(member.stop, 0) != 0


@compiled
def meet(member):
    """Wait until every member of the team has come here as often as this one.

    What any of them wrote before it came can be read after that, unless all are to stop.
    """
    if member.size == 1:
        return
    times = member.arrived[member.rank * _LINE] + 1
    write_shared(member.arrived, member.rank * _LINE, times)
    for other in range(member.size):
        spins = 0
        while read_shared(member.arrived, other * _LINE) < times:
            spins += 1
            if spins > _SPINS:
                if is_stopped(member):  # one of them may never come
                    return
                _give_way()


@compiled
def rows_of_half(half, num_rows):
    """First row of a half of so many examples, and the first that is not of it any more."""
    return half * num_rows // HALVES, (half + 1) * num_rows // HALVES


@compiled
def vectors_of(share, num_inputs, width):
    """First vector of a share, and the first that is not of it any more.

    `width` inputs are a vector, the last of which may be shorter.
    """
    num = -(-num_inputs // width)
    return share * num // SHARES, (share + 1) * num // SHARES


@compiled
def inputs_of(share, num_inputs, width):
    """First input of a share, and the first that is not of it any more; see `vectors_of`."""
    first, last = vectors_of(share, num_inputs, width)
    return first * width, min(last * width, num_inputs)
