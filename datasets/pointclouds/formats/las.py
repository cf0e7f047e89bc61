"""LAS 1.0 to 1.4, the ASPRS format of surveyors, uncompressed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.pointclouds.formats.tables import CUT_OFF, Stated, check_binary
from datasets.scenes.files import read_bytes

_COLOURS = {2: 20, 3: 28, 5: 28, 7: 30, 8: 30, 10: 30}  # where a point of these formats has its colour


def read_las(path: Path) -> dict[str, np.ndarray]:
    """Columns [N]: x, y, z (float64, metres of the file's coordinates), intensity and class, and where the points have
    a colour red, green and blue, all as the file has them (0..65535, but colours of some writers 0..255). Of point
    formats above 10, which LAS 1.4 does not have, what all formats begin with.

    Raises:
        SceneError: for a file that is no LAS, is compressed or damaged, or claims more than it holds.
    """
    data = read_bytes(path)
    layout = _find_points(path, data, len(data))
    rows = np.frombuffer(data, layout.dtype, layout.count, layout.start)
    table = {name: rows[name] for name in layout.dtype.names or ()}
    table |= {axis: table[axis] * layout.scale[i] + layout.offset[i] for i, axis in enumerate("xyz")}
    if layout.kind < 6:
        table["class"] = table["class"] & 0x1F
    return table


def check_las(path: Path, head: bytes, size: int) -> Stated:
    """What the header states of the points of a LAS file of ``size`` bytes, given its first 375.

    Raises:
        SceneError: as for :func:`read_las`.
    """
    layout = _find_points(path, head, size)
    return Stated(layout.dtype.names or (), layout.count)


@dataclass(frozen=True)
class _Layout:
    """Where the points are: at byte ``start``, each a ``dtype`` of point format ``kind``."""

    kind: int
    dtype: np.dtype
    count: int
    start: int
    scale: np.ndarray
    offset: np.ndarray


def _find_points(path: Path, head: bytes, size: int) -> _Layout:
    if size < 227 or not head.startswith(b"LASF"):
        raise SceneError(path, f"is not a LAS file ({size} bytes)", "Give an uncompressed .las")
    minor, header = head[25], struct.unpack_from("<H", head, 94)[0]
    start, kind, row, count = struct.unpack_from("<IxxxxBHI", head, 96)
    if minor >= 4 and header >= 375 and size >= 255:
        count = struct.unpack_from("<Q", head, 247)[0] or count
    if kind & 0xC0:
        raise SceneError(path, "is compressed (LAZ)", "Uncompressed points are read: save LAZ as LAS")
    colour, least = _COLOURS.get(kind), 20 if kind < 6 or kind > 10 else 30
    if row < max(least, 0 if colour is None else colour + 6):
        raise SceneError(path, f"has points of format {kind} in {row} bytes, too few for it", CUT_OFF)
    if start < header:
        raise SceneError(path, f"has points from byte {start} on, in its header of {header} bytes", CUT_OFF)
    check_binary(path, size - start, row, count)
    scale, offset = (np.array(struct.unpack_from("<3d", head, at)) for at in (131, 155))
    if not (np.abs([*scale, *offset]) < 1e12).all():
        raise SceneError(path, f"states the scale {scale} and the offset {offset}", CUT_OFF)
    fields: dict[str, tuple[str, int]] = {"x": ("<i4", 0), "y": ("<i4", 4), "z": ("<i4", 8), "intensity": ("<u2", 12)}
    if kind <= 10:
        fields["class"] = ("u1", 15 if kind < 6 else 16)
    if colour is not None:
        fields |= {name: ("<u2", colour + 2 * i) for i, name in enumerate(("red", "green", "blue"))}
    formats, offsets = [f for f, _ in fields.values()], [o for _, o in fields.values()]
    dtype = np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": row})
    return _Layout(kind, dtype, count, start, scale, offset)
