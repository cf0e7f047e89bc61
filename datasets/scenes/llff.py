"""LLFF's layout (Mildenhall et al., Local Light Field Fusion, 2019): ``poses_bounds.npy`` beside ``images_N``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.scenes.capture import Capture, Frame, half_up
from datasets.scenes.files import inside, read_npy
from datasets.scenes.images import IMAGE_SUFFIXES


def read_llff(root: Path, downscale: int) -> Capture:
    """Frames of an LLFF folder, sorted by name.

    A row of poses_bounds.npy is a 3x5 matrix and the near and far depth: camera-to-world with the columns
    [down, right, backward, position], then height, width and focal length of the full-size photos. The photos used
    are those of ``images_N`` for downscale N (``images`` for 1); they are reduced here only where there is
    no such folder.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    source = root / "poses_bounds.npy"
    rows = read_npy(source)
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind != "f":
        raise SceneError(source, f"holds {rows.dtype} of shape {rows.shape}", "It must hold floats, 17 for each photo")
    folder, shrink = _choose_folder(root, downscale)
    paths = sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) != len(rows):
        raise SceneError(
            source, f"has {len(rows)} poses, but {folder.name} holds {len(paths)} photos", "Restore or remove photos"
        )
    frames = tuple(
        _frame(source, inside(root, str(path.relative_to(root)), folder), row.astype(np.float64), downscale, shrink)
        for path, row in zip(paths, rows, strict=True)
    )
    return Capture(root, source, frames)


def _choose_folder(root: Path, downscale: int) -> tuple[Path, int]:
    """The folder of photos, and by how much they are still to be reduced."""
    shipped = root / ("images" if downscale == 1 else f"images_{downscale}")
    if shipped.is_dir():
        return shipped, 1
    if (root / "images").is_dir():
        return root / "images", downscale
    others = sorted(path.name for path in root.glob("images*") if path.is_dir())
    found = f"it holds {', '.join(others)}" if others else "it holds no folder of images"
    raise SceneError(root, f"there is no {shipped.name}: {found}", "Choose a downscale whose images_N is there")


def _frame(source: Path, path: Path, row: np.ndarray, downscale: int, shrink: int) -> Frame:
    matrix = row[:15].reshape(3, 5)
    height, width, focal = map(float, matrix[:, 4])
    if not (np.isfinite(matrix[:, 4]).all() and 1 <= width <= 1e6 and 1 <= height <= 1e6):
        raise SceneError(
            source, f"{path.name} has height, width, focal {(height, width, focal)}", "Give the full-size photo's"
        )
    stored = 1 if shrink > 1 else downscale
    size = (half_up(width / stored), half_up(height / stored))
    down, right, backward, position = matrix[:, :4].T
    rotation = np.stack([right, down, -backward])  # rows of world-to-camera: its axes in the world
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = rotation
    world_to_camera[:3, 3] = -rotation @ position
    return Frame(
        source=source,
        path=path,
        world_to_camera=world_to_camera,
        focal=(focal * size[0] / width, focal * size[1] / height),
        centre=(size[0] / 2, size[1] / 2),
        size=size,
        shrink=shrink,
        bounds=(float(row[15]), float(row[16])),
    )
