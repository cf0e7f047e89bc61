"""Which Gaussians touch which 4x4 blocks of which tile, nearest first: exact ellipse extents, one counting sort."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from recon3d.rasteriser import pool
from recon3d.rasteriser.layout import (
    BLOCK,
    BLOCKS_ACROSS,
    BLOCKS_DOWN,
    CENTRE_X,
    CENTRE_Y,
    EXTENT_X,
    EXTENT_Y,
    K0,
    K1,
    K2,
    LOG_OPACITY,
    RECORD,
    TILE_HEIGHT,
    TILE_WIDTH,
)
from recon3d.rasteriser.project import LOG2_E, LOG_OPACITY_MIN
from recon3d.rasteriser.simd import (
    LANES,
    ceil,
    floor,
    inlined,
    intrinsic,
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

NARROW = 24 // BLOCKS_ACROSS  # tiles whose blocks in a row fit an integer with bits to spare
PARTS_PER_THREAD = 4


@intrinsic
def store_masks(typing, array, offset, lows, highs):
    """Block masks of NARROW neighbouring tiles for 16 Gaussians, 16 int32 a tile.

    ``lows`` and ``highs`` are, for each of a tile's block rows, the first block covered and the one after the last,
    counted from the left edge of the first tile.
    """

    def generate(context, builder, signature, args):
        kind = ir.VectorType(ir.IntType(32), LANES)

        def constant(value):
            return ir.Constant(kind, [value] * LANES)

        ends = [cgutils.unpack_tuple(builder, args[i], BLOCKS_DOWN) for i in (2, 3)]
        words = []
        for low, high in zip(*ends, strict=True):
            upper, lower = (builder.shl(constant(1), builder.fptosi(end, kind)) for end in (high, low))
            words.append(builder.sub(upper, lower))
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        for tile in range(NARROW):
            mask = constant(0)
            for row, word in enumerate(words):
                bits = builder.lshr(word, constant(tile * BLOCKS_ACROSS))
                bits = builder.and_(bits, constant((1 << BLOCKS_ACROSS) - 1))
                mask = builder.or_(mask, builder.shl(bits, constant(row * BLOCKS_ACROSS)))
            place = builder.add(args[1], ir.Constant(args[1].type, tile * LANES))
            pointer = builder.bitcast(builder.gep(data, [place], inbounds=True), kind.as_pointer())
            builder.store(mask, pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.int64, lows, highs), generate


@inlined
def _covered(y, top, bottom, left, right, edge, ellipse):
    """Blocks (first, one after last) that an ellipse covers in the row of blocks at ``y``, from the column ``edge`` on.

    The ellipse is (k0 dx + k1 dy)^2 + (k2 dy)^2 = radius; its right end lies at dy = -turn, its left end at turn.
    """
    mx, my, k1, k2, inverse_k0, radius, turn, ey = ellipse
    low = maximum(maximum(y, top) + (0.5 - my), -ey)
    high = minimum(minimum(y + (BLOCK - 1.0), bottom) + (0.5 - my), ey)
    dy = minimum(maximum(-turn, low), high)
    tip = k2 * dy
    x_right = (sqrt(maximum(radius - tip * tip, 0.0)) - k1 * dy) * inverse_k0
    dy = minimum(maximum(turn, low), high)
    tip = k2 * dy
    x_left = (-sqrt(maximum(radius - tip * tip, 0.0)) - k1 * dy) * inverse_k0
    x_left = maximum(ceil(x_left + (mx - 0.5)), left)
    x_right = minimum(floor(x_right + (mx - 0.5)), right)
    full = (x_left <= x_right) & (y <= bottom) & (y + (BLOCK - 1.0) >= top)
    first = floor(x_left * (1.0 / BLOCK)) - edge
    after = floor(x_right * (1.0 / BLOCK)) - edge + 1.0
    return where(full, first, 0.0), where(full, after, 0.0)


@inlined
def _part_of_tile(low, high, tile):
    """Bits of the blocks ``low`` to ``high`` (exclusive, from the first tile's left edge) that lie in ``tile``."""
    a = min(max(low - tile * BLOCKS_ACROSS, 0), BLOCKS_ACROSS)
    b = min(max(high - tile * BLOCKS_ACROSS, 0), BLOCKS_ACROSS)
    return (np.uint64(1) << np.uint64(b)) - (np.uint64(1) << np.uint64(a))


@inlined
def _record(records, order, rank, last):
    return load(records, np.int64(order[min(rank, last)]) * RECORD)


@kernel
def _count_boxes(tickets, order, tile_counts, bounds, boxes):
    """How many tiles the boxes around each part's Gaussians have: the room that find_pairs needs."""
    while True:
        part = take_ticket(tickets)
        if part >= boxes.shape[0]:
            break
        total = 0
        for k in range(bounds[part], bounds[part + 1]):
            total += tile_counts[order[k]]
        boxes[part] = total


@kernel
def find_pairs(
    tickets,
    order,
    records,
    first_slots,
    tile_counts,
    width,
    height,
    tiles_across,
    bounds,
    rooms,
    histogram,
    tiles,
    pairs,
    found,
):
    """Cover every visible Gaussian's ellipse with blocks, sixteen Gaussians at a time.

    Args:
        order: [n] int32 Gaussians by depth; bounds: [parts + 1] int64 the ranks of each part.
        histogram: [parts, tiles] int32 is set to the number of pairs that fall into each tile.
        tile_counts: [N] int32 becomes the number of tiles really touched.
        rooms: [parts] int64, where each part may begin to write.
        tiles [pairs] int32, pairs [pairs, 2] uint64: tile; Gaussian and slot, block mask (see bin_into_tiles).
        found: [parts] int64, how many pairs each part has.
    """
    state = flush_denormals()
    rows = height // TILE_HEIGHT + 2
    narrow = np.empty(rows * NARROW * LANES, np.int32)
    lows, highs = np.empty(rows * BLOCKS_DOWN * LANES, np.int32), np.empty(rows * BLOCKS_DOWN * LANES, np.int32)
    first_row, row_span = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    first_tile, tile_span = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    while True:
        part = take_ticket(tickets)
        if part >= histogram.shape[0]:
            break
        counts = histogram[part]
        counts[:] = 0
        place = rooms[part]
        end = bounds[part + 1]
        for first in range(bounds[part], end, LANES):
            last = end - 1
            for k in range(first + LANES, min(first + 2 * LANES, end)):
                prefetch(records, np.int64(order[k]) * RECORD)
                prefetch(first_slots, order[k])
            f = transpose(
                (
                    _record(records, order, first, last),
                    _record(records, order, first + 1, last),
                    _record(records, order, first + 2, last),
                    _record(records, order, first + 3, last),
                    _record(records, order, first + 4, last),
                    _record(records, order, first + 5, last),
                    _record(records, order, first + 6, last),
                    _record(records, order, first + 7, last),
                    _record(records, order, first + 8, last),
                    _record(records, order, first + 9, last),
                    _record(records, order, first + 10, last),
                    _record(records, order, first + 11, last),
                    _record(records, order, first + 12, last),
                    _record(records, order, first + 13, last),
                    _record(records, order, first + 14, last),
                    _record(records, order, first + 15, last),
                )
            )
            mx, my, k0, k1, k2, ex, ey = f[CENTRE_X], f[CENTRE_Y], f[K0], f[K1], f[K2], f[EXTENT_X], f[EXTENT_Y]
            # The same slack as the extents have.
            radius = (f[LOG_OPACITY] - LOG_OPACITY_MIN) * 1.0005 + 1e-4 * 0.0625 * LOG2_E
            left, right = maximum(ceil(mx - ex - 0.5), 0.0), minimum(floor(mx + ex - 0.5), width - 1)
            top, bottom = maximum(ceil(my - ey - 0.5), 0.0), minimum(floor(my + ey - 0.5), height - 1)
            row, column = floor(top * (1.0 / TILE_HEIGHT)), floor(left * (1.0 / TILE_WIDTH))
            store_int32(first_row, 0, row)
            store_int32(row_span, 0, floor(bottom * (1.0 / TILE_HEIGHT)) - row + 1.0)
            store_int32(first_tile, 0, column)
            store_int32(tile_span, 0, floor(right * (1.0 / TILE_WIDTH)) - column + 1.0)
            edge = column * BLOCKS_ACROSS
            tallest, widest = 0, 0
            for lane in range(LANES):
                tallest, widest = max(tallest, row_span[lane]), max(widest, tile_span[lane])
            ellipse = (mx, my, k1, k2, 1.0 / k0, radius, k1 * sqrt(radius / (k1 * k1 + k2 * k2)) / k2, ey)
            for j in range(tallest):
                y = (row + j) * TILE_HEIGHT
                l0, h0 = _covered(y, top, bottom, left, right, edge, ellipse)
                l1, h1 = _covered(y + BLOCK, top, bottom, left, right, edge, ellipse)
                l2, h2 = _covered(y + 2 * BLOCK, top, bottom, left, right, edge, ellipse)
                l3, h3 = _covered(y + 3 * BLOCK, top, bottom, left, right, edge, ellipse)
                store_masks(narrow, j * NARROW * LANES, (l0, l1, l2, l3), (h0, h1, h2, h3))
                if widest > NARROW:
                    k = j * BLOCKS_DOWN * LANES
                    store_int32(lows, k, l0)
                    store_int32(lows, k + 16, l1)
                    store_int32(lows, k + 32, l2)
                    store_int32(lows, k + 48, l3)
                    store_int32(highs, k, h0)
                    store_int32(highs, k + 16, h1)
                    store_int32(highs, k + 32, h2)
                    store_int32(highs, k + 48, h3)
            for lane in range(min(LANES, end - first)):
                g = order[first + lane]
                slot = first_slots[g]
                before = place
                across = tile_span[lane]
                corner = first_row[lane] * tiles_across + first_tile[lane]
                for j in range(row_span[lane]):
                    for tile in range(across):
                        if across <= NARROW:
                            mask = np.uint64(np.uint32(narrow[(j * NARROW + tile) * LANES + lane]))
                        else:
                            mask = np.uint64(0)
                            for i in range(BLOCKS_DOWN):
                                k = (j * BLOCKS_DOWN + i) * LANES + lane
                                mask |= _part_of_tile(lows[k], highs[k], tile) << np.uint64(i * BLOCKS_ACROSS)
                        touched = np.int32(mask != 0)
                        tiles[place] = corner + tile
                        pairs[place, 0] = np.uint64(g) | np.uint64(slot) << np.uint64(32)
                        pairs[place, 1] = mask
                        counts[corner + tile] += touched
                        place += touched
                        slot += touched
                    corner += tiles_across
                tile_counts[g] = place - before
        found[part] = place - rooms[part]
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
def _scatter(tickets, rooms, found, histogram, tiles, pairs, entries):
    while True:
        part = take_ticket(tickets)
        if part >= histogram.shape[0]:
            break
        places = histogram[part]
        for k in range(rooms[part], rooms[part] + found[part]):
            place = places[tiles[k]]
            places[tiles[k]] = place + 1
            entries[place, 0] = pairs[k, 0]
            entries[place, 1] = pairs[k, 1]


def bin_into_tiles(order, records, first_slots, tile_counts, pairs, width, height, take):
    """Lists of (Gaussian, slot, block mask) per tile, nearest first.

    Returns:
        entries [pairs, 2] uint64: Gaussian and slot in the low and high half of the first, block mask in the second,
            where bit BLOCKS_ACROSS row + column is a block; starts [tiles + 1] int64: where each tile's entries begin,
            tiles row by row.
    """
    across, down = -(-width // TILE_WIDTH), -(-height // TILE_HEIGHT)
    parts = max(1, min(pool.thread_count() * PARTS_PER_THREAD, len(order) // 256))
    bounds = np.arange(parts + 1) * len(order) // parts
    boxes, found = np.empty(parts, np.int64), np.empty(parts, np.int64)
    pool.run(_count_boxes, parts, order, tile_counts, bounds, boxes)
    rooms = np.cumsum(boxes) - boxes
    histogram = take("tile_histogram", (parts, across * down), np.int32)
    tiles, unsorted = take("pair_tiles", pairs + 1, np.int32), take("pairs", (pairs + 1, 2), np.uint64)
    entries, starts = take("entries", (pairs, 2), np.uint64), take("tile_starts", across * down + 1, np.int64)
    gaussians = (order, records, first_slots, tile_counts)
    outputs = (rooms, histogram, tiles, unsorted, found)
    pool.run(find_pairs, parts, *gaussians, width, height, across, bounds, *outputs)
    _scan(histogram, starts)
    pool.run(_scatter, parts, rooms, found, histogram, tiles, unsorted, entries)
    return entries, starts
