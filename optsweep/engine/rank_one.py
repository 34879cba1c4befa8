"""Steps of the first layer's weights after one example, whose gradient is never stored.

It is of rank one: the example's inputs times the gradient of its products. Made in registers as
the weights pass, it costs nothing beside them; written to a block of memory first and read again,
as that of several examples is, it cost a third more (40 instead of 31 µs for 100,352 weights).
"""

from __future__ import annotations

from numba import njit

from optsweep.engine.jit import compiled
from optsweep.engine.lanes import load_register, register_width, store
from optsweep.engine.memory import at
from optsweep.engine.updates import numbers_of, step_by_both, step_by_largest, step_by_size


@compiled
def update_rank_one(parameters, images, first_pixel, begin, end, slopes, width, step):
    """One step of the weights of the inputs from `begin` to `end`, of a rule that keeps sizes.

    The example's inputs are the entries of `images` from `first_pixel` on, and `slopes`, (width,),
    the gradient of its products.
    """
    if len(parameters.first) == 0:
        _each(_by_size, parameters, images, first_pixel, begin, end, slopes, width, step)
    elif len(parameters.largest) == 0:
        _each(_by_both, parameters, images, first_pixel, begin, end, slopes, width, step)
    else:
        _each(_by_largest, parameters, images, first_pixel, begin, end, slopes, width, step)


@njit(inline="always")
def _each(take, parameters, images, first_pixel, begin, end, slopes, width, step):
    """`take` a step of every weight, a register of them at a time while there are as many."""
    weights, _, first, second, largest = parameters
    numbers = numbers_of(step)
    lanes = register_width(weights)
    whole = width - width % lanes
    for i in range(begin, end):
        x, row = at(images, first_pixel + i), i * width
        for j in range(0, whole, lanes):
            g = x * load_register(slopes, j)
            take(weights, first, second, largest, row + j, g, numbers, load_register)
        for j in range(whole, width):
            take(weights, first, second, largest, row + j, x * at(slopes, j), numbers, at)


# The steps of what begins at the entry `o`, of which `load` takes a register or a single number.


@njit(inline="always")
def _by_size(weights, first, second, largest, o, g, numbers, load):
    w, v = step_by_size(load(weights, o), g, load(second, o), numbers)
    store(weights, o, w)
    store(second, o, v)


@njit(inline="always")
def _by_both(weights, first, second, largest, o, g, numbers, load):
    w, m, v = step_by_both(load(weights, o), g, load(first, o), load(second, o), numbers)
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)


@njit(inline="always")
def _by_largest(weights, first, second, largest, o, g, numbers, load):
    w, m, v, u = step_by_largest(
        load(weights, o), g, load(first, o), load(second, o), load(largest, o), numbers
    )
    store(weights, o, w)
    store(first, o, m)
    store(second, o, v)
    store(largest, o, u)
