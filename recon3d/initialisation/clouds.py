"""Coloured points with a size: what the first Gaussians are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from datasets.types import Cameras
from recon3d.gaussians import SH_C0, Gaussians

NEIGHBOURS = 3
SIZE_LIMITS = (0.3, 2.5)  # how much smaller or larger a point may become than its footprint


@dataclass(frozen=True)
class Cloud:
    """P points: positions [P, 3] world units, colours [P, 3] in 0..1, sizes [P] standard deviation in world units,
    opacities [P] in 0..1, views [P] int64 whose pixel each one is, -1 for none's."""

    positions: np.ndarray
    colours: np.ndarray
    sizes: np.ndarray
    opacities: np.ndarray
    views: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: np.ndarray) -> Cloud:
        return Cloud(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def concatenate(clouds: Sequence[Cloud]) -> Cloud:
        """All points of at least one cloud, in order."""
        return Cloud(*(np.concatenate([getattr(cloud, f.name) for cloud in clouds]) for f in fields(Cloud)))

    @property
    def extent(self) -> float:
        """Median absolute deviation of the coordinates, world units: a scale that outliers do not move."""
        return float(np.median(np.abs(self.positions - np.median(self.positions, axis=0))))

    def sized_by_neighbours(self) -> Cloud:
        """Each point as large as its neighbours are far away, within limits set by its size so far."""
        lower, upper = SIZE_LIMITS
        return replace(self, sizes=np.clip(neighbour_distance(self.positions), lower * self.sizes, upper * self.sizes))

    def gaussians(self) -> Gaussians:
        """One round Gaussian a point."""

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

        return Gaussians(
            means=tensor(self.positions),
            scales=tensor(np.log(self.sizes))[:, None].repeat(1, 3),
            quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(self), 1),
            opacities=torch.logit(tensor(self.opacities)),
            sh0=tensor((self.colours - 0.5) / SH_C0)[:, None],
            shN=torch.zeros(len(self), 0, 3),
        )


def neighbour_distance(positions: np.ndarray) -> np.ndarray:
    """[P] root mean square distance of each position [P, 3] to its three nearest others; infinite for a single one."""
    count = min(NEIGHBOURS, len(positions) - 1)
    if count < 1:
        return np.full(len(positions), np.inf)
    distances, _ = cKDTree(positions).query(positions, k=count + 1)
    return np.sqrt((distances[:, 1:] ** 2).mean(axis=1))


def back_project(cameras: Cameras, view: int, pixels: np.ndarray, inverse_depth: np.ndarray) -> np.ndarray:
    """[P, 3] world positions of pixels [P, 2] of a view, also beyond its image, with 1 / z-depth [P]."""
    pose = cameras.world_to_camera[view].double().numpy()
    intrinsics = cameras.intrinsics[view].double().numpy()
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(intrinsics).T
    return (rays / inverse_depth[:, None] - pose[:3, 3]) @ pose[:3, :3]


def footprint(cameras: Cameras, view: int, inverse_depth: np.ndarray) -> np.ndarray:
    """Width in world units of one pixel of a view at 1 / z-depth."""
    focal = float(cameras.intrinsics[view, [0, 1], [0, 1]].mean())
    return 1 / (inverse_depth * focal)
