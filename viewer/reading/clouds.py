"""Bare point clouds: .bin (KITTI, nuScenes), .npy, .pcd, .ply, .las.

Every reader checks what a file claims against its size before anything is allocated, and drops points that are NaN or
infinite (sensors write them where nothing returned).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datasets.errors import InputError, SceneError
from datasets.pointclouds.clouds import read_bin
from datasets.scenes.files import read_bytes, read_npy
from viewer.layers import Cloud
from viewer.reading.pcd import read_pcd
from viewer.reading.ply import read_ply

DAMAGED = "The file is cut off or damaged: copy or export it again"
_KITTI = ("x", "y", "z", "intensity")
_NUSCENES = (*_KITTI, "ring")
_RADAR = ("x", "y", "z", "intensity", "doppler", "range", "azimuth", "elevation")


def read_cloud(path: Path, columns: int | None = None) -> Cloud:
    """The cloud in a file, by its suffix; ``columns`` says how many floats a point of a .bin file has.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    if not path.is_file():
        raise SceneError(path, "there is no such file", "Check the path")
    table = _bin(path, columns) if path.suffix.lower() == ".bin" else READERS[path.suffix.lower()](path)
    return cloud_of(path, table)


def cloud_of(path: Path, table: dict[str, np.ndarray]) -> Cloud:
    """A cloud from columns [N] by name: x, y, z, perhaps r, g, b (uint8) and numbers that colours can show."""
    if missing := [axis for axis in "xyz" if axis not in table]:
        raise SceneError(path, f"its points have no {', '.join(missing)}", "A cloud needs x, y and z")
    with np.errstate(over="ignore"):
        xyz = np.stack([table[axis].astype(np.float32) for axis in "xyz"], axis=1)
    kept = np.isfinite(xyz).all(axis=1)
    if len(xyz) == 0 or not kept.any():
        raise SceneError(path, f"none of its {len(xyz)} points is finite", "Give a cloud with points")
    whole = bool(kept.all())
    rgb = np.stack([table[c].astype(np.uint8) for c in "rgb"], axis=1) if set("rgb") <= set(table) else None
    names = {"intensity": "intensity", "reflectance": "intensity", "power": "intensity", "label": "class"}
    names |= {name: name for name in ("class", "score", "error", "uncertainty", "ring", "doppler")}
    with np.errstate(over="ignore"):
        values = {names[k]: v.astype(np.float32) for k, v in table.items() if k in names}
    if whole:
        return Cloud(xyz, rgb, values)
    return Cloud(xyz[kept], None if rgb is None else rgb[kept], {name: value[kept] for name, value in values.items()})


def _bin(path: Path, columns: int | None) -> dict[str, np.ndarray]:
    """float32 rows. Nothing in the file says how many: KITTI has 4, nuScenes 5, 4D radar 8."""
    by_count = {len(names): names for names in (_KITTI, _NUSCENES, _RADAR)}
    if columns is None:
        nuscenes = path.name.lower().endswith(".pcd.bin") or path.stat().st_size % 16 != 0
        columns = 5 if nuscenes else 4
    if columns not in by_count and columns < 3:
        raise InputError(f"--columns is {columns}: a point has at least x, y and z")
    names = by_count.get(columns, ("x", "y", "z", *(f"channel {i}" for i in range(3, columns))))
    points = read_bin(path, names)
    return dict(zip(names, points.T, strict=True))


def _npy(path: Path) -> dict[str, np.ndarray]:
    array = read_npy(path)
    if array.ndim != 2 or not 3 <= array.shape[1] <= 64 or array.dtype.kind not in "fiu":
        found = f"holds {array.dtype} of shape {array.shape}"
        raise SceneError(path, found, "Give numbers [N, 3] with x, y, z, or [N, 4] with the intensity")
    names = (*_KITTI, *(f"channel {i}" for i in range(4, 64)))[: array.shape[1]]
    return dict(zip(names, array.T, strict=True))


def _las(path: Path) -> dict[str, np.ndarray]:
    """LAS 1.0 to 1.4, uncompressed (ASPRS): x, y, z, intensity, class, and colour where the point format has it."""
    data = read_bytes(path)
    if len(data) < 227 or not data.startswith(b"LASF"):
        raise SceneError(path, f"is not a LAS file ({len(data)} bytes)", "Give an uncompressed .las")
    minor, header = data[25], struct.unpack_from("<H", data, 94)[0]
    start, kind, size = *struct.unpack_from("<I", data, 96), data[104], struct.unpack_from("<H", data, 105)[0]
    count = struct.unpack_from("<I", data, 107)[0]
    if minor >= 4 and header >= 375 and len(data) >= 255:
        count = struct.unpack_from("<Q", data, 247)[0] or count
    if kind & 0xC0:
        raise SceneError(path, "is compressed (LAZ)", "Write it uncompressed, as .las")
    colour = {2: 20, 3: 28, 5: 28, 7: 30, 8: 30, 10: 30}.get(kind)
    least = 20 if kind < 6 else 30
    if kind > 10 or size < max(least, (colour or 0) + 6 * (colour is not None)):
        raise SceneError(
            path, f"has points of format {kind} and {size} bytes, which is none of LAS 1.0 to 1.4", DAMAGED
        )
    if start < header or count * size > len(data) - start:
        found = f"claims {count} points, {count * size} bytes, but {max(len(data) - start, 0)} are left"
        raise SceneError(path, found, DAMAGED)
    scale, offset = (np.array(struct.unpack_from("<3d", data, at)) for at in (131, 155))
    fields: dict[str, tuple[str, int]] = {"x": ("<i4", 0), "y": ("<i4", 4), "z": ("<i4", 8), "intensity": ("<u2", 12)}
    fields["class"] = ("u1", 15 if kind < 6 else 16)
    if colour is not None:
        fields |= {name: ("<u2", colour + 2 * i) for i, name in enumerate("rgb")}
    formats, offsets = [f for f, _ in fields.values()], [o for _, o in fields.values()]
    dtype = np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": size})
    rows = np.frombuffer(data, dtype, count, start)
    table = {name: rows[name] for name in fields}
    if not (np.abs([*scale, *offset]) < 1e12).all():
        raise SceneError(path, f"states the scale {scale} and the offset {offset}", DAMAGED)
    if count:
        whole = {axis: table[axis] * scale[i] + offset[i] for i, axis in enumerate("xyz")}
        middle = {axis: np.floor(np.median(value)) for axis, value in whole.items()}
        # Map coordinates are larger than float32 can hold in detail: such a cloud is moved to where it can be seen.
        far = any(abs(value) > 1e5 for value in middle.values())
        table |= {axis: value - middle[axis] * far for axis, value in whole.items()}
    if colour is not None:
        wide = any(int(table[c].max(initial=0)) > 255 for c in "rgb")
        table |= {c: table[c] >> 8 if wide else table[c] for c in "rgb"}
    table["class"] = table["class"] & (0x1F if kind < 6 else 0xFF)
    return table


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npy": _npy,
    ".pcd": read_pcd,
    ".ply": read_ply,
    ".las": _las,
}
SUFFIXES = (".bin", *READERS)
