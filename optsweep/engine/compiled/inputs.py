"""The first layer, nine tenths of the arithmetic, over the non-zero inputs alone.

Half of all pixels are exactly zero. With lists of the others, the layer's two products have
half the arithmetic of products of matrices, at nearly the same speed. Inputs are listed by
example for the product with the weights, and by input, block by block, for the gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.jit import compiled, inlined
from optsweep.engine.compiled.memory import (
    aligned,
    at,
    copy,
    pack,
    prefetch,
    put,
    transpose,
    vector_width,
)
from optsweep.engine.compiled.team import BLOCK, CHUNK, SHARES, inputs_of, meet, vectors_of
from optsweep.engine.compiled.vectors import (
    add_scaled,
    load_short,
    load_tile,
    load_vector,
    short_width,
    store,
    tile_width,
)

_AHEAD = 2  # examples that are fetched from memory before their turn


class Lists(NamedTuple):
    """The non-zero inputs of up to `CHUNK` examples, by example and by input.

    Inputs are counted in vectors of `vector_width`, the last of which may be shorter.

    Attributes:
        bounds: (CHUNK, vectors + 1) int64, where an example's inputs of each vector begin.
        ends: (CHUNK,) int64, where an example's list ends.
        starts: (CHUNK,) int64, the number of an example's first input among those of all images.
        inputs: (CHUNK * stride,) int32, the inputs of an example that are not zero.
        values: (CHUNK * stride,), their values.
        counts: (BLOCK,) int64, how many examples have an input of the present block.
        users: (BLOCK * CHUNK,) int32, which examples do.
        user_values: (BLOCK * CHUNK,), with what value.
        columns: (vector, CHUNK), inputs of one vector of all examples, zero or not.
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


def new_lists(num_inputs: int, dtype: np.dtype) -> Lists:
    """Room for the lists of `CHUNK` examples."""
    stride = num_inputs + 16  # whole vectors are written, of up to 16 numbers
    most_vectors = -(-num_inputs // 4)  # of at least 4 numbers
    return Lists(
        bounds=np.zeros((CHUNK, most_vectors + 1), np.int64),
        ends=np.zeros(CHUNK, np.int64),
        starts=np.zeros(CHUNK, np.int64),
        inputs=aligned(CHUNK * stride, np.dtype(np.int32)),
        values=aligned(CHUNK * stride, dtype),
        counts=np.zeros(BLOCK, np.int64),
        users=aligned(BLOCK * CHUNK, np.dtype(np.int32)),
        user_values=aligned(BLOCK * CHUNK, dtype),
        columns=aligned(16 * CHUNK, dtype),
    )


@compiled
def clear(lists, num_rows):
    """Empty the lists of the first `num_rows` examples."""
    stride = len(lists.inputs) // CHUNK
    for row in range(num_rows):
        lists.ends[row] = row * stride


@compiled
def list_inputs(lists, row, image, first_vector, last_vector):
    """Append the non-zero inputs of some vectors of an image, (inputs,), to the list of `row`."""
    width = vector_width(image)
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
def fetch(image, first_vector, last_vector):
    """Begin to fetch some vectors of an image that is listed soon: the order is random."""
    width = vector_width(image)
    for i in range(first_vector * width, min(last_vector * width, len(image)), width):
        prefetch(image, i)


@compiled
def list_users(lists, images, num_rows, first_vector, last_vector):
    """List the examples by their inputs of some vectors, at most `BLOCK` inputs.

    A vector of inputs of as many examples is transposed in registers and packed input by input:
    0.22 instead of 0.43 µs an example.
    """
    width = vector_width(images)
    num_inputs = images.shape[1]
    after = (num_rows + width - 1) // width * width
    lists.starts[num_rows:after] = lists.starts[0]  # something to read; its numbers are cleared
    columns, users, values = lists.columns, lists.users, lists.user_values
    for vector in range(first_vector, last_vector):
        column = vector * width
        i = (vector - first_vector) * width
        if column + width > num_inputs:
            _list_last_users(lists, images, num_rows, column, i)
            continue
        for row in range(0, after, width):
            transpose(images, lists.starts, row, column, columns, row, CHUNK)
        if num_rows < after:
            for k in range(width):
                columns[k * CHUNK + num_rows : k * CHUNK + after] = 0
        for k in range(width):
            begin = (i + k) * CHUNK
            end = begin
            for row in range(0, after, width):
                end = pack(columns, k * CHUNK + row, row, values, users, end)
            put(lists.counts, i + k, end - begin)


@compiled
def _list_last_users(lists, images, num_rows, column, i):
    """List the users of the last inputs, fewer than a vector, one by one."""
    for k in range(images.shape[1] - column):
        begin = (i + k) * CHUNK
        end = begin
        for row in range(num_rows):
            value = images.ravel()[lists.starts[row] + column + k]
            lists.users[end], lists.user_values[end] = row, value
            end += value != 0
        lists.counts[i + k] = end - begin


@inlined
def add_listed(out, o, table, width, indices, values, begin, end):
    """Add to a row of `out`, at `o`, the listed rows of `table`, each times its value.

    `table` (n, width) and `out` are flat; the list is that of `indices` and `values` from `begin`
    to `end`. A tile of the row at a time stays in registers while the list passes.
    """
    tile, vector, short = tile_width(table), vector_width(table), short_width(table)
    whole = width - width % tile
    for j in range(0, whole, tile):
        total = load_tile(out, o + j)
        for k in range(begin, end):
            row = at(indices, k) * width
            total = add_scaled(total, at(values, k), load_tile(table, row + j))
        store(out, o + j, total)
    fine = width - width % vector
    for j in range(whole, fine, vector):
        part = load_vector(out, o + j)
        for k in range(begin, end):
            row = at(indices, k) * width
            part = add_scaled(part, at(values, k), load_vector(table, row + j))
        store(out, o + j, part)
    finest = width - width % short
    for j in range(fine, finest, short):
        last = load_short(out, o + j)
        for k in range(begin, end):
            row = at(indices, k) * width
            last = add_scaled(last, at(values, k), load_short(table, row + j))
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
    step = BLOCK // vector_width(weight) if num_rows > 1 else last_vector - first_vector + 1
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
        begin = i * CHUNK
        end = begin + lists.counts[i]
        add_listed(out, i * width, delta, width, lists.users, lists.user_values, begin, end)


# A member's part of these: its shares.


@compiled
def list_examples(data, start, num_rows, work, dense):
    """List this member's inputs of the examples from `start` on, and the labels of all of them.

    They are also copied to `dense`, share by share (num_rows, inputs), unless that is empty.
    """
    images, order, lists, member = data.images, data.order, work.lists, work.member
    vector, num_inputs = vector_width(images), work.network.sizes[0]
    clear(lists, num_rows)
    for row in range(num_rows):
        example = start + row if len(order) == 0 else order[start + row]
        work.labels[row] = data.labels[example]
        lists.starts[row] = example * num_inputs
        ahead = start + row + _AHEAD
        for share in range(member.rank, SHARES, member.size):
            first, last = vectors_of(share, num_inputs, vector)
            if ahead < len(order):
                fetch(images[order[ahead]], first, last)
            list_inputs(lists, row, images[example], first, last)
            if len(dense) > 0:
                begin, end = inputs_of(share, num_inputs, vector)
                o = begin * num_rows + row * (end - begin)
                copy(images[example, begin:end], dense[o : o + end - begin])


@compiled
def multiply_shares(weight, num_rows, work, turn):
    """Products of the listed examples with the first layer's weights, share by share.

    The team has them in `turn`, 0 or 1, of its sums: at the other one a member may still be
    reading.
    """
    num_inputs, width = work.network.sizes[0], work.network.sizes[1]
    member, vector = work.member, vector_width(weight)
    for share in range(member.rank, SHARES, member.size):
        first, last = vectors_of(share, num_inputs, vector)
        out = work.shared.sums[turn, share]
        multiply_inputs(work.lists, num_rows, first, last, weight, width, out)
    meet(member)
