"""Compiled epochs of one seed: every step of it, without a call into Python."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.inputs import (
    BLOCK,
    ROWS,
    Lists,
    add_input_gradient,
    add_shares,
    aligned,
    clear,
    collect,
    collect_users,
    descend_inputs,
    expect,
    multiply_inputs,
    new_lists,
    single_gradient,
)
from optsweep.engine.jit import compiled
from optsweep.engine.memory import pack_width
from optsweep.engine.passes import (
    Buffers,
    Network,
    backward,
    cross_entropy,
    forward,
    new_buffers,
    rows_of,
)
from optsweep.engine.team import SHARES, meet
from optsweep.engine.updates import Step, update

# Examples that are fetched from memory before their turn.
_AHEAD = 2


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
def _vectors_of(share, num_inputs, width):
    """First and last vector of inputs of a share; `width` inputs are a vector."""
    num = -(-num_inputs // width)
    return share * num // SHARES, (share + 1) * num // SHARES


@compiled
def _pass(images, labels, order, begin, num_rows, weights, rest, network, room, member, turn):
    """Pass a chunk of examples, `begin` the first of them, through the network.

    The team sums up the first layer's products in `turn`, 0 or 1, of its sums: at the other one
    a member may still be reading.
    """
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(weights)
    clear(room.lists, num_rows)
    for row in range(num_rows):
        example = begin + row if len(order) == 0 else order[begin + row]
        room.labels[row] = labels[example]
        if len(order) > begin + row + _AHEAD:
            expect(images[order[begin + row + _AHEAD]])
        for share in range(member.rank, SHARES, member.size):
            first, last = _vectors_of(share, num_inputs, vector)
            collect(room.lists, row, images[example], first, last)
    sums = member.sums[turn]
    for share in range(member.rank, SHARES, member.size):
        first, last = _vectors_of(share, num_inputs, vector)
        multiply_inputs(room.lists, num_rows, first, last, weights, width, sums[share])
    meet(member)
    add_shares(sums, num_rows * width, room.buffers.outputs)
    forward(num_rows, rest, network, room.buffers)


@compiled
def _add_input_gradients(inputs, num_rows, is_first, network, room, member):
    """Add the gradient of a chunk, the first one of its batch or a later one."""
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    for share in range(member.rank, SHARES, member.size):
        first, last = _vectors_of(share, num_inputs, vector)
        for block in range(first, last, BLOCK // vector):
            after = min(block + BLOCK // vector, last)
            begin, end = block * vector, min(after * vector, num_inputs)
            g = inputs.gradient[begin * width : end * width]
            if is_first:
                g[:] = 0
            collect_users(room.lists, num_rows, block, after)
            add_input_gradient(room.lists, end - begin, room.buffers.deltas, width, g)


@compiled
def _update_inputs(inputs, image, num_rows, network, room, member, step):
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
        first, last = _vectors_of(share, num_inputs, vector)
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
def train_epoch(
    images, labels, order, batch_size, inputs, rest, segments, l2, constants, table,
    network, room, member,
):  # fmt: skip
    """All steps of an epoch of one seed, or a member's part in them.

    Args:
        images: (N, inputs).
        labels: (N,) int64.
        order: (N,) int64, or empty if every step sees all examples in their own order.
        batch_size: Examples of a step; the last one may have fewer.
        inputs: The first layer's weights, which the members of a team share.
        rest: All other parameters; each member has its own copy.
        segments: (K, 3) int64 of `rest`: start, end, and whether weight decay reaches them.
        l2: Weight decay that is added to the gradient.
        constants: (4,) of the rule.
        table: (steps, 5) coefficients of the rule at every step.
        network: Its shape.
        room: The thread's own.
        member: The thread's place in the team.

    Returns:
        Summed loss and number of right predictions, each batch as it was when it was trained on.
    """
    loss = 0.0
    num_correct = 0
    turn = 0
    last = len(network.sizes) - 2
    unshrunk = np.empty(table.shape[1], table.dtype)
    for step in range(len(table)):
        begin = step * batch_size
        end = min(begin + batch_size, len(images))
        rest.gradient[:] = 0
        for start in range(begin, end, ROWS):
            num_rows = min(ROWS, end - start)
            _pass(
                images, labels, order, start, num_rows, inputs.weights, rest.weights,
                network, room, member, turn,
            )  # fmt: skip
            turn = 1 - turn
            logits = rows_of(room.buffers.outputs, network, last, num_rows)
            slopes = rows_of(room.buffers.deltas, network, last, num_rows)
            scores = cross_entropy(logits, room.labels, end - begin, slopes)
            loss += scores[0]
            num_correct += scores[1]
            backward(num_rows, rest.weights, rest.gradient, network, room.buffers)
            if end - begin > ROWS:
                _add_input_gradients(inputs, num_rows, start == begin, network, room, member)
        image = images[begin if len(order) == 0 else order[begin]]
        decaying = Step(constants, table[step], l2)
        _update_inputs(inputs, image, end - begin, network, room, member, decaying)
        unshrunk[:] = table[step]
        unshrunk[0] = 1
        others = Step(constants, unshrunk, l2 - l2)
        for k in range(len(segments)):
            first, after, decays = segments[k]
            g = rest.gradient[first:after]
            update(rest, first, after, g, decaying if decays else others)
    return loss, num_correct


@compiled
def score(images, labels, begin, end, weights, rest, network, room, member):
    """Summed loss and number of right predictions of the examples from `begin` to `end`."""
    loss = 0.0
    num_correct = 0
    last = len(network.sizes) - 2
    order = np.empty(0, np.int64)
    for start in range(begin, end, ROWS):
        num_rows = min(ROWS, end - start)
        _pass(
            images, labels, order, start, num_rows, weights, rest, network, room, member, 0
        )  # fmt: skip
        logits = rows_of(room.buffers.outputs, network, last, num_rows)
        slopes = rows_of(room.buffers.deltas, network, last, num_rows)
        scores = cross_entropy(logits, room.labels, num_rows, slopes)
        loss += scores[0]
        num_correct += scores[1]
    return loss, num_correct
