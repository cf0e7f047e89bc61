"""Vectors of 16 float32 inside numba kernels: one AVX-512 register, two of AVX2, four of NEON.

``f32x16`` and ``mask16`` are numba types that lower to LLVM's ``<16 x float>`` and ``<16 x i1>``; what is written with
them compiles to vector instructions for certain, where automatic vectorisation would depend on the weather. Python
numbers mix freely with vectors.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import platform
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba.extending
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import lower_builtin, models, register_model, type_callable

LANES = 16

# What it makes is called from kernels without the first arguments that its definition has, which type checkers mistake.
intrinsic: Any = numba.extending.intrinsic

# No nnan and no ninf: comparisons with NaN must stay false, because that is how NaN Gaussians are culled. No reassoc
# for vectors: sums are written in the order that gives short chains of fused multiply-adds.
FAST_MATH = {"contract", "nsz"}
_FLAGS = tuple(sorted(FAST_MATH))

_F32, _I1, _I32, _I64 = ir.FloatType(), ir.IntType(1), ir.IntType(32), ir.IntType(64)
_VF, _VI, _VM = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES), ir.VectorType(_I1, LANES)
_UNDEFINED = ir.Constant(_VF, ir.Undefined)

_IS_X86 = platform.machine() in ("x86_64", "AMD64")
_HAS_AVX512 = _IS_X86 and bool(llvm.get_host_cpu_features().get("avx512f"))


@functools.cache
def _sources_stamp(path: str) -> str:
    """Digest of this package's sources and of the file at ``path``."""
    digest = hashlib.sha256()
    for source in sorted({Path(path), *Path(__file__).parent.glob("*.py")}):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def kernel(function: Any) -> Any:
    """Compile ``function`` for the machine's own processor, without the GIL, cached on disk.

    Numba's cache looks at the one file that holds a function. Ours are built from several (constants, inlined helpers,
    vector operations), so the cache is tied to all of them.
    """
    dispatcher = njit(function, cache=True, nogil=True, fastmath=FAST_MATH, error_model="numpy")
    dispatcher._cache._cache_file._source_stamp = _sources_stamp(function.__code__.co_filename)
    return dispatcher


def inlined(function: Any) -> Any:
    """Like :func:`kernel` for a helper that its callers inline."""
    return njit(function, nogil=True, fastmath=FAST_MATH, error_model="numpy", forceinline=True)


class _VectorType(types.Type):
    pass


class _MaskType(types.Type):
    pass


f32x16 = _VectorType(name="f32x16")
mask16 = _MaskType(name="mask16")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VF)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VM)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VF, [value] * LANES)


def _shuffle(builder, a, b, lanes):
    mask = ir.Constant(ir.VectorType(_I32, len(lanes)), [int(lane) for lane in lanes])
    return builder.shuffle_vector(a, b, mask)


def _broadcast(builder, scalar):
    return _shuffle(builder, builder.insert_element(_UNDEFINED, scalar, ir.Constant(_I32, 0)), _UNDEFINED, [0] * LANES)


def _as_vector(context, builder, kind, value):
    if isinstance(kind, _VectorType):
        return value
    return _broadcast(builder, context.cast(builder, value, kind, types.float32))


def _is_vector_pair(a, b) -> bool:
    def fits(kind):
        return isinstance(kind, (_VectorType, types.Number))

    return fits(a) and fits(b) and (isinstance(a, _VectorType) or isinstance(b, _VectorType))


def _operator(symbol, emit, result):
    @type_callable(symbol)
    def _type(context):
        def typer(a, b):
            return result if _is_vector_pair(a, b) else None

        return typer

    for left, right in (
        (_VectorType, _VectorType),
        (_VectorType, types.Number),
        (types.Number, _VectorType),
    ):

        @lower_builtin(symbol, left, right)
        def _lower(context, builder, signature, args):
            a, b = (_as_vector(context, builder, k, v) for k, v in zip(signature.args, args, strict=True))
            return emit(builder, a, b)


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS), f32x16)
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS), f32x16)
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS), f32x16)
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS), f32x16)
for _symbol, _text in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">=")):
    _operator(_symbol, lambda builder, a, b, text=_text: builder.fcmp_ordered(text, a, b), mask16)


@type_callable(operator.neg)
def _type_neg(context):
    return lambda a: f32x16 if isinstance(a, _VectorType) else None


@lower_builtin(operator.neg, _VectorType)
def _lower_neg(context, builder, signature, args):
    return builder.fneg(args[0], flags=_FLAGS)


def _mask_operator(symbol, emit):
    @type_callable(symbol)
    def _type(context):
        return lambda a, b: mask16 if isinstance(a, _MaskType) and isinstance(b, _MaskType) else None

    @lower_builtin(symbol, _MaskType, _MaskType)
    def _lower(context, builder, signature, args):
        return emit(builder, *args)


_mask_operator(operator.and_, lambda builder, a, b: builder.and_(a, b))
_mask_operator(operator.or_, lambda builder, a, b: builder.or_(a, b))


def _vector_function(emit, arity):
    """An intrinsic of ``arity`` vectors (numbers are broadcast) whose body is ``emit(builder, *vectors)``."""

    def generate(context, builder, signature, args):
        vectors = [_as_vector(context, builder, k, v) for k, v in zip(signature.args, args, strict=True)]
        return emit(builder, *vectors)

    if arity == 1:
        return intrinsic(lambda typing, a: (f32x16(a), generate))
    if arity == 2:
        return intrinsic(lambda typing, a, b: (f32x16(a, b), generate))
    return intrinsic(lambda typing, a, b, c: (f32x16(a, b, c), generate))


def _call(builder, name, result, *args):
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), list(args))


def _rough_reciprocal(builder, x):
    if not _HAS_AVX512:
        return builder.fdiv(_constant(1.0), x, flags=_FLAGS)
    return _call(builder, "llvm.x86.avx512.rcp14.ps.512", _VF, x, _constant(0.0), ir.Constant(ir.IntType(16), -1))


def _choose(predicate):
    return lambda builder, a, b: builder.select(builder.fcmp_ordered(predicate, a, b), a, b)


broadcast = _vector_function(lambda builder, a: a, 1)
# a * b + c in one instruction also where a and b are numbers, whose product LLVM would else take out as a scalar.
fma = _vector_function(lambda builder, a, b, c: _call(builder, "llvm.fmuladd.v16f32", _VF, a, b, c), 3)
minimum = _vector_function(_choose("<"), 2)  # the second where either is NaN, as the processor's own
maximum = _vector_function(_choose(">"), 2)
sqrt = _vector_function(lambda builder, a: _call(builder, "llvm.sqrt.v16f32", _VF, a), 1)
floor = _vector_function(lambda builder, a: _call(builder, "llvm.floor.v16f32", _VF, a), 1)
ceil = _vector_function(lambda builder, a: _call(builder, "llvm.ceil.v16f32", _VF, a), 1)
absolute = _vector_function(lambda builder, a: _call(builder, "llvm.fabs.v16f32", _VF, a), 1)
rough_reciprocal = _vector_function(_rough_reciprocal, 1)  # to 14 bits at least: y (2 - x y) doubles them


@intrinsic
def where(typing, mask, a, b):
    """``a`` where ``mask``, else ``b``."""

    def generate(context, builder, signature, args):
        vectors = [_as_vector(context, builder, k, v) for k, v in zip(signature.args[1:], args[1:], strict=True)]
        return builder.select(args[0], *vectors)

    return f32x16(mask, a, b), generate


@intrinsic
def any_lane(typing, mask):
    """Whether a lane of ``mask`` is set."""

    def generate(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(mask), generate


@intrinsic
def lane_bits(typing, mask):
    """The lanes of ``mask`` as the low 16 bits of an integer."""

    def generate(context, builder, signature, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), _I64)

    return types.int64(mask), generate


@intrinsic
def lanes_of(typing, bits):
    """The inverse of :func:`lane_bits`."""

    def generate(context, builder, signature, args):
        return builder.bitcast(builder.trunc(args[0], ir.IntType(LANES)), _VM)

    return mask16(types.int64), generate


@intrinsic
def first_lanes(typing, count):
    """A mask of lanes 0 to ``count`` - 1 (none below 1, all from 16)."""

    def generate(context, builder, signature, args):
        value = context.cast(builder, args[0], signature.args[0], types.int32)
        count = builder.insert_element(ir.Constant(_VI, ir.Undefined), value, ir.Constant(_I32, 0))
        count = _shuffle(builder, count, ir.Constant(_VI, ir.Undefined), [0] * LANES)
        return builder.icmp_signed("<", ir.Constant(_VI, list(range(LANES))), count)

    return mask16(count), generate


@intrinsic
def exponent_scaled(typing, mantissa, exponent):
    """``mantissa`` * 2 ** ``exponent`` for whole exponents in -126 .. 127."""

    def generate(context, builder, signature, args):
        whole = builder.fptosi(args[1], _VI)
        bits = builder.shl(builder.add(whole, ir.Constant(_VI, [127] * LANES)), ir.Constant(_VI, [23] * LANES))
        return builder.fmul(args[0], builder.bitcast(bits, _VF), flags=_FLAGS)

    return f32x16(mantissa, exponent), generate


@intrinsic
def exponent_split(typing, x):
    """(m, e) with x = m * 2 ** e and m in sqrt(1/2) .. sqrt(2), for positive normal x."""

    def generate(context, builder, signature, args):
        bits = builder.bitcast(args[0], _VI)
        half = ir.Constant(_VI, [0x3F3504F3] * LANES)  # sqrt(1/2)
        shifted = builder.sub(bits, half)
        exponent = builder.ashr(shifted, ir.Constant(_VI, [23] * LANES))
        mantissa = builder.sub(bits, builder.shl(exponent, ir.Constant(_VI, [23] * LANES)))
        pair = (builder.bitcast(mantissa, _VF), builder.sitofp(exponent, _VF))
        return context.make_tuple(builder, signature.return_type, pair)

    return types.UniTuple(f32x16, 2)(x), generate


@intrinsic
def masked_sums(typing, totals, terms, mask):
    """The tuple ``totals`` plus, in the lanes of ``mask``, the tuple ``terms``."""

    def generate(context, builder, signature, args):
        pairs = [cgutils.unpack_tuple(builder, args[i], signature.args[i].count) for i in (0, 1)]
        added = [
            builder.select(args[2], builder.fadd(total, term, flags=_FLAGS), total)
            for total, term in zip(*pairs, strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, added)

    return totals(totals, terms, mask), generate


def _merge(builder, a, b, step):
    """Halve two vectors at once: alternating runs of ``step`` lanes hold the pair sums of ``a`` and of ``b``."""
    first, second = [], []
    for lane in range(LANES):
        if (lane // step) % 2 == 0:
            first.append(lane)
            second.append(lane + step)
        else:
            first.append(LANES + lane - step)
            second.append(LANES + lane)
    return builder.fadd(_shuffle(builder, a, b, first), _shuffle(builder, a, b, second), flags=_FLAGS)


@intrinsic
def lane_sums(typing, vectors):
    """A vector whose lane i is the sum over the lanes of ``vectors[i]``, for a tuple of up to 16 vectors."""

    def generate(context, builder, signature, args):
        level = cgutils.unpack_tuple(builder, args[0], signature.args[0].count)
        level += [_constant(0.0)] * (LANES - len(level))
        for step in (8, 4, 2, 1):
            half = len(level) // 2
            level = [_merge(builder, level[i], level[i + half], step) for i in range(half)]
        return level[0]

    return f32x16(vectors), generate


@intrinsic
def transpose(typing, rows):
    """16 rows of 16 lanes -> 16 columns, as a tuple."""

    def generate(context, builder, signature, args):
        rows = cgutils.unpack_tuple(builder, args[0], LANES)
        for step in (1, 2, 4, 8):
            low = [lane if not lane & step else LANES + lane - step for lane in range(LANES)]
            high = [lane + step if not lane & step else LANES + lane for lane in range(LANES)]
            swapped = list(rows)
            for i in range(LANES):
                if not i & step:
                    swapped[i] = _shuffle(builder, rows[i], rows[i + step], low)
                    swapped[i + step] = _shuffle(builder, rows[i], rows[i + step], high)
            rows = swapped
        return context.make_tuple(builder, signature.return_type, rows)

    return types.UniTuple(f32x16, LANES)(rows), generate


def _gather_lanes(builder, sources, picks):
    """Lane i of the result is lane ``picks[i][1]`` of ``sources[picks[i][0]]``; shuffles take two sources at a time."""
    pairs = []
    for k in range(0, len(sources), 2):
        other = sources[min(k + 1, len(sources) - 1)]
        lanes = [lane + LANES * (source - k) if source in (k, k + 1) else 0 for source, lane in picks]
        pairs.append(_shuffle(builder, sources[k], other, lanes))
    if len(pairs) == 1:
        return pairs[0]
    return _shuffle(
        builder, pairs[0], pairs[1], [i if source < 2 else LANES + i for i, (source, _) in enumerate(picks)]
    )


def _regroup(arity, pick):
    """An intrinsic from ``arity`` vectors to as many: lane i of part k comes from ``pick(i, k)`` = (source, lane)."""

    def generate(context, builder, signature, args):
        parts = [_gather_lanes(builder, args, [pick(i, k) for i in range(LANES)]) for k in range(arity)]
        return context.make_tuple(builder, signature.return_type, parts)

    result = types.UniTuple(f32x16, arity)
    if arity == 2:
        return intrinsic(lambda typing, a, b: (result(a, b), generate))
    if arity == 3:
        return intrinsic(lambda typing, a, b, c: (result(a, b, c), generate))
    return intrinsic(lambda typing, a, b, c, d: (result(a, b, c, d), generate))


def lanes_from(first):
    """An intrinsic of two consecutive vectors that gives their lanes ``first`` to ``first`` + 15."""
    return _vector_function(lambda builder, a, b: _shuffle(builder, a, b, range(first, first + LANES)), 2)


def _block_pick(lane, channel):
    row, column = divmod(lane, 4)
    third, rest = divmod(3 * column + channel, 4)
    return third, 4 * row + rest


def _block_unpick(lane, third):
    row, rest = divmod(lane, 4)
    column, channel = divmod(4 * third + rest, 3)
    return channel, 4 * row + column


# x0 y0 z0 x1 y1 z1 ... in consecutive vectors -> (x, y, z), and back; likewise for groups of two and four.
interleave2 = _regroup(2, lambda i, k: divmod(LANES * k + i, 2)[::-1])
deinterleave3 = _regroup(3, lambda i, k: divmod(3 * i + k, LANES))
interleave3 = _regroup(3, lambda i, k: divmod(LANES * k + i, 3)[::-1])
deinterleave4 = _regroup(4, lambda i, k: divmod(4 * i + k, LANES))
interleave4 = _regroup(4, lambda i, k: divmod(LANES * k + i, 4)[::-1])
# Lanes 0-3, 4-7, 8-11 and 12-15 of four vectors, as four vectors; its own inverse.
quarters = _regroup(4, lambda i, k: (i // 4, 4 * k + i % 4))
# The RGB rows of a 4x4 pixel block, as (first, middle, last) four numbers of each row -> (r, g, b), and back.
block_channels = _regroup(3, _block_pick)
block_thirds = _regroup(3, _block_unpick)


@intrinsic
def lanes_between(typing, low, high):
    """A mask of lanes ``low`` to ``high`` - 1."""

    def generate(context, builder, signature, args):
        ends = []
        for kind, value in zip(signature.args, args, strict=True):
            value = context.cast(builder, value, kind, types.int32)
            end = builder.insert_element(ir.Constant(_VI, ir.Undefined), value, ir.Constant(_I32, 0))
            ends.append(_shuffle(builder, end, ir.Constant(_VI, ir.Undefined), [0] * LANES))
        iota = ir.Constant(_VI, list(range(LANES)))
        return builder.and_(builder.icmp_signed(">=", iota, ends[0]), builder.icmp_signed("<", iota, ends[1]))

    return mask16(low, high), generate


def lane_constant(values):
    """An intrinsic without arguments that gives the 16 ``values`` as a vector."""

    def generate(context, builder, signature, args):
        return ir.Constant(_VF, [float(value) for value in values])

    return intrinsic(lambda typing: (f32x16(), generate))


@intrinsic
def lowest_bit(typing, bits):
    """Index of the lowest set bit of a non-zero 64-bit integer."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(_I1, 1))

    return types.int64(bits), generate
