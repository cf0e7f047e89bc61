"""Where the points of a cloud in any common file format lie, and nothing else of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.pointclouds.clouds import MOST_COLUMNS, read_bin, read_npy_rows
from datasets.pointclouds.formats.channels import FIELDS, SUFFIXES


def read_coordinates(path: Path, columns: int = 4) -> np.ndarray:
    """[N, 3] float64 x, y, z as the file has them, without points that are NaN or infinite.

    Args:
        path: ``.bin`` and ``.npy`` begin with x, y, z; ``.ply``, ``.pcd`` and ``.las`` name them.
        columns: float32 values a point in ``.bin`` files: 4 in KITTI's, 5 in nuScenes', 8 in a radar's.

    Raises:
        SceneError: naming the file, for one that is missing, damaged or no cloud, and where no point is finite.
    """
    suffix = path.suffix.lower()
    if suffix == ".bin":
        xyz = read_bin(path, ("x", "y", "z", *(f"column {i}" for i in range(3, columns))))[:, :3]
    elif suffix == ".npy":
        xyz = read_npy_rows(path, 3, MOST_COLUMNS, "Give numbers [N, 3 or more]: x, y, z")[:, :3]
    elif suffix in FIELDS:
        table = FIELDS[suffix](path)
        if missing := [axis for axis in "xyz" if axis not in table]:
            raise SceneError(path, f"its points have no {', '.join(missing)}", "A cloud needs x, y and z")
        xyz = np.stack([table[axis] for axis in "xyz"], axis=1)
    else:
        raise SceneError(path, f"is no cloud of a known format ({suffix})", f"Give one of {', '.join(SUFFIXES)}")
    xyz = xyz.astype(np.float64)
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.any():
        raise SceneError(path, f"none of its {len(xyz)} points is finite", "Give a cloud with points")
    return xyz[finite]
