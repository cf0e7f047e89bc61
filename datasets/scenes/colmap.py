"""Sparse models of COLMAP (Schönberger and Frahm, Structure-from-Motion Revisited, 2016), binary or text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.scenes.capture import LARGEST, Capture, Frame, reduced
from datasets.scenes.colmap_model import ColmapCamera, ColmapImage, ColmapModel, read_model
from datasets.scenes.distortion import Distortion
from datasets.scenes.files import inside
from datasets.types import Points

Pair = tuple[float, float]


def find_model(root: Path) -> tuple[Path, str] | None:
    """The folder below ``root`` that holds a COLMAP model and the suffix of its files (binary before text), or None."""
    for folder in (root / "sparse" / "0", root / "sparse", root / "colmap" / "sparse" / "0", root):
        for suffix in (".bin", ".txt"):
            if (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file():
                return folder, suffix
    return None


def read_colmap(root: Path, downscale: int) -> Capture:
    """Frames of a COLMAP model (sparse/0, sparse, colmap/sparse/0 or the folder itself), sorted by file name.

    Photos lie in ``images``. Near and far depth are the 0.1 % and 99.9 % quantiles of the points that a photo saw, as
    LLFF takes them.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    found = find_model(root)
    if found is None:
        raise SceneError(root, "holds no COLMAP model", "Give the folder that holds sparse/0 and images")
    folder, suffix = found
    model = read_model(folder, suffix)
    source = folder / f"images{suffix}"
    points, seen = _points(model, folder / f"points3D{suffix}")
    numbers = sorted(model.images, key=lambda number: model.images[number].name)
    frames = []
    for number in numbers:
        image = model.images[number]
        if image.camera not in model.cameras:
            raise SceneError(source, f"{image.name} was taken by camera {image.camera}, which is not there", "Add it")
        frame = _frame(root, source, image, model.cameras[image.camera], points.xyz[seen[number]])
        frames.append(reduced(root, frame, downscale))
    by_view = np.array([seen[number] for number in numbers]).reshape(len(numbers), len(points))
    return Capture(root, source, tuple(frames), points if len(points) else None, by_view)


def _frame(root: Path, source: Path, image: ColmapImage, camera: ColmapCamera, xyz: np.ndarray) -> Frame:
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = _rotation(source, image)
    world_to_camera[:3, 3] = image.translation
    focal, centre, distortion = lens(camera)
    return Frame(
        source=source,
        path=inside(root, f"images/{image.name}", source),
        world_to_camera=world_to_camera,
        focal=focal,
        centre=centre,
        size=(camera.width, camera.height),
        distortion=distortion,
        bounds=_bounds(world_to_camera, xyz),
    )


def lens(camera: ColmapCamera) -> tuple[Pair, Pair, Distortion | None]:
    """Focal lengths, principal point and distortion; COLMAP, too, has the top left pixel's centre at (0.5, 0.5)."""
    p = camera.parameters
    if camera.model in ("PINHOLE", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE"):
        focal, centre, k = (p[0], p[1]), (p[2], p[3]), p[4:]
    else:
        focal, centre, k = (p[0], p[0]), (p[1], p[2]), p[3:]
    if camera.model.endswith("FISHEYE"):
        return focal, centre, Distortion(k + (0.0,) * (4 - len(k)), fisheye=True)
    distortion = Distortion(k + (0.0,) * (8 - len(k)))
    return focal, centre, None if distortion.is_none else distortion


def _rotation(source: Path, image: ColmapImage) -> np.ndarray:
    w, x, y, z = image.quaternion
    length = math.sqrt(w * w + x * x + y * y + z * z) if all(map(math.isfinite, image.quaternion)) else math.nan
    if not 1e-6 < length < math.inf:
        raise SceneError(
            source, f"the pose of {image.name} has the quaternion {image.quaternion}", "It must not be zero or NaN"
        )
    w, x, y, z = w / length, x / length, y / length, z / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _points(model: ColmapModel, source: Path) -> tuple[Points, dict[int, np.ndarray]]:
    """All points in float64, and for each image number which of them it saw."""
    xyz = np.array([point.xyz for point in model.points]).reshape(-1, 3)
    rgb = np.array([point.rgb for point in model.points]).reshape(-1, 3) / 255
    if not (np.abs(xyz) < LARGEST).all() or (rgb < 0).any() or (rgb > 1).any():
        raise SceneError(
            source, "holds a position that is no number or absurdly far, or a colour outside 0..255", "Write it again"
        )
    seen = {number: np.zeros(len(xyz), bool) for number in model.images}
    for index, point in enumerate(model.points):
        for number in point.images:
            if number in seen:
                seen[number][index] = True
    return Points(xyz, rgb), seen


def _bounds(world_to_camera: np.ndarray, xyz: np.ndarray) -> Pair | None:
    if not np.isfinite(world_to_camera).all():
        return None
    depth = xyz @ world_to_camera[2, :3] + world_to_camera[2, 3]
    depth = depth[depth > 0]
    if len(depth) < 2:
        return None
    near, far = np.quantile(depth, (0.001, 0.999))
    return (float(near), float(far)) if near < far else None
