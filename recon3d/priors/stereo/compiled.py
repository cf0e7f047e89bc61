"""Compiling this package's kernels, and the vector operations that only they need."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba.core import types

from recon3d.rasteriser import simd
from recon3d.rasteriser.simd import LANES, f32x16, intrinsic

_I32 = ir.IntType(32)
_VI, _VF = ir.VectorType(_I32, LANES), ir.VectorType(ir.FloatType(), LANES)


def kernel(function: Any) -> Any:
    """Like the rasteriser's :func:`~recon3d.rasteriser.simd.kernel`, cached until a source changes."""
    dispatcher = simd.kernel(function)
    digest = hashlib.sha256(dispatcher._cache._cache_file._source_stamp.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    dispatcher._cache._cache_file._source_stamp = digest.hexdigest()
    return dispatcher


@intrinsic
def total(typing, vector):
    """The sum of a vector's lanes."""

    def generate(context, builder, signature, args):
        rest = args[0]
        for half in (8, 4, 2, 1):
            turned = ir.Constant(_VI, [(i + half) % LANES for i in range(LANES)])
            rest = builder.fadd(rest, builder.shuffle_vector(rest, rest, turned))
        return builder.extract_element(rest, ir.Constant(_I32, 0))

    return types.float32(vector), generate


@intrinsic
def bilinear(typing, quads, first, across, column, row):
    """Sample a photo of a :class:`~recon3d.priors.stereo.level.Level` at 16 places.

    ``quads`` is the level's array, ``first`` where the photo begins in it, ``across`` its width; ``column`` and ``row``
    are vectors of coordinates between 0 and the size less 1, pixel centres at whole numbers. Not checked.
    """

    def generate(context, builder, signature, args):
        _, first, across, column, row = args
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        base = builder.gep(data, [context.cast(builder, first, signature.args[1], types.intp)])
        across = context.cast(builder, across, signature.args[2], types.int32)
        x, y = builder.fptosi(column, _VI), builder.fptosi(row, _VI)
        width = builder.insert_element(ir.Constant(_VI, ir.Undefined), across, ir.Constant(_I32, 0))
        width = builder.shuffle_vector(width, ir.Constant(_VI, ir.Undefined), ir.Constant(_VI, [0] * LANES))
        index = builder.add(builder.mul(y, width), x)
        corners = ir.Constant(_VI, ir.Undefined)
        for lane in range(LANES):  # loads one by one: no slower than an instruction that gathers, and on any processor
            offset = builder.zext(builder.extract_element(index, ir.Constant(_I32, lane)), ir.IntType(64))
            corners = builder.insert_element(
                corners, builder.load(builder.gep(base, [offset])), ir.Constant(_I32, lane)
            )
        byte = ir.Constant(_VI, [255] * LANES)
        shifted = [builder.lshr(corners, ir.Constant(_VI, [8 * k] * LANES)) for k in range(4)]
        a, b, c, d = (builder.sitofp(builder.and_(v, byte), _VF) for v in shifted)
        right, down = builder.fsub(column, builder.sitofp(x, _VF)), builder.fsub(row, builder.sitofp(y, _VF))

        def between(low, high, share):
            flags = ("contract",)
            return builder.fadd(
                builder.fmul(share, builder.fsub(high, low, flags=flags), flags=flags), low, flags=flags
            )

        return between(between(a, b, right), between(c, d, right), down)

    return f32x16(quads, first, across, column, row), generate
