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

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.inputs import (
    BLOCK,
    add_input_gradient,
    add_listed,
    add_shares,
    aligned,
    collect_users,
    multiply_inputs,
)
from optsweep.engine.jit import compiled
from optsweep.engine.memory import pack_width
from optsweep.engine.passes import Network
from optsweep.engine.rules import Rule
from optsweep.engine.shares import list_examples, vectors_of
from optsweep.engine.single import learn_one
from optsweep.engine.team import SHARES, meet
from optsweep.engine.updates import Step, update_rest

# Examples of the steps that are deferred together. More of them cost more products of examples
# with each other, fewer of them more passes over the weights.
EXAMPLES = 32


class Deferral(NamedTuple):
    """Room for the steps of up to `EXAMPLES` examples; matrices are flat.

    Attributes:
        images: The examples' inputs, zero or not, share by share: (EXAMPLES, inputs).
        products: (2 * EXAMPLES, width), of the examples with the weights and with the momentum.
        gram: (EXAMPLES, EXAMPLES), products of the examples with each other.
        numbers: (EXAMPLES,) int32, 0, 1, 2 …
        factors: (EXAMPLES,), of the earlier examples' gradients.
        deltas: (EXAMPLES, width), gradients of the products with the present weights.
        scaled: (2 * EXAMPLES, width), these, as they enter the weights and the momentum.
        of_weights: (2 + EXAMPLES,) float64, the numbers a, b, c that make up the weights.
        of_momentum: (2 + EXAMPLES,) float64, those that make up the momentum.
    """

    images: Any
    products: Any
    gram: Any
    numbers: Any
    factors: Any
    deltas: Any
    scaled: Any
    of_weights: Any
    of_momentum: Any


def most_deferred(rule: Rule) -> int:
    """The largest batch size whose steps are better deferred: 0 if the rule is not linear.

    An epoch of plain SGD took 0.42 instead of 0.49 s at batch size 8, of momentum 0.63 instead
    of 0.81 s at 4; at twice these it took longer.
    """
    if not rule.is_linear:
        return 0
    return 4 if rule.moments[0] else 8


def new_deferral(network: Network, num: int, dtype: np.dtype) -> Deferral:
    """Room for one thread and `num` examples: `EXAMPLES`, or 0 if nothing is deferred."""
    num_inputs, width = (int(size) for size in network.sizes[:2])
    return Deferral(
        images=aligned(num * num_inputs, dtype),
        products=aligned(2 * num * width, dtype),
        gram=aligned(num * num, dtype),
        numbers=np.arange(num, dtype=np.int32),
        factors=aligned(num, dtype),
        deltas=aligned(num * width, dtype),
        scaled=aligned(2 * num * width, dtype),
        of_weights=np.zeros(2 + num),
        of_momentum=np.zeros(2 + num),
    )


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
        start, end = first * vector, min(last * vector, num_inputs)
        x = deferral.images[start * num : end * num].reshape(num, end - start)
        end = all_products + num * num
        np.dot(x, x.T, sums[all_products:end].reshape(num, num))
    meet(member)
    add_shares(member.sums[turn], 0, all_products, deferral.products)
    add_shares(member.sums[turn, :, all_products:], 0, num * num, deferral.gram)


@compiled
def _start(deferral):
    """No step was taken: the weights are the weights, and the momentum is the momentum."""
    deferral.of_weights[:] = 0
    deferral.of_momentum[:] = 0
    deferral.of_weights[0] = 1
    deferral.of_momentum[1] = 1


@compiled
def _present_products(deferral, row, num_before, num, batch_size, width, out):
    """Product of an example with the present weights, after steps of `num_before` examples."""
    of_weights, factors = deferral.of_weights, deferral.factors
    products, gram = deferral.products, deferral.gram
    kind = out.dtype.type
    a, b = kind(of_weights[0]), kind(of_weights[1])
    product = products[row * width : (row + 1) * width]
    for j in range(width):
        out[j] = a * product[j]
    if b != 0:
        product = products[(num + row) * width : (num + row + 1) * width]
        for j in range(width):
            out[j] += b * product[j]
    for earlier in range(num_before):
        factors[earlier] = kind(of_weights[2 + earlier // batch_size]) * gram[row * num + earlier]
    add_listed(out, 0, deferral.deltas, width, deferral.numbers, factors, 0, num_before)


@compiled
def _take_step(deferral, number, momentum, step):
    """The numbers that make up weights and momentum after the step of that number."""
    of_weights, of_momentum = deferral.of_weights, deferral.of_momentum
    a1, take_first, take_gradient = step.constants[0], step.coefficients[1], step.coefficients[2]
    for k in range(number + 3):
        slope = step.l2 * of_weights[k] + (k == number + 2)
        if momentum:
            of_momentum[k] = a1 * of_momentum[k] + slope
            of_weights[k] -= take_first * of_momentum[k]
        of_weights[k] -= take_gradient * slope


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
def _write(inputs, images, num, batch_size, network, lists, deferral, member):
    """Bring this member's part of weights and momentum up to date."""
    num_inputs, width = network.sizes[0], network.sizes[1]
    vector = pack_width(inputs.weights)
    kind = inputs.weights.dtype.type
    momentum = len(inputs.first) > 0
    of_weights, of_momentum, scaled = deferral.of_weights, deferral.of_momentum, deferral.scaled
    size = num * width
    for row in range(num):
        one, other = (
            kind(of_weights[2 + row // batch_size]),
            kind(of_momentum[2 + row // batch_size]),
        )
        for o in range(row * width, (row + 1) * width):
            scaled[o] = one * deferral.deltas[o]
            scaled[size + o] = other * deferral.deltas[o]
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
                add_input_gradient(lists, end - begin, scaled[size:], width, m)
            elif of_weights[0] != 1:
                _shrink(w, kind(of_weights[0]))
            add_input_gradient(lists, end - begin, scaled, width, w)


@compiled
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
    for start in range(0, len(table), steps_at_once):
        begin = start * batch_size
        num = min(steps_at_once * batch_size, len(images) - begin)
        list_examples(images, labels, order, begin, num, network, room, member, deferral.images)
        turn = start // steps_at_once % 2
        _multiply_all(num, inputs, network, room, deferral, member, turn)
        _start(deferral)
        for first in range(0, num, batch_size):
            after = min(first + batch_size, num)
            number = first // batch_size
            step = Step(constants, table[start + number], l2)
            # A plain step of one example adds its gradient to the parameters themselves.
            in_place = batch_size == 1 and l2 == 0 and not momentum
            if in_place:
                gradient, part = rest.weights, -step.coefficients[2]
            else:
                gradient, part = rest.gradient, one
                gradient[:] = 0
            for row in range(first, after):
                _present_products(deferral, row, first, num, batch_size, width, outputs)
                label = room.labels[row : row + 1]
                scores = learn_one(
                    rest.weights, part, gradient, label, after - first, sizes, norms, before,
                    outputs, rectified, hats, inverse_stds, deltas, values, numbers, ends,
                )  # fmt: skip
                loss += scores[0]
                num_correct += scores[1]
                deferral.deltas[row * width : (row + 1) * width] = deltas[:width]
            _take_step(deferral, number, momentum, step)
            if not in_place:
                update_rest(rest, segments, step)
        _write(inputs, images, num, batch_size, network, room.lists, deferral, member)
    if member.rank > 0:
        return 0.0, 0
    return loss, num_correct
