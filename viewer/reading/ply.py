"""The vertices of a PLY file that is no splat: positions, colours and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.scenes.files import read_bytes
from viewer.reading.tables import CUT_OFF, binary_rows, text_rows

_LONGEST_HEADER = 1 << 16
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
_SHORT = {"red": "r", "green": "g", "blue": "b", "diffuse_red": "r", "diffuse_green": "g", "diffuse_blue": "b"}


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """Columns [N] of the element ``vertex``, ASCII or binary of either endianness; colours as r, g, b.

    Raises:
        SceneError: for a file that is no PLY, is damaged, or claims more than it holds.
    """
    data = read_bytes(path)
    kind, elements, start = _header(path, data)
    for name, count, properties in elements:
        if any(type_ == "list" for type_, _ in properties):
            raise SceneError(path, f"element {name} has lists and comes before the vertices", "Write vertices first")
        names = [_SHORT.get(name, name) for _, name in properties]
        if not names or len(set(names)) != len(names):
            raise SceneError(path, f"element {name} has no properties, or one twice", CUT_OFF)
        dtype = np.dtype([(n, _ORDERS[kind] + t) for n, (t, _) in zip(names, properties, strict=True)])
        if kind == "ascii" and name != "vertex":
            raise SceneError(path, f"element {name} comes before the vertices", "Write vertices first")
        if name == "vertex":
            if kind == "ascii":
                return dict(zip(names, text_rows(path, data, start, len(names), count).T, strict=True))
            rows = binary_rows(path, data, start, dtype, count)
            return _colours({n: rows[n] for n in names})
        start += count * dtype.itemsize
    raise SceneError(path, "has no element vertex", "Give a PLY with points")


def _colours(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Colours stored as real numbers in 0..1 become 0..255."""
    return {
        name: np.clip(np.nan_to_num(value) * 255, 0, 255) if name in "rgb" and value.dtype.kind == "f" else value
        for name, value in table.items()
    }


def _header(path: Path, data: bytes) -> tuple[str, list[tuple[str, int, list[tuple[str, str]]]], int]:
    """Format, elements (name, count, properties as type and name), and where the data starts."""
    end = data.find(b"end_header", 0, _LONGEST_HEADER)
    line_end = data.find(b"\n", end) if end >= 0 else -1
    if not data.startswith(b"ply") or line_end < 0:
        raise SceneError(path, "is no PLY file, or its header does not end", "Give the suffix of what the file is")
    kind = ""
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for line in data[:end].decode("latin-1").splitlines()[1:]:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, _] if name in _ORDERS:
                kind = name
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                elements.append((name, int(count), []))
            case ["property", "list", *rest] if elements and rest:
                elements[-1][2].append(("list", rest[-1]))
            case ["property", type_, name] if elements and type_ in _TYPES:
                elements[-1][2].append((_TYPES[type_], name))
            case _:
                raise SceneError(path, f"header line {line[:60]!r} is not PLY's", CUT_OFF)
    if not kind:
        raise SceneError(path, "its header states no known format", CUT_OFF)
    return kind, elements, line_end + 1
