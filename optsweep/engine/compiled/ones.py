"""Steps of one example, where a rule has to write every weight at every step."""

from __future__ import annotations

from optsweep.engine.compiled.inputs import add_shares
from optsweep.engine.compiled.jit import entry
from optsweep.engine.compiled.layerwise import adapt_rest
from optsweep.engine.compiled.memory import pack_width
from optsweep.engine.compiled.rank_one import begin_decay, end_decay, update_rank_one
from optsweep.engine.compiled.shares import (
    adapt_inputs,
    add_input_gradients,
    inputs_of,
    list_examples,
    multiply_shares,
)
from optsweep.engine.compiled.single import learn_one
from optsweep.engine.compiled.team import SHARES
from optsweep.engine.compiled.updates import Step, update_rest


@entry
def run_ones(
    images, labels, order, inputs, rest, segments, l2, constants, table,
    network, room, decay, member, layerwise,
):  # fmt: skip
    """All steps of an epoch of one seed; see `engine.epochs.run_epoch`.

    Every member of a team passes the example through the layers behind the first one; the scores
    are those of the first member.
    """
    loss = 0.0
    num_correct = 0
    one = rest.weights.dtype.type(1)
    nothing = inputs.weights[:0]
    sizes, norms, before = network
    outputs, rectified, hats, inverse_stds, deltas, values, numbers, ends = room.single
    num_inputs, width, vector = sizes[0], sizes[1], pack_width(images)
    if not layerwise:
        for share in range(member.rank, SHARES, member.size):
            first, last = inputs_of(share, num_inputs, vector)
            begin_decay(inputs, decay, first, last, width)
    for number in range(len(table)):
        list_examples(images, labels, order, number, 1, network, room, member, nothing)
        multiply_shares(inputs, 1, network, room, member, number % 2)
        add_shares(member.sums[number % 2], 0, width, outputs)
        rest.gradient[:] = 0
        scores = learn_one(
            rest.weights, one, rest.gradient, room.labels, 1, sizes, norms, before, outputs,
            rectified, hats, inverse_stds, deltas, values, numbers, ends,
        )  # fmt: skip
        loss += scores[0]
        num_correct += scores[1]
        step = Step(constants, table[number], l2)
        if layerwise:
            add_input_gradients(inputs, images, deltas, 1, True, network, room, member)
            adapt_inputs(inputs, network, member, step, layerwise)
            adapt_rest(rest, segments, step, layerwise)
        else:
            example = room.lists.starts[0]
            for share in range(member.rank, SHARES, member.size):
                first, last = inputs_of(share, num_inputs, vector)
                update_rank_one(inputs, decay, images, example, first, last, deltas, width, step)
            update_rest(rest, segments, step)
    if not layerwise:
        for share in range(member.rank, SHARES, member.size):
            first, last = inputs_of(share, num_inputs, vector)
            end_decay(inputs, decay, first, last, width)
    if member.rank > 0:
        return 0.0, 0
    return loss, num_correct
