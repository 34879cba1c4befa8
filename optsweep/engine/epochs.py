"""Compiled epochs of one seed: every step of it, without a call into Python."""

from __future__ import annotations

import numpy as np

from optsweep.engine.inputs import ROWS, add_shares, clear, collect, expect, multiply_inputs
from optsweep.engine.jit import compiled
from optsweep.engine.layerwise import adapt, prepare
from optsweep.engine.memory import pack_width
from optsweep.engine.passes import backward, cross_entropy, forward, rows_of
from optsweep.engine.shares import adapt_inputs, add_input_gradients, update_inputs, vectors_of
from optsweep.engine.team import SHARES, meet
from optsweep.engine.updates import Step, update

# Examples that are fetched from memory before their turn.
_AHEAD = 2


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
            first, last = vectors_of(share, num_inputs, vector)
            collect(room.lists, row, images[example], first, last)
    sums = member.sums[turn]
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        multiply_inputs(room.lists, num_rows, first, last, weights, width, sums[share])
    meet(member)
    add_shares(sums, num_rows * width, room.buffers.outputs)
    forward(num_rows, rest, network, room.buffers)


@compiled
def run_epoch(
    images, labels, order, batch_size, inputs, rest, segments, layerwise, l2, constants, table,
    network, room, member, learn,
):  # fmt: skip
    """All steps of an epoch of one seed, or a member's part in them; or score the examples.

    That the same code does both saves a quarter of the time that compilation takes.

    Args:
        images: (N, inputs).
        labels: (N,) int64.
        order: (N,) int64, or empty if every step sees all examples in their own order.
        batch_size: Examples of a step; the last one may have fewer.
        inputs: The first layer's weights, which the members of a team share.
        rest: All other parameters; each member has its own copy.
        segments: (K, 3) int64 of `rest`: start, end, and whether weight decay reaches them.
        layerwise: Which rule of `engine.layerwise` it is, or 0.
        l2: Weight decay that is added to the gradient.
        constants: (4,) of the rule.
        table: (steps, 5) coefficients of the rule at every step.
        network: Its shape.
        room: The thread's own.
        member: The thread's place in the team.
        learn: Whether the steps are taken; else nothing but the losses is computed.

    Returns:
        Summed loss and number of right predictions, each batch as it was when it was trained on.
    """
    loss = 0.0
    num_correct = 0
    num_chunks = 0
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
                network, room, member, num_chunks % 2,
            )  # fmt: skip
            num_chunks += 1
            logits = rows_of(room.buffers.outputs, network, last, num_rows)
            slopes = rows_of(room.buffers.deltas, network, last, num_rows)
            scores = cross_entropy(logits, room.labels, end - begin, slopes)
            loss += scores[0]
            num_correct += scores[1]
            if not learn:
                continue
            backward(num_rows, rest.weights, rest.gradient, network, room.buffers)
            if end - begin > ROWS or layerwise:
                add_input_gradients(inputs, num_rows, start == begin, network, room, member)
        if not learn:
            continue
        image = images[begin if len(order) == 0 else order[begin]]
        decaying = Step(constants, table[step], l2)
        if layerwise:
            adapt_inputs(inputs, network, member, decaying, layerwise)
        else:
            update_inputs(inputs, image, end - begin, network, room, member, decaying)
        unshrunk[:] = table[step]
        unshrunk[0] = 1
        others = Step(constants, unshrunk, l2 - l2)
        for k in range(len(segments)):
            first, after, decays = segments[k]
            g = rest.gradient[first:after]
            chosen = decaying if decays else others
            if layerwise:
                squares = prepare(rest, first, after, g, chosen, layerwise)
                adapt(rest, first, after, g, chosen, layerwise, squares[0], squares[1])
            else:
                update(rest, first, after, g, chosen)
    return loss, num_correct
