"""Access to flat arrays without the checks of Python's indexing, and what it cannot say.

Offsets count entries and are not checked. `tests/engine/compiled/test_memory.py` has a plain twin
of each function.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import binding, ir
from numba import types

from optsweep.engine.compiled.jit import compiled, generated


def _has_avx512() -> bool:
    """Whether code is compiled for AVX-512, which is part of the name under which it is kept."""
    config: Any = numba.config
    if config.CPU_FEATURES is not None:  # another processor than this one
        return "+avx512f" in config.CPU_FEATURES
    return bool(binding.get_host_cpu_features().get("avx512f"))


_VECTOR_BYTES = 64 if _has_avx512() else 32


def aligned(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin where a cache line does, so that few vectors lie across two of them."""
    return torch.zeros(shape, dtype=getattr(torch, dtype.name)).numpy()


def size_of_vector(dtype: types.Float) -> int:
    """Numbers of a type, numba's float32 or float64, that one instruction works on."""
    return _VECTOR_BYTES * 8 // dtype.bitwidth


def vector_type(dtype: types.Float, num: int) -> ir.VectorType:
    """A vector of the compiler's, which it puts into as many registers as it takes."""
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), num)


def pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Where an entry is."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def spread(builder: Any, scalar: Any, num: int) -> Any:
    """A vector whose every entry is `scalar`."""
    empty = ir.Constant(ir.VectorType(scalar.type, num), ir.Undefined)
    one = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), num), [0] * num)
    return builder.shuffle_vector(one, empty, zeros)


@compiled
def copy(source, target):
    """Copy one row of numbers to another.

    An assignment of a slice to a slice would have its error messages compiled, for four seconds.
    """
    for i in range(len(source)):
        target[i] = source[i]


@generated
def at(typingctx, array, offset):
    """The entry at `offset`."""

    def generate(context, builder, signature, arguments):
        return builder.load(pointer(context, builder, array, *arguments))

    return array.dtype(array, types.intp), generate


@generated
def put(typingctx, array, offset, value):
    """Write the entry at `offset`."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], pointer(context, builder, array, *arguments[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@generated
def prefetch(typingctx, array, offset):
    """Have the cache line of the entry at `offset` fetched into the second-level cache."""

    def generate(context, builder, signature, arguments):
        place = pointer(context, builder, array, *arguments)
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), function_type)
        reading, second_level, data = (ir.Constant(number, value) for value in (0, 2, 1))
        builder.call(function, [place, reading, second_level, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@generated
def read_shared(typingctx, array, offset):
    """Read an int64 that another thread may write, and then all that it wrote before."""

    def generate(context, builder, signature, arguments):
        place = pointer(context, builder, array, *arguments)
        return builder.load_atomic(place, "acquire", align=8)

    return types.int64(array, types.intp), generate


@generated
def write_shared(typingctx, array, offset, value):
    """Write an int64 that other threads read, after all that was written before."""

    def generate(context, builder, signature, arguments):
        place = pointer(context, builder, array, *arguments[:2])
        builder.store_atomic(arguments[2], place, "release", align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@generated
def vector_width(typingctx, array):
    """Numbers of the array's type in a vector."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, size_of_vector(array.dtype))

    return types.intp(array), generate


@generated
def pack(typingctx, array, offset, first_number, values, numbers, end):
    """Append the non-zero entries of a vector to a list; return the list's new end.

    The entries, from `offset` on, go to `values`, and their numbers, counted from `first_number`,
    to the int32 `numbers`. Both need room for all of the entries: what stands behind the new end
    is undefined.
    """
    num = size_of_vector(array.dtype)
    kinds = {
        f"f{array.dtype.bitwidth}": vector_type(array.dtype, num),
        "i32": ir.VectorType(ir.IntType(32), num),
    }
    bits = ir.VectorType(ir.IntType(1), num)

    def generate(context, builder, signature, arguments):
        floats, integers = kinds.values()
        place = pointer(context, builder, array, *arguments[:2])
        place = builder.bitcast(place, floats.as_pointer())
        entries = builder.load(place, align=array.dtype.bitwidth // 8)
        used = builder.fcmp_unordered("!=", entries, ir.Constant(floats, None))
        first = spread(builder, builder.trunc(arguments[2], ir.IntType(32)), num)
        counted = builder.add(first, ir.Constant(integers, list(range(num))))
        for (name, kind), vector, target, value in zip(
            kinds.items(), (entries, counted), (values, numbers), arguments[3:5], strict=True
        ):
            function = builder.module.declare_intrinsic(
                f"llvm.experimental.vector.compress.v{num}{name}",
                (),
                ir.FunctionType(kind, [kind, bits, kind]),
            )
            packed = builder.call(function, [vector, used, ir.Constant(kind, ir.Undefined)])
            place = pointer(context, builder, target, value, arguments[5])
            builder.store(packed, builder.bitcast(place, kind.as_pointer()), align=4)
        mask = builder.zext(builder.bitcast(used, ir.IntType(num)), ir.IntType(64))
        return builder.add(arguments[5], builder.ctpop(mask))

    return types.intp(array, types.intp, types.intp, values, numbers, types.intp), generate


@generated
def transpose(typingctx, array, offsets, first, column, out, place, stride):
    """Write as many columns of `array` as a vector has numbers, and of as many rows, as rows.

    Row k begins at the entry `offsets[first + k]` of the array, and its columns are those from
    `column` on. Column k becomes the entries of `out` from `place + k * stride` on.
    """
    num = size_of_vector(array.dtype)
    kind = vector_type(array.dtype, num)
    align = array.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        array_value, offsets_value, first, column, out_value, place, stride = arguments
        rows = []
        for k in range(num):
            index = builder.add(first, ir.Constant(first.type, k))
            offset = builder.load(pointer(context, builder, offsets, offsets_value, index))
            start = builder.add(offset, column)
            source = pointer(context, builder, array, array_value, start)
            rows.append(builder.load(builder.bitcast(source, kind.as_pointer()), align=align))
        block = 1
        while block < num:  # swap the off-diagonal blocks of every square of 2 x 2 blocks
            low = [k if not k & block else num + k - block for k in range(num)]
            high = [k + block if not k & block else num + k for k in range(num)]
            masks = [ir.Constant(ir.VectorType(ir.IntType(32), num), m) for m in (low, high)]
            for k in range(num):
                if not k & block:
                    pair = rows[k], rows[k + block]
                    rows[k], rows[k + block] = (
                        builder.shuffle_vector(*pair, mask) for mask in masks
                    )
            block *= 2
        for row in rows:
            target = builder.bitcast(
                pointer(context, builder, out, out_value, place), kind.as_pointer()
            )
            builder.store(row, target, align=align)
            place = builder.add(place, stride)
        return context.get_dummy_value()

    signature = types.void(array, offsets, types.intp, types.intp, out, types.intp, types.intp)
    return signature, generate
