"""Memory for the vectors of simd.py: loads, stores, prefetch, an atomic counter, and the processor's denormal switch.

Offsets count elements of a C-contiguous array and are not checked.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba.core import cgutils, types

from recon3d.rasteriser.simd import LANES, f32x16, intrinsic

_I8P = ir.IntType(8).as_pointer()
_F32, _I1, _I32, _I64 = ir.FloatType(), ir.IntType(1), ir.IntType(32), ir.IntType(64)
_VF, _VI, _VM = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES), ir.VectorType(_I1, LANES)
_QUARTER = ir.VectorType(_F32, 4)
_IS_X86 = platform.machine() in ("x86_64", "AMD64")
_FLUSH_DENORMALS = 0x8040  # flush-to-zero and denormals-are-zero of MXCSR


def _element(context, builder, signature, args, position=0, offset=1):
    """Pointer to element ``args[offset]`` of the array ``args[position]``."""
    index = context.cast(builder, args[offset], signature.args[offset], types.intp)
    data = context.make_array(signature.args[position])(context, builder, args[position]).data
    return builder.gep(data, [index], inbounds=True)


def _vector_pointer(context, builder, signature, args, kind=_VF, **where):
    return builder.bitcast(_element(context, builder, signature, args, **where), kind.as_pointer())


@intrinsic
def load(typing, array, offset):
    """16 consecutive float32."""

    def generate(context, builder, signature, args):
        return builder.load(_vector_pointer(context, builder, signature, args), align=4)

    return f32x16(array, offset), generate


@intrinsic
def load_lanes(typing, array, offset, mask):
    """Like :func:`load`, touching only the lanes of ``mask``; the others are zero."""

    def generate(context, builder, signature, args):
        pointer = _vector_pointer(context, builder, signature, args)
        kind = ir.FunctionType(_VF, [pointer.type, _I32, _VM, _VF])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16f32.p0")
        return builder.call(function, [pointer, ir.Constant(_I32, 4), args[2], ir.Constant(_VF, [0.0] * LANES)])

    return f32x16(array, offset, mask), generate


@intrinsic
def store(typing, array, offset, vector):
    """Store 16 consecutive float32."""

    def generate(context, builder, signature, args):
        builder.store(args[2], _vector_pointer(context, builder, signature, args), align=4)
        return context.get_dummy_value()

    return types.none(array, offset, vector), generate


@intrinsic
def load_table(typing, array, offset):
    """256 consecutive float32 as a tuple of 16 vectors."""

    def generate(context, builder, signature, args):
        first = _element(context, builder, signature, args)
        rows = []
        for i in range(LANES):
            pointer = builder.gep(first, [ir.Constant(_I64, LANES * i)], inbounds=True)
            rows.append(builder.load(builder.bitcast(pointer, _VF.as_pointer()), align=4))
        return context.make_tuple(builder, signature.return_type, rows)

    return types.UniTuple(f32x16, LANES)(array, offset), generate


@intrinsic
def store_all(typing, array, offset, vectors):
    """Store the vectors of a tuple one behind the other."""

    def generate(context, builder, signature, args):
        first = _element(context, builder, signature, args)
        for i, vector in enumerate(cgutils.unpack_tuple(builder, args[2], signature.args[2].count)):
            pointer = builder.gep(first, [ir.Constant(_I64, LANES * i)], inbounds=True)
            builder.store(vector, builder.bitcast(pointer, _VF.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(array, offset, vectors), generate


@intrinsic
def store_lanes(typing, array, offset, vector, mask):
    """Like :func:`store`, touching only the lanes of ``mask``."""

    def generate(context, builder, signature, args):
        pointer = _vector_pointer(context, builder, signature, args)
        kind = ir.FunctionType(ir.VoidType(), [_VF, pointer.type, _I32, _VM])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
        builder.call(function, [args[2], pointer, ir.Constant(_I32, 4), args[3]])
        return context.get_dummy_value()

    return types.none(array, offset, vector, mask), generate


@intrinsic
def store_past_cache(typing, array, offset, vector):
    """Store 16 float32 to a 64-byte aligned place that nobody reads soon."""

    def generate(context, builder, signature, args):
        written = builder.store(args[2], _vector_pointer(context, builder, signature, args), align=64)
        written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return context.get_dummy_value()

    return types.none(array, offset, vector), generate


@intrinsic
def store_int32(typing, array, offset, vector):
    """Truncate to int32 and store 16 of them."""

    def generate(context, builder, signature, args):
        pointer = _vector_pointer(context, builder, signature, args, kind=_VI)
        builder.store(builder.fptosi(args[2], _VI), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, offset, vector), generate


@intrinsic
def load_rows(typing, array, first, second, third, fourth):
    """Four runs of 4 float32 at four offsets -> 16 lanes."""

    def generate(context, builder, signature, args):
        rows = [
            builder.load(_vector_pointer(context, builder, signature, args, kind=_QUARTER, offset=i), align=4)
            for i in (1, 2, 3, 4)
        ]
        eight = ir.Constant(ir.VectorType(_I32, 8), list(range(8)))
        low = builder.shuffle_vector(rows[0], rows[1], eight)
        high = builder.shuffle_vector(rows[2], rows[3], eight)
        return builder.shuffle_vector(low, high, ir.Constant(_VI, list(range(LANES))))

    return f32x16(array, first, second, third, fourth), generate


@intrinsic
def store_rows(typing, array, first, second, third, fourth, vector):
    """Store lanes 0-3, 4-7, 8-11 and 12-15 at four offsets."""

    def generate(context, builder, signature, args):
        for i in range(4):
            lanes = ir.Constant(ir.VectorType(_I32, 4), [4 * i + k for k in range(4)])
            row = builder.shuffle_vector(args[5], args[5], lanes)
            pointer = _vector_pointer(context, builder, signature, args, kind=_QUARTER, offset=i + 1)
            builder.store(row, pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, first, second, third, fourth, vector), generate


@intrinsic
def element(typing, array, offset):
    """One element, without the wrap-around that numba gives negative indices."""

    def generate(context, builder, signature, args):
        return builder.load(_element(context, builder, signature, args))

    return array.dtype(array, offset), generate


@intrinsic
def prefetch(typing, array, offset):
    """Ask for the cache line of an element that will be read soon."""

    def generate(context, builder, signature, args):
        pointer = builder.bitcast(_element(context, builder, signature, args), _I8P)
        kind = ir.FunctionType(ir.VoidType(), [_I8P, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)])
        return context.get_dummy_value()

    return types.none(array, offset), generate


@intrinsic
def prefetch_for_writing(typing, array, offset):
    """Ask for the cache line of an element that will be written soon."""

    def generate(context, builder, signature, args):
        pointer = builder.bitcast(_element(context, builder, signature, args), _I8P)
        kind = ir.FunctionType(ir.VoidType(), [_I8P, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, ir.Constant(_I32, 1), ir.Constant(_I32, 3), ir.Constant(_I32, 1)])
        return context.get_dummy_value()

    return types.none(array, offset), generate


@intrinsic
def take_ticket(typing, counter):
    """Add one to the int64 in ``counter[0]`` atomically and return what it was."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(_I64, 1), "monotonic")

    return types.int64(counter), generate


def _control_word(builder, name, pointer):
    kind = ir.FunctionType(ir.VoidType(), [_I8P])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [builder.bitcast(pointer, _I8P)])


@intrinsic
def flush_denormals(typing):
    """Make this thread treat denormals as zero; returns the state for :func:`restore_denormals`.

    Gradients full of denormals run twenty times slower without it.
    """

    def generate(context, builder, signature, args):
        if not _IS_X86:
            return ir.Constant(_I32, 0)
        word = cgutils.alloca_once(builder, _I32)
        _control_word(builder, "llvm.x86.sse.stmxcsr", word)
        before = builder.load(word)
        builder.store(builder.or_(before, ir.Constant(_I32, _FLUSH_DENORMALS)), word)
        _control_word(builder, "llvm.x86.sse.ldmxcsr", word)
        return before

    return types.int32(), generate


@intrinsic
def restore_denormals(typing, state):
    """Undo :func:`flush_denormals`."""

    def generate(context, builder, signature, args):
        if _IS_X86:
            word = cgutils.alloca_once(builder, _I32)
            builder.store(args[0], word)
            _control_word(builder, "llvm.x86.sse.ldmxcsr", word)
        return context.get_dummy_value()

    return types.none(types.int32), generate
