"""Visible Gaussians in order of depth: a parallel radix sort, least significant digit first, stable."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser import pool
from recon3d.rasteriser.layout import CHUNK
from recon3d.rasteriser.simd import kernel
from recon3d.rasteriser.simd_memory import take_ticket

DIGIT_BITS = 13  # a table of 8192 counts stays in the first-level cache
PART = 16384  # fewer keys than this are not worth a second thread


@kernel
def _gather(tickets, depths, visible, counts, starts, slot_starts, first_slots, keys, order, limits):
    """Copy each chunk's visible Gaussians together; turn first_slots from chunk-relative to absolute."""
    while True:
        chunk = take_ticket(tickets)
        if chunk >= counts.shape[0]:
            break
        low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
        for k in range(counts[chunk]):
            n = visible[chunk * CHUNK + k]
            key = depths[n]
            low, high = min(low, key), max(high, key)
            keys[starts[chunk] + k] = key
            order[starts[chunk] + k] = n
            first_slots[n] += slot_starts[chunk]
        limits[chunk, 0] = low
        limits[chunk, 1] = high


@kernel
def _count(tickets, keys, low, shift, digits, bounds, histogram):
    while True:
        part = take_ticket(tickets)
        if part >= histogram.shape[0]:
            break
        row = histogram[part]
        row[:] = 0
        for k in range(bounds[part], bounds[part + 1]):
            row[((keys[k] - low) >> shift) & digits] += 1


@kernel
def _scan(histogram):
    total = 0
    for digit in range(histogram.shape[1]):
        for part in range(histogram.shape[0]):
            count = histogram[part, digit]
            histogram[part, digit] = total
            total += count


@kernel
def _scatter(tickets, keys, order, low, shift, digits, bounds, histogram, keys_out, order_out):
    while True:
        part = take_ticket(tickets)
        if part >= histogram.shape[0]:
            break
        row = histogram[part]
        for k in range(bounds[part], bounds[part + 1]):
            digit = ((keys[k] - low) >> shift) & digits
            place = row[digit]
            row[digit] = place + 1
            keys_out[place] = keys[k]
            order_out[place] = order[k]


def sort_by_depth(depths, visible, chunk_visible, chunk_slots, first_slots, take) -> np.ndarray:
    """Indices of the visible Gaussians, nearest first, equal depths by index: int32 [n]; makes first_slots absolute.

    ``take(name, shape, dtype)`` provides scratch arrays.
    """
    chunks = len(chunk_visible)
    starts = np.concatenate(([0], np.cumsum(chunk_visible)))
    slot_starts = np.concatenate(([0], np.cumsum(chunk_slots)))
    count = int(starts[-1])
    keys, spare_keys = take("keys", count, np.uint32), take("spare_keys", count, np.uint32)
    order, spare = take("order", count, np.int32), take("spare_order", count, np.int32)
    if count == 0:
        return order
    limits = np.empty((chunks, 2), np.uint32)
    # Depths are positive, so their bits sort like the numbers.
    bits = depths.view(np.uint32)
    pool.run(_gather, chunks, bits, visible, chunk_visible, starts, slot_starts, first_slots, keys, order, limits)
    low, high = limits[:, 0].min(), limits[:, 1].max()
    parts = max(1, min(pool.thread_count(), count // PART))
    bounds = np.arange(parts + 1) * count // parts
    significant = max(1, int(high - low).bit_length())
    passes = -(-significant // DIGIT_BITS)
    width = -(-significant // passes)
    digits = np.uint32((1 << width) - 1)
    histogram = take("histogram", (parts, 1 << width), np.int32)
    for i in range(passes):
        shift = np.uint32(i * width)
        pool.run(_count, parts, keys, low, shift, digits, bounds, histogram)
        _scan(histogram)
        pool.run(_scatter, parts, keys, order, low, shift, digits, bounds, histogram, spare_keys, spare)
        keys, spare_keys, order, spare = spare_keys, keys, spare, order
    return order
