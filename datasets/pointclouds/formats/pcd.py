"""PCD 0.7, the Point Cloud Library's format: ascii, binary and binary_compressed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from datasets.errors import SceneError
from datasets.pointclouds.formats.tables import CUT_OFF, Stated, check_binary, check_text, text_rows
from datasets.scenes.files import read_bytes

_LONGEST_HEADER = 1 << 14
_TYPES = {(kind, size) for kind, sizes in (("F", "48"), ("U", "1248"), ("I", "1248")) for size in sizes}
_LARGEST_RATIO = 300  # LZF copies at most 264 bytes for three
_PACKED, _COLOURS = ("rgb", "rgba"), {"red": 16, "green": 8, "blue": 0}  # fields of a colour, and its bits in them


def read_pcd(path: Path) -> dict[str, np.ndarray]:
    """Columns [N] by field name, of fields of several numbers the first; a packed colour as red, green and blue too.

    Raises:
        SceneError: for a file that is no PCD, is damaged, or claims more than it holds.
    """
    data = read_bytes(path)
    columns = _columns(path, data, _find_points(path, data, len(data)))
    if (packed := next((columns[n] for n in _PACKED if n in columns), None)) is not None:
        bits = np.ascontiguousarray(packed.astype("<f4") if packed.dtype.kind == "f" else packed.astype("<u4"))
        bits = bits.view("<u4")
        columns |= {c: (bits >> shift & 255).astype(np.uint8) for c, shift in _COLOURS.items()}
    return columns


def check_pcd(path: Path, head: bytes, size: int) -> Stated:
    """What the header states of the points of a PCD file of ``size`` bytes, given its first 32 KiB.

    Raises:
        SceneError: as for :func:`read_pcd`, as far as header and size tell.
    """
    layout = _find_points(path, head, size)
    names = tuple(name for _, name in layout.named)
    return Stated((*names, *_COLOURS) if set(_PACKED) & set(names) else names, layout.count)


@dataclass(frozen=True)
class _Layout:
    """Where the points are: behind byte ``start``, written as ``kind``; ``types`` are name, type and how many numbers
    of each field.
    """

    kind: str
    types: list[tuple[str, str, int]]
    count: int
    start: int

    @property
    def named(self) -> list[tuple[int, str]]:
        """Number and name of the fields that are read."""
        return [(i, name) for i, (name, _, many) in enumerate(self.types) if many and name != "_"]

    @property
    def dtype(self) -> np.dtype:
        """Of a point in binary."""
        return np.dtype([(f"f{i}", t, (many,)) for i, (_, t, many) in enumerate(self.types)])


def _find_points(path: Path, head: bytes, size: int) -> _Layout:
    header, start = _header(path, head)
    names, sizes, kinds = header["FIELDS"], header["SIZE"], [kind.upper() for kind in header["TYPE"]]
    counts = header.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts) or len(set(names) - {"_"}) + names.count("_") != len(
        names
    ):
        raise SceneError(path, "its FIELDS, SIZE, TYPE and COUNT do not fit together", CUT_OFF)
    if any(pair not in _TYPES for pair in zip(kinds, sizes, strict=True)) or not all(
        c.isascii() and c.isdigit() and len(c) < 5 for c in counts
    ):
        raise SceneError(path, f"has fields of type {kinds}, size {sizes}, count {counts}", CUT_OFF)
    points = header["POINTS"][0] if header["POINTS"] else ""
    if not points.isascii() or not points.isdigit() or len(points) > 18:
        raise SceneError(path, f"states POINTS {points!r}", CUT_OFF)
    types = [(n, f"<{k.lower()}{s}", int(c)) for n, k, s, c in zip(names, kinds, sizes, counts, strict=True)]
    layout = _Layout(" ".join(header["DATA"]), types, int(points), start)
    if layout.kind == "ascii":
        check_text(path, size - start, sum(many for _, _, many in types), layout.count)
    elif layout.kind == "binary":
        check_binary(path, size - start, layout.dtype.itemsize, layout.count)
    elif layout.kind == "binary_compressed":
        _check_compressed(path, head, size, start, layout.dtype.itemsize * layout.count)
    else:
        raise SceneError(path, f"its DATA is {layout.kind!r}", "Save it as ascii, binary or binary_compressed")
    return layout


def _columns(path: Path, data: bytes, layout: _Layout) -> dict[str, np.ndarray]:
    """Columns of the fields, of those with several numbers the first."""
    types, count, start = layout.types, layout.count, layout.start
    if layout.kind == "ascii":
        first = np.cumsum([0, *(many for _, _, many in types)])
        rows = text_rows(path, data, start, int(first[-1]), count)
        with np.errstate(invalid="ignore", over="ignore"):
            return {name: rows[:, first[i]].astype(types[i][1]) for i, name in layout.named}
    if layout.kind == "binary":
        table = np.frombuffer(data, layout.dtype, count, start)
        return {name: table[f"f{i}"][:, 0] for i, name in layout.named}
    whole = _decompress(path, data, start, layout.dtype.itemsize * count)
    first = np.cumsum([0, *(np.dtype(t).itemsize * many * count for _, t, many in types)])
    return {
        name: np.frombuffer(whole, types[i][1], count * types[i][2], int(first[i])).reshape(count, types[i][2])[:, 0]
        for i, name in layout.named
    }


def _header(path: Path, head: bytes) -> tuple[dict[str, list[str]], int]:
    at = head.find(b"\nDATA ", 0, _LONGEST_HEADER)
    end = head.find(b"\n", at + 1, _LONGEST_HEADER) if at >= 0 else -1
    if end < 0:
        raise SceneError(path, "is no PCD file, or its header does not end", "Give the suffix of what the file is")
    lines = (line.split() for line in head[:end].decode("latin-1").split("\n") if not line.startswith("#"))
    header = {words[0]: words[1:] for words in lines if words}
    if missing := [key for key in ("FIELDS", "SIZE", "TYPE", "POINTS", "DATA") if key not in header]:
        raise SceneError(path, f"its header has no {', '.join(missing)}", CUT_OFF)
    return header, end + 1


def _check_compressed(path: Path, head: bytes, size: int, start: int, expected: int) -> None:
    left = size - start - 8
    if left < 0:
        raise SceneError(path, "ends before its compressed data", CUT_OFF)
    packed, whole = struct.unpack_from("<II", head, start)
    if whole != expected or packed > left or whole > _LARGEST_RATIO * max(packed, 1):
        found = f"claims {packed} bytes that become {whole}; its points need {expected}, {left} are left"
        raise SceneError(path, found, CUT_OFF)


def _decompress(path: Path, data: bytes, start: int, size: int) -> bytes:
    """The ``size`` bytes that :func:`_check_compressed` found to be packed at byte ``start``."""
    packed = struct.unpack_from("<I", data, start)[0]
    whole = np.zeros(size, np.uint8)
    if not _lzf(np.frombuffer(data, np.uint8, packed, start + 8), whole):
        raise SceneError(path, "its compressed data is damaged", CUT_OFF)
    return whole.tobytes()


@njit(cache=True)
def _lzf(packed, whole):
    """Marc Lehmann's LZF; False where the stream leaves its bounds or does not fill ``whole``."""
    i, o = 0, 0
    while i < len(packed):
        control = int(packed[i])
        i += 1
        if control < 32:  # a run of control + 1 bytes as they are
            length = control + 1
            if i + length > len(packed) or o + length > len(whole):
                return False
            whole[o : o + length] = packed[i : i + length]
            i += length
        else:  # a copy from what is already there
            length = control >> 5
            if length == 7:
                if i >= len(packed):
                    return False
                length += int(packed[i])
                i += 1
            if i >= len(packed):
                return False
            source = o - ((control & 31) << 8) - int(packed[i]) - 1
            i += 1
            length += 2
            if source < 0 or o + length > len(whole):
                return False
            for _ in range(length):
                whole[o] = whole[source]
                o += 1
                source += 1
            continue
        o += length
    return o == len(whole)
