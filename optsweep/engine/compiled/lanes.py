"""Numbers side by side in registers: what compiled loops cannot say in plain Python.

The compiler makes vectors of most loops by itself. But it does not keep a row of sums in
registers while other rows are added to it, nor may it reorder a sum; kernels that need either
are written with the functions below. Offsets count entries of a flat array and are not checked.
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
from optsweep.engine.compiled.memory import pointer, register_size, spread, vector_type

_TILE_REGISTERS = 8  # half of what AVX2 has; as many sums hide the latency of an addition


class Lanes(types.Type):
    """`num` numbers of one type, numba's float32 or float64."""

    def __init__(self, dtype: types.Float, num: int) -> None:
        """A tile is a row of eight registers: 128 float32 with AVX-512."""
        self.dtype = dtype
        self.num = num
        super().__init__(name=f"Lanes({dtype}, {num})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, vector_type(lanes.dtype, lanes.num))


def _tile(dtype: types.Float) -> Lanes:
    return Lanes(dtype, _TILE_REGISTERS * register_size(dtype))


def _sums(dtype: types.Float) -> Lanes:
    return Lanes(dtype, 8)  # of which the widths of most layers are multiples


def _place(context: Any, builder: Any, lanes: Lanes, *entry: Any) -> Any:
    vector = context.get_value_type(lanes)
    return builder.bitcast(pointer(context, builder, *entry), vector.as_pointer())


def _call(builder: Any, name: str, lanes: Lanes, *vectors: Any) -> Any:
    name = f"llvm.{name}.v{lanes.num}f{lanes.dtype.bitwidth}"
    kind = vectors[0].type
    function_type = ir.FunctionType(kind, [kind] * len(vectors))
    return builder.call(builder.module.declare_intrinsic(name, (), function_type), vectors)


def _register(dtype: types.Float) -> Lanes:
    return Lanes(dtype, register_size(dtype))


def _half(dtype: types.Float) -> Lanes:
    return Lanes(dtype, register_size(dtype) // 2)


def _width_of(kind: Callable[[types.Float], Lanes]) -> Any:
    def width(typingctx, array):
        def generate(context, builder, signature, arguments):
            return context.get_constant(types.intp, kind(array.dtype).num)

        return types.intp(array), generate

    return generated(width)


def _load_of(kind: Callable[[types.Float], Lanes]) -> Any:
    def load(typingctx, array, offset):
        lanes = kind(array.dtype)

        def generate(context, builder, signature, arguments):
            place = _place(context, builder, lanes, array, *arguments)
            return builder.load(place, align=array.dtype.bitwidth // 8)

        return lanes(array, types.intp), generate

    return generated(load)


# Numbers in a tile, a register and half a register of an array's type; and those that begin at
# an offset of the array.
tile_width, register_width, half_width = map(_width_of, (_tile, _register, _half))
load, load_register, load_half = map(_load_of, (_tile, _register, _half))


@generated
def store(typingctx, array, offset, numbers):
    """Write a tile, a register or a single number to the entries that begin at `offset`."""

    def generate(context, builder, signature, arguments):
        place = builder.bitcast(
            pointer(context, builder, array, *arguments[:2]), arguments[2].type.as_pointer()
        )
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, numbers), generate


@generated
def add_scaled(typingctx, total, scalar, tile):
    """`total` plus `scalar` times every number of a tile."""

    def generate(context, builder, signature, arguments):
        factor = spread(builder, arguments[1], tile.num)
        return _call(builder, "fmuladd", tile, factor, arguments[2], arguments[0])

    return tile(tile, tile.dtype, tile), generate


def _define(function: Callable[..., Any], generate: Callable[..., Any]) -> None:
    """Have a function of two numbers take lanes too, or lanes and a number for each of them."""

    @type_callable(function)
    def type_of(context):
        def typer(one, other):
            lanes = one if isinstance(one, Lanes) else other
            known = isinstance(lanes, Lanes) and {one, other} <= {lanes, lanes.dtype}
            return lanes if known else None

        return typer

    def lower(context, builder, signature, arguments):
        lanes = signature.return_type
        vectors = (
            value if kind == lanes else spread(builder, value, lanes.num)
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        return generate(builder, *vectors)

    for kinds in ((Lanes, Lanes), (Lanes, types.Float), (types.Float, Lanes)):
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
        return one if isinstance(one, Lanes) else None

    return typer


@lower_builtin(math.sqrt, Lanes)
def _root(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return _call(builder, "sqrt", signature.return_type, *arguments)


@generated
def sum_width(typingctx, array):
    """Numbers in a group of sums of the array's type."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, _sums(array.dtype).num)

    return types.intp(array), generate


@generated
def no_sums(typingctx, array):
    """A group of sums, all zero, of the array's type."""
    lanes = _sums(array.dtype)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(lanes), None)

    return lanes(array), generate


@generated
def add_products(typingctx, total, one, one_offset, other, other_offset):
    """Add the products of the entries of two arrays to a group of sums."""

    def generate(context, builder, signature, arguments):
        factors = [
            builder.load(_place(context, builder, total, *entry), align=total.dtype.bitwidth // 8)
            for entry in ((one, *arguments[1:3]), (other, *arguments[3:5]))
        ]
        return _call(builder, "fmuladd", total, *factors, arguments[0])

    return total(total, one, types.intp, other, types.intp), generate


@generated
def sum_of(typingctx, lanes):
    """The sum of a group of sums, by halves."""

    def generate(context, builder, signature, arguments):
        (total,) = arguments
        num = lanes.num
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

    return lanes.dtype(lanes), generate
