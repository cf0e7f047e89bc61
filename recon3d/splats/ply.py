"""3DGS PLY, the layout of Kerbl et al. (2023) that every splat viewer opens.

One vertex a Gaussian, float32: x y z, nx ny nz (zero), f_dc_0..2 (sh0), f_rest_0.. (shN, channel by channel),
opacity (logit), scale_0..2 (log), rot_0..3 (wxyz). What a vertex cannot hold is written as comments.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from recon3d.gaussians import Gaussians
from recon3d.splats.errors import SplatError
from recon3d.splats.splat import Splat
from recon3d.splats.tensors import extras, parse_extras

_COMMENT = "sparse-vision-3d"
_MEND = "Export it again as a 3DGS PLY."
_LONGEST_HEADER = 1 << 16
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_Element = tuple[str, int, list[tuple[str, str]]]  # name, count, (type, name) of each property


def write(path: Path, splat: Splat) -> None:
    """Write binary little endian."""
    gaussians = splat.gaussians
    count, harmonics = len(gaussians), gaussians.shN.shape[1]
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3))]
    names += [*(f"f_rest_{i}" for i in range(3 * harmonics)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    comments = [f"comment {_COMMENT} {name} {json.dumps(value)}" for name, value in extras(splat).items()]
    properties = [f"property float {name}" for name in names]
    header = ["ply", "format binary_little_endian 1.0", *comments, f"element vertex {count}", *properties]
    columns = (
        gaussians.means,
        torch.zeros_like(gaussians.means),
        gaussians.sh0[:, 0],
        gaussians.shN.transpose(1, 2).reshape(count, 3 * harmonics),
        gaussians.opacities[:, None],
        gaussians.scales,
        gaussians.quats,
    )
    table = torch.cat([column.detach().cpu().float() for column in columns], 1)
    with open(path, "wb") as file:
        file.write("\n".join([*header, "end_header\n"]).encode("ascii"))
        file.write(np.ascontiguousarray(table.numpy(), dtype="<f4").data)


def read(path: Path) -> Splat:
    """Read any order of properties, ASCII or binary of either endianness; further properties are ignored."""
    with open(path, "rb") as file:
        kind, elements, comments = _read_header(path, file)
        table = _read_vertices(path, file, kind, elements)
    names = set(table.dtype.names or ())
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in (0, 9, 24, 45):
        raise SplatError(path, f"{rest} properties f_rest_*, expected 0, 9, 24 or 45 (degree 0 to 3)", _MEND)

    def columns(*wanted: str) -> torch.Tensor:
        if missing := [name for name in wanted if name not in names]:
            hint = "It is a compressed PLY: decompress it first." if "packed_position" in names else _MEND
            raise SplatError(path, f"not a Gaussian splat: vertices have no {', '.join(missing)}", hint)
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, which is reported as such
            return torch.from_numpy(np.stack([table[name].astype(np.float32) for name in wanted], 1))

    higher = columns(*(f"f_rest_{i}" for i in range(rest))) if rest else torch.zeros(len(table), 0)
    try:
        more = parse_extras({name: json.loads(text) for name, text in comments.items()})
    except (ValueError, RecursionError) as error:
        raise SplatError(path, f"its {_COMMENT} comments cannot be read ({error})", _MEND) from error
    gaussians = Gaussians(
        means=columns("x", "y", "z"),
        scales=columns("scale_0", "scale_1", "scale_2"),
        quats=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        opacities=columns("opacity")[:, 0].contiguous(),
        sh0=columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None],
        shN=higher.reshape(len(table), 3, rest // 3).transpose(1, 2).contiguous(),
    )
    try:
        return Splat(gaussians, **more)
    except ValueError as error:
        raise SplatError(path, f"{error}: its {_COMMENT} comments are of another file", _MEND) from error


def _read_header(path: Path, file: BinaryIO) -> tuple[str, list[_Element], dict[str, str]]:
    """Format, elements and own comments of the header; ``file`` is left at the first byte of data."""
    kind = ""
    elements: list[_Element] = []
    comments: dict[str, str] = {}
    if file.readline(16).strip() != b"ply":
        raise SplatError(path, "does not begin with 'ply'", "Give a PLY file, or the suffix of what it is.")
    while True:
        line = file.readline(_LONGEST_HEADER)
        if not line.endswith(b"\n") or file.tell() > _LONGEST_HEADER:
            raise SplatError(path, "its header does not end", _MEND)
        words = line.decode("latin-1").split()
        match words:
            case ["end_header"]:
                break
            case ["comment", word, name, *_] if word == _COMMENT:
                comments[name] = line.decode("latin-1").split(maxsplit=3)[3].strip() if len(words) > 3 else ""
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, _] if name in _ORDERS:
                kind = name
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                elements.append((name, int(count), []))
            case ["property", "list", *_] if elements:
                elements[-1][2].append(("list", words[-1]))
            case ["property", type_, name] if elements and type_ in _TYPES:
                elements[-1][2].append((_TYPES[type_], name))
            case _:
                raise SplatError(path, f"header line {line[:60].decode('latin-1').strip()!r} is not PLY's", _MEND)
    if not kind:
        raise SplatError(path, "its header states no known format", _MEND)
    return kind, elements, comments


def _read_vertices(path: Path, file: BinaryIO, kind: str, elements: list[_Element]) -> np.ndarray:
    """The vertices as a structured array; nothing is allocated before the file is known to hold that much."""
    left = path.stat().st_size - file.tell()
    for name, count, properties in elements:
        if any(type_ == "list" for type_, _ in properties):
            raise SplatError(path, f"element {name} has lists and comes before the vertices", _MEND)
        if len({name for _, name in properties}) != len(properties):
            raise SplatError(path, f"element {name} names a property twice", _MEND)
        if not properties:
            raise SplatError(path, f"element {name} has no properties", _MEND)
        dtype = np.dtype([(name, _ORDERS[kind] + type_) for type_, name in properties])
        smallest = count * (2 * len(properties) if kind == "ascii" else dtype.itemsize)  # a digit and a blank each
        if smallest > left + 1:
            found = f"element {name} claims {count} entries, at least {smallest} bytes, but {max(left, 0)} are left"
            raise SplatError(path, found, "The file is cut off or damaged: copy or export it again.")
        left -= smallest
        table = _ascii_rows(path, file, count, dtype) if kind == "ascii" else np.fromfile(file, dtype, count)
        if name == "vertex":
            return table
    raise SplatError(path, "no element vertex", _MEND)


def _ascii_rows(path: Path, file: BinaryIO, count: int, dtype: np.dtype) -> np.ndarray:
    names = dtype.names or ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about empty lines and files, reported below
            rows = np.loadtxt(file, np.float64, comments=None, max_rows=count, ndmin=2) if count else np.zeros((0, 1))
        if count and rows.shape != (count, len(names)):
            raise ValueError(f"{rows.shape[0]} rows of {rows.shape[1]} numbers, expected {count} of {len(names)}")
    except ValueError as error:
        raise SplatError(path, f"its ASCII data cannot be read ({error})", _MEND) from error
    table = np.zeros(count, [(name, np.float64) for name in names])
    for column, name in enumerate(names if count else ()):
        table[name] = rows[:, column]
    return table
