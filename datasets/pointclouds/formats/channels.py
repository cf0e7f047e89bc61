"""Clouds of any common file format as [N, C] of named channels: bin, npy, pcd, ply, las."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.pointclouds.clouds import read_bin, read_npy_rows
from datasets.pointclouds.formats.las import read_las
from datasets.pointclouds.formats.pcd import read_pcd
from datasets.pointclouds.formats.ply import read_ply

FARTHEST = 1e5  # metres: float32 keeps no millimetres beyond, and no sensor sees so far

FIELDS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {".ply": read_ply, ".pcd": read_pcd, ".las": read_las}
SUFFIXES = (".bin", ".npy", *FIELDS)


def read_cloud(path: Path, channels: Sequence[str]) -> np.ndarray:
    """The channels of a cloud, [N, C] float32.

    ``.bin`` and ``.npy`` hold exactly these channels as columns; ``.ply`` and ``.pcd`` hold them by name, among others
    perhaps; ``.las`` (uncompressed) has x, y, z, intensity, here scaled to 0..1, and class.

    Raises:
        SceneError: naming the file, for a missing channel, a truncated or foreign file, no points, and coordinates so
            far from the origin that float32 would lose them.
    """
    suffix = path.suffix.lower()
    if suffix == ".bin":
        points = read_bin(path, channels)
    elif suffix == ".npy":
        count = len(channels)
        points = read_npy_rows(path, count, count, f"It must be [N, {count}]: {', '.join(channels)}")
    elif suffix in FIELDS:
        fields = FIELDS[suffix](path)
        if missing := [name for name in channels if name not in fields]:
            found = f"has no channel {missing[0]!r}, only {', '.join(fields)}"
            raise SceneError(path, found, "Give the channels that all clouds have")
        points = np.stack([fields[name].astype(np.float64) for name in channels], axis=1)
        if suffix == ".las" and "intensity" in channels:
            points[:, list(channels).index("intensity")] /= 65535
    else:
        raise SceneError(path, f"is no cloud of a known format ({suffix})", "Use .bin, .npy, .pcd, .ply or .las")
    if not len(points):
        raise SceneError(path, "holds no points", "Restore the file, or leave the frame out")
    farthest = np.abs(points[:, :3]).max(initial=0, where=np.isfinite(points[:, :3]))
    if farthest > FARTHEST:
        found = f"has coordinates of {farthest:.0f} m, which float32 cannot hold exactly"
        raise SceneError(path, found, "Subtract the sensor's position from all points and boxes")
    return points.astype(np.float32)
