"""Compiled steps of LARS and LAMB, whose length depends on the norms of a whole layer.

A step has two parts, so that what is computed share by share can be summed in between.
"""

from __future__ import annotations

import math

from optsweep.engine.compiled.jit import compiled
from optsweep.engine.compiled.lanes import add_products, no_sums, sum_of, sum_width
from optsweep.engine.compiled.updates import Step

_PIECE = 4096  # entries whose squares are summed in their own precision


@compiled
def _sum_of_squares(values):
    """Sum of squares in float64, of sums over pieces in the precision of the values."""
    lanes = sum_width(values)
    total = 0.0
    for begin in range(0, len(values), _PIECE):
        end = min(begin + _PIECE, len(values))
        whole = end - (end - begin) % lanes
        sums = no_sums(values)
        for i in range(begin, whole, lanes):
            sums = add_products(sums, values, i, values, i)
        total += sum_of(sums)
        for i in range(whole, end):
            total += values[i] * values[i]
    return total


@compiled
def prepare(parameters, begin, end, g, step, rule):
    """First part: moments, and the squared norms of the weights and of what they are compared to.

    That is, for LARS, 1, the gradient; for LAMB, 2, the update, which replaces the gradient `g`.
    """
    w = parameters.weights[begin:end]
    if rule == 2:
        _lamb(w, g, parameters.first[begin:end], parameters.second[begin:end], step)
    return _sum_of_squares(w), _sum_of_squares(g)


@compiled
def adapt(parameters, begin, end, g, step, rule, weight_square, other_square):
    """Second part: the step, by the squared norms of the whole layer."""
    w, first = parameters.weights[begin:end], parameters.first[begin:end]
    norm, other = math.sqrt(weight_square), math.sqrt(other_square)
    coefficients = step.coefficients
    if rule == 2:
        ratio = norm / other if norm > 0 and other > 0 else 1.0
        _descend(w, g, w.dtype.type(coefficients[2] * ratio))
    else:
        other += step.l2 * norm
        ratio = step.constants[1] * norm / other if norm > 0 and other > 0 else 1.0
        rate = w.dtype.type(coefficients[2] * ratio)
        _descend_with_momentum(w, g, first, step.constants[0], rate, step.l2)


@compiled
def adapt_rest(rest, segments, step, rule):
    """One step of all parameters but the first layer's weights; see `updates.update_rest`."""
    others = Step(step.constants, step.coefficients, step.l2 - step.l2)
    for k in range(len(segments)):
        first, after, decays = segments[k]
        g = rest.gradient[first:after]
        chosen = step if decays else others
        squares = prepare(rest, first, after, g, chosen, rule)
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
