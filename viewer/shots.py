"""Pictures and videos without a window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.errors import InputError
from datasets.files import check_folder
from datasets.pictures import save_picture
from datasets.types import Cameras
from viewer.drawing import draw
from viewer.layers import CamerasLayer
from viewer.reading import Contents, open_all
from viewer.splats import installed_openers
from viewer.video import write_video
from viewer.viewpoint import rotation
from viewer.views import named_camera, named_viewpoint

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
LARGEST_SIDE = 16384


def shot(contents: Contents, path: Path, size: tuple[int, int], view: str | None = None, frame: int = 0) -> None:
    """Write what ``view`` (see :func:`viewer.views.named_camera`) shows, in the format of the suffix.

    Raises:
        InputError: for another suffix, a folder, view or frame there is not, or an impossible size.
    """
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"{path}: a picture is written as {', '.join(PICTURES)}")
    check_folder(path)
    check_frame(contents, frame)
    save_picture(path, draw(contents.layers, named_camera(contents, view, *size), frame))


def picture(
    paths: Sequence[Path], size: tuple[int, int], view: str | None = None, columns: int | None = None
) -> np.ndarray:
    """What :func:`shot` would write of ``paths``, uint8 RGB [H, W, 3], for the reports of others: no test photo is
    opened for it.
    """
    contents = open_all(paths, installed_openers(), columns=columns)
    for layer in contents.layers:
        if isinstance(layer, CamerasLayer) and layer.files:
            layer.photos = "train"
    return draw(contents.layers, named_camera(contents, view, *size))


def turntable(
    contents: Contents, path: Path, size: tuple[int, int], view: str | None = None, frames: int = 120, fps: int = 30
) -> None:
    """Write a video that goes once around what the view looks at; of a sequence, all its moments pass meanwhile.

    Raises:
        InputError: for another suffix than .mp4, a folder there is not, no frames, or a view there is not.
    """
    if path.suffix.lower() != ".mp4":
        raise InputError(f"{path}: a video is written as .mp4")
    check_folder(path)
    if frames < 1 or not 1 <= fps <= 240:
        raise InputError(f"{frames} frames at {fps} a second: give at least one frame, and 1 to 240 a second")
    even = (max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2))

    def pictures() -> Iterator[np.ndarray]:
        for i, camera in enumerate(tqdm(around(contents, view, even, frames), desc="turntable", unit="frame")):
            yield draw(contents.layers, camera, i * contents.frames // frames)

    write_video(path, pictures(), fps)


def around(contents: Contents, view: str | None, size: tuple[int, int], frames: int) -> list[Cameras]:
    """Cameras of ``size`` once around the vertical through what ``view`` looks at, beginning with the view."""
    start = named_viewpoint(contents, view, size[0] / size[1])
    turns = [rotation(contents.up, -2 * math.pi * i / frames) for i in range(frames)]
    views = [replace(start, eye=start.target + r @ (start.eye - start.target), up=r @ start.up) for r in turns]
    return [view.camera(*size) for view in views]


def check_frame(contents: Contents, frame: int) -> None:
    """Raise InputError unless there is such a moment."""
    if not 0 <= frame < contents.frames:
        raise InputError(f"there is no frame {frame}: frames 0 to {contents.frames - 1} are open")
