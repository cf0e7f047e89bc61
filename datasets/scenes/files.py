"""Reading small files that somebody else wrote: paths that stay in the scene's folder, JSON, and numpy arrays."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.errors import SceneError

LONGEST_NPY_HEADER = 10_000


def inside(root: Path, name: object, source: Path) -> Path:
    """``root / name``, refused where it (or a link on the way) leads out of ``root``.

    Args:
        root: the scene's folder.
        name: what a file says; anything but a non-empty string is refused.
        source: the file that says it, for the message.

    Raises:
        SceneError: naming ``source``.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise SceneError(source, f"a file name is {name!r}", "Write a path relative to the scene's folder")
    path = root / name
    try:
        resolved = path.resolve()
        contained = not Path(name).is_absolute() and resolved.parent.is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:
        raise SceneError(source, f"the path {name!r} cannot be followed ({error})", "Mend or remove it") from error
    if not contained:
        raise SceneError(
            source,
            f"{name!r} leads out of the scene's folder, to {resolved}",
            "Copy the file into the folder and name it relative to the folder",
        )
    return path


def read_bytes(path: Path) -> bytes:
    """Contents of a file.

    Raises:
        SceneError: where it is missing, not a file, or not readable.
    """
    return read_head(path, -1)[0]


def read_head(path: Path, most: int) -> tuple[bytes, int]:
    """The first ``most`` bytes of a file, all for -1, and how many it has.

    Raises:
        SceneError: where it is missing, not a file, or not readable.
    """
    try:
        with path.open("rb") as file:
            return file.read(most), os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise SceneError(path, "there is no such file", "Restore it, or remove it from the scene's list") from error
    except OSError as error:
        raise SceneError(
            path, f"cannot be read ({error.strerror or error})", "Check the file and its rights"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        SceneError: for anything else.
    """
    data = read_bytes(path)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SceneError(path, f"is not readable JSON ({error})", "Write it again, as UTF-8 text") from error
    if not isinstance(value, dict):
        raise SceneError(path, f"holds a JSON {type(value).__name__}", "It must be an object: {...}")
    return value


class NpyHeader(NamedTuple):
    """What a ``.npy`` file states of its array, which begins at byte ``start``."""

    dtype: np.dtype
    fortran_order: bool
    shape: tuple[int, ...]
    start: int


def read_npy(path: Path) -> np.ndarray:
    """The array of numbers in a ``.npy`` file. Nothing is unpickled, and nothing allocated that the file lacks.

    Raises:
        SceneError: for a truncated, foreign or pickled file.
    """
    data = read_bytes(path)
    dtype, fortran_order, shape, start = npy_header(path, data, len(data))
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C").copy()


def npy_header(path: Path, head: bytes, size: int) -> NpyHeader:
    """What a ``.npy`` file of ``size`` bytes states, given at least its first LONGEST_NPY_HEADER.

    Raises:
        SceneError: as for :func:`read_npy`.
    """
    mend = "Save it again with numpy.save from a plain array of numbers"
    wide = 4 if head[6:7] in (b"\2", b"\3") else 2
    start = 8 + wide + int.from_bytes(head[8 : 8 + wide], "little")
    if not head.startswith(b"\x93NUMPY") or start > min(size, LONGEST_NPY_HEADER):
        raise SceneError(path, f"is not a numpy array file ({size} bytes)", mend)
    try:
        header = ast.literal_eval(head[8 + wide : start].decode())
        kind, fortran_order, shape = (header[key] for key in ("descr", "fortran_order", "shape"))
        plain = isinstance(kind, str) and all(type(length) is int and length >= 0 for length in shape)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise SceneError(path, f"is not a numpy array file: its header is {head[:80]!r}", mend) from error
    if plain and kind.endswith("O"):
        raise SceneError(path, "holds pickled Python objects, which are never loaded", mend)
    if not plain or not re.fullmatch(r"[<>|=]?[?biufc]\d{0,2}", kind):
        raise SceneError(path, f"holds {kind!r} of shape {shape}", mend)
    try:
        dtype = np.dtype(kind)
    except TypeError as error:
        raise SceneError(path, f"holds {kind!r} of shape {shape}", mend) from error
    found, expected = size - start, math.prod(shape) * dtype.itemsize
    if found != expected:
        raise SceneError(path, f"holds {found} bytes of data where shape {shape} of {dtype} needs {expected}", mend)
    return NpyHeader(dtype, bool(fortran_order), tuple(shape), start)


def number(source: Path, record: dict[str, Any], key: str, default: float | None = None) -> float:
    """The finite number ``record[key]``, or ``default`` where the key is absent.

    Raises:
        SceneError: where it is absent without a default, or not a finite number.
    """
    value = record.get(key, default)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
    found = f"{key} is {value!r}" if key in record else f"{key} is missing"
    raise SceneError(source, found, f"Give {key} as a finite number")


def matrix4(source: Path, record: dict[str, Any], key: str) -> np.ndarray:
    """The 4x4 (or 3x4, completed by 0 0 0 1) matrix ``record[key]`` as float64.

    Raises:
        SceneError: where it is absent or of another form. Its values are checked with the pose.
    """
    try:
        value = np.array(record.get(key), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        value = np.empty(0)
    if value.shape == (3, 4):
        value = np.vstack([value, [0, 0, 0, 1]])
    if value.shape != (4, 4):
        found = f"{key} is not a 4x4 matrix of numbers" if key in record else f"{key} is missing"
        raise SceneError(source, found, f"Give {key} as four rows of four numbers")
    return value
