"""The first layer, nine tenths of the arithmetic, over the non-zero inputs alone.

Half of all pixels are exactly zero. With lists of the others, the layer's two products have
half the arithmetic of products of matrices, at nearly the same speed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

from optsweep.engine.compiled.jit import compiled
from optsweep.engine.compiled.lanes import (
    add_scaled,
    half_width,
    load,
    load_half,
    load_register,
    register_width,
    store,
    tile_width,
)
from optsweep.engine.compiled.memory import at, pack, pack_width, prefetch, put, transpose

# Examples that pass through the network together: their lists, the weights and the gradient
# share the second-level cache.
ROWS = 64
# Inputs whose rows of 128 weights stay in the first-level cache while all examples pass.
BLOCK = 48


class Lists(NamedTuple):
    """The non-zero inputs of up to `ROWS` examples, by example and by input.

    Inputs are counted in vectors of `pack_width`, the last of which may be shorter.

    Attributes:
        bounds: (ROWS, vectors + 1) int64, where an example's inputs of each vector begin.
        ends: (ROWS,) int64, where an example's list ends.
        starts: (ROWS,) int64, the number of an example's first input among those of all images.
        inputs: (ROWS * stride,) int32, the inputs of an example that are not zero.
        values: (ROWS * stride,), their values.
        counts: (BLOCK,) int64, how many examples have an input of the present block.
        users: (BLOCK * ROWS,) int32, which examples do.
        user_values: (BLOCK * ROWS,), with what value.
        columns: (vector, ROWS), inputs of one vector of all examples, zero or not.
    """

    bounds: Any
    ends: Any
    starts: Any
    inputs: Any
    values: Any
    counts: Any
    users: Any
    user_values: Any
    columns: Any


def aligned(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin where a cache line does, so that few vectors lie across two of them."""
    return torch.zeros(shape, dtype=getattr(torch, dtype.name)).numpy()


def new_lists(num_inputs: int, dtype: np.dtype) -> Lists:
    """Room for the lists of `ROWS` examples."""
    stride = num_inputs + 16  # whole vectors are written, of up to 16 numbers
    most_vectors = -(-num_inputs // 4)  # of at least 4 numbers
    return Lists(
        bounds=np.zeros((ROWS, most_vectors + 1), np.int64),
        ends=np.zeros(ROWS, np.int64),
        starts=np.zeros(ROWS, np.int64),
        inputs=aligned(ROWS * stride, np.dtype(np.int32)),
        values=aligned(ROWS * stride, dtype),
        counts=np.zeros(BLOCK, np.int64),
        users=aligned(BLOCK * ROWS, np.dtype(np.int32)),
        user_values=aligned(BLOCK * ROWS, dtype),
        columns=aligned(16 * ROWS, dtype),
    )


@compiled
def clear(lists, num_rows):
    """Empty the lists of the first `num_rows` examples."""
    stride = len(lists.inputs) // ROWS
    for row in range(num_rows):
        lists.ends[row] = row * stride


@compiled
def collect(lists, row, image, first_vector, last_vector):
    """Append the non-zero inputs of some vectors of an image, (inputs,), to the list of `row`."""
    width = pack_width(image)
    end = lists.ends[row]
    for vector in range(first_vector, last_vector):
        lists.bounds[row, vector] = end
        first = vector * width
        if first + width <= len(image):
            end = pack(image, first, first, lists.values, lists.inputs, end)
        else:
            for i in range(first, len(image)):
                lists.values[end], lists.inputs[end] = image[i], i
                end += image[i] != 0
    lists.bounds[row, last_vector] = end
    lists.ends[row] = end


@compiled
def expect(image, first_vector, last_vector):
    """Begin to fetch some vectors of an image that is listed soon: the order is random."""
    width = pack_width(image)
    for i in range(first_vector * width, min(last_vector * width, len(image)), width):
        prefetch(image, i)


@compiled
def collect_users(lists, images, num_rows, first_vector, last_vector):
    """List the examples by their inputs of some vectors, at most `BLOCK` inputs.

    A vector of inputs of as many examples is transposed in registers and packed input by input:
    0.22 instead of 0.43 µs an example.
    """
    width = pack_width(images)
    num_inputs = images.shape[1]
    after = (num_rows + width - 1) // width * width
    lists.starts[num_rows:after] = lists.starts[0]  # something to read; its numbers are cleared
    columns, users, values = lists.columns, lists.users, lists.user_values
    for vector in range(first_vector, last_vector):
        column = vector * width
        i = (vector - first_vector) * width
        if column + width > num_inputs:
            _collect_last_users(lists, images, num_rows, column, i)
            continue
        for row in range(0, after, width):
            transpose(images, lists.starts, row, column, columns, row, ROWS)
        if num_rows < after:
            for k in range(width):
                columns[k * ROWS + num_rows : k * ROWS + after] = 0
        for k in range(width):
            begin = (i + k) * ROWS
            end = begin
            for row in range(0, after, width):
                end = pack(columns, k * ROWS + row, row, values, users, end)
            put(lists.counts, i + k, end - begin)


@compiled
def _collect_last_users(lists, images, num_rows, column, i):
    """List the users of the last inputs, fewer than a vector, one by one."""
    for k in range(images.shape[1] - column):
        begin = (i + k) * ROWS
        end = begin
        for row in range(num_rows):
            value = images.ravel()[lists.starts[row] + column + k]
            lists.users[end], lists.user_values[end] = row, value
            end += value != 0
        lists.counts[i + k] = end - begin


@njit(inline="always")
def add_listed(out, o, table, width, indices, values, begin, end):
    """Add to a row of `out`, at `o`, the listed rows of `table`, each times its value."""
    tile, register = tile_width(table), register_width(table)
    whole = width - width % tile
    for j in range(0, whole, tile):
        total = load(out, o + j)
        for k in range(begin, end):
            row = at(indices, k) * width
            total = add_scaled(total, at(values, k), load(table, row + j))
        store(out, o + j, total)
    fine = width - width % register
    for j in range(whole, fine, register):
        total = load_register(out, o + j)
        for k in range(begin, end):
            row = at(indices, k) * width
            total = add_scaled(total, at(values, k), load_register(table, row + j))
        store(out, o + j, total)
    half = half_width(table)
    finest = width - width % half
    for j in range(fine, finest, half):
        last = load_half(out, o + j)
        for k in range(begin, end):
            row = at(indices, k) * width
            last = add_scaled(last, at(values, k), load_half(table, row + j))
        store(out, o + j, last)
    if finest < width:
        for k in range(begin, end):
            row = at(indices, k) * width
            for j in range(finest, width):
                out[o + j] += values[k] * table[row + j]


@compiled
def multiply_inputs(lists, num_rows, first_vector, last_vector, weight, width, out):
    """Product of the listed examples with the weights of some vectors of inputs.

    `weight` (in, width) and `out` (n, width) are flat.
    """
    out[: num_rows * width] = 0
    step = BLOCK // pack_width(weight) if num_rows > 1 else last_vector - first_vector + 1
    for first in range(first_vector, last_vector, step):
        last = min(first + step, last_vector)
        for row in range(num_rows):
            begin, end = lists.bounds[row, first], lists.bounds[row, last]
            add_listed(out, row * width, weight, width, lists.inputs, lists.values, begin, end)


@compiled
def add_shares(sums, begin, end, out):
    """Add up the products of all shares from `begin` to `end`: `sums` is (4, ...)."""
    sum0, sum1, sum2, sum3 = (
        sums[0, begin:end], sums[1, begin:end], sums[2, begin:end], sums[3, begin:end],
    )  # fmt: skip
    total = out[begin:end]
    for i in range(len(total)):
        total[i] = (sum0[i] + sum1[i]) + (sum2[i] + sum3[i])


@compiled
def add_input_gradient(lists, num_inputs, delta, width, out):
    """Add the gradient of the weights of the present block's inputs: (in, n) @ (n, width).

    `delta` (n, width), the gradient of the product, and `out` (in, width) are flat.
    """
    for i in range(num_inputs):
        begin = i * ROWS
        end = begin + lists.counts[i]
        add_listed(out, i * width, delta, width, lists.users, lists.user_values, begin, end)
