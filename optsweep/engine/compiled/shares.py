"""A member's part of the first layer's gradient and step: its shares, block by block."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.inputs import (
    BLOCK,
    ROWS,
    Lists,
    add_input_gradient,
    aligned,
    clear,
    collect,
    collect_users,
    expect,
    multiply_inputs,
    new_lists,
)
from optsweep.engine.compiled.jit import compiled
from optsweep.engine.compiled.layerwise import adapt, prepare
from optsweep.engine.compiled.memory import copy, pack_width
from optsweep.engine.compiled.passes import HALVES, Network
from optsweep.engine.compiled.single import Single, new_single
from optsweep.engine.compiled.team import SHARES, meet
from optsweep.engine.compiled.updates import update

# Examples that are fetched from memory before their turn.
_AHEAD = 2


class Room(NamedTuple):
    """What a thread writes to while it passes examples through a network.

    Attributes:
        lists: The non-zero inputs.
        single: Of all layers, for one example alone.
        labels: (ROWS,) int64.
        losses: (HALVES,) float64, summed up half by half.
        gradient: (BLOCK * units,) of the first layer's weights of a block of inputs.
    """

    lists: Lists
    single: Single
    labels: Any
    losses: Any
    gradient: Any


def new_room(network: Network, dtype: np.dtype) -> Room:
    """Room for one thread."""
    num_inputs, width = (int(size) for size in network.sizes[:2])
    return Room(
        lists=new_lists(num_inputs, dtype),
        single=new_single(network, dtype),
        labels=np.zeros(ROWS, np.int64),
        losses=np.zeros(HALVES),
        gradient=aligned(BLOCK * width, dtype),
    )


@compiled
def vectors_of(share, num_inputs, width):
    """First and last vector of inputs of a share; `width` inputs are a vector."""
    num = -(-num_inputs // width)
    return share * num // SHARES, (share + 1) * num // SHARES


@compiled
def inputs_of(share, num_inputs, width):
    """First input of a share, and the first that is not of it any more; see `vectors_of`."""
    first, last = vectors_of(share, num_inputs, width)
    return first * width, min(last * width, num_inputs)


@compiled
def list_examples(images, labels, order, begin, num_rows, network, room, member, dense):
    """List this member's inputs of a chunk of examples, and the labels of all of them.

    They are also copied to `dense`, share by share (num_rows, inputs), unless that is empty.
    """
    vector, num_inputs = pack_width(images), network.sizes[0]
    clear(room.lists, num_rows)
    for row in range(num_rows):
        example = begin + row if len(order) == 0 else order[begin + row]
        room.labels[row] = labels[example]
        room.lists.starts[row] = example * num_inputs
        ahead = begin + row + _AHEAD
        for share in range(member.rank, SHARES, member.size):
            first, last = vectors_of(share, num_inputs, vector)
            if ahead < len(order):
                expect(images[order[ahead]], first, last)
            collect(room.lists, row, images[example], first, last)
            if len(dense) > 0:
                start, end = inputs_of(share, num_inputs, vector)
                o = start * num_rows + row * (end - start)
                copy(images[example, start:end], dense[o : o + end - start])


@compiled
def multiply_shares(inputs, num_rows, network, room, member, turn):
    """Products of the listed examples with the first layer's weights, share by share.

    The team has them in `turn`, 0 or 1, of its sums: at the other one a member may still be
    reading.
    """
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        out = member.sums[turn, share]
        multiply_inputs(room.lists, num_rows, first, last, inputs.weights, width, out)
    meet(member)


@compiled
def add_input_gradients(inputs, images, deltas, num_rows, is_first, network, room, member):
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
            collect_users(room.lists, images, num_rows, block, after)
            add_input_gradient(room.lists, end - begin, deltas, width, g)


@compiled
def update_inputs(inputs, images, deltas, num_rows, is_whole, network, room, member, step):
    """One step of the first layer's weights, after a chunk of `num_rows` examples.

    `deltas` are the gradients of the chunk's products. If the chunk is the whole batch, its
    gradient is made block by block and never stored; else it is added to that of the chunks
    before.
    """
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        for block in range(first, last, BLOCK // vector):
            after = min(block + BLOCK // vector, last)
            begin, end = block * vector, min(after * vector, num_inputs)
            if is_whole:
                g = room.gradient[: (end - begin) * width]
                g[:] = 0
            else:
                g = inputs.gradient[begin * width : end * width]
            collect_users(room.lists, images, num_rows, block, after)
            add_input_gradient(room.lists, end - begin, deltas, width, g)
            update(inputs, begin * width, end * width, g, step)


@compiled
def adapt_inputs(inputs, network, member, step, layerwise):
    """One layer-wise step of the first layer's weights, whose gradient has been summed up."""
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    for share in range(member.rank, SHARES, member.size):
        first, last = inputs_of(share, num_inputs, vector)
        begin, end = first * width, last * width
        g = inputs.gradient[begin:end]
        squares = prepare(inputs, begin, end, g, step, layerwise)
        member.squares[share, 0], member.squares[share, 1] = squares
    meet(member)
    ours, theirs = member.squares[0, 0], member.squares[0, 1]
    for share in range(1, SHARES):
        ours += member.squares[share, 0]
        theirs += member.squares[share, 1]
    for share in range(member.rank, SHARES, member.size):
        first, last = inputs_of(share, num_inputs, vector)
        begin, end = first * width, last * width
        adapt(inputs, begin, end, inputs.gradient[begin:end], step, layerwise, ours, theirs)
