"""Arithmetic of numbers side by side: what compiled loops cannot say in plain Python.

The compiler makes vectors of most loops by itself. But it does not keep a row of sums in the
processor's registers while other rows are added to it, nor may it reorder a sum; kernels that
need either are written with the functions below. A tile is a row of eight vectors, a short
vector half of one. Offsets count entries of a flat array and are not checked.
`tests/engine/compiled/test_vectors.py` has a NumPy twin of each function.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, models, register_model, type_callable

from optsweep.engine.compiled.jit import generated
from optsweep.engine.compiled.memory import pointer, size_of_vector, spread, vector_type

_TILE_VECTORS = 8  # half of AVX2's registers; as many sums hide the latency of an addition
SUMS = 8  # in a group of sums; the widths of most layers are multiples


class Vector(types.Type):
    """`num` numbers of one type, numba's float32 or float64."""

    def __init__(self, dtype: types.Float, num: int) -> None:
        """Any power of two: the compiler uses as many registers as the numbers fill."""
        self.dtype = dtype
        self.num = num
        super().__init__(name=f"Vector({dtype}, {num})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector_type(vector.dtype, vector.num))


def _tile(dtype: types.Float) -> Vector:
    return Vector(dtype, _TILE_VECTORS * size_of_vector(dtype))


def _whole(dtype: types.Float) -> Vector:
    return Vector(dtype, size_of_vector(dtype))


def _short(dtype: types.Float) -> Vector:
    return Vector(dtype, size_of_vector(dtype) // 2)


def _place(context: Any, builder: Any, kind: Vector, *entry: Any) -> Any:
    vector = context.get_value_type(kind)
    return builder.bitcast(pointer(context, builder, *entry), vector.as_pointer())


def _call(builder: Any, name: str, kind: Vector, *vectors: Any) -> Any:
    name = f"llvm.{name}.v{kind.num}f{kind.dtype.bitwidth}"
    value_type = vectors[0].type
    function_type = ir.FunctionType(value_type, [value_type] * len(vectors))
    return builder.call(builder.module.declare_intrinsic(name, (), function_type), vectors)


def _width_of(kind_of: Callable[[types.Float], Vector]) -> Any:
    def width(typingctx, array):
        def generate(context, builder, signature, arguments):
            return context.get_constant(types.intp, kind_of(array.dtype).num)

        return types.intp(array), generate

    return generated(width)


def _load_of(kind_of: Callable[[types.Float], Vector]) -> Any:
    def load(typingctx, array, offset):
        kind = kind_of(array.dtype)

        def generate(context, builder, signature, arguments):
            place = _place(context, builder, kind, array, *arguments)
            return builder.load(place, align=array.dtype.bitwidth // 8)

        return kind(array, types.intp), generate

    return generated(load)


# Numbers of the array's type in a tile and in a short vector (those in a vector:
# `memory.vector_width`), and the tile, vector or short vector that begins at an offset.
tile_width, short_width = map(_width_of, (_tile, _short))
load_tile, load_vector, load_short = map(_load_of, (_tile, _whole, _short))


@generated
def store(typingctx, array, offset, numbers):
    """Write a tile, a vector or a single number to the entries that begin at `offset`."""

    def generate(context, builder, signature, arguments):
        place = builder.bitcast(
            pointer(context, builder, array, *arguments[:2]), arguments[2].type.as_pointer()
        )
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, numbers), generate


@generated
def add_scaled(typingctx, total, scalar, vector):
    """`total` plus `scalar` times every number of a vector, rounded once where it can be."""

    def generate(context, builder, signature, arguments):
        factor = spread(builder, arguments[1], vector.num)
        return _call(builder, "fmuladd", vector, factor, arguments[2], arguments[0])

    return vector(vector, vector.dtype, vector), generate


def _define(function: Callable[..., Any], generate: Callable[..., Any]) -> None:
    """Have a function of two numbers take two vectors too, or a vector and a number for all."""

    @type_callable(function)
    def type_of(context):
        def typer(one, other):
            vector = one if isinstance(one, Vector) else other
            known = isinstance(vector, Vector) and {one, other} <= {vector, vector.dtype}
            return vector if known else None

        return typer

    def lower(context, builder, signature, arguments):
        vector = signature.return_type
        values = (
            value if kind == vector else spread(builder, value, vector.num)
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        return generate(builder, *values)

    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(function, *kinds)(lower)


def _greater(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


_define(operator.add, ir.IRBuilder.fadd)
_define(operator.sub, ir.IRBuilder.fsub)
_define(operator.mul, ir.IRBuilder.fmul)
_define(operator.truediv, ir.IRBuilder.fdiv)
_define(max, _greater)


@type_callable(math.sqrt)
def _type_of_root(context: Any) -> Callable[[Any], Any]:
    def typer(one):
        return one if isinstance(one, Vector) else None

    return typer


@lower_builtin(math.sqrt, Vector)
def _root(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return _call(builder, "sqrt", signature.return_type, *arguments)


@generated
def no_sums(typingctx, array):
    """A group of `SUMS` sums, all zero, of the array's type."""
    sums = Vector(array.dtype, SUMS)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(sums), None)

    return sums(array), generate


@generated
def add_products(typingctx, total, one, one_offset, other, other_offset):
    """Add the products of `SUMS` entries of two arrays to a group of sums."""

    def generate(context, builder, signature, arguments):
        factors = [
            builder.load(_place(context, builder, total, *entry), align=total.dtype.bitwidth // 8)
            for entry in ((one, *arguments[1:3]), (other, *arguments[3:5]))
        ]
        return _call(builder, "fmuladd", total, *factors, arguments[0])

    return total(total, one, types.intp, other, types.intp), generate


@generated
def sum_of(typingctx, sums):
    """The sum of a group of sums, by halves."""

    def generate(context, builder, signature, arguments):
        (total,) = arguments
        num = sums.num
        while num > 1:
            num //= 2
            low, high = (
                ir.Constant(ir.VectorType(ir.IntType(32), num), list(range(start, start + num)))
                for start in (0, num)
            )
            empty = ir.Constant(total.type, ir.Undefined)
            halves = [builder.shuffle_vector(total, empty, half) for half in (low, high)]
            total = builder.fadd(*halves)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return sums.dtype(sums), generate
