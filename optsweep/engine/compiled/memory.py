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


def _compiles_for(feature: str) -> bool:
    """Whether code is compiled for a feature of processors, part of the name it is kept under."""
    config: Any = numba.config
    if config.CPU_FEATURES is not None:  # another processor than this one
        return f"+{feature}" in config.CPU_FEATURES
    return bool(binding.get_host_cpu_features().get(feature))


_HAS_AVX512 = _compiles_for("avx512f")
_VECTOR_BYTES = 64 if _HAS_AVX512 else 32
# AVX2 permutes, but does not pack: there a table has each mask's permutation. As the compiler
# packs without it, one number after the other, an epoch at b = 256 took 0.32 instead of 0.21 s.
_PERMUTES = _compiles_for("avx2") and not _HAS_AVX512
_NAMES = {ir.FloatType(): "f32", ir.DoubleType(): "f64", ir.IntType(32): "i32"}


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
    floats = vector_type(array.dtype, num)

    def generate(context, builder, signature, arguments):
        array_value, offset, first_number, values_value, numbers_value, end = arguments
        place = pointer(context, builder, array, array_value, offset)
        place = builder.bitcast(place, floats.as_pointer())
        entries = builder.load(place, align=array.dtype.bitwidth // 8)
        used = builder.fcmp_unordered("!=", entries, ir.Constant(floats, None))
        first = spread(builder, builder.trunc(first_number, ir.IntType(32)), num)
        mask = builder.zext(builder.bitcast(used, ir.IntType(num)), ir.IntType(64))
        if _PERMUTES:
            packed, lanes = _permuted(builder, mask, entries)
        else:
            packed, lanes = _compressed(builder, used, entries)
        places = (
            (values, values_value, packed),
            (numbers, numbers_value, builder.add(first, lanes)),
        )
        for target, value, front in places:
            place = pointer(context, builder, target, value, end)
            builder.store(front, builder.bitcast(place, front.type.as_pointer()), align=4)
        return builder.add(end, builder.ctpop(mask))

    return types.intp(array, types.intp, types.intp, values, numbers, types.intp), generate


def _compressed(builder: Any, used: Any, entries: Any) -> list[Any]:
    """Entries (num,) whose bits are set in `used` (num of i1), and their lanes, in front."""
    num = entries.type.count
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), num), list(range(num)))
    packed = []
    for vector in (entries, lanes):
        kind = vector.type
        function = builder.module.declare_intrinsic(
            f"llvm.experimental.vector.compress.v{kind.count}{_NAMES[kind.element]}",
            (),
            ir.FunctionType(kind, [kind, used.type, kind]),
        )
        packed.append(builder.call(function, [vector, used, ir.Constant(kind, ir.Undefined)]))
    return packed


def _permuted(builder: Any, mask: Any, entries: Any) -> list[Any]:
    """The same by AVX2's permutation of eight words, with the bits as a number (i64)."""
    num = entries.type.count
    words_each = 8 // num  # of 32 bits in an entry
    order = [sorted(range(num), key=lambda lane: not bits >> lane & 1) for bits in range(2**num)]
    packed_lanes = words = _row_of(builder, f"optsweep.lanes.{num}", order, mask)
    if words_each > 1:
        table = [[words_each * i + k for i in front for k in range(words_each)] for front in order]
        words = _row_of(builder, f"optsweep.words.{num}", table, mask)
    floats = ir.VectorType(ir.FloatType(), 8)
    function_type = ir.FunctionType(floats, [floats, words.type])
    function = builder.module.declare_intrinsic("llvm.x86.avx2.permps", (), function_type)
    packed = builder.call(function, [builder.bitcast(entries, floats), words])
    return [builder.bitcast(packed, entries.type), packed_lanes]


def _row_of(builder: Any, name: str, table: list[list[int]], row: Any) -> Any:
    """A row of a table of constants, int32, as a vector."""
    kind = ir.VectorType(ir.IntType(32), len(table[0]))
    module = builder.module
    if name not in module.globals:
        rows = ir.ArrayType(kind, len(table))
        constant = ir.GlobalVariable(module, rows, name)
        constant.linkage, constant.global_constant = "internal", True
        constant.initializer = ir.Constant(rows, [ir.Constant(kind, entries) for entries in table])
    return builder.load(builder.gep(module.globals[name], [ir.Constant(row.type, 0), row]))


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
