"""Clouds of any common file format as [N, C] of named channels: bin, npy, pcd, ply, las."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.pointclouds.clouds import check_bin_size, check_npy_rows, read_bin
from datasets.pointclouds.formats.las import check_las, read_las
from datasets.pointclouds.formats.pcd import check_pcd, read_pcd
from datasets.pointclouds.formats.ply import check_ply, read_ply
from datasets.pointclouds.formats.tables import Stated
from datasets.scenes.files import npy_header, read_head, read_npy

LONGEST_HEADER = 1 << 16  # bytes, of any format
FARTHEST = 1e5  # metres: float32 keeps no millimetres beyond, and no sensor sees so far

FIELDS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {".ply": read_ply, ".pcd": read_pcd, ".las": read_las}
CHECKS: dict[str, Callable[[Path, bytes, int], Stated]] = {".ply": check_ply, ".pcd": check_pcd, ".las": check_las}
SUFFIXES = (".bin", ".npy", *FIELDS)


def check_cloud(path: Path, channels: Sequence[str]) -> None:
    """Whether :func:`read_cloud` will give the channels, as far as header and size of the file tell; no point is read.

    Raises:
        SceneError: naming the file, for a missing channel, a truncated or foreign file, and no points. That text ends
            early or holds no numbers, that compressed data are damaged, and where points lie, shows when it is read.
    """
    suffix = path.suffix.lower()
    head, size = read_head(path, 0 if suffix == ".bin" else LONGEST_HEADER)
    if suffix == ".bin":
        check_bin_size(path, size, channels)
        return
    if suffix == ".npy":
        width, header = len(channels), npy_header(path, head, size)
        mend = f"It must be [N, {width}]: {', '.join(channels)}"
        check_npy_rows(path, header.dtype, header.shape, width, width, mend)
        count = header.shape[0]
    elif suffix in CHECKS:
        stated = CHECKS[suffix](path, head, size)
        if missing := [name for name in channels if name not in stated.names]:
            found = f"has no channel {missing[0]!r}, only {', '.join(stated.names)}"
            raise SceneError(path, found, "Give the channels that all clouds have")
        count = stated.count
    else:
        raise SceneError(path, f"is no cloud of a known format ({suffix})", f"Give one of {', '.join(SUFFIXES)}")
    if not count:
        raise SceneError(path, "holds no points", "Restore the file, or leave the frame out")


def read_cloud(path: Path, channels: Sequence[str]) -> np.ndarray:
    """The channels of a cloud, [N, C] float32.

    ``.bin`` and ``.npy`` hold exactly these channels as columns; ``.ply`` and ``.pcd`` hold them by name, among others
    perhaps; ``.las`` (uncompressed) has x, y, z, intensity, here scaled to 0..1, and class.

    Raises:
        SceneError: naming the file, for a missing channel, a truncated or foreign file, no points, and coordinates so
            far from the origin that float32 would lose them.
    """
    check_cloud(path, channels)
    suffix = path.suffix.lower()
    if suffix == ".bin":
        points = read_bin(path, channels)
    elif suffix == ".npy":
        points = read_npy(path)
    else:
        fields = FIELDS[suffix](path)
        points = np.stack([fields[name].astype(np.float64) for name in channels], axis=1)
        if suffix == ".las" and "intensity" in channels:
            points[:, list(channels).index("intensity")] /= 65535
    farthest = np.abs(points[:, :3]).max(initial=0, where=np.isfinite(points[:, :3]))
    if farthest > FARTHEST:
        found = f"has coordinates of {farthest:.0f} m, which float32 cannot hold exactly"
        raise SceneError(path, found, "Subtract the sensor's position from all points and boxes")
    return points.astype(np.float32)
