"""PatchMatch stereo: each pixel's slanted plane, improved by its neighbours' planes and by chance.

After Bleyer et al. (PatchMatch stereo, 2011), Galliani et al. (red-black propagation, 2015), Schönberger et al.
(bilateral NCC and geometric consistency, 2016) and Xu and Tao (propagation from afar, 2019). A pixel's cost for a plane
is 1 - NCC between its patch and the targets along the plane, weighted bilaterally, plus how far the plane lies from
the depth that each target knows (where that is given), plus how far it lies from a first guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon3d.priors.stereo.compiled import bilinear, kernel, total
from recon3d.priors.stereo.level import Level, Neighbours
from recon3d.priors.stereo.sweep import NEXT
from recon3d.rasteriser import pool
from recon3d.rasteriser.simd import LANES, broadcast, fma, inlined, maximum, minimum
from recon3d.rasteriser.simd_memory import element, load, store, take_ticket

BAND = 8  # rows that one thread works on at a time
NOISE = np.float32(4)  # variance in levels below which a patch says nothing
SIMILAR = np.float32(20)  # levels of difference over which a pixel of the patch loses its weight
UNSEEN = np.float32(0.6)  # cost of a plane that no target sees
DIFFERENCE = np.float32(0.2)  # share of the absolute difference of the patches' means
FULL_DIFFERENCE = np.float32(25)  # levels of luminance
FARTHEST_ERROR = np.float32(3.0)  # pixels of disagreement with a target's depth from which on it is merely wrong
FARTHEST_PRIOR = np.float32(4.0)  # pixels from the first guess from which on it counts no more
AFAR = 4  # neighbours along an axis, 3, 5, 7 and 9 pixels away, of which the best one proposes its plane

TO_SIDE = np.array([[-1, 0], [0, -1], [1, 0], [0, 1]])


@dataclass
class Planes:
    """One view's planes and their costs, all [H, W] float32: inverse depth at the pixel's centre, its change per pixel
    to the right and down, and the cost (see :func:`improve`)."""

    inverse_depth: np.ndarray
    right: np.ndarray
    down: np.ndarray
    cost: np.ndarray

    @staticmethod
    def through(inverse_depth: np.ndarray) -> Planes:
        """Planes through a map [H, W], tilted as the map is where it is smooth; costs still unknown."""
        inverse_depth = np.ascontiguousarray(inverse_depth, np.float32)
        return Planes(
            inverse_depth,
            _smooth_slope(inverse_depth, 1),
            _smooth_slope(inverse_depth, 0),
            np.zeros_like(inverse_depth),
        )

    def enlarged(self, width: int, height: int) -> Planes:
        """The same planes for the same photo at another size; costs still unknown."""
        rows, columns = self.cost.shape
        x = (np.arange(width) + 0.5) * (columns / width)
        y = (np.arange(height) + 0.5) * (rows / height)
        column, row = np.floor(x).astype(int).clip(0, columns - 1), np.floor(y).astype(int).clip(0, rows - 1)
        nearest = np.ix_(row, column)
        right, down = self.right[nearest], self.down[nearest]
        inverse_depth = self.inverse_depth[nearest] + right * (x - column - 0.5) + down * (y - row - 0.5)[:, None]
        inverse_depth = np.clip(inverse_depth, self.inverse_depth.min(), self.inverse_depth.max())
        return Planes(
            inverse_depth.astype(np.float32),
            (right * (columns / width)).astype(np.float32),
            (down * (rows / height)).astype(np.float32),
            np.zeros((height, width), np.float32),
        )


@dataclass(frozen=True)
class Weights:
    """What a plane's cost is made of, beside the photos.

    Attributes:
        geometric: of the disagreement with the targets' depth, at most.
        prior: of the distance from the first guess, at most.
    """

    geometric: float
    prior: float


def patch_pattern(reach: int) -> np.ndarray:
    """A patch's pixels: every other one, as on a chess board, up to ``reach``.

    Returns:
        [3, N] float32: x, y, and a weight that falls with the distance; N is a multiple of 16 (whole vectors), the last
        ones weighing nothing.
    """
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    chosen = (x + y) % 2 == 0
    pixels = np.stack([x, y, np.exp(-(x**2 + y**2) / (2 * reach**2))])[:, chosen]
    return np.ascontiguousarray(np.pad(pixels, ((0, 0), (0, -pixels.shape[1] % LANES))), np.float32)


def improve(
    level: Level,
    neighbours: Neighbours,
    planes: Planes,
    guess: np.ndarray,
    step: np.ndarray,
    limits: tuple[float, float],
    known: np.ndarray,
    weights: Weights,
    pattern: np.ndarray,
    common: np.ndarray,
    rounds: int,
    seed: int,
) -> None:
    """Improve ``planes`` in place.

    Args:
        level: the photos.
        neighbours: the view and its targets.
        planes: what to improve; their costs are computed anew.
        guess: [H, W] float32 inverse depth that planes are drawn to.
        step: [H, W] float32 change of inverse depth that moves a match by a pixel.
        limits: least and most inverse depth.
        known: [sum of H W] float32 inverse depth of all views, 0 where unknown; used with ``weights.geometric`` > 0.
        weights: what disagreements cost.
        pattern: [3, N] pixels of a patch, see :func:`patch_pattern`.
        common: [Q, 3] float32 planes (right, down, at the corner (0, 0)) that the first round proposes to every pixel.
        rounds: how often every pixel listens to its neighbours.
        seed: of the planes drawn by chance; the result depends on nothing else.
    """
    bands = -(-len(planes.cost) // BAND)
    view = (level.quads, level.counts, level.starts, level.sizes, neighbours.view)
    pair = (neighbours.targets, neighbours.there, neighbours.back)
    maps = (planes.inverse_depth, planes.right, planes.down, planes.cost, guess, step)
    numbers = (np.float32(limits[0]), np.float32(limits[1]), np.float32(weights.geometric), np.float32(weights.prior))
    for turn in range(-1, 2 * rounds):  # the first one only computes costs
        pool.run(_improve_bands, bands, *view, *pair, *maps, known, *numbers, pattern, common, turn, seed)


def similarity(level: Level, neighbours: Neighbours, planes: Planes, pattern: np.ndarray) -> np.ndarray:
    """[T, H, W] float32 bilaterally weighted NCC of the planes with each target, 0 where it does not see them.

    Unlike the cost's, it is near 0 where there is nothing to see.
    """
    height, width = planes.cost.shape
    result = np.zeros((len(neighbours.targets), height, width), np.float32)
    pool.run(
        _similarity_bands, -(-height // BAND), level.quads, level.counts, level.starts, level.sizes, neighbours.view,
        neighbours.targets, neighbours.there, planes.inverse_depth, planes.right, planes.down, pattern, result,
    )  # fmt: skip
    return result


def _smooth_slope(values: np.ndarray, axis: int) -> np.ndarray:
    """Change per pixel along an axis: the smaller of those to either side, 0 where they differ in sign."""
    difference = np.diff(values, axis=axis)
    first, last = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
    first[axis], last[axis] = (1, 0), (0, 1)
    before, after = np.pad(difference, first), np.pad(difference, last)
    smaller = np.where(np.abs(before) < np.abs(after), before, after)
    return np.where(before * after > 0, smaller, 0).astype(np.float32)


@inlined
def _chance(x, y, turn, seed):
    """Uniform in -1..1, a hash of its arguments."""
    # Sums and products of 32-bit numbers are 64 bits wide here: only the lower half is kept.
    mask = np.uint64(0xFFFFFFFF)
    h = np.uint64(x) * np.uint64(0x8DA6B343) ^ np.uint64(y) * np.uint64(0xD8163841)
    h = (h ^ np.uint64(turn) * np.uint64(0xCB1AB31F) ^ np.uint64(seed) * np.uint64(0x9E3779B9)) & mask
    h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & mask
    h = ((h ^ (h >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & mask
    h ^= h >> np.uint64(16)
    return np.float32(h) * np.float32(2 / 4294967296) - np.float32(1)


@inlined
def look(quads, start, width, height, pattern, x, y, weight, centred):
    """A patch of the photo: its weights, and those times the difference from its mean; returns mean and variance."""
    most_x, most_y = np.float32(width - 1), np.float32(height - 1)
    here = np.float32(np.int32(element(quads, start + y * width + x) & np.uint32(255)))
    size = len(weight)
    weights, sums = broadcast(0.0), broadcast(0.0)
    for i in range(0, size, LANES):
        column = minimum(maximum(load(pattern, i) + np.float32(x), 0.0), most_x)
        row = minimum(maximum(load(pattern, size + i) + np.float32(y), 0.0), most_y)
        value = bilinear(quads, start, width, column, row)
        difference = (value - here) * (np.float32(1) / SIMILAR)
        part = load(pattern, 2 * size + i) / fma(difference, difference, 1.0)
        store(weight, i, part)
        store(centred, i, value)
        weights = weights + part
        sums = fma(part, value, sums)
    inverse = np.float32(1) / total(weights)
    mean = total(sums) * inverse
    spread = broadcast(0.0)
    for i in range(0, size, LANES):
        part = load(weight, i) * inverse
        difference = load(centred, i) - mean
        store(weight, i, part)
        store(centred, i, part * difference)
        spread = fma(part * difference, difference, spread)
    return mean, total(spread)


@inlined
def compare(quads, counts, start, width, height, there, t, pattern, weight, centred, px, py, w, right, down):
    """Covariance, the target's mean and variance along a plane, and where its centre lies; u < 0 if not seen."""
    z = there[t, 6] * px + there[t, 7] * py + there[t, 8] + w * there[t, 11]
    scale = np.float32(1) / max(z, np.float32(1e-6))
    u = (there[t, 0] * px + there[t, 1] * py + there[t, 2] + w * there[t, 9]) * scale
    v = (there[t, 3] * px + there[t, 4] * py + there[t, 5] + w * there[t, 10]) * scale
    seen = z >= np.float32(1e-6) and u >= 0 and v >= 0 and u < width and v < height
    if seen:
        seen = element(counts, start + np.int64(v) * width + np.int64(u)) != 0
    if not seen:
        unseen = np.float32(-1)
        return unseen, unseen, unseen, unseen, unseen
    zx, zy = there[t, 6] + right * there[t, 11], there[t, 7] + down * there[t, 11]
    ux = (there[t, 0] + right * there[t, 9] - u * zx) * scale
    uy = (there[t, 1] + down * there[t, 9] - u * zy) * scale
    vx = (there[t, 3] + right * there[t, 10] - v * zx) * scale
    vy = (there[t, 4] + down * there[t, 10] - v * zy) * scale
    most_u, most_v = np.float32(width - 1), np.float32(height - 1)
    u0, v0 = u - np.float32(0.5), v - np.float32(0.5)
    size = len(weight)
    sum1, sum2, cross = broadcast(0.0), broadcast(0.0), broadcast(0.0)
    for i in range(0, size, LANES):
        dx, dy = load(pattern, i), load(pattern, size + i)
        column = minimum(maximum(fma(dx, ux, fma(dy, uy, u0)), 0.0), most_u)
        row = minimum(maximum(fma(dx, vx, fma(dy, vy, v0)), 0.0), most_v)
        value = bilinear(quads, start, width, column, row)
        part = load(weight, i) * value
        sum1 = sum1 + part
        sum2 = fma(part, value, sum2)
        cross = fma(load(centred, i), value, cross)
    mean = total(sum1)
    return total(cross), mean, max(total(sum2) - mean * mean, np.float32(0)), u, v


@inlined
def _disagreement(known, start, width, back, t, px, py, u, v):
    """Pixels by which a match misses its origin when it comes back by the target's depth, at most FARTHEST_ERROR."""
    w = known[start + np.int64(v) * width + np.int64(u)]
    if w <= 0:
        return FARTHEST_ERROR
    z = back[t, 6] * u + back[t, 7] * v + back[t, 8] + w * back[t, 11]
    if z < np.float32(1e-6):
        return FARTHEST_ERROR
    x = (back[t, 0] * u + back[t, 1] * v + back[t, 2] + w * back[t, 9]) / z - px
    y = (back[t, 3] * u + back[t, 4] * v + back[t, 5] + w * back[t, 10]) / z - py
    return min(np.sqrt(x * x + y * y), FARTHEST_ERROR)


@inlined
def _propose(proposals, number, inverse_depth, slope_x, slope_y, from_x, from_y, x, y):
    """Continue a neighbour's plane to a pixel."""
    right, down = slope_x[from_y, from_x], slope_y[from_y, from_x]
    proposals[number, 0] = inverse_depth[from_y, from_x] + right * (x - from_x) + down * (y - from_y)
    proposals[number, 1], proposals[number, 2] = right, down


@inlined
def _cost(
    quads, counts, starts, sizes, targets, there, back, known, geometric, pattern, weight, centred, mean, variance,
    px, py, w, right, down, costs,
):  # fmt: skip
    """Cost of a plane over all targets, without the first guess's part."""
    seen = 0
    for t in range(len(targets)):
        other = targets[t]
        start, width, height = starts[other], sizes[other, 0], sizes[other, 1]
        cross, m, v, u, row = compare(
            quads, counts, start, width, height, there, t, pattern, weight, centred, px, py, w, right, down
        )
        if u < 0:
            continue
        cost = np.float32(1) - (cross + NOISE) / np.sqrt((v + NOISE) * (variance + NOISE))
        cost = (np.float32(1) - DIFFERENCE) * min(cost, np.float32(1))
        cost += DIFFERENCE * min(abs(m - mean) / FULL_DIFFERENCE, np.float32(1))
        if geometric > 0:
            error = _disagreement(known, start, width, back, t, px, py, u, row)
            cost += geometric * error / FARTHEST_ERROR
        k = seen
        while k > 0 and costs[k - 1] > cost:
            costs[k] = costs[k - 1]
            k -= 1
        costs[k] = cost
        seen += 1
    if seen == 0:
        return UNSEEN
    total, weights, factor = np.float32(0), np.float32(0), np.float32(1)
    for t in range(seen):
        total += factor * costs[t]
        weights += factor
        factor *= np.float32(NEXT)
    return total / weights


@kernel
def _improve_bands(
    tickets, quads, counts, starts, sizes, view, targets, there, back, inverse_depth, slope_x, slope_y, best, guess,
    step, known, least, most, geometric, prior, pattern, common, turn, seed,
):  # fmt: skip
    """One colour of the chess board; with turn -1 all pixels, whose costs are computed and nothing else."""
    height, width = best.shape
    bands = -(-height // BAND)
    weight, centred = np.empty(pattern.shape[1], np.float32), np.empty(pattern.shape[1], np.float32)
    costs = np.empty(len(targets), np.float32)
    reach = -pattern[0, 0]
    proposals = np.empty((8 + len(common), 3), np.float32)
    shrink = np.float32(0.5) ** np.float32(max(turn, 0) // 2)
    while True:
        band = take_ticket(tickets)
        if band >= bands:
            return
        for y in range(band * BAND, min(height, (band + 1) * BAND)):
            first, stride = (0, 1) if turn < 0 else ((y + turn) % 2, 2)
            for x in range(first, width, stride):
                if counts[starts[view] + y * width + x] == 0:
                    continue
                mean, variance = look(quads, starts[view], width, height, pattern, x, y, weight, centred)
                px, py = np.float32(x + 0.5), np.float32(y + 0.5)
                w, right, down = inverse_depth[y, x], slope_x[y, x], slope_y[y, x]
                unit = step[y, x]
                if turn < 0:
                    cost = _cost(
                        quads, counts, starts, sizes, targets, there, back, known, geometric, pattern, weight, centred,
                        mean, variance, px, py, w, right, down, costs,
                    )  # fmt: skip
                    best[y, x] = cost + prior * min(abs(w - guess[y, x]) / (unit * FARTHEST_PRIOR), np.float32(1))
                    continue
                count = 0
                for k in range(4):
                    dx, dy = TO_SIDE[k, 0], TO_SIDE[k, 1]
                    bx, by, lowest = -1, -1, np.float32(1e9)
                    for far in range(1 + AFAR):
                        nx, ny = x + dx * (1 + 2 * far), y + dy * (1 + 2 * far)
                        if not (0 <= nx < width and 0 <= ny < height):
                            break
                        if far == 0:
                            _propose(proposals, count, inverse_depth, slope_x, slope_y, nx, ny, x, y)
                            count += 1
                        elif best[ny, nx] < lowest:
                            bx, by, lowest = nx, ny, best[ny, nx]
                    if bx >= 0:
                        _propose(proposals, count, inverse_depth, slope_x, slope_y, bx, by, x, y)
                        count += 1
                if turn < 2:
                    for k in range(len(common)):
                        proposals[count, 0] = common[k, 0] * px + common[k, 1] * py + common[k, 2]
                        proposals[count, 1], proposals[count, 2] = common[k, 0], common[k, 1]
                        count += 1
                lowest = best[y, x]
                for k in range(count + 4):
                    if k < count:
                        new, new_right, new_down = proposals[k, 0], proposals[k, 1], proposals[k, 2]
                        near = abs(new - w) < np.float32(0.02) * unit
                        if near and (abs(new_right - right) + abs(new_down - down)) * reach < np.float32(0.04) * unit:
                            continue
                    else:
                        number = (turn * 4 + k - count) * 3
                        new = w
                        new_right, new_down = right, down
                        if k - count != 1:
                            size = shrink if k - count != 3 else shrink * np.float32(0.2)
                            new += size * unit * _chance(x, y, number, seed)
                        if k - count != 0:
                            size = shrink / reach if k - count != 3 else shrink * np.float32(0.3) / reach
                            new_right += size * unit * _chance(x, y, number + 1, seed)
                            new_down += size * unit * _chance(x, y, number + 2, seed)
                    if not (new >= least and new <= most):
                        continue
                    cost = _cost(
                        quads, counts, starts, sizes, targets, there, back, known, geometric, pattern, weight, centred,
                        mean, variance, px, py, new, new_right, new_down, costs,
                    )  # fmt: skip
                    cost += prior * min(abs(new - guess[y, x]) / (unit * FARTHEST_PRIOR), np.float32(1))
                    if cost < lowest:
                        lowest, w, right, down = cost, new, new_right, new_down
                best[y, x] = lowest
                inverse_depth[y, x], slope_x[y, x], slope_y[y, x] = w, right, down


@kernel
def _similarity_bands(
    tickets, quads, counts, starts, sizes, view, targets, there, inverse_depth, slope_x, slope_y, pattern, result
):
    height, width = inverse_depth.shape
    bands = -(-height // BAND)
    weight, centred = np.empty(pattern.shape[1], np.float32), np.empty(pattern.shape[1], np.float32)
    while True:
        band = take_ticket(tickets)
        if band >= bands:
            return
        for y in range(band * BAND, min(height, (band + 1) * BAND)):
            for x in range(width):
                _, variance = look(quads, starts[view], width, height, pattern, x, y, weight, centred)
                for t in range(len(targets)):
                    other = targets[t]
                    cross, _, v, u, _ = compare(
                        quads, counts, starts[other], sizes[other, 0], sizes[other, 1], there, t, pattern, weight,
                        centred, np.float32(x + 0.5), np.float32(y + 0.5), inverse_depth[y, x], slope_x[y, x],
                        slope_y[y, x],
                    )  # fmt: skip
                    if u >= 0:
                        result[t, y, x] = max(cross, np.float32(0)) / np.sqrt((v + NOISE) * (variance + NOISE))
