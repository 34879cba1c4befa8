"""Compiled steps of the rules of `engine.rules`, over flat runs of parameters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import njit

from optsweep.engine.compiled.jit import compiled


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


@njit(inline="always")
def numbers_of(step):
    """What the steps below need of a rule, as numbers that loops can keep in registers."""
    constants, coefficients, l2 = step
    return (
        constants[0], constants[1], constants[2], constants[3], coefficients[0], coefficients[1],
        coefficients[2], coefficients[3], coefficients[4], l2,
    )  # fmt: skip


# The steps of `engine.rules` with a second moment, of one weight or of many side by side: the
# arguments are numbers, or registers of them (`engine.lanes`). They return what they were given
# but the gradient, stepped on, and the root that divided the step.


@njit(inline="always")
def step_by_size(w, g, second, numbers):
    """Where no first moment is kept."""
    _, _, a2, b2, shrink, _, take_gradient, scale_second, eps, l2 = numbers
    gradient = g + l2 * w
    second = a2 * second + b2 * gradient * gradient
    root = math.sqrt(second)
    w = shrink * w - take_gradient * gradient / (scale_second * root + eps)
    return w, second, root


@njit(inline="always")
def step_by_both(w, g, first, second, numbers):
    """With both moments."""
    a1, b1, a2, b2, shrink, take_first, take_gradient, scale_second, eps, l2 = numbers
    gradient = g + l2 * w
    first = a1 * first + b1 * gradient
    second = a2 * second + b2 * gradient * gradient
    root = math.sqrt(second)
    taken = take_first * first + take_gradient * gradient
    w = shrink * w - taken / (scale_second * root + eps)
    return w, first, second, root


@njit(inline="always")
def step_by_largest(w, g, first, second, largest, numbers):
    """With both moments, divided by the largest second one so far."""
    a1, b1, a2, b2, shrink, take_first, take_gradient, scale_second, eps, l2 = numbers
    gradient = g + l2 * w
    first = a1 * first + b1 * gradient
    second = a2 * second + b2 * gradient * gradient
    largest = max(largest, second)
    root = math.sqrt(largest)
    taken = take_first * first + take_gradient * gradient
    w = shrink * w - taken / (scale_second * root + eps)
    return w, first, second, largest, root


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
def _update_by_size(w, g, second, step):
    numbers = numbers_of(step)
    for i in range(len(w)):
        w[i], second[i], _ = step_by_size(w[i], g[i], second[i], numbers)


@compiled
def _update_by_both(w, g, first, second, step):
    numbers = numbers_of(step)
    for i in range(len(w)):
        w[i], first[i], second[i], _ = step_by_both(w[i], g[i], first[i], second[i], numbers)


@compiled
def _update_by_largest(w, g, first, second, largest, step):
    numbers = numbers_of(step)
    for i in range(len(w)):
        w[i], first[i], second[i], largest[i], _ = step_by_largest(
            w[i], g[i], first[i], second[i], largest[i], numbers
        )
