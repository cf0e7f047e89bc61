"""Bare point clouds: .bin (KITTI, nuScenes), .npy, .pcd, .ply, .las.

Points that are NaN or infinite are dropped: sensors write them where nothing returned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.errors import InputError, SceneError
from datasets.pointclouds.clouds import MOST_COLUMNS, read_bin, read_npy_rows
from datasets.pointclouds.formats import FIELDS
from viewer.layers import Cloud
from viewer.reading.world import World

_KITTI = ("x", "y", "z", "intensity")
_NUSCENES = (*_KITTI, "ring")
_RADAR = ("x", "y", "z", "intensity", "doppler", "range", "azimuth", "elevation")
_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_ALIKE = 0.01  # metres by which a radar's range may differ from where its point lies


def read_cloud(path: Path, columns: int | None = None, world: World | None = None) -> Cloud:
    """The cloud in a file, by its suffix.

    Args:
        columns: floats a point of a .bin file has; None to see it from the file.
        world: where it is placed.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    if not path.is_file():
        raise SceneError(path, "there is no such file", "Check the path")
    suffix = path.suffix.lower()
    table = _bin(path, columns) if suffix == ".bin" else {**FIELDS, ".npy": _npy}[suffix](path)
    return cloud_of(path, table, world or World())


def cloud_of(path: Path, table: dict[str, np.ndarray], world: World) -> Cloud:
    """A cloud from columns [N] by name: x, y, z, perhaps a colour and numbers that colours can show."""
    if missing := [axis for axis in "xyz" if axis not in table]:
        raise SceneError(path, f"its points have no {', '.join(missing)}", "A cloud needs x, y and z")
    xyz = world.place(np.stack([table[axis] for axis in "xyz"], axis=1))
    kept = np.isfinite(xyz).all(axis=1)
    if len(xyz) == 0 or not kept.any():
        raise SceneError(path, f"none of its {len(xyz)} points is finite", "Give a cloud with points")
    whole = bool(kept.all())
    coloured = next((names for names in _COLOURS if set(names) <= set(table)), None)
    rgb = None if coloured is None else _bytes(np.stack([table[name] for name in coloured], axis=1))
    names = {"intensity": "intensity", "reflectance": "intensity", "power": "intensity", "label": "class"}
    names |= {name: name for name in ("class", "score", "error", "uncertainty", "ring", "doppler")}
    with np.errstate(over="ignore"):
        values = {names[k]: v.astype(np.float32) for k, v in table.items() if k in names}
    if whole:
        return Cloud(xyz, rgb, values)
    return Cloud(xyz[kept], None if rgb is None else rgb[kept], {name: value[kept] for name, value in values.items()})


def _bytes(colours: np.ndarray) -> np.ndarray:
    """Colours [N, 3] as uint8: of real numbers 0..1, of bytes, or of 16 bits, of which some writers use but eight."""
    if colours.dtype.kind == "f":
        colours = np.nan_to_num(colours)
        return np.rint(np.clip(colours * (255 if colours.max(initial=0) <= 1 else 1), 0, 255)).astype(np.uint8)
    wide = colours.dtype.itemsize > 1 and int(colours.max(initial=0)) > 255
    return (np.clip(colours, 0, 65535) >> 8 if wide else np.clip(colours, 0, 255)).astype(np.uint8)


def _bin(path: Path, columns: int | None) -> dict[str, np.ndarray]:
    """float32 rows: KITTI has 4, nuScenes 5, 4D radar 8."""
    by_count = {len(names): names for names in (_KITTI, _NUSCENES, _RADAR)}
    if columns is None:
        columns = _columns(path)
    if columns not in by_count and columns < 3:
        raise InputError(f"--columns is {columns}: a point has at least x, y and z")
    names = by_count.get(columns, ("x", "y", "z", *(f"channel {i}" for i in range(3, columns))))
    points = read_bin(path, names)
    return dict(zip(names, points.T, strict=True))


def _columns(path: Path) -> int:
    """Floats a point seems to have: a radar's rows repeat their distance, and nuScenes has a suffix of its own."""
    size = path.stat().st_size
    if path.name.lower().endswith(".pcd.bin") or size % 16:
        return 5
    if size and size % 32 == 0:
        rows = read_bin(path, _RADAR)
        measured = rows[:, _RADAR.index("range")]
        rows = rows[np.isfinite(rows).all(axis=1) & (measured > 0)]  # without what is padded
        error = np.abs(np.linalg.norm(rows[:, :3], axis=1) - rows[:, _RADAR.index("range")])
        if len(rows) and np.median(error) < _ALIKE:
            return len(_RADAR)
    return len(_KITTI)


def _npy(path: Path) -> dict[str, np.ndarray]:
    rows = read_npy_rows(path, 3, MOST_COLUMNS, "Give numbers [N, 3] with x, y, z, or [N, 4] with the intensity")
    names = (*_KITTI, *(f"channel {i}" for i in range(4, MOST_COLUMNS)))[: rows.shape[1]]
    return dict(zip(names, rows.T, strict=True))
