"""Arithmetic of numbers side by side is NumPy's, number by number."""

import math

import numpy as np
import pytest
from numba import njit

from optsweep.engine.compiled.memory import vector_width
from optsweep.engine.compiled.vectors import (
    SUMS,
    add_products,
    add_scaled,
    load_short,
    load_tile,
    load_vector,
    no_sums,
    short_width,
    store,
    sum_of,
    tile_width,
)

LOADS = {"tile": load_tile, "vector": load_vector, "short vector": load_short}
WIDTHS = {"tile": tile_width, "vector": vector_width, "short vector": short_width}
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_kind = pytest.mark.parametrize("kind", LOADS)
offsets = pytest.mark.parametrize("offset", [0, 1, 7])


def draw(num, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=num).astype(dtype)


def width_of(kind, dtype):
    width = WIDTHS[kind]
    # An intrinsic can be called from compiled code alone.
    return njit(lambda array: width(array))(np.zeros(1, dtype))  # noqa: PLW0108


def rounded_once(values, dtype):
    """A tolerance for what a processor may round once or twice: an operation and its sum."""
    return 2 * np.finfo(dtype).eps * np.abs(values).max()


@both_precisions
def test_a_tile_is_eight_vectors_and_a_short_one_half(dtype):
    vector = width_of("vector", dtype)
    assert width_of("tile", dtype) == 8 * vector
    assert 2 * width_of("short vector", dtype) == vector


@both_precisions
@every_kind
@offsets
def test_what_is_loaded_is_stored(dtype, kind, offset):
    load, width = LOADS[kind], width_of(kind, dtype)
    source, target = draw(width + 10, dtype), np.zeros(width + 10, dtype)

    @njit
    def move(source, o, target, p):
        store(target, p, load(source, o))

    move(source, offset, target, 3)
    expected = np.zeros_like(target)
    expected[3 : 3 + width] = source[offset : offset + width]
    assert np.array_equal(target, expected)


@both_precisions
def test_a_single_number_is_stored(dtype):
    target = np.zeros(5, dtype)
    njit(lambda target, value: store(target, 2, value))(target, dtype(7))
    assert np.array_equal(target, [0, 0, 7, 0, 0])


@both_precisions
@every_kind
@offsets
def test_adding_a_scaled_row(dtype, kind, offset):
    load, width = LOADS[kind], width_of(kind, dtype)
    row, out, scalar = draw(width + 10, dtype), draw(width + 10, dtype, 1), dtype(0.3)

    @njit
    def add(out, o, scalar, row, p):
        store(out, o, add_scaled(load(out, o), scalar, load(row, p)))

    expected = out.copy()
    expected[offset : offset + width] += scalar * row[2 : 2 + width]
    add(out, offset, scalar, row, 2)
    np.testing.assert_allclose(out, expected, rtol=0, atol=rounded_once(expected, dtype))


OPERATIONS = {
    "plus": (lambda x, y: x + y, np.add),
    "minus": (lambda x, y: x - y, np.subtract),
    "times": (lambda x, y: x * y, np.multiply),
    "by": (lambda x, y: x / y, np.divide),
    "max": (max, np.maximum),
}


@both_precisions
@pytest.mark.parametrize("kind", ["vector", "short vector"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operators_of_vectors_and_numbers(dtype, kind, name):
    load, width = LOADS[kind], width_of(kind, dtype)
    x, y, number = draw(width + 1, dtype), draw(width + 1, dtype, 1), dtype(0.3)
    operation = njit(OPERATIONS[name][0]) if name != "max" else max

    @njit
    def apply(x, y, number, out):
        vector, other = load(x, 1), load(y, 1)
        store(out, 0, operation(vector, other))
        store(out, len(x), operation(vector, number))
        store(out, 2 * len(x), operation(number, vector))

    out = np.zeros(3 * (width + 1), dtype)
    apply(x, y, number, out)
    twin = OPERATIONS[name][1]
    expected = twin(x, y), twin(x, number), twin(number, x)
    for found, values in zip(out.reshape(3, -1), expected, strict=True):
        assert np.array_equal(found[:width], values[1:])


@both_precisions
def test_the_largest_of_a_number_and_nan_that_comes_second_is_nan(dtype):
    """So that a gradient that is not a number shows in the largest moment."""
    width = width_of("vector", dtype)

    @njit
    def largest(x, y):
        store(x, 0, max(load_vector(x, 0), load_vector(y, 0)))

    out = np.ones(width, dtype)
    largest(out, np.full(width, np.nan, dtype))
    assert np.isnan(out).all()


@both_precisions
@pytest.mark.parametrize("kind", ["vector", "short vector"])
def test_roots(dtype, kind):
    load, width = LOADS[kind], width_of(kind, dtype)

    @njit
    def take(x):
        store(x, 1, math.sqrt(load(x, 1)))

    x = np.square(draw(width + 2, dtype))
    expected = x.copy()
    expected[1 : 1 + width] = np.sqrt(x[1 : 1 + width])
    take(x)
    assert np.array_equal(x, expected)


@njit
def scalar_product(x, o, y, p, num):
    total = no_sums(x)
    for i in range(0, num, SUMS):
        total = add_products(total, x, o + i, y, p + i)
    return sum_of(total)


@both_precisions
@offsets
@pytest.mark.parametrize("num", [0, SUMS, 5 * SUMS])
def test_sums_of_products(dtype, offset, num):
    x, y = draw(60, dtype), draw(60, dtype, 1)
    products = x[offset : offset + num] * y[3 : 3 + num]
    sums = products.reshape(-1, SUMS).sum(0)
    while len(sums) > 1:  # by halves
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    found = scalar_product(x, offset, y, 3, num)
    # Five roundings of partial sums, none of which is larger than the sum of absolute products.
    bound = 8 * np.finfo(dtype).eps * np.abs(products).sum()
    assert abs(found - sums[0]) <= bound
