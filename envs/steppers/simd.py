"""Vectors as values in numba: one register of numbers, on which an operation is one instruction.

A compiler turns loops into vector instructions only where it can prove that no store of the loop
touches what a later load reads, which it cannot for the butterflies of a Fourier transform. A
kernel written in vectors has nothing to prove: what is loaded is a value.

Vectors are read from and written to flat arrays at any place:

    store(w, i, load(w, i) + splat(w, j) * load(w, k))

and so are vectors of complex numbers, whose real and imaginary parts lie apart. A vector fills a
register of 512 bits; where the machine has none, the compiler takes two or four smaller.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

# Any, as compiled code calls these functions without their first argument.
_generated: Any = intrinsic

LANES = {"float32": 16, "float64": 8}
"""Numbers in a vector by dtype."""


class Vector(types.Type):
    """Numba's type of a vector.

    Args:
        number: Numba's type of its numbers.
    """

    def __init__(self, number: types.Float) -> None:
        self.number, self.lanes = number, LANES[number.name]
        super().__init__(name=f"Vector({number.name} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        number = manager.lookup(vector.number).get_value_type()
        super().__init__(manager, vector, ir.VectorType(number, vector.lanes))


class ComplexVector(types.Type):
    """Numba's type of two vectors, of real and of imaginary parts.

    Args:
        real: Numba's type of either.
    """

    def __init__(self, real: Vector) -> None:
        self.real = real
        super().__init__(name=f"Complex{real.name}")


@register_model(ComplexVector)
class _ComplexVectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: ComplexVector) -> None:
        part = manager.lookup(vector.real).get_value_type()
        super().__init__(manager, vector, ir.LiteralStructType([part, part]))


def _pointer(context: Any, builder: Any, array: Any, value: Any, index: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    return builder.gep(data, [index])


def _broadcast(builder: Any, number: Any, vector: Any) -> Any:
    """Returns the vector whose numbers are all the same."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, _index(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def _index(i: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), i)


def _size(number: types.Float) -> int:
    return int(number.bitwidth) // 8


@_generated
def load(typing: Any, array: Any, index: Any) -> Any:
    """Reads the vector that starts at an index of a flat array."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, array, *arguments)
        pointer = builder.bitcast(pointer, context.get_value_type(vector).as_pointer())
        return builder.load(pointer, align=_size(array.dtype))

    return vector(array, types.intp), generate


@_generated
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Writes a vector to a flat array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, array, *arguments[:2])
        pointer = builder.bitcast(pointer, arguments[2].type.as_pointer())
        builder.store(arguments[2], pointer, align=_size(array.dtype))
        return context.get_dummy_value()

    return types.none(array, types.intp, Vector(array.dtype)), generate


@_generated
def splat(typing: Any, array: Any, index: Any) -> Any:
    """Returns the vector whose numbers are all that at an index of a flat array."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.load(_pointer(context, builder, array, *arguments))
        return _broadcast(builder, number, context.get_value_type(vector))

    return vector(array, types.intp), generate


@_generated
def constant(typing: Any, number: Any) -> Any:
    """Returns the vector whose numbers are all the same."""
    vector = Vector(number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _broadcast(builder, arguments[0], context.get_value_type(vector))

    return vector(number), generate


@_generated
def transpose(typing: Any, array: Any, source: Any, stride: Any, target: Any, to: Any) -> Any:
    """Transposes a square of as many rows as a vector has numbers, within a flat array.

    Args:
        typing: Numba's.
        array: Where both squares lie; they may be the same.
        source: Index of the first row.
        stride: Distance of rows.
        target: Index of the first row of the transpose.
        to: Distance of its rows.
    """
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, source, stride, target, to = arguments
        kind, lanes = context.get_value_type(vector), vector.lanes

        def row(start: Any, distance: Any, i: int) -> Any:
            index = builder.add(start, builder.mul(distance, ir.Constant(start.type, i)))
            pointer = _pointer(context, builder, array, value, index)
            return builder.bitcast(pointer, kind.as_pointer())

        align = _size(array.dtype)
        rows = [builder.load(row(source, stride, i), align=align) for i in range(lanes)]
        half = lanes // 2
        pairs = [k for i in range(half) for k in (i, lanes + i)]
        masks = [
            ir.Constant(ir.VectorType(ir.IntType(32), lanes), [k + shift for k in pairs])
            for shift in (0, half)
        ]
        # Each round moves one bit of a number's place from its row to its column.
        for _ in range(half.bit_length()):
            rows = [
                builder.shuffle_vector(rows[i], rows[i + half], mask)
                for i in range(half)
                for mask in masks
            ]
        for i in range(lanes):
            builder.store(rows[i], row(target, to, i), align=align)
        return context.get_dummy_value()

    index = types.intp
    return types.none(array, index, index, index, index), generate


@_generated
def misalignment(typing: Any, array: Any) -> Any:
    """Returns how many numbers of an array come before the first at a multiple of 64 bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        address = builder.ptrtoint(data, cgutils.intp_t)
        rest = builder.and_(builder.neg(address), ir.Constant(cgutils.intp_t, 63))
        return builder.udiv(rest, ir.Constant(cgutils.intp_t, _size(array.dtype)))

    return types.intp(array), generate


@_generated
def pair(typing: Any, real: Any, imaginary: Any) -> Any:
    """Returns the complex vector of two parts."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _pack(builder, *arguments)

    return ComplexVector(real)(real, imaginary), generate


@_generated
def parts(typing: Any, value: Any) -> Any:
    """Returns real and imaginary part of a complex vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, _unpack(builder, arguments[0]))

    return types.UniTuple(value.real, 2)(value), generate


@_generated
def turn(typing: Any, value: Any) -> Any:
    """Returns -i times a complex vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real, imaginary = _unpack(builder, arguments[0])
        return _pack(builder, imaginary, builder.fneg(real))

    return value(value), generate


@_generated
def conjugate(typing: Any, value: Any) -> Any:
    """Returns the complex conjugate of a complex vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real, imaginary = _unpack(builder, arguments[0])
        return _pack(builder, real, builder.fneg(imaginary))

    return value(value), generate


@_generated
def apart(typing: Any) -> Any:
    """Keeps the function that calls it from being compiled anew into each of its callers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), generate


def _pack(builder: Any, real: Any, imaginary: Any) -> Any:
    return cgutils.pack_struct(builder, (real, imaginary))


def _unpack(builder: Any, value: Any) -> Any:
    return cgutils.unpack_tuple(builder, value, 2)


def _each(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Makes an operation on vectors one on both parts of complex vectors."""

    def generate(builder: Any, *arguments: Any) -> Any:
        unpacked = [_unpack(builder, argument) for argument in arguments]
        return _pack(builder, *(operation(builder, *both) for both in zip(*unpacked, strict=True)))

    return generate


def _scale(builder: Any, factor: Any, value: Any) -> Any:
    return _pack(builder, *(builder.fmul(factor, part) for part in _unpack(builder, value)))


def _multiply(builder: Any, a: Any, b: Any) -> Any:
    (ar, ai), (br, bi) = _unpack(builder, a), _unpack(builder, b)
    real = builder.fsub(builder.fmul(ar, br), builder.fmul(ai, bi))
    imaginary = builder.fadd(builder.fmul(ar, bi), builder.fmul(ai, br))
    return _pack(builder, real, imaginary)


def _define(function: Callable[..., Any], generate: Callable[..., Any], *kinds: type) -> None:
    """Gives an operator to arguments of some kinds; the result has the type of the last."""

    def found(*arguments: Any) -> Any:
        matches = all(isinstance(a, k) for a, k in zip(arguments, kinds, strict=True))
        return arguments[-1] if matches else None

    @type_callable(function)
    def typing(context: Any) -> Any:
        # Numba takes the number of arguments from the function's signature.
        return found_one if len(kinds) == 1 else found_two

    def found_one(a: Any) -> Any:
        return found(a)

    def found_two(a: Any, b: Any) -> Any:
        return found(a, b)

    @lower_builtin(function, *kinds)
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return generate(builder, *arguments)


def _add(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def _subtract(builder: Any, a: Any, b: Any) -> Any:
    return builder.fsub(a, b)


def _negate(builder: Any, a: Any) -> Any:
    return builder.fneg(a)


_define(operator.add, _add, Vector, Vector)
_define(operator.sub, _subtract, Vector, Vector)
_define(operator.neg, _negate, Vector)
_define(operator.mul, lambda builder, a, b: builder.fmul(a, b), Vector, Vector)
_define(operator.add, _each(_add), ComplexVector, ComplexVector)
_define(operator.sub, _each(_subtract), ComplexVector, ComplexVector)
_define(operator.neg, _each(_negate), ComplexVector)
_define(operator.mul, _scale, Vector, ComplexVector)
_define(operator.mul, _multiply, ComplexVector, ComplexVector)
