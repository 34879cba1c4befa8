"""Steps of one example for rules that keep the size of gradients: inputs that are zero sleep.

**Formula.** The gradient of the first layer's weights is the outer product of the example's
inputs x and the gradient d of its products: G = x d, row i of which is x_i d. Half of the inputs
are zero, and so are their rows. Without weight decay in the gradient a row whose input is zero at
the steps t+1 … t+s has, by the rule of `rules` (m <- a1 m + b1 g, v <- a2 v + b2 g²),

    m_{t+s} = a1^s m_t        v_{t+s} = a2^s v_t        u_{t+s} = max(u_t, v_{t+s}) = u_t

since a2 <= 1, while its weights move on with the first moment,

    w_{t+j} = shrink w_{t+j-1} - cm a1^j m_t / (cv sqrt(a2^j v_t) + eps),        j = 1 … s

with the coefficients of each step, and without a2^j where the root is that of u. Nobody reads the
row meanwhile: its products are multiplied by zero. So it sleeps, and is not touched until its
input is not zero again. Then it takes all missed steps at once, in registers. Its moments decay by
F = a1^s and S = a2^s, which are not written either: the row's next step follows, and is

    m <- a1 F m + b1 g      v <- a2 S v + b2 g²

Where there is no first moment (RMSprop, Adagrad) a sleeping row only shrinks. All are the same
numbers, rounded in another order.

A row that is used by two examples in a row is read and written once for both: with the gradient
of the first, made in registers, it takes a step, and is multiplied by the input of the second.

**Source.** Catching up where a feature occurs again is the lazy update of sparse linear models
(Carpenter 2008, "Lazy sparse stochastic gradient descent for regularized multinomial logistic
regression"; Lipton & Elkan 2015, arXiv:1505.06449), there of weight decay, in one product.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.example import learn_example
from optsweep.engine.compiled.inputs import add_shares, fetch
from optsweep.engine.compiled.jit import compiled, entry, inlined
from optsweep.engine.compiled.layers import Network
from optsweep.engine.compiled.memory import aligned, at, vector_width
from optsweep.engine.compiled.team import SHARES, inputs_of, is_stopped, meet, vectors_of
from optsweep.engine.compiled.updates import (
    numbers_of,
    step_by_both,
    step_by_largest,
    step_by_size,
    step_of,
    update_rest,
)
from optsweep.engine.compiled.vectors import add_scaled, load_vector, store

_AHEAD = 2  # examples that are fetched from memory before their turn
# Steps that a row sleeps at most before it takes them. Of the wakings of Fashion-MNIST's pixels
# 99 % come within 25 steps.
_LONGEST = 32


class Sleep(NamedTuple):
    """What the rows of the first layer's weights have missed.

    Attributes:
        since: (inputs,) int64, of a row that sleeps, the first step that it has not taken.
        first: (inputs,) float64, F: what the first moments have to be multiplied by.
        second: (inputs,) float64, S: the same of the second moments.
        factors: (3, _LONGEST) float64, of rows that sleep since step t, at t modulo `_LONGEST`: F,
            S, and what their roots have to be multiplied by.
        missed: (2, _LONGEST, _LONGEST), at the same place, what these rows' first moments and
            roots are multiplied by at each step that they have missed: cm a1^j and cv sqrt(a2^j).
        nothing: (inputs,), an example all of whose inputs are zero.
    """

    since: Any
    first: Any
    second: Any
    factors: Any
    missed: Any
    nothing: Any


def new_sleep(network: Network, dtype: np.dtype) -> Sleep:
    """Room for the first layer."""
    num_inputs = int(network.sizes[0])
    return Sleep(
        since=np.zeros(num_inputs, np.int64),
        first=np.ones(num_inputs),
        second=np.ones(num_inputs),
        factors=np.ones((3, _LONGEST)),
        missed=aligned((2, _LONGEST, _LONGEST), dtype),
        nothing=aligned(num_inputs, dtype),
    )


@entry
def run_singles(data, steps, model, work, sleep):
    """All steps of an epoch of one seed, each of one example; see `batches.run_batches`.

    Every member of a team passes the example through the layers behind the first one; the scores
    are those of the first member.
    """
    inputs, rest = model
    member, example, shared = work.member, work.example, work.shared
    width, order, images = work.network.sizes[1], data.order, data.images
    num_steps = len(steps.table)
    one = rest.weights.dtype.type(1)
    loss = 0.0
    num_correct = 0
    sleep.since[:] = 0
    sleep.first[:] = 1
    sleep.second[:] = 1
    before = sleep.nothing
    for number in range(num_steps):
        if is_stopped(member):
            return 0.0, 0
        now = number if len(order) == 0 else order[number]
        image = images[now]
        if number + _AHEAD < len(order):
            _fetch(images[order[number + _AHEAD]], work)
        _pass(inputs, steps, number, before, image, example.deltas, work, sleep)
        meet(member)
        add_shares(shared.sums[number % 2], 0, width, example.outputs)
        rest.gradient[:] = 0
        label = data.labels[now : now + 1]
        scores = learn_example(rest.weights, one, rest.gradient, label, 1, work.network, example)
        loss += scores[0]
        num_correct += scores[1]
        update_rest(rest, steps, number)
        before = image
    _pass(inputs, steps, num_steps, before, sleep.nothing, example.deltas, work, sleep)
    _write_moments(inputs, work, sleep)
    if member.rank > 0:
        return 0.0, 0
    return loss, num_correct


@compiled
def _fetch(image, work):
    """Begin to fetch this member's inputs of an example."""
    num_inputs, member, vector = work.network.sizes[0], work.member, vector_width(image)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        fetch(image, first, last)


@compiled
def _pass(inputs, steps, number, before, image, slopes, work, sleep):
    """The step before, of this member's rows, and their products with the next example.

    After the last step all rows are woken.

    Args:
        inputs: The first layer's weights.
        steps: The rule.
        number: Of the next example's step; there is no step before the first one.
        before: (inputs,) the example that has been learned.
        image: (inputs,) the next one.
        slopes: Begins with the gradient of the products of the example before.
        work: The member's own; the products go to its turn of the team's sums.
        sleep: What sleeping rows have missed.
    """
    if number > 0:
        _remember(steps, number, sleep, len(inputs.largest) == 0)
    if len(inputs.first) == 0:
        _each(_by_size, inputs, steps, number, before, image, slopes, work, sleep)
    elif len(inputs.largest) == 0:
        _each(_by_both, inputs, steps, number, before, image, slopes, work, sleep)
    else:
        _each(_by_largest, inputs, steps, number, before, image, slopes, work, sleep)


@compiled
def _remember(steps, number, sleep, roots_decay):
    """Keep the coefficients of the step before `number` for the rows that have missed it.

    These sleep since that step, or since one of the `_LONGEST` - 1 steps before it.
    """
    factors, missed, coefficients = sleep.factors, sleep.missed, steps.table[number - 1]
    a1, a2, kind = np.float64(steps.constants[0]), np.float64(steps.constants[2]), missed.dtype.type
    by_root = math.sqrt(a2) if roots_decay else 1.0
    for age in range(min(number, _LONGEST)):
        place = (number - 1 - age) % _LONGEST
        if age == 0:
            factors[:, place] = 1
        factors[0, place] *= a1
        factors[1, place] *= a2
        factors[2, place] *= by_root
        missed[0, place, age] = coefficients[1] * kind(factors[0, place])
        missed[1, place, age] = coefficients[3] * kind(factors[2, place])


@inlined
def _each(take, inputs, steps, number, before, image, slopes, work, sleep):
    """`take` a step of every row, or wake it, a vector of weights at a time while there are any.

    All in one function, and arrays taken out of tuples above its loops: numba counts the users of
    an array that it takes out of one. A function that wakes a row took 14 µs a step for that.
    """
    weights, _, first, second, largest = inputs
    since, of_first, of_second, factors, missed, _ = sleep
    table, sums = steps.table, work.shared.sums
    kind, vector = weights.dtype.type, vector_width(weights)
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    whole = width - width % vector
    a1, b1, a2, b2, shrink, take_first, take_gradient, scale_second, eps = numbers_of(
        step_of(steps, max(number - 1, 0))
    )
    roots = second if len(largest) == 0 else largest
    for share in range(work.member.rank, SHARES, work.member.size):
        begin, end = inputs_of(share, num_inputs, vector)
        out = sums[number % 2, share]
        out[:width] = 0
        for i in range(begin, end):
            x, y, row = at(before, i), at(image, i), i * width
            if x != 0:
                numbers = (
                    kind(a1 * of_first[i]), b1, kind(a2 * of_second[i]), b2, shrink, take_first,
                    take_gradient, scale_second, eps,
                )  # fmt: skip
                of_first[i], of_second[i], since[i] = 1, 1, number
                for j in range(0, whole, vector):
                    o, g = row + j, x * load_vector(slopes, j)
                    w = take(weights, first, second, largest, o, g, numbers, load_vector)
                    store(out, j, add_scaled(load_vector(out, j), y, w))
                for j in range(whole, width):
                    o, g = row + j, x * at(slopes, j)
                    w = take(weights, first, second, largest, o, g, numbers, at)
                    store(out, j, at(out, j) + y * w)
                continue
            start = since[i]
            if y == 0 and start + _LONGEST > number and number < len(table):
                continue
            num = number - start
            by_first = kind(of_first[i])
            by_root = kind(of_second[i]) if len(largest) == 0 else kind(1)
            if num > 0:
                of_first[i] *= factors[0, start % _LONGEST]
                of_second[i] *= factors[1, start % _LONGEST]
                since[i] = number
            if len(first) == 0:  # a rule without one does not shrink weights either
                num = 0
            for j in range(0, whole, vector):
                w = load_vector(weights, row + j)
                if num > 0:
                    m = by_first * load_vector(first, row + j)
                    root = math.sqrt(by_root * load_vector(roots, row + j))
                    w = _coast(w, m, root, table, start, missed, num)
                    store(weights, row + j, w)
                store(out, j, add_scaled(load_vector(out, j), y, w))
            for j in range(whole, width):
                w = at(weights, row + j)
                if num > 0:
                    m = by_first * at(first, row + j)
                    root = math.sqrt(by_root * at(roots, row + j))
                    w = _coast(w, m, root, table, start, missed, num)
                    store(weights, row + j, w)
                store(out, j, at(out, j) + y * w)


@inlined
def _coast(w, m, root, table, start, missed, num):
    """Weights after `num` steps whose gradient is zero, from that of `start` on."""
    of_first = start % _LONGEST * _LONGEST
    of_root = of_first + _LONGEST**2
    for k in range(num):
        step = 5 * (start + k)  # coefficients of a step
        divisor = at(missed, of_root + k) * root + at(table, step + 4)
        w = at(table, step) * w - at(missed, of_first + k) * m / divisor
    return w


# The steps of what begins at the entry `o`, of which `load` takes a vector or a single number; they
# return the weights.


@inlined
def _by_size(weights, first, second, largest, o, g, numbers, load):
    w, v = step_by_size(load(weights, o), g, load(second, o), numbers)
    store(weights, o, w)
    store(second, o, v)
    return w


@inlined
def _by_both(weights, first, second, largest, o, g, numbers, load):
    w, m, v = step_by_both(load(weights, o), g, load(first, o), load(second, o), numbers)
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)
    return w


@inlined
def _by_largest(weights, first, second, largest, o, g, numbers, load):
    w, m, v, u = step_by_largest(
        load(weights, o), g, load(first, o), load(second, o), load(largest, o), numbers
    )
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)
    store(largest, o, u)
    return w


@compiled
def _write_moments(inputs, work, sleep):
    """Bring the moments of this member's rows, all of which are awake, up to date."""
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    member, vector, kind = work.member, vector_width(inputs.weights), inputs.weights.dtype.type
    for share in range(member.rank, SHARES, member.size):
        begin, end = inputs_of(share, num_inputs, vector)
        for i in range(begin, end):
            for moments, factor in (
                (inputs.first, kind(sleep.first[i])), (inputs.second, kind(sleep.second[i])),
            ):  # fmt: skip
                if len(moments) > 0:
                    for o in range(i * width, (i + 1) * width):
                        moments[o] *= factor
