"""A member's part of the first layer's gradient and step: its shares, block by block."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.inputs import (
    BLOCK,
    ROWS,
    Lists,
    add_input_gradient,
    aligned,
    collect_users,
    descend_inputs,
    new_lists,
    single_gradient,
)
from optsweep.engine.jit import compiled
from optsweep.engine.layerwise import adapt, prepare
from optsweep.engine.memory import pack_width
from optsweep.engine.passes import Buffers, Network, new_buffers
from optsweep.engine.team import SHARES, meet
from optsweep.engine.updates import update


class Room(NamedTuple):
    """What a thread writes to while it passes examples through a network.

    Attributes:
        lists: The non-zero inputs.
        buffers: Of all layers.
        labels: (ROWS,) int64.
        gradient: (BLOCK * units,) of the first layer's weights of a block of inputs.
    """

    lists: Lists
    buffers: Buffers
    labels: Any
    gradient: Any


def new_room(network: Network, dtype: np.dtype) -> Room:
    """Room for one thread."""
    num_inputs, width = (int(size) for size in network.sizes[:2])
    return Room(
        lists=new_lists(num_inputs, dtype),
        buffers=new_buffers(network, dtype),
        labels=np.zeros(ROWS, np.int64),
        gradient=aligned(BLOCK * width, dtype),
    )


@compiled
def vectors_of(share, num_inputs, width):
    """First and last vector of inputs of a share; `width` inputs are a vector."""
    num = -(-num_inputs // width)
    return share * num // SHARES, (share + 1) * num // SHARES


@compiled
def add_input_gradients(inputs, num_rows, is_first, network, room, member):
    """Add the gradient of a chunk, the first one of its batch or a later one."""
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        for block in range(first, last, BLOCK // vector):
            after = min(block + BLOCK // vector, last)
            begin, end = block * vector, min(after * vector, num_inputs)
            g = inputs.gradient[begin * width : end * width]
            if is_first:
                g[:] = 0
            collect_users(room.lists, num_rows, block, after)
            add_input_gradient(room.lists, end - begin, room.buffers.deltas, width, g)


@compiled
def update_inputs(inputs, image, num_rows, network, room, member, step):
    """One step of the first layer's weights.

    Where the batch was one chunk, of `num_rows` examples, of which `image` is the first, their
    gradient is made block by block and never stored; else it has been summed up before.
    """
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    deltas = room.buffers.deltas
    if num_rows == 1 and step.l2 == 0 and len(inputs.first) == 0 and len(inputs.second) == 0:
        descend_inputs(room.lists, step.coefficients[2], deltas, width, inputs.weights)
        return
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        for block in range(first, last, BLOCK // vector):
            after = min(block + BLOCK // vector, last)
            begin, end = block * vector, min(after * vector, num_inputs)
            if num_rows > ROWS:
                g = inputs.gradient[begin * width : end * width]
            else:
                g = room.gradient[: (end - begin) * width]
                if num_rows == 1:
                    single_gradient(image, begin, end - begin, deltas, width, g)
                else:
                    g[:] = 0
                    collect_users(room.lists, num_rows, block, after)
                    add_input_gradient(room.lists, end - begin, deltas, width, g)
            update(inputs, begin * width, end * width, g, step)


@compiled
def adapt_inputs(inputs, network, member, step, layerwise):
    """One layer-wise step of the first layer's weights, whose gradient has been summed up."""
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        begin, end = first * vector * width, min(last * vector, num_inputs) * width
        g = inputs.gradient[begin:end]
        squares = prepare(inputs, begin, end, g, step, layerwise)
        member.squares[share, 0], member.squares[share, 1] = squares
    meet(member)
    ours, theirs = member.squares[0, 0], member.squares[0, 1]
    for share in range(1, SHARES):
        ours += member.squares[share, 0]
        theirs += member.squares[share, 1]
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        begin, end = first * vector * width, min(last * vector, num_inputs) * width
        adapt(inputs, begin, end, inputs.gradient[begin:end], step, layerwise, ours, theirs)
