"""The heavy parts of multi-view stereo in torch, for GPUs: plane sweep, semi-global aggregation, PatchMatch.

The same arithmetic as the compiled kernels of :mod:`recon3d.priors.stereo`, from which all constants come; tests hold
the two together on the CPU. Where a kernel walks over pixels, everything here is done for all pixels (of one colour of
the chess board, in PatchMatch) at once; only aggregation walks, row by row.

Left out, since it does not pay there: photos packed four pixels to a word (``grid_sample`` interpolates), and all that
is done once per view and scale (round trips between views, evidence, large planes), which stays in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recon3d.priors.stereo import aggregation, patch_match
from recon3d.priors.stereo import sweep as plane_sweep
from recon3d.priors.stereo.level import Level, Neighbours
from recon3d.priors.stereo.patch_match import Planes, Weights

DEPTHS_AT_ONCE = 16
PIXELS_AT_ONCE = 1 << 17
TINY = 1e-6
FAR = 20000.0  # more than any path costs


def first_depth(level: Level, near: Neighbours, inverse_depths: np.ndarray, device: torch.device) -> np.ndarray:
    """[H, W] float32 position along ``inverse_depths`` [D] of the least aggregated cost, with a part between planes."""
    grey = torch.from_numpy(level.grey(near.view)).to(device)
    return best_planes(aggregate(sweep(level, near, inverse_depths, device), grey)).cpu().numpy()


def sweep(level: Level, near: Neighbours, inverse_depths: np.ndarray, device: torch.device) -> Tensor:
    """See :func:`recon3d.priors.stereo.sweep.sweep`: [H, W, D] uint8 matching costs on ``device``."""
    width, height = level.sizes[near.view].tolist()
    border = plane_sweep.LARGE
    photo = torch.from_numpy(level.grey(near.view)).to(device)[None, None]
    photo = functional.pad(photo, (border,) * 4, mode="replicate")
    y, x = torch.meshgrid(
        torch.arange(-border, height + border, device=device) + 0.5,
        torch.arange(-border, width + border, device=device) + 0.5,
        indexing="ij",
    )
    inside = (..., slice(border, border + height), slice(border, border + width))
    targets = [_Target.of(level, near, t, device) for t in range(len(near.targets))]
    volume = torch.empty((height, width, len(inverse_depths)), dtype=torch.uint8, device=device)
    for first in range(0, len(inverse_depths), DEPTHS_AT_ONCE):
        some = torch.from_numpy(inverse_depths[first : first + DEPTHS_AT_ONCE].astype(np.float32)).to(device)
        costs = []
        for target in targets:
            u, v, z = target.project(x, y, some[:, None, None])
            cost = _unlikeness(photo, target.sample(u - 0.5, v - 0.5)[:, None])[:, 0]
            costs.append(torch.where(target.sees(u[inside], v[inside], z[inside]), cost.clamp(max=1), torch.inf))
        blended = _blend(torch.stack(costs))
        blended = torch.where(blended.isinf(), float(plane_sweep.UNSEEN), plane_sweep.FULL * blended)
        volume[:, :, first : first + len(some)] = blended.to(torch.uint8).permute(1, 2, 0)
    return volume


def aggregate(volume: Tensor, grey: Tensor) -> Tensor:
    """See :func:`recon3d.priors.stereo.aggregation.aggregate`: [H, W, D] float32 sums (whole numbers)."""
    sums = torch.zeros(volume.shape, device=volume.device)
    for shifts, turned in (((-1, 0, 1), False), ((0,), True)):
        for backward in (False, True):
            # Windows on the same memory, in which every path comes from the row before.
            costs, photo, total = (v.transpose(0, 1) if turned else v for v in (volume, grey, sums))
            _add_paths(costs, photo, total, shifts, backward)
    return sums


def best_planes(sums: Tensor) -> Tensor:
    """See :func:`recon3d.priors.stereo.aggregation.best_planes`."""
    count = sums.shape[2]
    order = torch.arange(count, device=sums.device)
    best = (sums.to(torch.int64) * count + order).argmin(dim=2)  # the first of equals on any device
    best = best.clamp(1, max(count - 2, 1))[..., None]
    before, middle, after = (sums.gather(2, best + k)[..., 0] for k in (-1, 0, 1))
    bend = (before - 2 * middle + after).clamp(min=1e-6)
    return best[..., 0] + (0.5 * (before - after) / bend).clamp(-1, 1)


def improve(
    level: Level,
    near: Neighbours,
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
    device: torch.device,
) -> None:
    """Improve ``planes`` in place; see :func:`recon3d.priors.stereo.patch_match.improve`."""

    def moved(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    run = _Improvement(
        moved(level.grey(near.view)),
        [_Target.of(level, near, t, device, known) for t in range(len(near.targets))],
        (moved(planes.inverse_depth), moved(planes.right), moved(planes.down), moved(planes.cost)),
        moved(guess),
        moved(step),
        (float(np.float32(limits[0])), float(np.float32(limits[1]))),
        weights,
        moved(pattern[:, pattern[2] > 0]),
        common.tolist(),
        seed,
    )
    height, width = planes.cost.shape
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    counts = torch.from_numpy(level.map_of(level.counts, near.view) > 0).to(device)
    for turn in range(-1, 2 * rounds):
        chosen = (counts if turn < 0 else counts & ((x + y + turn) % 2 == 0)).nonzero()
        for some in chosen.split(PIXELS_AT_ONCE):
            run.improve(some[:, 1], some[:, 0], turn)
    for ours, improved in zip((planes.inverse_depth, planes.right, planes.down, planes.cost), run.state, strict=True):
        ours[...] = improved.cpu().numpy()


@dataclass(frozen=True)
class _Target:
    """One target of a view: its photo [1, 1, H, W], where it counts [H W], and the geometry of going there and back
    (12 numbers each, see :class:`Neighbours`)."""

    photo: Tensor
    counts: Tensor
    known: Tensor | None
    there: list[float]
    back: list[float]

    @staticmethod
    def of(
        level: Level, near: Neighbours, number: int, device: torch.device, known: np.ndarray | None = None
    ) -> _Target:
        """Target ``number`` of ``near``, with what is known of all views' inverse depth, if that is asked for."""
        other = int(near.targets[number])
        depth = None if known is None else torch.from_numpy(level.map_of(known, other).reshape(-1)).to(device)
        return _Target(
            torch.from_numpy(level.grey(other)).to(device)[None, None],
            torch.from_numpy(level.map_of(level.counts, other).reshape(-1) > 0).to(device),
            depth,
            near.there[number].tolist(),
            near.back[number].tolist(),
        )

    def project(self, x: Tensor, y: Tensor, inverse_depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where points of the view land, and their third coordinate."""
        return _project(self.there, x, y, inverse_depth)

    def sees(self, u: Tensor, v: Tensor, z: Tensor) -> Tensor:
        """Whether places in the target are in front of it, in its photo, and count."""
        height, width = self.photo.shape[2:]
        within = (z > TINY) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
        return within & self.counts[self.pixel(u, v)]

    def pixel(self, u: Tensor, v: Tensor) -> Tensor:
        """Index of the pixel that holds a place; any pixel for places outside."""
        height, width = self.photo.shape[2:]
        return v.clamp(0, height - 1).long() * width + u.clamp(0, width - 1).long()

    def sample(self, column: Tensor, row: Tensor) -> Tensor:
        """Bilinear values at [B, M, N] coordinates, pixel centres at whole numbers, beyond the border as at it."""
        height, width = self.photo.shape[2:]
        grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
        photo = self.photo.expand(len(grid), -1, -1, -1)
        return functional.grid_sample(photo, grid, padding_mode="border", align_corners=False)[:, 0]


def _project(pair: list[float], x: Tensor, y: Tensor, inverse_depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = pair[6] * x + pair[7] * y + pair[8] + inverse_depth * pair[11]
    scale = 1 / z.clamp(min=TINY)
    u = (pair[0] * x + pair[1] * y + pair[2] + inverse_depth * pair[9]) * scale
    v = (pair[3] * x + pair[4] * y + pair[5] + inverse_depth * pair[10]) * scale
    return u, v, z


def _unlikeness(photo: Tensor, warped: Tensor) -> Tensor:
    """[B, 1, H, W] cost of warped targets [B, 1, H + 2 border, W + 2 border] against the photo, of the same size."""
    difference = (_cropped(photo, 1) - _cropped(warped, 1)).abs().clamp(max=plane_sweep.FULL_DIFFERENCE)
    total = float(plane_sweep.SHARES[2]) * _mean(difference, 1) / plane_sweep.FULL_DIFFERENCE
    for share, reach in zip(plane_sweep.SHARES[:2].tolist(), (plane_sweep.SMALL, plane_sweep.LARGE), strict=True):
        a, b = _cropped(photo, reach), _cropped(warped, reach)
        mean_a, mean_b = _mean(a, reach), _mean(b, reach)
        variance_a = (_mean(a * a, reach) - mean_a**2).clamp(min=0) + float(plane_sweep.NOISE)
        variance_b = (_mean(b * b, reach) - mean_b**2).clamp(min=0) + float(plane_sweep.NOISE)
        covariance = _mean(a * b, reach) - mean_a * mean_b + float(plane_sweep.NOISE)
        total = total + share * (1 - covariance / (variance_a * variance_b).sqrt())
    return total


def _cropped(values: Tensor, reach: int) -> Tensor:
    """Without what lies farther than ``reach`` beyond the photo."""
    cut = plane_sweep.LARGE - reach
    return values[..., cut : values.shape[-2] - cut, cut : values.shape[-1] - cut]


def _mean(values: Tensor, reach: int) -> Tensor:
    return functional.avg_pool2d(values, 2 * reach + 1, stride=1)


def _blend(costs: Tensor) -> Tensor:
    """Mean over targets [T, ...] that favours those which match best; infinite ones do not count."""
    ordered = costs.sort(dim=0).values
    weights = plane_sweep.NEXT ** torch.arange(len(costs), device=costs.device, dtype=costs.dtype)
    weights = weights.reshape(-1, *[1] * (costs.ndim - 1)) * ordered.isfinite()
    total = torch.where(ordered.isfinite(), ordered, 0).mul(weights).sum(dim=0)
    return torch.where(weights[0] > 0, total / weights.sum(dim=0).clamp(min=TINY), torch.inf)


def _add_paths(volume: Tensor, grey: Tensor, sums: Tensor, shifts: tuple[int, ...], backward: bool) -> None:
    """Add to ``sums`` [L, N, D] the costs of the paths that come to every row from the one before (behind, if
    ``backward``), shifted along it by each of ``shifts``."""
    length, across, _ = volume.shape
    order = range(length - 1, -1, -1) if backward else range(length)
    # In double precision, as in the kernel: the jump is rounded down.
    padded = functional.pad(grey.double()[None], (1, 1), mode="replicate")[0]
    paths = torch.zeros((len(shifts), *volume.shape[1:]), device=volume.device)
    last = order[0]
    for row in order:
        wide = functional.pad(paths, (0, 0, 1, 1))  # beyond the border paths begin
        before = torch.stack([wide[k, 1 + shift : 1 + shift + across] for k, shift in enumerate(shifts)])
        there = torch.stack([padded[last, 1 + shift : 1 + shift + across] for shift in shifts])
        jump = aggregation.JUMP / (1 + aggregation.EDGE * (grey[row].double() - there).abs())
        jump = jump.clamp(min=aggregation.STEP + 1).floor().float()[..., None]
        least = before.amin(dim=2, keepdim=True)
        beside = functional.pad(before, (1, 1), value=FAR)
        stepped = torch.minimum(beside[..., :-2], beside[..., 2:]) + aggregation.STEP
        paths = torch.minimum(torch.minimum(before, stepped), least + jump) - least + volume[row].float()
        sums[row] += paths.sum(dim=0)
        last = row


@dataclass(frozen=True)
class _Patches:
    """P patches of the photo: weights and weights times the difference from the mean [P, N], mean and variance [P]."""

    weight: Tensor
    centred: Tensor
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class _Improvement:
    """What PatchMatch needs of one view; ``state`` is inverse depth, slope right, slope down and cost, [H, W] each."""

    photo: Tensor
    targets: list[_Target]
    state: tuple[Tensor, Tensor, Tensor, Tensor]
    guess: Tensor
    step: Tensor
    limits: tuple[float, float]
    weights: Weights
    pattern: Tensor
    common: list[list[float]]
    seed: int

    def improve(self, x: Tensor, y: Tensor, turn: int) -> None:
        """Let pixels [P] choose among their neighbours' planes and some drawn by chance; with turn -1 only find what
        their own cost. They must not be neighbours of one another."""
        patches = self._look(x, y)
        reach = -float(self.pattern[0].min())
        unit, guess = self.step[y, x], self.guess[y, x]
        plane = [values[y, x] for values in self.state[:3]]

        def cost_of(w: Tensor, right: Tensor, down: Tensor) -> Tensor:
            away = ((w - guess).abs() / (unit * float(patch_match.FARTHEST_PRIOR))).clamp(max=1)
            return self._cost(patches, x + 0.5, y + 0.5, w, right, down) + self.weights.prior * away

        if turn < 0:
            self.state[3][y, x] = cost_of(*plane)
            return
        lowest = self.state[3][y, x]

        def offer(proposal: list[Tensor], valid: Tensor) -> None:
            """Take the proposal where it costs less."""
            nonlocal lowest, plane
            cost = cost_of(*proposal)
            within = (proposal[0] >= self.limits[0]) & (proposal[0] <= self.limits[1])
            better = valid & within & (cost < lowest)
            lowest = torch.where(better, cost, lowest)
            plane = [torch.where(better, new, old) for new, old in zip(proposal, plane, strict=True)]

        proposals = self._of_neighbours(x, y)
        if turn < 2:
            everywhere = torch.ones_like(x, dtype=torch.bool)
            for right, down, corner in self.common:
                w = right * (x + 0.5) + down * (y + 0.5) + corner
                proposals.append(([w, torch.full_like(w, right), torch.full_like(w, down)], everywhere))
        for proposal, valid in proposals:
            new = [(a - b).abs() for a, b in zip(proposal, plane, strict=True)]
            same = (new[0] < 0.02 * unit) & ((new[1] + new[2]) * reach < 0.04 * unit)
            offer(proposal, valid & ~same)
        shrink = 0.5 ** (turn // 2)
        # Shares of the depth and of the slopes by which a plane is changed.
        for k, (depth, slope) in enumerate(((1, 0), (0, 1), (1, 1), (0.2, 0.3))):
            number = (turn * 4 + k) * 3
            changes = [
                size * shrink * unit * _chance(x, y, number + axis, self.seed)
                for axis, size in enumerate((depth, slope / reach, slope / reach))
            ]
            offer([old + change for old, change in zip(plane, changes, strict=True)], torch.ones_like(x) > 0)
        for values, improved in zip(self.state, (*plane, lowest), strict=True):
            values[y, x] = improved

    def _of_neighbours(self, x: Tensor, y: Tensor) -> list[tuple[list[Tensor], Tensor]]:
        """To each side the plane of the next pixel and of the best of some farther ones, continued to the pixels, and
        where there is one."""
        height, width = self.photo.shape
        proposals = []
        for dx, dy in patch_match.TO_SIDE.tolist():
            best_x, best_y = x, y
            lowest = torch.full_like(self.step[y, x], 1e9)
            for far in range(1 + patch_match.AFAR):
                column, row = x + dx * (1 + 2 * far), y + dy * (1 + 2 * far)
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
                if far == 0:
                    proposals.append((self._continued(column, row, x, y), inside))
                    continue
                cost = self.state[3][row, column]
                better = inside & (cost < lowest)
                lowest = torch.where(better, cost, lowest)
                best_x, best_y = torch.where(better, column, best_x), torch.where(better, row, best_y)
            proposals.append((self._continued(best_x, best_y, x, y), lowest < 1e9))
        return proposals

    def _continued(self, from_x: Tensor, from_y: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
        w, right, down = (values[from_y, from_x] for values in self.state[:3])
        return [w + right * (x - from_x) + down * (y - from_y), right, down]

    def _look(self, x: Tensor, y: Tensor) -> _Patches:
        height, width = self.photo.shape
        column = (x[:, None] + self.pattern[0].long()).clamp(0, width - 1)
        row = (y[:, None] + self.pattern[1].long()).clamp(0, height - 1)
        values = self.photo[row, column]
        difference = (values - self.photo[y, x][:, None]) / float(patch_match.SIMILAR)
        weight = self.pattern[2] / (difference**2 + 1)
        weight = weight / weight.sum(dim=1, keepdim=True)
        mean = (weight * values).sum(dim=1)
        away = values - mean[:, None]
        return _Patches(weight, weight * away, mean, (weight * away**2).sum(dim=1))

    def _cost(self, patches: _Patches, x: Tensor, y: Tensor, w: Tensor, right: Tensor, down: Tensor) -> Tensor:
        """[P] cost of planes over all targets, without the first guess's part."""
        noise, share = float(patch_match.NOISE), float(patch_match.DIFFERENCE)
        farthest = float(patch_match.FARTHEST_ERROR)
        costs = []
        for target in self.targets:
            u, v, z = target.project(x, y, w)
            values = self._along(target, u, v, z, right, down)
            mean = (patches.weight * values).sum(dim=1)
            variance = ((patches.weight * values**2).sum(dim=1) - mean**2).clamp(min=0)
            cross = (patches.centred * values).sum(dim=1)
            cost = 1 - (cross + noise) / ((variance + noise) * (patches.variance + noise)).sqrt()
            difference = ((mean - patches.mean).abs() / float(patch_match.FULL_DIFFERENCE)).clamp(max=1)
            cost = (1 - share) * cost.clamp(max=1) + share * difference
            if self.weights.geometric > 0:
                cost = cost + self.weights.geometric * _disagreement(target, x, y, u, v) / farthest
            costs.append(torch.where(target.sees(u, v, z), cost, torch.inf))
        blended = _blend(torch.stack(costs))
        return torch.where(blended.isinf(), float(patch_match.UNSEEN), blended)

    def _along(self, target: _Target, u: Tensor, v: Tensor, z: Tensor, right: Tensor, down: Tensor) -> Tensor:
        """[P, N] the target's values where a patch lies along the plane, by the derivative at its centre."""
        there, scale = target.there, 1 / z.clamp(min=TINY)
        columns, rows = (u - 0.5)[:, None], (v - 0.5)[:, None]
        for axis, slope in enumerate((right, down)):
            deeper = there[6 + axis] + slope * there[11]
            along_u = (there[axis] + slope * there[9] - u * deeper) * scale
            along_v = (there[3 + axis] + slope * there[10] - v * deeper) * scale
            columns = columns + along_u[:, None] * self.pattern[axis]
            rows = rows + along_v[:, None] * self.pattern[axis]
        return target.sample(columns[None], rows[None])[0]


def _disagreement(target: _Target, x: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """[P] pixels by which a match misses its origin when it comes back by the target's depth, at most the most."""
    assert target.known is not None
    farthest = float(patch_match.FARTHEST_ERROR)
    w = target.known[target.pixel(u, v)]
    back_x, back_y, z = _project(target.back, u, v, w)
    error = torch.hypot(back_x - x, back_y - y).clamp(max=farthest)
    return torch.where((w > 0) & (z >= TINY), error, farthest)


def _chance(x: Tensor, y: Tensor, number: int, seed: int) -> Tensor:
    """[P] float32 uniform in -1..1, the same hash as the kernel's: products wrap, of which the lower half is kept."""
    mask = 0xFFFFFFFF
    h = (x * 0x8DA6B343) ^ (y * 0xD8163841)
    h = (h ^ (number * 0xCB1AB31F) ^ (seed * 0x9E3779B9)) & mask
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & mask
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & mask
    h = h ^ (h >> 16)
    return h.float() * (2 / 4294967296) - 1
