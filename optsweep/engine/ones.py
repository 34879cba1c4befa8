"""Steps of one example, where a rule has to write every weight at every step."""

from __future__ import annotations

from optsweep.engine.inputs import add_shares
from optsweep.engine.jit import entry
from optsweep.engine.layerwise import adapt_rest
from optsweep.engine.shares import (
    adapt_inputs,
    add_input_gradients,
    list_examples,
    multiply_shares,
    update_inputs_once,
)
from optsweep.engine.single import learn_one
from optsweep.engine.updates import Step, update_rest


@entry
def run_ones(
    images, labels, order, inputs, rest, segments, l2, constants, table,
    network, room, member, layerwise,
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
    for number in range(len(table)):
        list_examples(images, labels, order, number, 1, network, room, member, nothing)
        multiply_shares(inputs, 1, network, room, member, number % 2)
        add_shares(member.sums[number % 2], 0, sizes[1], outputs)
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
            update_inputs_once(inputs, images, deltas, network, room, member, step)
            update_rest(rest, segments, step)
    if member.rank > 0:
        return 0.0, 0
    return loss, num_correct
