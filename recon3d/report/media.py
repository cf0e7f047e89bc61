"""Pictures and video inside the page: data URIs small enough that the page stays a file one can mail."""

from __future__ import annotations

import base64
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from datasets.pictures import encode
from recon3d.video import read_video, write_video

LARGEST_VIDEO = 3_000_000  # bytes; larger ones are embedded in the first of these that is small enough, or the last
SMALLER_VIDEOS = ((560, 28), (560, 34), (360, 36), (240, 40))  # pixels a side, constant rate factor


def picture(image: np.ndarray, side: int, quality: int = 82) -> str:
    """An RGB image (uint8 [H, W, 3]) as data URI (WebP), reduced to at most ``side`` pixels a side."""
    return _data_uri("image/webp", encode(shrunk(image, side), ".webp", quality))


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """``image`` [H, W, 3] reduced to at most ``side`` pixels a side by area averaging, or itself."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def video(path: Path) -> str:
    """An MP4 file as data URI, encoded again in less detail where it is large."""
    content = path.read_bytes()
    with TemporaryDirectory() as folder:
        small = Path(folder) / "video.mp4"
        for side, crf in SMALLER_VIDEOS:
            if len(content) <= LARGEST_VIDEO:
                break
            frames, fps = read_video(path)
            write_video(small, (shrunk(frame, side) for frame in frames), fps, crf)
            content = small.read_bytes()
    return _data_uri("video/mp4", content)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
