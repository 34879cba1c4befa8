"""Small batches under linear rules: many steps between two passes over the first layer's weights.

**Formula.** A step of SGD, with or without momentum and weight decay, is linear in the weights w,
the momentum m and the gradient. With the coefficients of `rules` and l2 for the weight decay,
step s with the gradient G_s is

    g = G_s + l2 w        m <- a1 m + g        w <- w - cm m - cg g

so that by induction, after s steps from w and m,

    w_s = a w + b m + sum_i c_i G_i        m_s = a' w + b' m + sum_i c'_i G_i

for numbers that follow from the steps' coefficients alone: a = 1, b = 0, a' = 0, b' = 1 and no c
before the first step, and in every step each of the numbers k = a, b, c_1 … c_s by

    e = l2 k + [k is c_s]        k' <- a1 k' + e        k <- k - cm k' - cg e

G_i is made of the examples x_j of step i, as rows, and of the gradients d_j of their products:
G_i = sum_j x_j^T d_j. The product of another example x with the present weights is therefore

    x w_s = a (x w) + b (x m) + sum_j c_{i(j)} <x, x_j> d_j

Products with w and m, and the Gram matrix of the examples <x_i, x_j>, are made for up to
`EXAMPLES` examples at once; w and m are written only after all of their steps. It is the same
mathematics, rounded in another order. The layers behind the first one are not deferred.

**Source.** This is s-step or communication-avoiding SGD: the same unrolling with a Gram matrix,
there to exchange messages, here to touch 400 KB of weights, once in s steps (Devarakonda &
Demmel 2020, arXiv:2011.08281, for logistic regression; Devarakonda, Fountoulakis, Demmel &
Mahoney, arXiv:1612.04003 and arXiv:1712.06047, for coordinate descent). They state it for linear
models; it holds for the first layer of any network, since what reaches the layer is d alone.
Momentum, weight decay and a rate that changes from step to step are ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.example import learn_example
from optsweep.engine.compiled.inputs import (
    add_input_gradient,
    add_listed,
    add_shares,
    list_examples,
    list_users,
    multiply_inputs,
)
from optsweep.engine.compiled.jit import compiled, entry
from optsweep.engine.compiled.layers import Network
from optsweep.engine.compiled.memory import aligned, copy, vector_width
from optsweep.engine.compiled.team import BLOCK, SHARES, inputs_of, is_stopped, meet, vectors_of
from optsweep.engine.compiled.updates import step_of, update_rest

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
        of_momentum: (2 + EXAMPLES,) float64, a', b', c', which make up the momentum.
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


def new_deferral(network: Network, dtype: np.dtype) -> Deferral:
    """Room for one thread."""
    num_inputs, width = (int(size) for size in network.sizes[:2])
    return Deferral(
        images=aligned(EXAMPLES * num_inputs, dtype),
        products=aligned(2 * EXAMPLES * width, dtype),
        gram=aligned(EXAMPLES**2, dtype),
        numbers=np.arange(EXAMPLES, dtype=np.int32),
        factors=aligned(EXAMPLES, dtype),
        deltas=aligned(EXAMPLES * width, dtype),
        scaled=aligned(2 * EXAMPLES * width, dtype),
        of_weights=np.zeros(2 + EXAMPLES),
        of_momentum=np.zeros(2 + EXAMPLES),
    )


@entry
def run_deferred(data, steps, model, work, deferral):
    """All steps of an epoch of one seed, for a linear rule; see `batches.run_batches`.

    A step has `EXAMPLES` examples at most. Every member of a team passes all examples through the
    layers behind the first one; the scores are those of the first member.
    """
    inputs, rest = model
    member, network, example, batch_size = work.member, work.network, work.example, data.batch_size
    width = network.sizes[1]
    momentum = len(inputs.first) > 0
    one = rest.weights.dtype.type(1)
    loss = 0.0
    num_correct = 0
    steps_at_once = EXAMPLES // batch_size
    for earlier in range(0, len(steps.table), steps_at_once):
        if is_stopped(member):
            return 0.0, 0
        begin = earlier * batch_size
        num = min(steps_at_once * batch_size, len(data.images) - begin)
        list_examples(data, begin, num, work, deferral.images)
        _multiply_all(num, inputs, work, deferral, earlier // steps_at_once % 2)
        _reset(deferral)
        for first in range(0, num, batch_size):
            after = min(first + batch_size, num)
            number = earlier + first // batch_size
            step = step_of(steps, number)
            # A plain step of one example adds its gradient to the parameters themselves.
            in_place = batch_size == 1 and step.l2 == 0 and not momentum
            if in_place:
                gradient, factor = rest.weights, -step.coefficients[2]
            else:
                gradient, factor = rest.gradient, one
                gradient[:] = 0
            for row in range(first, after):
                _present_products(deferral, row, first, num, batch_size, width, example.outputs)
                label = work.labels[row : row + 1]
                scores = learn_example(
                    rest.weights, factor, gradient, label, after - first, network, example
                )
                loss += scores[0]
                num_correct += scores[1]
                copy(example.deltas[:width], deferral.deltas[row * width : (row + 1) * width])
            _take_step(deferral, number - earlier, momentum, step)
            if not in_place:
                update_rest(rest, steps, number)
        _write(inputs, data, num, work, deferral)
    if member.rank > 0:
        return 0.0, 0
    return loss, num_correct


@compiled
def _multiply_all(num, inputs, work, deferral, turn):
    """Products of the listed examples with weights, momentum and each other, by the team."""
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    lists, member, vector = work.lists, work.member, vector_width(inputs.weights)
    all_sums = work.shared.sums[turn]
    size = num * width
    all_products = 2 * size if len(inputs.first) > 0 else size
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        sums = all_sums[share]
        multiply_inputs(lists, num, first, last, inputs.weights, width, sums[:size])
        if len(inputs.first) > 0:
            part = sums[size : 2 * size]
            multiply_inputs(lists, num, first, last, inputs.first, width, part)
        start, end = inputs_of(share, num_inputs, vector)
        x = deferral.images[start * num : end * num].reshape(num, end - start)
        end = all_products + num * num
        np.dot(x, x.T, sums[all_products:end].reshape(num, num))
    meet(member)
    add_shares(all_sums, 0, all_products, deferral.products)
    add_shares(all_sums[:, all_products:], 0, num * num, deferral.gram)


# The numbers that weights and momentum have come to, while they are not written.


@compiled
def _reset(deferral):
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
    """The numbers after the step of that number, counted from the first one deferred."""
    of_weights, of_momentum = deferral.of_weights, deferral.of_momentum
    a1, take_first, take_gradient = step.constants[0], step.coefficients[1], step.coefficients[2]
    for k in range(number + 3):
        slope = step.l2 * of_weights[k] + (k == number + 2)
        if momentum:
            of_momentum[k] = a1 * of_momentum[k] + slope
            of_weights[k] -= take_first * of_momentum[k]
        of_weights[k] -= take_gradient * slope


@compiled
def _write(inputs, data, num, work, deferral):
    """Bring this member's shares of weights and momentum up to date, after `num` examples."""
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    lists, member, vector = work.lists, work.member, vector_width(inputs.weights)
    kind = inputs.weights.dtype.type
    momentum = len(inputs.first) > 0
    of_weights, of_momentum = deferral.of_weights, deferral.of_momentum
    size = num * width
    for_weights, for_momentum = deferral.scaled[:size], deferral.scaled[size:]
    for row in range(num):
        step = 2 + row // data.batch_size
        _scale(deferral.deltas, row * width, width, kind(of_weights[step]), for_weights)
        if momentum:
            _scale(deferral.deltas, row * width, width, kind(of_momentum[step]), for_momentum)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        for block in range(first, last, BLOCK // vector):
            after = min(block + BLOCK // vector, last)
            begin, end = block * vector, min(after * vector, num_inputs)
            w = inputs.weights[begin * width : end * width]
            list_users(lists, data.images, num, block, after)
            if momentum:
                m = inputs.first[begin * width : end * width]
                _mix(w, m, of_weights, of_momentum)
                add_input_gradient(lists, end - begin, for_momentum, width, m)
            elif of_weights[0] != 1:
                _shrink(w, kind(of_weights[0]))
            add_input_gradient(lists, end - begin, for_weights, width, w)


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
