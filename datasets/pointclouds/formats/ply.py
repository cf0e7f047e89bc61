"""The vertices of a PLY file, ASCII or binary of either endianness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.pointclouds.formats.tables import CUT_OFF, Stated, check_binary, check_text, text_rows
from datasets.scenes.files import read_bytes

_LONGEST_HEADER = 1 << 16
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}


@dataclass(frozen=True)
class Vertices:
    """What a PLY file holds.

    Attributes:
        columns: [N] of each property of the element ``vertex``, by name, in the type that the header states.
        comments: what follows ``comment`` in lines of the header.
    """

    columns: dict[str, np.ndarray]
    comments: tuple[str, ...]


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """The columns of :func:`read_vertices`."""
    return read_vertices(path).columns


def read_vertices(path: Path) -> Vertices:
    """The vertices and comments of a PLY file; elements behind the vertices, such as faces, are not read.

    Raises:
        SceneError: for a file that is no PLY, is damaged, claims more than it holds, or has lists before its vertices.
    """
    data = read_bytes(path)
    layout = _find_vertices(path, data, len(data))
    names = layout.dtype.names or ()
    if not layout.text:
        rows = np.frombuffer(data, layout.dtype, layout.count, layout.start)
        return Vertices({name: rows[name] for name in names}, layout.comments)
    table = text_rows(path, data, layout.start, len(names), layout.count, skipped=layout.lines)
    with np.errstate(invalid="ignore", over="ignore"):
        columns = {name: table[:, i].astype(layout.dtype[name]) for i, name in enumerate(names)}
    return Vertices(columns, layout.comments)


def check_ply(path: Path, head: bytes, size: int) -> Stated:
    """What the header states of the vertices of a PLY file of ``size`` bytes, given its first 64 KiB.

    Raises:
        SceneError: as for :func:`read_vertices`, as far as header and size tell.
    """
    layout = _find_vertices(path, head, size)
    return Stated(layout.dtype.names or (), layout.count)


@dataclass(frozen=True)
class _Layout:
    """Where the vertices are: as text ``lines`` lines behind byte ``start``, else there; each holds a ``dtype``."""

    text: bool
    dtype: np.dtype
    count: int
    start: int
    lines: int
    comments: tuple[str, ...]


def _find_vertices(path: Path, head: bytes, size: int) -> _Layout:
    header = _read_header(path, head)
    start, lines, text = header.end, 0, header.kind == "ascii"
    for name, count, properties in header.elements:
        if any(type_ == "list" for type_, _ in properties):
            raise SceneError(path, f"element {name} has lists and comes before the vertices", "Write vertices first")
        names = [name for _, name in properties]
        if not names or len(set(names)) != len(names):
            raise SceneError(path, f"element {name} has {'a property twice' if names else 'no properties'}", CUT_OFF)
        dtype = np.dtype([(name, _ORDERS[header.kind] + type_) for type_, name in properties])
        if name == "vertex":
            if text:
                check_text(path, size - start, len(names), count, lines)
            else:
                check_binary(path, size - start, dtype.itemsize, count)
            return _Layout(text, dtype, count, start, lines, header.comments)
        if text:
            lines += count
        else:
            start += count * dtype.itemsize
    raise SceneError(path, "has no element vertex", "Give a PLY with points")


@dataclass(frozen=True)
class _Header:
    """Format, elements (name, count, properties as type and name), comments, and where the data starts."""

    kind: str
    elements: list[tuple[str, int, list[tuple[str, str]]]]
    comments: tuple[str, ...]
    end: int


def _read_header(path: Path, head: bytes) -> _Header:
    end = head.find(b"end_header", 0, _LONGEST_HEADER)
    line_end = head.find(b"\n", end, _LONGEST_HEADER) if end >= 0 else -1
    if not head.startswith(b"ply") or line_end < 0:
        found = "is no PLY file, or its header does not end (was it cut off?)"
        raise SceneError(path, found, "Give the suffix of what the file is")
    kind = ""
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    comments: list[str] = []
    for line in head[:end].decode("latin-1").split("\n")[1:]:
        match line.split():
            case ["comment", *_]:
                comments.append(line.strip()[len("comment") :].strip())
            case [] | ["obj_info", *_]:
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
                raise SceneError(path, f"its header line {line[:60]!r} is not PLY's", CUT_OFF)
    if not kind:
        raise SceneError(path, "its header states no known format", CUT_OFF)
    return _Header(kind, elements, tuple(comments), line_end + 1)
