"""Compiled steps of the rules of `rules`, over flat runs of parameters.

Most rules treat every weight alone: `update`. LARS and LAMB scale a step by norms of the layer's
weights and of its gradient or update; their step has two parts, `measure` and `adapt`, so that
what is measured share by share can be summed in between.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from optsweep.engine.compiled.jit import compiled, inlined
from optsweep.engine.compiled.rules import LAMB_STEP
from optsweep.engine.compiled.vectors import SUMS, add_products, no_sums, sum_of

_PIECE = 4096  # entries whose squares are summed in their own precision


class Parameters(NamedTuple):
    """Parameters (P,) with the gradient and the moments of each; what a rule lacks is empty."""

    weights: Any
    gradient: Any
    first: Any
    second: Any
    largest: Any


class Model(NamedTuple):
    """All parameters of one seed.

    Attributes:
        inputs: The first layer's weights, (in, out) and flat, which the members of a team share.
        rest: All others, in the order of `layers`; each member has its own copy.
    """

    inputs: Parameters
    rest: Parameters


class Steps(NamedTuple):
    """A rule at the steps of an epoch.

    Attributes:
        constants: (4,), see `rules`.
        table: (steps, 5), the coefficients at every step.
        l2: Weight decay that is added to the gradient.
        segments: (K, 3) int64 of `Model.rest`: start, end, and whether weight decay reaches them.
        layerwise: `rules.LARS_STEP` or `rules.LAMB_STEP` (whose segments are single tensors), or 0.
    """

    constants: Any
    table: Any
    l2: Any
    segments: Any
    layerwise: Any


class Step(NamedTuple):
    """A rule at one step: its constants (4,), coefficients (5,), and weight decay."""

    constants: Any
    coefficients: Any
    l2: Any


@inlined
def step_of(steps, number):
    """The rule at a step of the epoch."""
    return Step(steps.constants, steps.table[number], steps.l2)


@inlined
def numbers_of(step):
    """What the steps below need of a rule, as numbers that loops can keep in registers."""
    constants, coefficients, _ = step
    return (
        constants[0], constants[1], constants[2], constants[3], coefficients[0], coefficients[1],
        coefficients[2], coefficients[3], coefficients[4],
    )  # fmt: skip


# The steps of the rules with a second moment, of one weight or of many side by side: the arguments
# are numbers, or vectors of them (`vectors`). The gradient includes weight decay. They return what
# they were given but the gradient, stepped on.


@inlined
def step_by_size(w, gradient, second, numbers):
    """Where no first moment is kept."""
    _, _, a2, b2, shrink, _, take_gradient, scale_second, eps = numbers
    second = a2 * second + b2 * gradient * gradient
    divisor = scale_second * math.sqrt(second) + eps
    return shrink * w - take_gradient * gradient / divisor, second


@inlined
def step_by_both(w, gradient, first, second, numbers):
    """With both moments."""
    a1, b1, a2, b2, shrink, take_first, take_gradient, scale_second, eps = numbers
    first = a1 * first + b1 * gradient
    second = a2 * second + b2 * gradient * gradient
    divisor = scale_second * math.sqrt(second) + eps
    taken = take_first * first + take_gradient * gradient
    return shrink * w - taken / divisor, first, second


@inlined
def step_by_largest(w, gradient, first, second, largest, numbers):
    """With both moments, divided by the largest second one so far."""
    a1, b1, a2, b2, shrink, take_first, take_gradient, scale_second, eps = numbers
    first = a1 * first + b1 * gradient
    second = a2 * second + b2 * gradient * gradient
    largest = max(largest, second)
    divisor = scale_second * math.sqrt(largest) + eps
    taken = take_first * first + take_gradient * gradient
    return shrink * w - taken / divisor, first, second, largest


@compiled
def update(parameters, begin, end, g, step):
    """One step of the parameters from `begin` to `end`, of which `g` is the gradient."""
    w = parameters.weights[begin:end]
    first = parameters.first[begin:end]
    second = parameters.second[begin:end]
    largest = parameters.largest[begin:end]
    constants, coefficients, l2 = step
    if len(second) == 0 and len(first) == 0:
        _update_plainly(w, g, coefficients, l2)
    elif len(second) == 0:
        _update_with_momentum(w, g, first, constants, coefficients, l2)
    elif len(first) == 0:
        _update_by_size(w, g, second, step)
    elif len(largest) == 0:
        _update_by_both(w, g, first, second, step)
    else:
        _update_by_largest(w, g, first, second, largest, step)


@compiled
def update_rest(rest, steps, number):
    """One step of all parameters but the first layer's weights, segment by segment."""
    step = step_of(steps, number)
    unshrunk = step.coefficients.copy()
    unshrunk[0] = 1
    others = Step(step.constants, unshrunk, step.l2 - step.l2)
    for k in range(len(steps.segments)):
        first, after, decays = steps.segments[k]
        update(rest, first, after, rest.gradient[first:after], step if decays else others)


# Functions of their own: as branches of one function these loops do not vectorise, which
# made a step of Adam almost three times slower (256 instead of 92 µs for 108,000 weights).


@compiled
def _update_plainly(w, g, coefficients, l2):
    rate = coefficients[2]
    for i in range(len(w)):
        w[i] -= rate * (g[i] + l2 * w[i])


@compiled
def _update_with_momentum(w, g, first, constants, coefficients, l2):
    a1, take_first, take_gradient = constants[0], coefficients[1], coefficients[2]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        first[i] = a1 * first[i] + gradient
        w[i] -= take_first * first[i] + take_gradient * gradient


@compiled
def _update_by_size(w, g, second, step):
    numbers, l2 = numbers_of(step), step.l2
    for i in range(len(w)):
        w[i], second[i] = step_by_size(w[i], g[i] + l2 * w[i], second[i], numbers)


@compiled
def _update_by_both(w, g, first, second, step):
    numbers, l2 = numbers_of(step), step.l2
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        w[i], first[i], second[i] = step_by_both(w[i], gradient, first[i], second[i], numbers)


@compiled
def _update_by_largest(w, g, first, second, largest, step):
    numbers, l2 = numbers_of(step), step.l2
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        w[i], first[i], second[i], largest[i] = step_by_largest(
            w[i], gradient, first[i], second[i], largest[i], numbers
        )


# The rules that go by layer.


@compiled
def _sum_of_squares(values):
    """Sum of squares in float64, of sums over pieces in the precision of the values."""
    total = 0.0
    for begin in range(0, len(values), _PIECE):
        end = min(begin + _PIECE, len(values))
        whole = end - (end - begin) % SUMS
        sums = no_sums(values)
        for i in range(begin, whole, SUMS):
            sums = add_products(sums, values, i, values, i)
        total += sum_of(sums)
        for i in range(whole, end):
            total += values[i] * values[i]
    return total


@compiled
def measure(parameters, begin, end, g, step, rule):
    """First part: moments, and the squared norms of the weights and of what they are compared to.

    That is, for LARS, the gradient; for LAMB, the update, which replaces the gradient `g`.
    """
    w = parameters.weights[begin:end]
    if rule == LAMB_STEP:
        _lamb(w, g, parameters.first[begin:end], parameters.second[begin:end], step)
    return _sum_of_squares(w), _sum_of_squares(g)


@compiled
def adapt(parameters, begin, end, g, step, rule, weight_square, other_square):
    """Second part: the step, by the squared norms of the whole layer."""
    w, first = parameters.weights[begin:end], parameters.first[begin:end]
    norm, other = math.sqrt(weight_square), math.sqrt(other_square)
    coefficients = step.coefficients
    if rule == LAMB_STEP:
        ratio = norm / other if norm > 0 and other > 0 else 1.0
        _descend(w, g, w.dtype.type(coefficients[2] * ratio))
    else:
        other += step.l2 * norm
        ratio = step.constants[1] * norm / other if norm > 0 and other > 0 else 1.0
        rate = w.dtype.type(coefficients[2] * ratio)
        _descend_with_momentum(w, g, first, step.constants[0], rate, step.l2)


@compiled
def adapt_rest(rest, steps, number):
    """One layer-wise step of all parameters but the first layer's weights; see `update_rest`."""
    step, rule = step_of(steps, number), steps.layerwise
    others = Step(step.constants, step.coefficients, step.l2 - step.l2)
    for k in range(len(steps.segments)):
        first, after, decays = steps.segments[k]
        g = rest.gradient[first:after]
        chosen = step if decays else others
        squares = measure(rest, first, after, g, chosen, rule)
        adapt(rest, first, after, g, chosen, rule, squares[0], squares[1])


@compiled
def _lamb(w, g, first, second, step):
    a1, b1, a2, b2 = step.constants[0], step.constants[1], step.constants[2], step.constants[3]
    take_first, scale_second = step.coefficients[1], step.coefficients[3]
    eps, decay = step.coefficients[4], step.l2
    for i in range(len(w)):
        first[i] = a1 * first[i] + b1 * g[i]
        second[i] = a2 * second[i] + b2 * g[i] * g[i]
        root = scale_second * math.sqrt(second[i]) + eps
        g[i] = take_first * first[i] / root + decay * w[i]


@compiled
def _descend(w, update, rate):
    for i in range(len(w)):
        w[i] -= rate * update[i]


@compiled
def _descend_with_momentum(w, g, first, a1, rate, decay):
    for i in range(len(w)):
        first[i] = a1 * first[i] + rate * (g[i] + decay * w[i])
        w[i] -= first[i]
