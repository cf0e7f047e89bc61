"""Which Gaussians touch which 4x4 blocks of which tile, nearest first: exact ellipse extents, one counting sort."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser import pool
from recon3d.rasteriser.layout import BLOCK, BLOCKS, EXTENT_X, EXTENT_Y, LOG_OPACITY, RECORD, TILE
from recon3d.rasteriser.project import LOG2_E, LOG_OPACITY_MIN
from recon3d.rasteriser.simd import (
    LANES,
    ceil,
    floor,
    inlined,
    kernel,
    maximum,
    minimum,
    sqrt,
    transpose,
    where,
)
from recon3d.rasteriser.simd_memory import (
    flush_denormals,
    load,
    prefetch,
    restore_denormals,
    store_int32,
    take_ticket,
)

ONE, ROW = np.uint64(1), np.uint64((1 << BLOCKS) - 1)
WIDEST = 64 // BLOCKS - 1  # tiles whose blocks in a row fit one integer with a bit to spare
PARTS_PER_THREAD = 4


@inlined
def _row_bits(low, high, tile):
    """Blocks ``low`` to ``high`` (exclusive, from the first tile's left edge) that lie in ``tile``, as 8 bits."""
    a = min(max(low - tile * BLOCKS, 0), BLOCKS)
    b = min(max(high - tile * BLOCKS, 0), BLOCKS)
    return (ONE << np.uint64(b)) - (ONE << np.uint64(a))


@kernel
def find_pairs(
    tickets, order, records, first_slots, tile_counts, width, height, tiles_across, bounds, histogram, tiles, masks
):
    """Cover every visible Gaussian's ellipse with blocks.

    Args:
        order: [n] int32 Gaussians by depth; bounds: [parts + 1] int64 the ranks of each part.
        histogram: [parts, tiles] int32 is set to the number of pairs that fall into each tile.
        tile_counts: [N] int32 becomes the number of tiles really touched.
        tiles int32, masks uint64: [pairs], written from first_slots[g] on; bit 8 row + column of a mask is a block.
    """
    state = flush_denormals()
    bands = height // BLOCK + 2
    lows, highs = np.empty(bands * LANES, np.int32), np.empty(bands * LANES, np.int32)
    words = np.empty(bands, np.uint64)
    top_band, band_count = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    first_tile, tile_span = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    while True:
        part = take_ticket(tickets)
        if part >= histogram.shape[0]:
            break
        counts = histogram[part]
        counts[:] = 0
        end = bounds[part + 1]
        for first in range(bounds[part], end, LANES):
            last = end - 1
            for k in range(LANES):
                prefetch(records, np.int64(order[min(first + LANES + k, last)]) * RECORD)
            r = (
                load(records, np.int64(order[first]) * RECORD),
                load(records, np.int64(order[min(first + 1, last)]) * RECORD),
                load(records, np.int64(order[min(first + 2, last)]) * RECORD),
                load(records, np.int64(order[min(first + 3, last)]) * RECORD),
                load(records, np.int64(order[min(first + 4, last)]) * RECORD),
                load(records, np.int64(order[min(first + 5, last)]) * RECORD),
                load(records, np.int64(order[min(first + 6, last)]) * RECORD),
                load(records, np.int64(order[min(first + 7, last)]) * RECORD),
                load(records, np.int64(order[min(first + 8, last)]) * RECORD),
                load(records, np.int64(order[min(first + 9, last)]) * RECORD),
                load(records, np.int64(order[min(first + 10, last)]) * RECORD),
                load(records, np.int64(order[min(first + 11, last)]) * RECORD),
                load(records, np.int64(order[min(first + 12, last)]) * RECORD),
                load(records, np.int64(order[min(first + 13, last)]) * RECORD),
                load(records, np.int64(order[min(first + 14, last)]) * RECORD),
                load(records, np.int64(order[min(first + 15, last)]) * RECORD),
            )
            f = transpose(r)
            mx, my, k0, k1, k2 = f[0], f[1], f[2], f[3], f[4]
            ex, ey = f[EXTENT_X], f[EXTENT_Y]
            # The same slack as the extents have.
            radius = (f[LOG_OPACITY] - LOG_OPACITY_MIN) * 1.0005 + 1e-4 * 0.0625 * LOG2_E
            left, right = maximum(ceil(mx - ex - 0.5), 0.0), minimum(floor(mx + ex - 0.5), width - 1)
            top, bottom = maximum(ceil(my - ey - 0.5), 0.0), minimum(floor(my + ey - 0.5), height - 1)
            band = floor(top * 0.25)
            store_int32(top_band, 0, band)
            store_int32(band_count, 0, floor(bottom * 0.25) - band + 1.0)
            column = floor(left * (1.0 / TILE))
            store_int32(first_tile, 0, column)
            store_int32(tile_span, 0, floor(right * (1.0 / TILE)) - column + 1.0)
            edge = column * BLOCKS
            most = 0
            for lane in range(LANES):
                most = max(most, band_count[lane])
            # The ellipse is (k0 dx + k1 dy)^2 + (k2 dy)^2 = radius; its right end lies at dy = -turn, its left at turn.
            turn = k1 * sqrt(radius / (k1 * k1 + k2 * k2)) / k2
            inverse = 1.0 / k0
            for j in range(most):
                y = (band + j) * BLOCK
                low = maximum(maximum(y, top) + (0.5 - my), -ey)
                high = minimum(minimum(y + 3.0, bottom) + (0.5 - my), ey)
                dy = minimum(maximum(-turn, low), high)
                tip = k2 * dy
                x_right = (sqrt(maximum(radius - tip * tip, 0.0)) - k1 * dy) * inverse
                dy = minimum(maximum(turn, low), high)
                tip = k2 * dy
                x_left = (0.0 - sqrt(maximum(radius - tip * tip, 0.0)) - k1 * dy) * inverse
                x_left = maximum(ceil(x_left + (mx - 0.5)), left)
                x_right = minimum(floor(x_right + (mx - 0.5)), right)
                full = (x_left <= x_right) & (y <= bottom)
                store_int32(lows, j * LANES, where(full, floor(x_left * 0.25) - edge, 0.0))
                store_int32(highs, j * LANES, where(full, floor(x_right * 0.25) - edge + 1.0, 0.0))
            for lane in range(min(LANES, end - first)):
                g = order[first + lane]
                start = first_slots[g]
                slot = start
                top_row, span, across = top_band[lane], band_count[lane], tile_span[lane]
                corner = top_row // BLOCKS * tiles_across + first_tile[lane]
                narrow = across <= WIDEST
                if narrow:
                    for j in range(span):
                        k = j * LANES + lane
                        words[j] = (ONE << np.uint64(highs[k])) - (ONE << np.uint64(lows[k]))
                j = 0
                while j < span:
                    row = (top_row + j) % BLOCKS  # the block row within the tile
                    stop = min(span, j + BLOCKS - row)
                    for tile in range(across):
                        mask = np.uint64(0)
                        shift = np.uint64(row * BLOCKS)
                        for i in range(j, stop):
                            if narrow:
                                bits = (words[i] >> np.uint64(tile * BLOCKS)) & ROW
                            else:
                                bits = _row_bits(lows[i * LANES + lane], highs[i * LANES + lane], tile)
                            mask |= bits << shift
                            shift += np.uint64(BLOCKS)
                        if mask != 0:
                            tiles[slot] = corner + tile
                            masks[slot] = mask
                            counts[corner + tile] += 1
                            slot += 1
                    corner += tiles_across
                    j = stop
                tile_counts[g] = slot - start
    restore_denormals(state)


@kernel
def _scan(histogram, starts):
    total = 0
    for tile in range(histogram.shape[1]):
        starts[tile] = total
        for part in range(histogram.shape[0]):
            count = histogram[part, tile]
            histogram[part, tile] = total
            total += count
    starts[histogram.shape[1]] = total


@kernel
def _scatter(tickets, order, first_slots, tile_counts, bounds, histogram, tiles, masks, entries):
    while True:
        part = take_ticket(tickets)
        if part >= histogram.shape[0]:
            break
        places = histogram[part]
        end = bounds[part + 1]
        for k in range(bounds[part], end):
            prefetch(first_slots, order[min(k + 16, end - 1)])
            prefetch(masks, first_slots[order[min(k + 8, end - 1)]])
            g = order[k]
            for slot in range(first_slots[g], first_slots[g] + tile_counts[g]):
                place = places[tiles[slot]]
                places[tiles[slot]] = place + 1
                entries[place, 0] = np.uint64(g) | np.uint64(slot) << np.uint64(32)
                entries[place, 1] = masks[slot]


def bin_into_tiles(order, records, first_slots, tile_counts, pairs, width, height, take):
    """Lists of (Gaussian, slot, block mask) per tile, nearest first.

    Returns:
        entries [pairs, 2] uint64: Gaussian and slot in the halves of the first, block mask in the second;
        starts [tiles + 1] int64: where each tile's entries begin; tiles row by row.
    """
    across, down = -(-width // TILE), -(-height // TILE)
    parts = max(1, min(pool.thread_count() * PARTS_PER_THREAD, len(order) // 256))
    bounds = np.arange(parts + 1) * len(order) // parts
    histogram = take("tile_histogram", (parts, across * down), np.int32)
    tiles, masks = take("pair_tiles", pairs, np.int32), take("pair_masks", pairs, np.uint64)
    entries, starts = take("entries", (pairs, 2), np.uint64), take("tile_starts", across * down + 1, np.int64)
    found = (order, records, first_slots, tile_counts, width, height, across, bounds, histogram, tiles, masks)
    pool.run(find_pairs, parts, *found)
    _scan(histogram, starts)
    pool.run(_scatter, parts, order, first_slots, tile_counts, bounds, histogram, tiles, masks, entries)
    return entries, starts
