"""Small batches: many steps between two passes over the first layer's weights.

A step of SGD, with or without momentum and weight decay, is linear in the weights w, the
momentum m and the gradient. After s steps from w and m, with the gradients G of those steps,

    w_s = a w + b m + sum_i c_i G_i        m_s = a' w + b' m + sum_i c'_i G_i

for numbers a, b, c that follow from the steps' coefficients alone. G_i is made of the examples x
of step i and the gradients d of their products, so that an example's product with w_s,

    x w_s = a (x w) + b (x m) + sum_i c_i (x x_i) d_i

takes products with w and m that are made for many steps at once, and w and m are written only
after these steps. It is the same mathematics, rounded in another order.
"""

from __future__ import annotations

import numpy as np

from optsweep.engine.compiled.deferral import EXAMPLES, present_products, reset, take_step
from optsweep.engine.compiled.inputs import (
    BLOCK,
    add_input_gradient,
    add_shares,
    collect_users,
    multiply_inputs,
)
from optsweep.engine.compiled.jit import compiled, entry
from optsweep.engine.compiled.memory import copy, pack_width
from optsweep.engine.compiled.shares import inputs_of, list_examples, vectors_of
from optsweep.engine.compiled.single import learn_one
from optsweep.engine.compiled.team import SHARES, meet
from optsweep.engine.compiled.updates import Step, update_rest


@compiled
def _multiply_all(num, inputs, network, room, deferral, member, turn):
    """Products of the listed examples with weights, momentum and each other, by the team."""
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    size = num * width
    all_products = 2 * size if len(inputs.first) > 0 else size
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        sums = member.sums[turn, share]
        multiply_inputs(room.lists, num, first, last, inputs.weights, width, sums[:size])
        if len(inputs.first) > 0:
            part = sums[size : 2 * size]
            multiply_inputs(room.lists, num, first, last, inputs.first, width, part)
        start, end = inputs_of(share, num_inputs, vector)
        x = deferral.images[start * num : end * num].reshape(num, end - start)
        end = all_products + num * num
        np.dot(x, x.T, sums[all_products:end].reshape(num, num))
    meet(member)
    add_shares(member.sums[turn], 0, all_products, deferral.products)
    add_shares(member.sums[turn, :, all_products:], 0, num * num, deferral.gram)


@compiled
def _mix(w, m, of_weights, of_momentum):
    """The parts of weights and momentum that come from themselves, in place."""
    kind = w.dtype.type
    a, b, c, d = (
        kind(of_weights[0]), kind(of_weights[1]), kind(of_momentum[0]), kind(of_momentum[1]),
    )  # fmt: skip
    for i in range(len(m)):
        weight = w[i]
        w[i] = a * weight + b * m[i]
        m[i] = c * weight + d * m[i]


@compiled
def _shrink(w, factor):
    for i in range(len(w)):
        w[i] *= factor


@compiled
def _scale(values, begin, num, factor, out):
    """`factor` times some values, in the same place of `out`."""
    source, target = values[begin : begin + num], out[begin : begin + num]
    for j in range(num):
        target[j] = factor * source[j]


@compiled
def _write(inputs, images, num, batch_size, network, lists, deferral, member):
    """Bring this member's part of weights and momentum up to date."""
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    kind = inputs.weights.dtype.type
    momentum = len(inputs.first) > 0
    of_weights, of_momentum = deferral.of_weights, deferral.of_momentum
    size = num * width
    for_weights, for_momentum = deferral.scaled[:size], deferral.scaled[size:]
    for row in range(num):
        step = 2 + row // batch_size
        _scale(deferral.deltas, row * width, width, kind(of_weights[step]), for_weights)
        if momentum:
            _scale(deferral.deltas, row * width, width, kind(of_momentum[step]), for_momentum)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        for block in range(first, last, BLOCK // vector):
            after = min(block + BLOCK // vector, last)
            begin, end = block * vector, min(after * vector, num_inputs)
            w = inputs.weights[begin * width : end * width]
            collect_users(lists, images, num, block, after)
            if momentum:
                m = inputs.first[begin * width : end * width]
                _mix(w, m, of_weights, of_momentum)
                add_input_gradient(lists, end - begin, for_momentum, width, m)
            elif of_weights[0] != 1:
                _shrink(w, kind(of_weights[0]))
            add_input_gradient(lists, end - begin, for_weights, width, w)


@entry
def run_deferred(
    images, labels, order, batch_size, inputs, rest, segments, l2, constants, table,
    network, room, deferral, member,
):  # fmt: skip
    """All steps of an epoch of one seed; see `engine.epochs.run_epoch`.

    No more than `EXAMPLES` examples a step, and a linear rule. Every member of a team passes all
    examples through the layers behind the first one; the scores are those of the first member.
    """
    loss = 0.0
    num_correct = 0
    width = network.sizes[1]
    momentum = len(inputs.first) > 0
    one = rest.weights.dtype.type(1)
    outputs, rectified, hats, inverse_stds, deltas, values, numbers, ends = room.single
    sizes, norms, before = network
    steps_at_once = EXAMPLES // batch_size
    for earlier in range(0, len(table), steps_at_once):
        begin = earlier * batch_size
        num = min(steps_at_once * batch_size, len(images) - begin)
        list_examples(images, labels, order, begin, num, network, room, member, deferral.images)
        turn = earlier // steps_at_once % 2
        _multiply_all(num, inputs, network, room, deferral, member, turn)
        reset(deferral)
        for first in range(0, num, batch_size):
            after = min(first + batch_size, num)
            number = first // batch_size
            step = Step(constants, table[earlier + number], l2)
            # A plain step of one example adds its gradient to the parameters themselves.
            in_place = batch_size == 1 and l2 == 0 and not momentum
            if in_place:
                gradient, part = rest.weights, -step.coefficients[2]
            else:
                gradient, part = rest.gradient, one
                gradient[:] = 0
            for row in range(first, after):
                present_products(deferral, row, first, num, batch_size, width, outputs)
                label = room.labels[row : row + 1]
                scores = learn_one(
                    rest.weights, part, gradient, label, after - first, sizes, norms, before,
                    outputs, rectified, hats, inverse_stds, deltas, values, numbers, ends,
                )  # fmt: skip
                loss += scores[0]
                num_correct += scores[1]
                copy(deltas[:width], deferral.deltas[row * width : (row + 1) * width])
            take_step(deferral, number, momentum, step)
            if not in_place:
                update_rest(rest, segments, step)
        _write(inputs, images, num, batch_size, network, room.lists, deferral, member)
    if member.rank > 0:
        return 0.0, 0
    return loss, num_correct
