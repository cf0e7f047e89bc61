"""Matrix products over pairs of rows, compiled for the processor at hand: the arithmetic of sparse convolutions.

For every kernel offset k there is a list of pairs (input row, output row). Gathering the rows, multiplying them by the
offset's weights and scattering the sums would move far more memory than it computes with; here a block of sums stays in
vector registers, rows are read where they lie, and results are added where they belong.

Within one offset no output row occurs twice, and threads own separate ranges of output rows (or separate offsets, for
the weights' gradient): no two of them ever write the same number, and the order of every sum is fixed.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm
import numba.extending
import numpy as np
import torch
from llvmlite import ir
from numba import carray, njit
from numba.core import cgutils, types

from detection.sparse.threads import c_function, pointer, run_on_team, take_ticket

# Four rows of up to two vectors of sums are held at a time, and up to four vectors with AVX-512, which has twice the
# registers.
_WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))
LANES = 16 if _WIDE else 8
ROWS = 4
WIDEST = 4 if _WIDE else 2
BLOCK = 128  # pairs whose rows are copied side by side for the weights' gradient: they stay in the first-level cache
LEAST_WORK = 1 << 20  # multiplications below which another thread does not pay
PARTS = 4  # parts a thread takes one after the other, so that one that is held up does not keep the others waiting
TILE = 1024  # output rows that are finished before the next are begun: they stay in the second-level cache

# What it makes is called without the typing context that its definition has, which type checkers mistake.
_intrinsic: Any = numba.extending.intrinsic
Book = tuple[np.ndarray, ...]
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_FUSED = ("contract",)
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _products(rows: int, vectors: int) -> Any:
    """An intrinsic that adds to ``rows`` x ``vectors`` vectors of sums, and knows nothing of where they come from.

    ``sums[at[r] + v*LANES ...] += sum over i < length of a[a_at[r] + i*a_step] * b[b_at + i*b_step + v*LANES ...]``
    """

    @_intrinsic
    def multiply(typing, sums, at, a, a_at, a_step, b, b_at, b_step, length):
        def generate(context, builder, signature, args):
            data = [context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 2, 5)]
            starts, firsts = (cgutils.unpack_tuple(builder, args[i], rows) for i in (1, 3))

            def vector(base, place, v):
                place = builder.add(place, ir.Constant(_I64, v * LANES))
                return builder.bitcast(builder.gep(base, [place], inbounds=True), _VECTOR.as_pointer())

            sums_at = [[vector(data[0], start, v) for v in range(vectors)] for start in starts]
            held = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)] for _ in range(rows)]
            for r in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(sums_at[r][v], align=4), held[r][v])
            with cgutils.for_range(builder, args[8]) as loop:
                place = builder.add(args[6], builder.mul(loop.index, args[7]))
                right = [builder.load(vector(data[2], place, v), align=4) for v in range(vectors)]
                step = builder.mul(loop.index, args[4])
                for r in range(rows):
                    one = builder.load(builder.gep(data[1], [builder.add(firsts[r], step)], inbounds=True))
                    left = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), one, ir.Constant(_I32, 0))
                    lanes = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
                    left = builder.shuffle_vector(left, ir.Constant(_VECTOR, ir.Undefined), lanes)
                    for v in range(vectors):
                        product = builder.fmul(left, right[v], flags=_FUSED)
                        builder.store(builder.fadd(builder.load(held[r][v]), product, flags=_FUSED), held[r][v])
            for r in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(held[r][v]), sums_at[r][v], align=4)
            return context.get_dummy_value()

        return types.none(sums, at, a, a_at, a_step, b, b_at, b_step, length), generate

    return multiply


_four_by_four, _four_by_two, _four_by_one = (_products(ROWS, vectors) for vectors in (4, 2, 1))
_one_by_four, _one_by_two, _one_by_one = (_products(1, vectors) for vectors in (4, 2, 1))


@njit(nogil=True, error_model="numpy")
def _four(vectors, sums, at, a, a_at, a_step, b, b_at, b_step, length):
    if vectors == 4:
        _four_by_four(sums, at, a, a_at, a_step, b, b_at, b_step, length)
    elif vectors == 2:
        _four_by_two(sums, at, a, a_at, a_step, b, b_at, b_step, length)
    else:
        _four_by_one(sums, at, a, a_at, a_step, b, b_at, b_step, length)


@njit(nogil=True, error_model="numpy")
def _one(vectors, sums, at, a, a_at, a_step, b, b_at, b_step, length):
    if vectors == 4:
        _one_by_four(sums, (at,), a, (a_at,), a_step, b, b_at, b_step, length)
    elif vectors == 2:
        _one_by_two(sums, (at,), a, (a_at,), a_step, b, b_at, b_step, length)
    else:
        _one_by_one(sums, (at,), a, (a_at,), a_step, b, b_at, b_step, length)


@njit(nogil=True, error_model="numpy")
def _vectors(width, column):
    """How many vectors to take from ``column`` on, of a row of ``width`` numbers, a multiple of LANES."""
    left = (width - column) // LANES
    if left >= 4 and WIDEST >= 4:
        return 4
    return 2 if left >= 2 else 1


@njit(nogil=True, error_model="numpy")
def _gather_multiply(sums, features, weights, ins, outs, counts, first, last):
    """Add features[ins] @ weights[k] to the rows ``outs`` of ``sums`` that lie in first..last (exclusive).

    Args:
        sums: [M, D] float32; D a multiple of LANES.
        features: [N, C] float32.
        weights: [K, C, D] float32.
        ins, outs: [K, P] int32 pairs of rows, of which the first counts[k] count; outs[k] ascending without repeats.
    """
    channels, width = features.shape[1], sums.shape[1]
    s, f, w = sums.reshape(-1), features.reshape(-1), weights.reshape(-1)
    for low in range(first, last, TILE):
        high = min(low + TILE, last)
        for k in range(weights.shape[0]):
            source, target = ins[k], outs[k]
            begin = np.searchsorted(target[: counts[k]], low)
            end = begin + np.searchsorted(target[begin : counts[k]], high)
            column = 0
            while column < width:
                vectors = _vectors(width, column)
                w_at = k * channels * width + column
                p = begin
                while p + ROWS <= end:
                    at = (
                        np.int64(target[p]) * width + column,
                        np.int64(target[p + 1]) * width + column,
                        np.int64(target[p + 2]) * width + column,
                        np.int64(target[p + 3]) * width + column,
                    )
                    rows = (
                        np.int64(source[p]) * channels,
                        np.int64(source[p + 1]) * channels,
                        np.int64(source[p + 2]) * channels,
                        np.int64(source[p + 3]) * channels,
                    )
                    _four(vectors, s, at, f, rows, 1, w, w_at, width, channels)
                    p += ROWS
                while p < end:
                    at_one, row = np.int64(target[p]) * width + column, np.int64(source[p]) * channels
                    _one(vectors, s, at_one, f, row, 1, w, w_at, width, channels)
                    p += 1
                column += vectors * LANES


@njit(nogil=True, error_model="numpy")
def _weight_gradient(sums, features, gradients, ins, outs, counts, first, last):
    """Add features[ins].T @ gradients[outs] to sums[k], the rows first..last (exclusive) of each.

    Args:
        sums: [K, C, D] float32; D a multiple of LANES.
        features: [N, C] float32.
        gradients: [M, D] float32.
        ins, outs: [K, P] int32 pairs of rows, of which the first counts[k] count.
    """
    channels, width = sums.shape[1], sums.shape[2]
    s = sums.reshape(-1)
    part = last - first
    left, right = np.empty((BLOCK, part), np.float32), np.empty((BLOCK, width), np.float32)
    a, b = left.reshape(-1), right.reshape(-1)
    for k in range(sums.shape[0]):
        for begin in range(0, counts[k], BLOCK):
            length = min(BLOCK, counts[k] - begin)
            for i in range(length):
                row, other = ins[k, begin + i], outs[k, begin + i]
                for c in range(part):
                    left[i, c] = features[row, first + c]
                for d in range(width):
                    right[i, d] = gradients[other, d]
            column = 0
            while column < width:
                vectors = _vectors(width, column)
                base = (k * channels + first) * width + column
                c = 0
                while c + ROWS <= part:
                    at = (
                        base + c * width,
                        base + (c + 1) * width,
                        base + (c + 2) * width,
                        base + (c + 3) * width,
                    )
                    _four(vectors, s, at, a, (c, c + 1, c + 2, c + 3), part, b, column, width, length)
                    c += ROWS
                while c < part:
                    _one(vectors, s, base + c * width, a, c, part, b, column, width, length)
                    c += 1
                column += vectors * LANES


@njit(nogil=True, error_model="numpy")
def _pairs(job):
    """The rulebook of a job: ins, outs, counts."""
    shape = (job[2], job[3])
    ins, outs = carray(pointer(job[11]), shape, np.int32), carray(pointer(job[12]), shape, np.int32)
    return ins, outs, carray(pointer(job[13]), (job[2],), np.int64)


@functools.cache
def _compiled() -> tuple[int, int]:
    """Addresses of the two products as C functions of a job, the numbers that :func:`_run` lists."""

    def multiply(data):
        job = carray(data, (14,), np.int64)
        ins, outs, counts = _pairs(job)
        features = carray(pointer(job[8]), (job[4], job[6]), np.float32)
        weights = carray(pointer(job[9]), (job[2], job[6], job[7]), np.float32)
        sums = carray(pointer(job[10]), (job[5], job[7]), np.float32)
        first = take_ticket(job) * job[1]
        while first < job[5]:
            _gather_multiply(sums, features, weights, ins, outs, counts, first, min(first + job[1], job[5]))
            first = take_ticket(job) * job[1]

    def gradient(data):
        job = carray(data, (14,), np.int64)
        ins, outs, counts = _pairs(job)
        features = carray(pointer(job[8]), (job[4], job[6]), np.float32)
        gradients = carray(pointer(job[9]), (job[5], job[7]), np.float32)
        sums = carray(pointer(job[10]), (job[2], job[6], job[7]), np.float32)
        first = take_ticket(job) * job[1]
        while first < job[6]:
            _weight_gradient(sums, features, gradients, ins, outs, counts, first, min(first + job[1], job[6]))
            first = take_ticket(job) * job[1]

    return c_function(multiply), c_function(gradient)


def _run(address: int, size: int, threads: int, sizes: tuple[int, ...], arrays: tuple[np.ndarray, ...]) -> None:
    """Job: ticket, size of a part, K, P, rows in, rows out, C, D, then where the arrays lie."""
    job = np.array([0, size, *sizes, *(array.ctypes.data for array in arrays)], np.int64)
    run_on_team(address, job, threads)


def _threads_worth(work: int) -> int:
    return max(min(work // LEAST_WORK, torch.get_num_threads()), 1)


def gather_multiply(features: np.ndarray, weights: np.ndarray, book: Book, rows: int) -> np.ndarray:
    """[rows, D] float32: the sum over k and pairs of features[ins[k]] @ weights[k], at the rows outs[k].

    Args:
        features: [N, C] float32.
        weights: [K, C, D] float32; D a multiple of LANES.
        book: ins and outs, [K, P] int32 pairs of rows, and counts [K] int64, how many of each line count; outs[k]
            ascending without repeats.
    """
    ins, outs, counts = book
    offsets, channels, width = weights.shape
    sums = np.zeros((rows, width), np.float32)
    threads = _threads_worth(int(counts.sum()) * channels * width)
    part = max(-(-rows // (PARTS * threads)), ROWS)
    sizes = (offsets, ins.shape[1], len(features), rows, channels, width)
    _run(_compiled()[0], part, threads, sizes, (features, weights, sums, ins, outs, counts))
    return sums


def weight_gradient(features: np.ndarray, gradients: np.ndarray, book: Book) -> np.ndarray:
    """[K, C, D] float32: features[ins[k]].T @ gradients[outs[k]]; arguments as for :func:`gather_multiply`."""
    ins, outs, counts = book
    channels, width = features.shape[1], gradients.shape[1]
    sums = np.zeros((len(counts), channels, width), np.float32)
    threads = _threads_worth(int(counts.sum()) * channels * width)
    part = -(-channels // (threads * ROWS)) * ROWS
    sizes = (len(counts), ins.shape[1], len(features), len(gradients), channels, width)
    _run(_compiled()[1], part, threads, sizes, (features, gradients, sums, ins, outs, counts))
    return sums
