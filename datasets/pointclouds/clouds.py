"""Reading bare clouds, and what is done about points and frames that cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from datasets.errors import InputError, SceneError
from datasets.scenes.files import read_bytes, read_npy

Policy = Literal["error", "skip"]
"""What happens to what cannot be used: one clear error, or it is left out and counted."""

Frame = TypeVar("Frame")

MOST_COLUMNS = 64  # of an array of points; more are an image or a feature map


def read_bin(path: Path, channels: Sequence[str]) -> np.ndarray:
    """[N, C] float32 of a file that holds nothing but little-endian float32 rows.

    Raises:
        SceneError: where it is missing, empty, or holds no whole number of rows.
    """
    data = read_bytes(path)
    check_bin_size(path, len(data), channels)
    return np.frombuffer(data, "<f4").reshape(-1, len(channels)).astype(np.float32)


def check_bin_size(path: Path, size: int, channels: Sequence[str]) -> None:
    """Raise SceneError unless ``size`` bytes are at least one whole point of ``channels``."""
    row = 4 * len(channels)
    if size == 0:
        raise SceneError(path, "holds no points", "Restore the file, or leave the frame out")
    if size % row:
        raise SceneError(
            path,
            f"holds {size} bytes, which is no whole number of points of {len(channels)} float32 "
            f"({', '.join(channels)})",
            "Restore the file if it is truncated, or give the channels that it has",
        )


def read_npy_rows(path: Path, least: int, most: int, mend: str) -> np.ndarray:
    """[N, C] numbers of a ``.npy`` file, as the file has them.

    Args:
        path: the file.
        least, most: columns that it may have.
        mend: what to give instead of anything else.

    Raises:
        SceneError: where it is missing, damaged or of another shape.
    """
    rows = read_npy(path)
    check_npy_rows(path, rows.dtype, rows.shape, least, most, mend)
    return rows


def check_npy_rows(path: Path, dtype: np.dtype, shape: tuple[int, ...], least: int, most: int, mend: str) -> None:
    """Raise SceneError unless an array of ``dtype`` and ``shape`` is what :func:`read_npy_rows` gives."""
    if len(shape) != 2 or not least <= shape[1] <= most or dtype.kind not in "fiu":
        raise SceneError(path, f"holds {dtype} of shape {shape}", mend)


def finite_points(path: Path, points: np.ndarray, invalid: Policy) -> np.ndarray:
    """``points`` without those that hold NaN or infinity, perhaps none; where ``invalid`` is "skip" a warning counts
    them.

    Raises:
        SceneError: for such points where ``invalid`` is "error".
    """
    finite = np.isfinite(points).all(axis=1)
    bad = int((~finite).sum())
    if not bad:
        return points
    found = f"{bad} of {len(points)} points hold NaN or infinity"
    if invalid == "error":
        raise SceneError(path, found, 'Clean the file, or leave such points out with invalid_points="skip"')
    warnings.warn(f"{path}: {found}; they are left out", stacklevel=2)
    return points[finite]


def usable(names: Iterable[str], load: Callable[[str], Frame], policy: Policy) -> tuple[list[Frame], list[InputError]]:
    """What ``load`` makes of each name, and the errors of the names that were skipped.

    Raises:
        InputError: the first one where ``policy`` is "error"; where nothing is left; and for an unknown policy.
    """
    if policy not in ("error", "skip"):
        raise InputError(f"unknown policy {policy!r} for frames that cannot be used: choose error or skip")
    frames, skipped, count = [], [], 0
    for name in names:
        count += 1
        try:
            frames.append(load(name))
        except InputError as error:
            if policy == "error":
                raise
            skipped.append(error)
    if skipped and not frames:
        raise InputError(f"none of {count} frames can be used; the first: {skipped[0]}")
    if skipped:
        warnings.warn(f"{len(skipped)} of {count} frames are left out; the first: {skipped[0]}", stacklevel=2)
    return frames, skipped
