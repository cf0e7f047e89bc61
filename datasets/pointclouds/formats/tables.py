"""Rows of numbers behind a header, and whether a file has as many bytes as its header says."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.errors import SceneError

CUT_OFF = "The file is cut off or damaged: copy or export it again"


@dataclass(frozen=True)
class Stated:
    """What the header of a file states of its points: the names of their numbers, and how many points there are."""

    names: tuple[str, ...]
    count: int


def check_binary(path: Path, left: int, row: int, count: int) -> None:
    """Raise SceneError unless ``left`` bytes hold ``count`` rows of ``row`` bytes."""
    if count * row > left:
        raise SceneError(path, f"claims {count} points, {count * row} bytes, but {max(left, 0)} are left", CUT_OFF)


def check_text(path: Path, left: int, columns: int, count: int, skipped: int = 0) -> None:
    """Raise SceneError unless ``left`` bytes may hold ``count`` rows of numbers behind ``skipped`` lines."""
    if 2 * (columns * count + skipped) > left + 1:  # a digit and a blank each
        found = f"claims {count} points of {columns} numbers, but {max(left, 0)} bytes of text are left"
        raise SceneError(path, found, CUT_OFF)


def text_rows(path: Path, data: bytes, start: int, columns: int, count: int, skipped: int = 0) -> np.ndarray:
    """[N, columns] float64 of ``count`` lines of numbers, ``skipped`` lines behind byte ``start``.

    Raises:
        SceneError: where there are fewer, or what is there are no numbers.
    """
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
