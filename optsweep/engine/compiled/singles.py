"""Steps of one example for rules that keep the size of gradients: moments that only decay.

**Formula.** The gradient of the first layer's weights is the outer product of the example's
inputs x and the gradient d of its products: G = x d, row i of which is x_i d. Half of the inputs
are zero, and so are their rows. Without weight decay in the gradient a row whose input is zero at
the steps t+1 … t+s has, by the rule of `rules` (m <- a1 m + b1 g, v <- a2 v + b2 g²),

    m_{t+s} = a1^s m_t        v_{t+s} = a2^s v_t        u_{t+s} = max(u_t, v_{t+s}) = u_t

since a2 <= 1. All entries of the row decay by the same two factors, which are kept instead of
moments: F_i = a1^s and S_i = a2^s, in float64. The row's moments are written only when its input
is used again, as

    m <- a1 F_i m + b1 g      v <- a2 S_i v + b2 g²

and at once F_i = S_i = 1. Meanwhile its weights still move with the first moment,

    w <- shrink w - cm F_i m_t / (cv sqrt(S_i) r_t + eps)

where r_t = sqrt(v_t) is the root that the last written step took: it decays alike, and a step
takes none. Of rules with a largest moment r_t is sqrt(u_t), which stays, without sqrt(S_i). If
nothing is left of the first moment (a1 = 0: RMSprop, Adagrad) the row only shrinks.

Moments are the same numbers, rounded in another order. Of a step of 100,352 weights root and
division take the most time: it costs 24 instead of 28 µs. G is made in registers as the weights
pass; written to memory first and read again, as that of several examples is, it cost a third more.

**Source.** Kept factors for what every step would do alike to all entries are the lazy updates of
sparse linear models (Carpenter 2008, "Lazy sparse stochastic gradient descent for regularized
multinomial logistic regression"; Lipton & Elkan 2015, arXiv:1505.06449), there of weight decay.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.example import learn_example
from optsweep.engine.compiled.inputs import add_shares, list_examples, multiply_shares
from optsweep.engine.compiled.jit import compiled, entry, inlined
from optsweep.engine.compiled.layers import Network
from optsweep.engine.compiled.memory import aligned, at, vector_width
from optsweep.engine.compiled.team import SHARES, inputs_of, is_stopped
from optsweep.engine.compiled.updates import (
    numbers_of,
    step_by_both,
    step_by_largest,
    step_by_size,
    step_of,
    update_rest,
)
from optsweep.engine.compiled.vectors import load_vector, store


class Decay(NamedTuple):
    """How far the moments of an input's weights have decayed since they were written.

    Attributes:
        first: (inputs,) float64, F: what the first moments have to be multiplied by.
        second: (inputs,) float64, S: the same of the second moments.
        roots: (weights,), r: roots of what divides a step, as it was written.
    """

    first: Any
    second: Any
    roots: Any


def new_decay(network: Network, dtype: np.dtype) -> Decay:
    """Room for the first layer."""
    num_inputs, width = (int(size) for size in network.sizes[:2])
    return Decay(np.ones(num_inputs), np.ones(num_inputs), aligned(num_inputs * width, dtype))


@entry
def run_singles(data, steps, model, work, decay):
    """All steps of an epoch of one seed, each of one example; see `batches.run_batches`.

    Every member of a team passes the example through the layers behind the first one; the scores
    are those of the first member.
    """
    inputs, rest = model
    member, example = work.member, work.example
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    vector = vector_width(inputs.weights)
    one, nothing = rest.weights.dtype.type(1), inputs.weights[:0]
    loss = 0.0
    num_correct = 0
    for share in range(member.rank, SHARES, member.size):
        first, last = inputs_of(share, num_inputs, vector)
        _begin(inputs, decay, first, last, width)
    for number in range(len(steps.table)):
        if is_stopped(member):
            return 0.0, 0
        turn = number % 2
        list_examples(data, number, 1, work, nothing)
        multiply_shares(inputs.weights, 1, work, turn)
        add_shares(work.shared.sums[turn], 0, width, example.outputs)
        rest.gradient[:] = 0
        scores = learn_example(
            rest.weights, one, rest.gradient, work.labels, 1, work.network, example
        )
        loss += scores[0]
        num_correct += scores[1]
        image = data.images[work.lists.starts[0] // num_inputs]
        slopes, step = example.deltas[:width], step_of(steps, number)
        for share in range(member.rank, SHARES, member.size):
            first, last = inputs_of(share, num_inputs, vector)
            _update(inputs, decay, image, slopes, first, last, step)
        update_rest(rest, steps, number)
    for share in range(member.rank, SHARES, member.size):
        first, last = inputs_of(share, num_inputs, vector)
        _end(inputs, decay, first, last, width)
    if member.rank > 0:
        return 0.0, 0
    return loss, num_correct


@compiled
def _begin(parameters, decay, begin, end, width):
    """Take over the moments of the inputs from `begin` to `end`, which are up to date."""
    largest = len(parameters.largest) > 0
    sizes = parameters.largest if largest else parameters.second
    decay.first[begin:end] = 1
    decay.second[begin:end] = 1
    for o in range(begin * width, end * width):
        decay.roots[o] = math.sqrt(sizes[o])


@compiled
def _end(parameters, decay, begin, end, width):
    """Bring the moments of the inputs from `begin` to `end` up to date."""
    kind = parameters.second.dtype.type
    for i in range(begin, end):
        for moments, factor in (
            (parameters.first, kind(decay.first[i])), (parameters.second, kind(decay.second[i])),
        ):  # fmt: skip
            if len(moments) > 0:
                for o in range(i * width, (i + 1) * width):
                    moments[o] *= factor


@compiled
def _update(parameters, decay, image, slopes, begin, end, step):
    """One step of the weights of the inputs from `begin` to `end`.

    `image` (inputs,) is the example, and `slopes` (width,) the gradient of its products.
    """
    if len(parameters.first) == 0:
        _each(_by_size, parameters, decay, image, slopes, begin, end, step)
    elif len(parameters.largest) == 0:
        _each(_by_both, parameters, decay, image, slopes, begin, end, step)
    else:
        _each(_by_largest, parameters, decay, image, slopes, begin, end, step)


@inlined
def _each(take, parameters, decay, image, slopes, begin, end, step):
    """`take` a step of every weight, a vector of them at a time while there are as many."""
    weights, _, first, second, largest = parameters
    of_first, of_second, roots = decay
    a1, b1, a2, b2, shrink, take_first, take_gradient, scale_second, eps, l2 = numbers_of(step)
    kind, width, vector = weights.dtype.type, len(slopes), vector_width(weights)
    whole = width - width % vector
    for i in range(begin, end):
        x, row = at(image, i), i * width
        of_first[i] *= a1
        of_second[i] *= a2
        if x == 0 and l2 == 0:
            by_first = take_first * kind(of_first[i]) if len(first) > 0 else kind(0)
            if by_first == 0:  # nothing of the first moment is left, or there never was one
                if shrink != 1:
                    for o in range(row, row + width):
                        weights[o] *= shrink
                continue
            by_root = scale_second
            if len(largest) == 0:
                by_root *= kind(math.sqrt(of_second[i]))
            for o in range(row, row + whole, vector):
                _coast(weights, first, roots, o, shrink, by_first, by_root, eps, load_vector)
            for o in range(row + whole, row + width):
                _coast(weights, first, roots, o, shrink, by_first, by_root, eps, at)
            continue
        numbers = (
            kind(of_first[i]), b1, kind(of_second[i]), b2, shrink, take_first, take_gradient,
            scale_second, eps, l2,
        )  # fmt: skip
        of_first[i] = 1
        of_second[i] = 1
        for j in range(0, whole, vector):
            g = x * load_vector(slopes, j)
            take(weights, first, second, largest, roots, row + j, g, numbers, load_vector)
        for j in range(whole, width):
            g = x * at(slopes, j)
            take(weights, first, second, largest, roots, row + j, g, numbers, at)


# The steps of what begins at the entry `o`, of which `load` takes a vector or a single number. The
# arrays are handed over one by one: numba counts the users of an array that it takes out of a
# tuple, which in these loops made a step a third slower.


@inlined
def _coast(weights, first, roots, o, shrink, by_first, by_root, eps, load):
    """Where the gradient is zero."""
    root = by_root * load(roots, o) + eps
    store(weights, o, shrink * load(weights, o) - by_first * load(first, o) / root)


@inlined
def _by_size(weights, first, second, largest, roots, o, g, numbers, load):
    w, v, _ = step_by_size(load(weights, o), g, load(second, o), numbers)
    store(weights, o, w)
    store(second, o, v)


@inlined
def _by_both(weights, first, second, largest, roots, o, g, numbers, load):
    w, m, v, root = step_by_both(load(weights, o), g, load(first, o), load(second, o), numbers)
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)
    store(roots, o, root)


@inlined
def _by_largest(weights, first, second, largest, roots, o, g, numbers, load):
    w, m, v, u, root = step_by_largest(
        load(weights, o), g, load(first, o), load(second, o), load(largest, o), numbers
    )
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)
    store(largest, o, u)
    store(roots, o, root)
