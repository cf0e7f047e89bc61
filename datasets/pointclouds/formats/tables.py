"""Rows of numbers behind a text header, as PLY and PCD have them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from datasets.errors import SceneError

CUT_OFF = "The file is cut off or damaged: copy or export it again"


def binary_rows(path: Path, data: bytes, start: int, dtype: np.dtype, count: int) -> np.ndarray:
    """[N] structured array of ``count`` rows at byte ``start``.

    Raises:
        SceneError: where the file holds fewer.
    """
    left = max(len(data) - start, 0)
    if count * dtype.itemsize > left:
        raise SceneError(path, f"claims {count} points, {count * dtype.itemsize} bytes, but {left} are left", CUT_OFF)
    return np.frombuffer(data, dtype, count, start)


def text_rows(path: Path, data: bytes, start: int, columns: int, count: int, skipped: int = 0) -> np.ndarray:
    """[N, columns] float64 of ``count`` lines of numbers, ``skipped`` lines behind byte ``start``.

    Raises:
        SceneError: where there are fewer, or what is there are no numbers.
    """
    left = max(len(data) - start, 0)
    if 2 * (columns * count + skipped) > left + 1:  # a digit and a blank each
        found = f"claims {count} points of {columns} numbers, but {left} bytes of text are left"
        raise SceneError(path, found, CUT_OFF)
    if count == 0:
        return np.zeros((0, columns))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about fewer lines, reported below
            text = io.BytesIO(data[start:])
            rows = np.loadtxt(text, np.float64, comments=None, skiprows=skipped, max_rows=count, ndmin=2)
        if rows.shape != (count, columns) and not skipped and len(words := data[start:].split()) == count * columns:
            rows = np.array(words, np.float64).reshape(count, columns)  # lines may be broken anywhere
    except (ValueError, UnicodeDecodeError) as error:
        raise SceneError(path, f"its ASCII rows cannot be read as numbers ({error})", CUT_OFF) from error
    if rows.shape != (count, columns):
        found = f"holds {rows.shape[0]} rows of {rows.shape[1]} numbers, its header says {count} of {columns}"
        raise SceneError(path, found, CUT_OFF)
    return rows
