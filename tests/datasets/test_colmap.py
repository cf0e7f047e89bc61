"""COLMAP models as pycolmap writes them, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from datasets.errors import SceneError
from datasets.geometry import project
from datasets.scenes import open_scene
from datasets.scenes.colmap import lens
from datasets.scenes.colmap_model import PARAMETERS, ColmapCamera, read_model

pycolmap = pytest.importorskip(
    "pycolmap", reason="the reader is held against models that pycolmap writes: pip install -e .[dev]"
)


def build(
    truth, model: str = "SIMPLE_RADIAL", parameters: tuple[float, ...] = (35.0, 20.0, 15.0, 0.0), points: int = 12
):
    """A pycolmap reconstruction whose point k is seen by views k to k + 2 (and point 0 by views 0 and 1 alone)."""
    reconstruction = pycolmap.Reconstruction()
    width, height = truth.size
    camera = pycolmap.Camera(model=model, width=width, height=height, params=parameters, camera_id=7)
    reconstruction.add_camera_with_trivial_rig(camera)
    rng = np.random.default_rng(0)
    seen_by = [[0, 1]] + [[k % 8, k % 8 + 1, k % 8 + 2] for k in range(1, points)]
    for i, (name, pose) in enumerate(zip(truth.names, truth.poses, strict=True)):
        image = pycolmap.Image(name=name, camera_id=7, image_id=100 - i)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(rng.uniform(0, 30, 2)) for _ in range(points + i)])
        rotation = pycolmap.Rotation3d(pose[:3, :3])
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, pose[:3, 3]))
    for k, views in enumerate(seen_by):
        track = pycolmap.Track()
        for view in views:
            track.add_element(100 - view, k)
        colour = np.array([5 * k, 255, 20], np.uint8)
        reconstruction.add_point3D(rng.uniform(-1, 1, 3) + np.array([1.0, 3.0, 7.0]), track, colour)
    return reconstruction


def write(truth, root: Path, binary: bool, **options):
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True)
    reconstruction = build(truth, **options)
    (reconstruction.write_binary if binary else reconstruction.write_text)(folder)
    truth.write_images(root / "images")
    return reconstruction


@pytest.mark.parametrize("binary", [True, False])
def test_a_model_is_read_as_pycolmap_wrote_it(truth, tmp_path: Path, binary: bool) -> None:
    reconstruction = write(truth, tmp_path, binary)
    scene = open_scene(tmp_path)
    assert [photo.path.name for photo in scene.photos] == list(truth.names)
    np.testing.assert_allclose(scene.cameras.world_to_camera.numpy(), truth.poses, atol=1e-5)
    np.testing.assert_allclose(scene.cameras.intrinsics[3].numpy(), truth.intrinsics, rtol=1e-6)
    np.testing.assert_allclose(scene.photos[5].load().image, truth.images[5] / 255, atol=1e-6)
    assert scene.points is not None
    theirs = sorted((*point.xyz, *(point.color / 255)) for point in reconstruction.points3D.values())
    ours = sorted(map(tuple, np.hstack([scene.points.xyz, scene.points.rgb])))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_points_that_training_views_did_not_see_are_left_out(truth, tmp_path: Path) -> None:
    write(truth, tmp_path, True)
    everything = open_scene(tmp_path)
    part = open_scene(tmp_path, train=[0, 2, 3], test=[1])  # of the pairs among 0, 2, 3: points 0-1-2, 1-2-3, 2-3-4
    assert everything.points is not None
    assert part.points is not None
    assert len(everything.points) == 12
    tracks = [{0, 1}] + [{k % 8, k % 8 + 1, k % 8 + 2} for k in range(1, 12)]
    assert len(part.points) == sum(len(track & {0, 2, 3}) >= 2 for track in tracks)
    assert 0 < len(part.points) < 12
    with pytest.raises(SceneError, match="do not fit a scene of 10 views"):
        open_scene(tmp_path, train=[1, 10], test=[])


def test_bounds_hold_the_points_a_photo_saw(truth, tmp_path: Path) -> None:
    write(truth, tmp_path, True, points=40)
    scene = open_scene(tmp_path)
    assert scene.bounds is not None
    assert scene.points is not None
    _, depth = project(torch.from_numpy(scene.points.xyz), scene.cameras)
    assert (scene.bounds[:, 0] >= depth.min(dim=1).values.numpy() - 1e-4).all()
    assert (scene.bounds[:, 1] <= depth.max(dim=1).values.numpy() + 1e-4).all()


@pytest.mark.parametrize("model", [name for name, _ in PARAMETERS.values()])
def test_every_lens_bends_rays_as_pycolmap_does(model: str) -> None:
    """A ray through our coefficients and through pycolmap's own camera meets the same pixel."""
    count = dict(PARAMETERS.values())[model]
    intrinsics = (
        [300.0, 310.0, 160.0, 118.0]
        if model in ("PINHOLE", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE")
        else [300.0, 160.0, 118.0]
    )
    small = [0.03, -0.02, 0.001, 0.002, 0.01, 0.02, -0.01, 0.003]
    parameters = (*intrinsics, *small[: count - len(intrinsics)])
    focal, centre, distortion = lens(ColmapCamera(model, 320, 240, parameters))
    rays = np.random.default_rng(1).uniform(-0.4, 0.4, (50, 3))
    rays[:, 2] = 1
    theirs = pycolmap.Camera(model=model, width=320, height=240, params=parameters, camera_id=1).img_from_cam(rays)
    matrix = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
    if distortion is not None and distortion.fisheye:
        points = rays[None, :, :2].astype(np.float64)
        ours = cv2.fisheye.distortPoints(points, matrix, np.array(distortion.coefficients))[0]
    else:
        k = np.zeros(8) if distortion is None else np.array(distortion.coefficients)
        ours = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), matrix, k)[0][:, 0]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
def test_a_truncated_model_is_refused_wherever_it_ends(truth, tmp_path: Path, name: str) -> None:
    write(truth, tmp_path, True)
    path = tmp_path / "sparse" / "0" / name
    data = path.read_bytes()
    for length in sorted({*range(0, len(data), max(1, len(data) // 60)), len(data) - 1}):
        path.write_bytes(data[:length])
        with pytest.raises(SceneError, match=f"{name}: ends after {length} bytes"):
            open_scene(tmp_path)
    path.write_bytes(data + b"\0")
    with pytest.raises(SceneError, match="1 bytes after its last record"):
        open_scene(tmp_path)


@pytest.mark.parametrize("suffix", [".bin", ".txt"])
def test_a_damaged_model_is_read_or_refused_but_never_worse(truth, tmp_path: Path, suffix: str) -> None:
    write(truth, tmp_path, suffix == ".bin")
    folder = tmp_path / "sparse" / "0"
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        path = folder / f"{rng.choice(['cameras', 'images', 'points3D'])}{suffix}"
        data = path.read_bytes()
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            damaged[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            open_scene(tmp_path)
        except SceneError:
            refused += 1
        path.write_bytes(data)
    assert refused > 30


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("cameras.txt", "SIMPLE_RADIAL", "FOV", "camera model FOV; known are SIMPLE_PINHOLE"),
        ("cameras.txt", "40 30 35", "40 thirty 35", "holds the line"),
        ("cameras.txt", "7 SIMPLE_RADIAL", "8 SIMPLE_RADIAL", "taken by camera 7, which is not there"),
        ("images.txt", "view_3.png", "../view_3.png", "view_3.png"),
        ("images.txt", "view_3.png", "view_4.png", "is listed twice"),
        ("images.txt", "view_3.png", "", "holds the line"),
        ("points3D.txt", " 255 20", " 256 20", "colour outside"),
        ("points3D.txt", " 255 20", " green 20", "holds the line"),
    ],
)
def test_wrong_text_is_named(truth, tmp_path: Path, file: str, old: str, new: str, says: str) -> None:
    write(truth, tmp_path, False)
    path = tmp_path / "sparse" / "0" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SceneError, match=says):
        open_scene(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SceneError, match="is not UTF-8 text"):
        open_scene(tmp_path)


def test_text_without_lines_for_points_is_named_and_a_byte_order_mark_is_none(truth, tmp_path: Path) -> None:
    write(truth, tmp_path, False)
    path = tmp_path / "sparse" / "0" / "images.txt"
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(open_scene(tmp_path).photos) == len(truth.names)
    lines = [line for line in text.splitlines() if line.startswith("#") or ".png" in line]
    for names in ("", " a b"):
        path.write_text("\n".join(line + names if ".png" in line else line for line in lines))
        with pytest.raises(SceneError, match=r"images\.txt.*where the points of .* should be"):
            open_scene(tmp_path)


def test_a_zero_quaternion_is_refused(truth, tmp_path: Path) -> None:
    write(truth, tmp_path, False)
    path = tmp_path / "sparse" / "0" / "images.txt"
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    number, *_, camera, name = lines[first].split()
    lines[first] = " ".join([number, *"0000123", camera, name])
    path.write_text("\n".join(lines))
    with pytest.raises(SceneError, match=r"images\.txt: .*quaternion"):
        open_scene(tmp_path)


def test_a_distorted_model_is_undistorted(truth, tmp_path: Path) -> None:
    write(truth, tmp_path, True, parameters=(35.0, 20.0, 15.0, 0.05))
    scene = open_scene(tmp_path)
    assert float(scene.cameras.intrinsics[0, 0, 0]) != 35.0
    view = scene.photos[0].load()
    assert view.image.shape == (30, 40, 3)
    assert not np.allclose(view.image, truth.images[0] / 255, atol=0.01)


def test_a_model_without_points_or_images_is_handled(truth, tmp_path: Path) -> None:
    write(truth, tmp_path, True)
    folder = tmp_path / "sparse" / "0"
    (folder / "points3D.bin").unlink()
    assert open_scene(tmp_path).points is None
    (folder / "images.bin").write_bytes(bytes(8))
    with pytest.raises(SceneError, match="0 views"):
        open_scene(tmp_path)
    assert read_model(folder, ".bin").images == {}
