"""Clouds of any common file format as [N, C] of named channels: bin, npy, pcd, ply, las."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.pointclouds.clouds import read_bin
from datasets.scenes.files import read_bytes, read_npy

FARTHEST = 1e5  # metres: float32 keeps no millimetres beyond, and no sensor sees so far

PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}


def read_cloud(path: Path, channels: Sequence[str]) -> np.ndarray:
    """The channels of a cloud, [N, C] float32.

    ``.bin`` and ``.npy`` hold exactly these channels as columns; ``.ply`` and ``.pcd`` hold them by name, among others
    perhaps; ``.las`` (uncompressed) has x, y, z and intensity, the latter scaled to 0..1.

    Raises:
        SceneError: naming the file, for a missing channel, a truncated or foreign file, no points, and coordinates so
            far from the origin that float32 would lose them.
    """
    suffix = path.suffix.lower()
    if suffix == ".bin":
        points = read_bin(path, channels)
    elif suffix == ".npy":
        points = read_npy(path)
        if points.ndim != 2 or points.shape[1] != len(channels) or points.dtype.kind not in "fiu":
            found = f"holds {points.dtype} of shape {points.shape}"
            raise SceneError(path, found, f"It must be [N, {len(channels)}]: {', '.join(channels)}")
    elif suffix in FIELDS:
        fields = FIELDS[suffix](path)
        if missing := [name for name in channels if name not in fields]:
            found = f"has no channel {missing[0]!r}, only {', '.join(fields)}"
            raise SceneError(path, found, "Give the channels that all clouds have")
        points = np.stack([fields[name] for name in channels], axis=1)
    else:
        raise SceneError(path, f"is no cloud of a known format ({suffix})", "Use .bin, .npy, .pcd, .ply or .las")
    if not len(points):
        raise SceneError(path, "holds no points", "Restore the file, or leave the frame out")
    farthest = np.abs(points[:, :3]).max(initial=0, where=np.isfinite(points[:, :3]))
    if farthest > FARTHEST:
        found = f"has coordinates of {farthest:.0f} m, which float32 cannot hold exactly"
        raise SceneError(path, found, "Subtract the sensor's position from all points and boxes")
    return points.astype(np.float32)


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """The scalar properties [N] of a PLY file's vertices, which must be its first element."""
    data, mend = read_bytes(path), "Save the cloud again as PLY whose first element is vertex"
    head, mark, body = data.partition(b"end_header")
    if not data.startswith(b"ply") or not mark:
        raise SceneError(path, "is no PLY file, or ends within its header", mend)
    body = body.partition(b"\n")[2]
    lines = [line.split() for line in head.decode("latin-1").splitlines()]
    elements = [i for i, line in enumerate(lines) if line[:1] == ["element"]]
    style = next((line[1] for line in lines if line[:1] == ["format"] and len(line) > 1), "")
    try:
        first = lines[elements[0]]
        last = elements[1] if len(elements) > 1 else len(lines)
        properties = [line[1:] for line in lines[elements[0] : last] if line[:1] == ["property"]]
        order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "<"}[style]
        dtype = np.dtype([(name, order + PLY_TYPES[kind]) for kind, name in properties])
        count = int(first[2]) if first[1] == "vertex" else -1
    except (IndexError, KeyError, ValueError) as error:
        raise SceneError(path, f"has a header that is not understood ({error!r})", mend) from error
    if count < 0:
        raise SceneError(path, "does not begin with vertices", mend)
    return _records(path, body, dtype, count, text=style == "ascii")


def read_pcd(path: Path) -> dict[str, np.ndarray]:
    """The fields [N] of a PCD file; of fields with several values the first."""
    data, mend = read_bytes(path), "Save the cloud again as PCD 0.7"
    head, mark, body = data.partition(b"\nDATA ")
    style, _, body = body.partition(b"\n")
    style_name = style.decode("latin-1").strip()
    lines = {words[0]: words[1:] for line in head.decode("latin-1").splitlines() if (words := line.split())}
    if not mark or style_name not in ("ascii", "binary", "binary_compressed"):
        raise SceneError(path, "is no PCD file, or ends within its header", mend)
    try:
        counts = [int(word) for word in lines.get("COUNT", ["1"] * len(lines["FIELDS"]))]
        kinds = [kind.lower() + size for kind, size in zip(lines["TYPE"], lines["SIZE"], strict=True)]
        fields = zip(lines["FIELDS"], kinds, counts, strict=True)
        dtype = np.dtype([(f"{name}{i}", f"<{kind}", (n,)) for i, (name, kind, n) in enumerate(fields)])
        count = int(lines["POINTS"][0])
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise SceneError(path, f"has a header that is not understood ({error!r})", mend) from error
    if style_name == "binary_compressed":
        return _compressed_pcd(path, count)
    columns = _records(path, body, dtype, count, text=style_name == "ascii")
    return {name: columns[f"{name}{i}"][:, 0] for i, name in enumerate(lines["FIELDS"]) if counts[i]}


def _compressed_pcd(path: Path, count: int) -> dict[str, np.ndarray]:
    import open3d as o3d

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        cloud = o3d.t.io.read_point_cloud(path)
    fields = {name: cloud.point[name].numpy() for name in cloud.point}
    positions = fields.pop("positions", np.empty((0, 3)))
    if len(positions) != count:
        found = f"holds {len(positions)} readable points where its header says {count}"
        raise SceneError(path, found, "Restore the file if it is truncated, or save it uncompressed")
    return {**dict(zip("xyz", positions.T, strict=True)), **{name: value[:, 0] for name, value in fields.items()}}


def _records(path: Path, body: bytes, dtype: np.dtype, count: int, text: bool) -> dict[str, np.ndarray]:
    """Columns of ``count`` records, checked against what the file holds."""
    mend = "Restore the file if it is truncated"
    if not text:
        if len(body) < count * dtype.itemsize:
            found = f"holds {len(body)} bytes of points where {count} need {count * dtype.itemsize}"
            raise SceneError(path, found, mend)
        table = np.frombuffer(body, dtype, count)
        return {name: table[name] for name in dtype.names or ()}
    width = sum(int(np.prod(dtype[name].shape)) for name in dtype.names or ())
    words = body.split()[: count * width]
    if len(words) < count * width:
        raise SceneError(path, f"holds {len(words)} numbers where {count} points need {count * width}", mend)
    try:
        values = np.array(words, dtype=np.float64).reshape(count, width)
    except ValueError as error:
        raise SceneError(path, f"holds something that is no number ({error})", mend) from error
    columns, start = {}, 0
    for name in dtype.names or ():
        shape = dtype[name].shape
        size = int(np.prod(shape))
        columns[name] = values[:, start : start + size].reshape(count, *shape)
        start += size
    return columns


def read_las(path: Path) -> dict[str, np.ndarray]:
    """x, y, z in metres and intensity in 0..1 of an uncompressed LAS file, versions 1.0 to 1.4."""
    data = read_bytes(path)
    if not data.startswith(b"LASF") or len(data) < 227:
        raise SceneError(path, f"is no LAS file ({len(data)} bytes)", "Save the cloud again as LAS 1.2 or 1.4")
    minor = data[25]
    start, kind, width, count = struct.unpack_from("<IxxxxBHI", data, 96)
    if minor >= 4 and len(data) >= 255:
        count = struct.unpack_from("<Q", data, 247)[0] or count
    scale, offset = struct.unpack_from("<3d", data, 131), struct.unpack_from("<3d", data, 155)
    if kind & 0x80 or width < 20:
        found = f"holds points of format {kind} in {width} bytes"
        raise SceneError(path, found, "Uncompressed points are read: save LAZ as LAS")
    if len(data) < start + count * width:
        found = f"holds {len(data) - start} bytes of points where {count} need {count * width}"
        raise SceneError(path, found, "Restore the file if it is truncated")
    dtype = np.dtype({"names": ["xyz", "intensity"], "formats": ["<3i4", "<u2"], "offsets": [0, 12], "itemsize": width})
    table = np.frombuffer(data, dtype, count, offset=start)
    xyz = table["xyz"] * np.array(scale) + np.array(offset)
    return {**dict(zip("xyz", xyz.T, strict=True)), "intensity": table["intensity"] / 65535}


FIELDS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {".ply": read_ply, ".pcd": read_pcd, ".las": read_las}
SUFFIXES = (".bin", ".npy", *FIELDS)
