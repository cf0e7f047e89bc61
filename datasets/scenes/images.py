"""Opening photos, masks and depth. Every file is opened through Python, so that what is read can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from datasets.errors import SceneError
from datasets.scenes.files import read_bytes, read_npy
from datasets.types import Photo, View

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
MILLIMETRE = 0.001
ORIENTATION = 274  # TIFF's number of the tag


def read_pixels(path: Path) -> np.ndarray:
    """An image file as stored: [H, W] or [H, W, 3 or 4], uint8, uint16 or float32, channels R, G, B, A.

    Stored orientation is kept (EXIF rotation is ignored), as structure from motion does.

    Raises:
        SceneError: where it is missing, truncated or no image, and for a TIFF that is to be turned when shown, which
            programs disagree about.
    """
    data = read_bytes(path)
    mend = "Restore the file from the original"
    if not _is_whole(data):
        raise SceneError(path, f"is a truncated image ({len(data)} bytes)", mend)
    if (orientation := _tiff_orientation(data)) in range(2, 9):
        found = f"is a TIFF with the orientation {orientation}"
        raise SceneError(path, found, "Save it again the way up it is, without that tag (or as PNG)")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise SceneError(path, f"is not a readable image ({error.err})", mend) from error
    if pixels is None:
        raise SceneError(path, f"is not a readable image ({len(data)} bytes)", mend)
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return pixels


def are_cut_out(paths: Sequence[Path]) -> bool:
    """Whether photos have alpha channels, one of which hides anything. JPEG cannot, and is not opened; nor are those
    behind one without an alpha channel.
    """
    for path in paths:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            return False
        pixels = read_pixels(path)
        if pixels.shape[2:] != (4,) or pixels.dtype.kind != "u":
            return False
        if (pixels[:, :, 3] < np.iinfo(pixels.dtype).max).any():
            return True
    return False


def read_image(path: Path, background: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """The image that :func:`read_photo` gives.

    Raises:
        SceneError: where it cannot be used.
    """
    return read_photo(path, background)[0]


def plain_photo(path: Path) -> Photo:
    """A photo of which nothing but its image is known, over white where it has an alpha channel."""
    return Photo(path, partial(_plain_view, path))


def _plain_view(path: Path) -> View:
    return View(read_image(path))


def read_photo(path: Path, background: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray | None]:
    """A photo as [H, W, 3] float32 sRGB in 0..1, and its alpha channel [H, W] float32 in 0..1 or None.

    Alpha is composited on ``background``, grey becomes three channels.

    Raises:
        SceneError: where it cannot be used.
    """
    pixels = read_pixels(path)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise SceneError(path, f"holds {pixels.dtype} values", "Save the photo with 8 or 16 bits per channel")
    image = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise SceneError(path, f"has {image.shape[2]} channels", "Save the photo as RGB or RGBA")
    if image.shape[2] == 3:
        return np.ascontiguousarray(image), None
    alpha = image[:, :, 3:]
    image = image[:, :, :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return np.ascontiguousarray(image), np.ascontiguousarray(alpha[:, :, 0])


def read_mask(path: Path) -> np.ndarray:
    """A mask as [H, W] bool, True where any channel (alpha aside) is not 0.

    Raises:
        SceneError: where it cannot be used.
    """
    pixels = read_pixels(path)
    return pixels != 0 if pixels.ndim == 2 else (pixels[:, :, :3] != 0).any(axis=2)


def read_depth(path: Path) -> np.ndarray:
    """Depth as [H, W] float32, 0 where unknown: ``.npy`` in scene units, or a 16-bit PNG in millimetres (to metres).

    Raises:
        SceneError: for another type, a negative or a non-finite depth.
    """
    if path.suffix.lower() == ".npy":
        depth = read_npy(path)
        if depth.ndim != 2 or depth.dtype.kind != "f":
            raise SceneError(path, f"holds {depth.dtype} of shape {depth.shape}", "Save depth as [H, W] floats")
    else:
        pixels = read_pixels(path)
        if pixels.ndim != 2 or pixels.dtype != np.uint16:
            raise SceneError(
                path, f"holds {pixels.dtype} of shape {pixels.shape}", "Save depth as one 16-bit channel in millimetres"
            )
        depth = pixels.astype(np.float32) * np.float32(MILLIMETRE)
    if not ((depth >= 0) & (depth < np.finfo(np.float32).max)).all():
        raise SceneError(path, "holds negative, infinite or NaN depth", "Write 0 where the depth is unknown")
    return depth.astype(np.float32)


def expect_size(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    """Raise SceneError unless ``pixels`` measures ``size`` (width, height)."""
    found = (pixels.shape[1], pixels.shape[0])
    if found != size:
        raise SceneError(
            path,
            f"measures {found[0]}x{found[1]} where its camera says {size[0]}x{size[1]}",
            "Use the image that the intrinsics belong to, or correct them",
        )


def shrink_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to ``size`` (width, height) by area averaging."""
    if size == (image.shape[1], image.shape[0]):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to ``size`` (width, height); a pixel counts where everything it covers counts."""
    return shrink_image(mask.astype(np.float32), size) > 0.999


def shrink_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to ``size`` (width, height) by the nearest pixel, since averages across an edge lie on neither side."""
    return cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _is_whole(data: bytes) -> bool:
    """False for a PNG or JPEG that ends early, which decoders fill with grey."""
    if data.startswith(b"\x89PNG"):
        return b"IEND\xae\x42\x60\x82" in data
    if not data.startswith(b"\xff\xd8"):
        return True
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        if data[position + 1] == 0xFF:  # any number of these may precede a marker
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return data.find(b"\xff\xd9", position) >= 0  # inside the scan 0xFF is always followed by 0 or a restart


def _tiff_orientation(data: bytes) -> int:
    """What a TIFF says of how to turn it when shown, 1 for not at all and for everything else than a TIFF."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    order: Literal["little", "big"] = "little" if data.startswith(b"I") else "big"
    start = int.from_bytes(data[4:8], order)
    for i in range(int.from_bytes(data[start : start + 2], order)):
        entry = data[start + 2 + 12 * i : start + 14 + 12 * i]
        if int.from_bytes(entry[:2], order) == ORIENTATION:
            return int.from_bytes(entry[8:10], order)
    return 1
