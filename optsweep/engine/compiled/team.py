"""Threads that train one seed together: each has some of the inputs, and all meet at every step.

The first layer is split into shares by its inputs. A member of a team lists, multiplies and
updates what belongs to its shares. The layers behind, a tenth of the arithmetic, are split by the
examples, of which a member has a half; their parameters every member updates for itself, in a
copy of its own. Sums are formed share by share and half by half whatever the number of members,
so that the result does not depend on it.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numba import types

from optsweep.engine.compiled.jit import compiled, generated
from optsweep.engine.compiled.passes import HALVES, Buffers, Network, new_buffers

SHARES = 4  # and thus the largest team
_SPINS = 2000  # some microseconds, then let other threads run
_LINE = 8  # int64 of a cache line
_give_way = types.ExternalFunction(
    "SwitchToThread" if os.name == "nt" else "sched_yield", types.int32()
)


class Member(NamedTuple):
    """One thread of a team.

    Attributes:
        rank: 0 is the one whose results count.
        size: Members of the team.
        arrived: (SHARES * line,) int64, how often each member has come to `meet`.
        squares: (SHARES, 2), sums of squares that make up a norm of the first layer.
        sums: (2, SHARES, rows * width), what the shares add to the first layer's outputs.
        buffers: Of a chunk of examples.
        gradients: (HALVES, P), of all parameters but the first layer's weights, half by half.
    """

    rank: int
    size: int
    arrived: Any
    squares: Any
    sums: Any
    buffers: Buffers
    gradients: Any


def new_team(
    size: int, network: Network, num_sums: int, num_others: int, dtype: np.dtype
) -> list[Member]:
    """A team that has not met yet.

    Args:
        size: Members.
        network: Its shape.
        num_sums: Numbers that a share adds to the first layer's outputs.
        num_others: Parameters but the first layer's weights.
        dtype: Of all numbers.
    """
    arrived = np.zeros(SHARES * _LINE, np.int64)
    squares = np.zeros((SHARES, 2))
    sums = np.zeros((2, SHARES, num_sums), dtype)
    shared = (arrived, squares, sums, new_buffers(network, dtype))
    gradients = np.zeros((HALVES, num_others), dtype)
    return [Member(rank, size, *shared, gradients) for rank in range(size)]


@generated
def _read(typingctx, array, index):
    """Read an entry that another thread may write, and all that it wrote before."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", align=8)

    return array.dtype(array, types.intp), generate


@generated
def _write(typingctx, array, index, value):
    """Write an entry that other threads read, after all that was written before."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        pointer = builder.gep(data, [arguments[1]])
        builder.store_atomic(arguments[2], pointer, "release", align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@compiled
def meet(member):
    """Wait until every member of the team has come here as often as this one."""
    if member.size == 1:
        return
    times = member.arrived[member.rank * _LINE] + 1
    _write(member.arrived, member.rank * _LINE, times)
    for other in range(member.size):
        spins = 0
        while _read(member.arrived, other * _LINE) < times:
            spins += 1
            if spins > _SPINS:
                _give_way()
