"""Compiled epochs of one seed: every step of it, without a call into Python."""

from __future__ import annotations

from optsweep.engine.compiled.inputs import ROWS, add_shares
from optsweep.engine.compiled.jit import compiled, entry
from optsweep.engine.compiled.layerwise import adapt_rest
from optsweep.engine.compiled.passes import HALF, HALVES, backward, cross_entropy, forward, rows_of
from optsweep.engine.compiled.shares import (
    adapt_inputs,
    add_input_gradients,
    list_examples,
    multiply_shares,
    update_inputs,
)
from optsweep.engine.compiled.team import meet
from optsweep.engine.compiled.updates import Step, update_rest


@compiled
def _pass_halves(num_rows, batch_size, rest, network, room, member, turn, is_first, learn):
    """Pass this member's halves of a chunk through the network; add up losses and gradients.

    Returns:
        How many of their predictions were right.
    """
    num_correct = 0
    width = network.sizes[1]
    last_layer = len(network.sizes) - 2
    buffers = member.buffers
    for half in range(member.rank, HALVES, member.size):
        gradient = member.gradients[half]
        if is_first and learn:
            gradient[:] = 0
        first = half * HALF
        num = min(HALF, num_rows - first)
        if num <= 0:
            continue
        add_shares(member.sums[turn], first * width, (first + num) * width, buffers.outputs)
        forward(first, num, rest.weights, network, buffers)
        logits = rows_of(buffers.outputs, network, last_layer, first, num)
        slopes = rows_of(buffers.deltas, network, last_layer, first, num)
        scores = cross_entropy(logits, room.labels[first : first + num], batch_size, slopes)
        room.losses[half] += scores[0]
        num_correct += scores[1]
        if learn:
            backward(first, num, rest.weights, gradient, network, buffers)
    return num_correct


@entry
def run_epoch(
    images, labels, order, batch_size, inputs, rest, segments, l2, constants, table,
    network, room, member, layerwise, learn,
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
        l2: Weight decay that is added to the gradient.
        constants: (4,) of the rule.
        table: (steps, 5) coefficients of the rule at every step.
        network: Its shape.
        room: The thread's own.
        member: The thread's place in the team.
        layerwise: Which rule of `engine.layerwise` it is, or 0.
        learn: Whether the steps are taken; else nothing but the losses is computed.

    Returns:
        Summed loss and number of right predictions, each batch as it was when it was trained on;
        those of a team are the sums over its members.
    """
    num_correct = 0
    num_chunks = 0
    room.losses[:] = 0
    deltas, nothing = member.buffers.deltas, inputs.weights[:0]
    for step in range(len(table)):
        begin = step * batch_size
        end = min(begin + batch_size, len(images))
        num_rows = 0
        for start in range(begin, end, ROWS):
            num_rows, is_first = min(ROWS, end - start), start == begin
            turn = num_chunks % 2
            num_chunks += 1
            list_examples(images, labels, order, start, num_rows, network, room, member, nothing)
            multiply_shares(inputs, num_rows, network, room, member, turn)
            num_correct += _pass_halves(
                num_rows, end - begin, rest, network, room, member, turn, is_first, learn
            )
            if not learn:
                continue
            meet(member)
            if start + ROWS < end or layerwise:
                add_input_gradients(
                    inputs, images, deltas, num_rows, is_first, network, room, member
                )
        if not learn:
            continue
        for i in range(len(rest.gradient)):
            rest.gradient[i] = member.gradients[0, i] + member.gradients[1, i]
        decaying = Step(constants, table[step], l2)
        if layerwise:
            adapt_inputs(inputs, network, member, decaying, layerwise)
            adapt_rest(rest, segments, decaying, layerwise)
        else:
            is_whole = end - begin <= ROWS
            update_inputs(
                inputs, images, deltas, num_rows, is_whole, network, room, member, decaying
            )
            update_rest(rest, segments, decaying)
    return room.losses[0] + room.losses[1], num_correct
