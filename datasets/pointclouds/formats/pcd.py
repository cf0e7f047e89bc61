"""PCD 0.7, the Point Cloud Library's format: ascii, binary and binary_compressed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numba import njit

from datasets.errors import SceneError
from datasets.pointclouds.formats.tables import CUT_OFF, binary_rows, text_rows
from datasets.scenes.files import read_bytes

_LONGEST_HEADER = 1 << 14
_TYPES = {(kind, size) for kind, sizes in (("F", "48"), ("U", "1248"), ("I", "1248")) for size in sizes}
_LARGEST_RATIO = 300  # LZF copies at most 264 bytes for three


def read_pcd(path: Path) -> dict[str, np.ndarray]:
    """Columns [N] by field name, of fields of several numbers the first; a packed colour as red, green and blue too.

    Raises:
        SceneError: for a file that is no PCD, is damaged, or claims more than it holds.
    """
    data = read_bytes(path)
    header, start = _header(path, data)
    names, sizes, kinds = header["FIELDS"], header["SIZE"], [kind.upper() for kind in header["TYPE"]]
    counts = header.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts) or len(set(names) - {"_"}) + names.count("_") != len(
        names
    ):
        raise SceneError(path, "its FIELDS, SIZE, TYPE and COUNT do not fit together", CUT_OFF)
    if any(pair not in _TYPES for pair in zip(kinds, sizes, strict=True)) or not all(
        c.isdigit() and int(c) < 10_000 for c in counts
    ):
        raise SceneError(path, f"has fields of type {kinds}, size {sizes}, count {counts}", CUT_OFF)
    points = header["POINTS"][0] if header["POINTS"] else ""
    if not points.isascii() or not points.isdigit() or len(points) > 18:
        raise SceneError(path, f"states POINTS {points!r}", CUT_OFF)
    types = [(n, f"<{k.lower()}{s}", int(c)) for n, k, s, c in zip(names, kinds, sizes, counts, strict=True)]
    columns = _columns(path, data, start, header["DATA"], types, int(points))
    if (packed := next((columns[n] for n in ("rgb", "rgba") if n in columns), None)) is not None:
        bits = np.ascontiguousarray(packed.astype("<f4") if packed.dtype.kind == "f" else packed.astype("<u4"))
        bits = bits.view("<u4")
        columns |= {c: (bits >> shift & 255).astype(np.uint8) for c, shift in (("red", 16), ("green", 8), ("blue", 0))}
    return columns


def _columns(
    path: Path, data: bytes, start: int, kind: list[str], types: list[tuple[str, str, int]], count: int
) -> dict[str, np.ndarray]:
    """Columns of the fields, of those with several numbers the first."""
    named = [(i, name) for i, (name, _, many) in enumerate(types) if many and name != "_"]
    if kind == ["ascii"]:
        first = np.cumsum([0, *(many for _, _, many in types)])
        rows = text_rows(path, data, start, int(first[-1]), count)
        with np.errstate(invalid="ignore", over="ignore"):
            return {name: rows[:, first[i]].astype(types[i][1]) for i, name in named}
    dtype = np.dtype([(f"f{i}", t, (many,)) for i, (_, t, many) in enumerate(types)])
    if kind == ["binary"]:
        table = binary_rows(path, data, start, dtype, count)
        return {name: table[f"f{i}"][:, 0] for i, name in named}
    if kind != ["binary_compressed"]:
        raise SceneError(path, f"its DATA is {' '.join(kind)!r}", "Save it as ascii, binary or binary_compressed")
    whole = _decompress(path, data, start, dtype.itemsize * count)
    first = np.cumsum([0, *(np.dtype(t).itemsize * many * count for _, t, many in types)])
    return {
        name: np.frombuffer(whole, types[i][1], count * types[i][2], int(first[i])).reshape(count, -1)[:, 0]
        for i, name in named
    }


def _header(path: Path, data: bytes) -> tuple[dict[str, list[str]], int]:
    at = data.find(b"\nDATA ", 0, _LONGEST_HEADER)
    end = data.find(b"\n", at + 1) if at >= 0 else -1
    if end < 0:
        raise SceneError(path, "is no PCD file, or its header does not end", "Give the suffix of what the file is")
    lines = (line.split() for line in data[:end].decode("latin-1").splitlines() if not line.startswith("#"))
    header = {words[0]: words[1:] for words in lines if words}
    if missing := [key for key in ("FIELDS", "SIZE", "TYPE", "POINTS", "DATA") if key not in header]:
        raise SceneError(path, f"its header has no {', '.join(missing)}", CUT_OFF)
    return header, end + 1


def _decompress(path: Path, data: bytes, start: int, expected: int) -> bytes:
    if len(data) < start + 8:
        raise SceneError(path, "ends before its compressed data", CUT_OFF)
    packed, size = struct.unpack_from("<II", data, start)
    if size != expected or packed > len(data) - start - 8 or size > _LARGEST_RATIO * max(packed, 1):
        found = (
            f"claims {packed} bytes that become {size}; its points need {expected}, {len(data) - start - 8} are left"
        )
        raise SceneError(path, found, CUT_OFF)
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
