"""Compiled steps of the rules of `engine.rules`, over flat runs of parameters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from optsweep.engine.jit import compiled


class Parameters(NamedTuple):
    """Parameters (P,) with the gradient and the moments of each; what a rule lacks is empty."""

    weights: Any
    gradient: Any
    first: Any
    second: Any
    largest: Any


class Step(NamedTuple):
    """A rule at one step: its constants (4,), coefficients (5,), and weight decay."""

    constants: Any
    coefficients: Any
    l2: Any


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
        _update_with_size(w, g, second, constants, coefficients, l2)
    elif len(largest) == 0:
        _update_with_both(w, g, first, second, constants, coefficients, l2)
    else:
        _update_with_largest(w, g, first, second, largest, constants, coefficients, l2)


@compiled
def update_rest(rest, segments, step):
    """One step of all parameters but the first layer's weights, segment by segment.

    Segments (K, 3) tell where they start and end and whether weight decay reaches them.
    """
    unshrunk = step.coefficients.copy()
    unshrunk[0] = 1
    others = Step(step.constants, unshrunk, step.l2 - step.l2)
    for k in range(len(segments)):
        first, after, decays = segments[k]
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
def _update_with_size(w, g, second, constants, coefficients, l2):
    a2, b2 = constants[2], constants[3]
    shrink, take_gradient = coefficients[0], coefficients[2]
    scale_second, eps = coefficients[3], coefficients[4]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        second[i] = a2 * second[i] + b2 * gradient * gradient
        root = scale_second * math.sqrt(second[i]) + eps
        w[i] = shrink * w[i] - take_gradient * gradient / root


@compiled
def _update_with_both(w, g, first, second, constants, coefficients, l2):
    a1, b1, a2, b2 = constants[0], constants[1], constants[2], constants[3]
    shrink, take_first, take_gradient = coefficients[0], coefficients[1], coefficients[2]
    scale_second, eps = coefficients[3], coefficients[4]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        first[i] = a1 * first[i] + b1 * gradient
        second[i] = a2 * second[i] + b2 * gradient * gradient
        root = scale_second * math.sqrt(second[i]) + eps
        w[i] = shrink * w[i] - (take_first * first[i] + take_gradient * gradient) / root


@compiled
def _update_with_largest(w, g, first, second, largest, constants, coefficients, l2):
    a1, b1, a2, b2 = constants[0], constants[1], constants[2], constants[3]
    shrink, take_first, take_gradient = coefficients[0], coefficients[1], coefficients[2]
    scale_second, eps = coefficients[3], coefficients[4]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        first[i] = a1 * first[i] + b1 * gradient
        second[i] = a2 * second[i] + b2 * gradient * gradient
        largest[i] = max(largest[i], second[i])
        root = scale_second * math.sqrt(largest[i]) + eps
        w[i] = shrink * w[i] - (take_first * first[i] + take_gradient * gradient) / root
