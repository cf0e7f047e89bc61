"""8 bit pictures, RGB: made from real values, encoded, written whole or not at all, read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from datasets.files import replacing


def to_bytes(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] real values, clamped to 0..1 and rounded to uint8."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def encode(image: np.ndarray, suffix: str, quality: int = 90) -> bytes:
    """An RGB (uint8 [H, W, 3]) or single channel (uint8 or uint16 [H, W]) image as a file of type ``suffix``.

    Args:
        image: the pixels.
        suffix: ".png", ".jpg" or ".webp".
        quality: 1..100, of the two that lose something.
    """
    flags = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality], ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}.get(suffix, [])
    swapped = np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image
    return cv2.imencode(suffix, swapped, flags)[1].tobytes()


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write an image as :func:`encode` takes it; a file already there is replaced at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(encode(image, path.suffix))


def read_picture(path: Path) -> np.ndarray | None:
    """RGB uint8 [H, W, 3] of an image file, or None where there is none or it cannot be decoded."""
    if not path.is_file():
        return None
    image = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.ascontiguousarray(image[..., ::-1])
