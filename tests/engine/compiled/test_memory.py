"""What compiled loops read and write without checks does what plain indexing does."""

import numpy as np
import pytest
from numba import njit, types

from optsweep.engine.compiled.memory import (
    aligned,
    at,
    copy,
    pack,
    prefetch,
    put,
    read_shared,
    size_of_vector,
    transpose,
    vector_width,
    write_shared,
)

NUMBA = {np.float32: types.float32, np.float64: types.float64}
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def draw(shape, dtype, zeros=0.5):
    generator = np.random.default_rng(0)
    values = generator.normal(size=shape).astype(dtype)
    values[generator.random(shape) < zeros] = 0
    return values


@njit
def call_at(array, offset):
    return at(array, offset)


@njit
def call_put(array, offset, value):
    put(array, offset, value)


@njit
def call_copy(source, target):
    copy(source, target)


@njit
def call_prefetch(array, offset):
    prefetch(array, offset)


@njit
def call_vector_width(array):
    return vector_width(array)


@njit
def call_pack(array, offset, first_number, values, numbers, end):
    return pack(array, offset, first_number, values, numbers, end)


@njit
def call_transpose(array, offsets, first, column, out, place, stride):
    transpose(array, offsets, first, column, out, place, stride)


@njit
def call_write_and_read(array, offset, value):
    write_shared(array, offset, value)
    return read_shared(array, offset)


@both_precisions
def test_entries_are_counted_through_all_rows(dtype):
    array = draw((3, 5), dtype, zeros=0)
    assert [call_at(array, offset) for offset in range(15)] == list(array.ravel())
    expected = array.copy()
    expected[1, 2] = 7
    call_put(array, 7, dtype(7))
    assert np.array_equal(array, expected)


@both_precisions
def test_a_copy_leaves_what_is_behind_it(dtype):
    source, target = draw(13, dtype), np.full(20, dtype(7))
    call_copy(source, target[3:16])
    assert np.array_equal(target, [7, 7, 7, *source, 7, 7, 7, 7])


@both_precisions
def test_fetching_changes_nothing(dtype):
    array = draw(40, dtype)
    expected = array.copy()
    for offset in range(40):
        call_prefetch(array, offset)
    assert np.array_equal(array, expected)


@both_precisions
def test_a_vector_is_a_power_of_two_of_numbers(dtype):
    width = call_vector_width(draw(1, dtype))
    assert width == size_of_vector(NUMBA[dtype])
    assert width * np.dtype(dtype).itemsize in (32, 64)


@both_precisions
@pytest.mark.parametrize("zeros", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("offset", [0, 1, 5])
def test_packing_is_what_nonzero_does(dtype, zeros, offset):
    array = draw(40, dtype, zeros)
    array[offset : offset + 3] = [-0.0, np.nan, np.inf]  # minus zero is zero; NaN is not
    width = call_vector_width(array)
    entries = array[offset : offset + width]
    (listed,) = np.nonzero(entries)
    values, numbers = np.full(40, dtype(7)), np.full(40, 7, np.int32)
    end = call_pack(array, offset, 100, values, numbers, 3)
    assert end == 3 + len(listed)
    assert np.array_equal(values[3:end], entries[listed], equal_nan=True)
    assert np.array_equal(numbers[3:end], 100 + listed)
    for target in (values, numbers):  # no more than a vector is written
        assert set(target[:3]) == set(target[3 + width :]) == {7}


@both_precisions
@pytest.mark.parametrize(("first", "column", "place", "extra"), [(0, 0, 0, 0), (2, 3, 5, 1)])
def test_rows_become_columns(dtype, first, column, place, extra):
    width = call_vector_width(draw(1, dtype))
    images = draw((width + 4, width + 7), dtype)
    rows = np.random.default_rng(1).permutation(len(images))
    stride = width + extra
    out = np.full(place + stride * width, dtype(7))
    call_transpose(images, rows * images.shape[1], first, column, out, place, stride)
    expected = np.full_like(out, 7)
    chosen = images[rows[first : first + width], column : column + width]
    expected[place:].reshape(width, stride)[:, :width] = chosen.T
    assert np.array_equal(out, expected)


def test_shared_numbers_are_written_where_they_are_read():
    array = np.arange(5)
    assert call_write_and_read(array, 3, 10) == 10
    assert np.array_equal(array, [0, 1, 2, 10, 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_aligned_zeros_begin_a_cache_line(dtype):
    arrays = [aligned(shape, np.dtype(dtype)) for shape in (1, 7, (3, 5), 1000)]
    assert all(array.ctypes.data % 64 == 0 and not array.any() for array in arrays)
    assert [array.dtype for array in arrays] == [dtype] * 4
