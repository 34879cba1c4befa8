"""Steps of the first layer's weights after one example, of rules that keep sizes of gradients.

The gradient is of rank one: the example's inputs times the gradient of its products. It is made
in registers as the weights pass; written to a block of memory first and read again, as that of
several examples is, it cost a third more.

Half of the inputs are zero, and so is the gradient of their weights. There the moments only
decay, all of an input by the same factors, which are kept instead and multiplied in when the
input is used again. A step of these weights takes no root, since the root decays alike: 24
instead of 28 µs for 100,352 weights, most of which root and division take. Moments are the same
numbers, rounded in another order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from optsweep.engine.compiled.inputs import aligned
from optsweep.engine.compiled.jit import compiled
from optsweep.engine.compiled.lanes import load_register, register_width, store
from optsweep.engine.compiled.memory import at
from optsweep.engine.compiled.passes import Network
from optsweep.engine.compiled.updates import numbers_of, step_by_both, step_by_largest, step_by_size


class Decay(NamedTuple):
    """How far the moments of an input's weights have decayed since they were written.

    Attributes:
        first: (inputs,) float64, what the first moments have to be multiplied by.
        second: (inputs,) float64, the same of the second moments.
        roots: (weights,), roots of what divides a step, as it was written.
    """

    first: Any
    second: Any
    roots: Any


def new_decay(network: Network, num: int, dtype: np.dtype) -> Decay:
    """Room for `num` weights, all of the first layer or none."""
    num_inputs = int(network.sizes[0])
    return Decay(np.ones(num_inputs), np.ones(num_inputs), aligned(num, dtype))


@compiled
def begin_decay(parameters, decay, begin, end, width):
    """Take over the moments of the inputs from `begin` to `end`, which are up to date."""
    largest = len(parameters.largest) > 0
    sizes = parameters.largest if largest else parameters.second
    decay.first[begin:end] = 1
    decay.second[begin:end] = 1
    for o in range(begin * width, end * width):
        decay.roots[o] = math.sqrt(sizes[o])


@compiled
def end_decay(parameters, decay, begin, end, width):
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
def update_rank_one(parameters, decay, images, first_pixel, begin, end, slopes, width, step):
    """One step of the weights of the inputs from `begin` to `end`.

    The example's inputs are the entries of `images` from `first_pixel` on, and `slopes`, (width,),
    the gradient of its products.
    """
    if len(parameters.first) == 0:
        _each(_by_size, parameters, decay, images, first_pixel, begin, end, slopes, width, step)
    elif len(parameters.largest) == 0:
        _each(_by_both, parameters, decay, images, first_pixel, begin, end, slopes, width, step)
    else:
        _each(_by_largest, parameters, decay, images, first_pixel, begin, end, slopes, width, step)


@njit(inline="always")
def _each(take, parameters, decay, images, first_pixel, begin, end, slopes, width, step):
    """`take` a step of every weight, a register of them at a time while there are as many."""
    weights, _, first, second, largest = parameters
    of_first, of_second, roots = decay
    a1, b1, a2, b2, shrink, take_first, take_gradient, scale_second, eps, l2 = numbers_of(step)
    kind = weights.dtype.type
    lanes = register_width(weights)
    whole = width - width % lanes
    for i in range(begin, end):
        x, row = at(images, first_pixel + i), i * width
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
            for o in range(row, row + whole, lanes):
                _coast(weights, first, roots, o, shrink, by_first, by_root, eps, load_register)
            for o in range(row + whole, row + width):
                _coast(weights, first, roots, o, shrink, by_first, by_root, eps, at)
            continue
        numbers = (
            kind(of_first[i]), b1, kind(of_second[i]), b2, shrink, take_first, take_gradient,
            scale_second, eps, l2,
        )  # fmt: skip
        of_first[i] = 1
        of_second[i] = 1
        for j in range(0, whole, lanes):
            g = x * load_register(slopes, j)
            take(weights, first, second, largest, roots, row + j, g, numbers, load_register)
        for j in range(whole, width):
            take(weights, first, second, largest, roots, row + j, x * at(slopes, j), numbers, at)


# The steps of what begins at the entry `o`, of which `load` takes a register or a single number.


@njit(inline="always")
def _coast(weights, first, roots, o, shrink, by_first, by_root, eps, load):
    root = by_root * load(roots, o) + eps
    store(weights, o, shrink * load(weights, o) - by_first * load(first, o) / root)


@njit(inline="always")
def _by_size(weights, first, second, largest, roots, o, g, numbers, load):
    w, v, _ = step_by_size(load(weights, o), g, load(second, o), numbers)
    store(weights, o, w)
    store(second, o, v)


@njit(inline="always")
def _by_both(weights, first, second, largest, roots, o, g, numbers, load):
    w, m, v, root = step_by_both(load(weights, o), g, load(first, o), load(second, o), numbers)
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)
    store(roots, o, root)


@njit(inline="always")
def _by_largest(weights, first, second, largest, roots, o, g, numbers, load):
    w, m, v, u, root = step_by_largest(
        load(weights, o), g, load(first, o), load(second, o), load(largest, o), numbers
    )
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)
    store(largest, o, u)
    store(roots, o, root)
