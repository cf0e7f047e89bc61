"""One channel of an OpenEXR file. Needs the extra ``exr``."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import InputError, SceneError
from datasets.scenes.files import read_bytes

MAGIC = b"\x76\x2f\x31\x01"
MEND = "Write it again as OpenEXR with the depth as channel Z"


def read_exr(path: Path, largest: int) -> np.ndarray:
    """[H, W] float32 depth of an OpenEXR file: its channel Z (of any layer), its only one, or equal R, G and B.

    Args:
        path: the file, of one part or of several, of which the first counts.
        largest: pixels beyond which a file is refused, before anything is allocated for it.

    Raises:
        InputError: where OpenEXR is not installed.
        SceneError: where the file is missing, truncated, something else, or its channels leave open which is depth.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise InputError(f"{path}: reading it needs OpenEXR: pip install 'sparse-vision-3d[exr]'") from error
    if not read_bytes(path).startswith(MAGIC):
        raise SceneError(path, "is no OpenEXR file", MEND)
    try:
        # What the library says of a broken file is in the exception too.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with OpenEXR.File(str(path), header_only=True) as file:
                _check_window(path, file.header(), largest)
            with OpenEXR.File(str(path), separate_channels=True) as file:
                channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise SceneError(path, f"is a truncated or damaged OpenEXR file ({_first_line(error)})", MEND) from error
    return _depth_of(path, channels)


def _check_window(path: Path, header: dict[str, Any], largest: int) -> None:
    """Refuse files that are too large, and those that hold only a part of the photo or more than it."""
    low, high = (np.asarray(corner, np.int64) for corner in header["dataWindow"])
    width, height = (high - low + 1).tolist()
    if min(width, height) < 1 or width * height > largest:
        raise SceneError(path, f"has the size {width}x{height}", f"Expected 1 to {largest} pixels")
    if any(not np.array_equal(a, b) for a, b in zip(header["dataWindow"], header["displayWindow"], strict=True)):
        raise SceneError(path, "has a data window that differs from its display window", "Write the whole photo")


def _depth_of(path: Path, channels: dict[str, np.ndarray]) -> np.ndarray:
    depths = [name for name in channels if name.split(".")[-1] == "Z"]
    grey = set(channels) in ({"R", "G", "B"}, {"R", "G", "B", "A"}) and all(
        np.array_equal(channels["R"], channels[name], equal_nan=True) for name in "GB"
    )
    if len(depths) == 1:
        values = channels[depths[0]]
    elif len(channels) == 1:
        values = next(iter(channels.values()))
    elif grey:
        values = channels["R"]
    else:
        raise SceneError(path, f"has the channels {', '.join(sorted(channels)) or 'none'}", MEND)
    if values.ndim != 2:
        raise SceneError(path, f"has a depth channel of shape {values.shape}", MEND)
    return values.astype(np.float32)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
