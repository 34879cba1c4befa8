"""Products over lists of what is not zero are products of matrices."""

import numpy as np
import pytest
from numba import njit

from optsweep.engine.compiled.inputs import (
    add_input_gradient,
    add_listed,
    clear,
    list_inputs,
    list_users,
    multiply_inputs,
    new_lists,
)
from optsweep.engine.compiled.memory import vector_width
from optsweep.engine.compiled.team import BLOCK

both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])
widths = pytest.mark.parametrize("width", [1, 7, 10, 56, 130, 257])
num_rows = pytest.mark.parametrize("num_rows", [1, 3, 33, 64])


def draw(shape, dtype, zeros=0.0, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=shape).astype(dtype)
    values[generator.random(shape) < zeros] = 0
    return values


def assert_close(found, expected, num_terms, dtype):
    """Sums of `num_terms` products of numbers of about 1, added in another order."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=20 * num_terms * np.finfo(dtype).eps)


@njit
def multiply(images, lists, weight, width, out):
    num_rows, num_inputs = images.shape
    vectors = -(-num_inputs // vector_width(images))
    clear(lists, num_rows)
    for row in range(num_rows):
        list_inputs(lists, row, images[row], 0, vectors)
    multiply_inputs(lists, num_rows, 0, vectors, weight, width, out)


@njit
def multiply_transposed(images, rows, lists, deltas, width, out):
    num_inputs, vector = images.shape[1], vector_width(images)
    vectors = -(-num_inputs // vector)
    for row in range(len(rows)):
        lists.starts[row] = rows[row] * num_inputs
    for block in range(0, vectors, BLOCK // vector):
        after = min(block + BLOCK // vector, vectors)
        begin, end = block * vector, min(after * vector, num_inputs)
        list_users(lists, images, len(rows), block, after)
        part = out[begin * width : end * width]
        add_input_gradient(lists, end - begin, deltas, width, part)


@both_precisions
@widths
@num_rows
@pytest.mark.parametrize("zeros", [0.0, 0.5, 1.0])
def test_the_product_with_the_weights(dtype, width, num_rows, zeros):
    images = draw((num_rows, 37), dtype, zeros)
    weight = draw((37, width), dtype, seed=1)
    out = np.full(num_rows * width, dtype(7))
    multiply(images, new_lists(37, np.dtype(dtype)), weight.ravel(), width, out)
    assert_close(out.reshape(num_rows, width), images @ weight, 37, dtype)


@both_precisions
@widths
@num_rows
@pytest.mark.parametrize(("num_inputs", "zeros"), [(1, 0.0), (37, 0.5), (130, 0.9), (130, 0.0)])
def test_the_gradient_of_the_weights(dtype, width, num_rows, num_inputs, zeros):
    images = draw((70, num_inputs), dtype, zeros)
    rows = np.random.default_rng(1).permutation(70)[:num_rows]
    deltas = draw((num_rows, width), dtype, seed=2)
    before = draw((num_inputs, width), dtype, seed=3)
    out = before.ravel().copy()
    lists = new_lists(num_inputs, np.dtype(dtype))
    multiply_transposed(images, rows, lists, deltas.ravel(), width, out)
    expected = before + images[rows].T @ deltas
    assert_close(out.reshape(num_inputs, width), expected, num_rows, dtype)


@njit
def call_add_listed(out, o, table, width, indices, values, begin, end):
    add_listed(out, o, table, width, indices, values, begin, end)


@both_precisions
@widths
def test_listed_rows_are_added_to_one_row_alone(dtype, width):
    table, out = draw((9, width), dtype), draw(width + 8, dtype, seed=1)
    indices, values = np.array([8, 0, 3, 3, 5], np.int32), draw(5, dtype, seed=2)
    expected = out.copy()
    expected[5 : 5 + width] += values[1:4] @ table[indices[1:4]]
    call_add_listed(out, 5, table.ravel(), width, indices, values, 1, 4)
    assert_close(out, expected, 4, dtype)
    assert np.array_equal(out[:5], expected[:5])
    assert np.array_equal(out[5 + width :], expected[5 + width :])
