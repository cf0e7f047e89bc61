"""Real scenes: the matches between real photos obey the cameras, and their depth agrees."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from datasets.geometry import inside, project, unproject
from datasets.scenes import open_scene

SCENES = {  # options, two views, the largest median epipolar error in pixels that right cameras give
    "llff_fern": ({"downscale": 8}, (1, 10), 0.4),
    "strecha_fountain-P11": ({}, (4, 5), 0.4),
    "strecha_Herz-Jesus-P8": ({}, (3, 4), 0.4),
    "fox": ({"downscale": 2}, (4, 5), 0.5),
    "rgbd_hololens000": ({}, (5, 7), 2.0),
}


def matches(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SIFT matches, pixel centres at (0.5, 0.5)."""
    sift = cv2.SIFT_create(3000)
    grey = [cv2.cvtColor((image * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for image in (first, second)]
    (points_a, a), (points_b, b) = (sift.detectAndCompute(image, None) for image in grey)
    found = [m for m, n in cv2.BFMatcher().knnMatch(a, b, k=2) if m.distance < 0.7 * n.distance]
    p = np.array([points_a[m.queryIdx].pt for m in found]) + 0.5
    q = np.array([points_b[m.trainIdx].pt for m in found]) + 0.5
    return p, q


@pytest.mark.parametrize("name", SCENES)
def test_matches_between_photos_lie_on_epipolar_lines(shared_data, name: str) -> None:
    options, (i, j), tolerance = SCENES[name]
    scene = open_scene(shared_data(f"scenes/{name}"), **options)
    p, q = matches(scene.photos[i].load().image, scene.photos[j].load().image)
    assert len(p) > 50
    cameras = scene.cameras.to(dtype=torch.float64)
    relative = (cameras.world_to_camera[j] @ cameras.camera_to_world[i]).numpy()
    t = relative[:3, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    inverse = torch.linalg.inv(cameras.intrinsics).numpy()
    fundamental = inverse[j].T @ cross @ relative[:3, :3] @ inverse[i]
    lines = np.c_[p, np.ones(len(p))] @ fundamental.T
    error = np.abs((lines * np.c_[q, np.ones(len(q))]).sum(1)) / np.hypot(lines[:, 0], lines[:, 1])
    assert np.median(error) < tolerance


def test_real_depth_lands_on_its_own_surfaces_in_another_view(shared_data) -> None:
    scene = open_scene(shared_data("scenes/rgbd_hololens000"))
    a, b = scene.photos[4].load(), scene.photos[5].load()
    assert a.depth is not None
    assert b.depth is not None
    assert 0.4 < (a.depth > 0).mean() < 0.9
    assert 0.3 < np.median(a.depth[a.depth > 0]) < 8
    world = unproject(torch.from_numpy(a.depth), scene.cameras[4])[torch.from_numpy(a.depth > 0)]
    pixels, depth = project(world, scene.cameras[5])
    seen = inside(pixels, depth, scene.cameras[5])[0]
    column, row = pixels[0, seen].long().T.numpy()
    there = b.depth[row, column]
    ratio = depth[0, seen].numpy()[there > 0] / there[there > 0]
    assert len(ratio) > 5000
    assert np.median(np.abs(ratio - 1)) < 0.03


def test_protocols_on_the_real_folders(shared_data) -> None:
    fern = open_scene(shared_data("scenes/llff_fern"), split="llff", views=3, downscale=8)
    assert (fern.train, fern.test, fern.cameras.size) == ((1, 10, 19), (0, 8, 16), (504, 378))
    assert open_scene(shared_data("scenes/llff_fern"), downscale=4).cameras.size == (1008, 756)
    lego = open_scene(shared_data("scenes/blender_lego"), split="blender8", views=8, downscale=2)
    numbers = [2, 16, 26, 55, 73, 76, 86, 93]
    assert [lego.photos[i].path.name for i in lego.train] == [f"r_{n}.png" for n in numbers]
    assert [lego.photos[i].path.name for i in lego.test] == [f"r_{n}.png" for n in range(0, 200, 8)]
    assert {lego.photos[i].path.parent.name for i in lego.test} == {"test"}
    assert lego.cameras.size == (400, 400)
    assert lego.background == (1, 1, 1)
    np.testing.assert_allclose(lego.photos[0].load().image[:5, :5], 1)
    fox = open_scene(shared_data("scenes/fox"), split="llff", views=6, downscale=4)
    assert (fox.train, fox.test, fox.cameras.size) == ((1, 5, 10, 13, 18, 22), (0, 8, 16), (270, 480))
    assert fox.photos[1].load().mask is None
