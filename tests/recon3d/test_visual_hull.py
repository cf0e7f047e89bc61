"""What alpha channels say about where a surface can be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.scenes import open_scene
from datasets.types import Cameras, View
from recon3d import paths
from recon3d.initialisation.surfaces import complete_surfaces
from recon3d.priors.epipolar import Pair, pixel_centres
from recon3d.priors.epipolar_flow import EpipolarFlow
from recon3d.priors.fusion import Fusion
from recon3d.priors.multi_view_stereo import MultiViewStereo
from recon3d.priors.types import DepthEstimate
from recon3d.priors.visual_hull import STEPS, VisualHull
from recon3d.views import TrainingViews

WIDTH, HEIGHT, RADIUS = 96, 72, 1.0


def ball(angles: tuple[float, ...] = (-30, -8, 14, 60)) -> TrainingViews:
    """A textured ball of radius 1 at the origin, on white, with its depth, seen from a distance of 4."""
    spread = np.radians(angles)
    eyes = np.stack([4 * np.sin(spread), np.full(len(angles), -0.8), -4 * np.cos(spread)], axis=1)
    poses = np.stack([paths.look_at(eye, np.zeros(3), np.array([0.0, -1, 0])) for eye in eyes])
    intrinsics = torch.tensor([[110.0, 0, WIDTH / 2], [0, 110, HEIGHT / 2], [0, 0, 1]]).repeat(len(angles), 1, 1)
    sizes = torch.tensor([[WIDTH, HEIGHT]]).repeat(len(angles), 1)
    cameras = Cameras(torch.from_numpy(poses).float(), intrinsics, sizes)
    texture = cv2.GaussianBlur(np.random.default_rng(0).random((256, 512)).astype(np.float32), (0, 0), 1.5)
    texture = (texture - texture.min()) / np.ptp(texture)
    grid = np.concatenate([pixel_centres(WIDTH, HEIGHT), np.ones((HEIGHT, WIDTH, 1))], axis=-1)
    views = []
    for eye, pose in zip(eyes, poses, strict=True):
        rays = grid @ np.linalg.inv(intrinsics[0].numpy()).T @ pose[:3, :3]  # of z-depth 1
        square, half = (rays**2).sum(-1), rays @ eye
        root = half**2 - square * (eye @ eye - RADIUS**2)
        depth = np.where(root > 0, (-half - np.sqrt(np.maximum(root, 0))) / square, 0)
        points = eye + rays * depth[..., None]
        u, v = np.arctan2(points[..., 0], -points[..., 2]), np.arcsin(np.clip(points[..., 1], -1, 1))
        column, row = ((u / np.pi + 1) * 256).astype(np.float32), ((v / np.pi + 0.5) * 256).astype(np.float32)
        alpha = (root > 0).astype(np.float32)
        grey = np.where(alpha > 0, 0.9 * cv2.remap(texture, column, row, cv2.INTER_LINEAR), 1)
        views.append(View(np.repeat(grey[..., None], 3, 2).astype(np.float32), None, depth.astype(np.float32), alpha))
    return TrainingViews(cameras, tuple(views), background=(1.0, 1.0, 1.0))


def inverse_of(view: View) -> np.ndarray:
    assert view.depth is not None
    return np.where(view.depth > 0, 1 / np.where(view.depth > 0, view.depth, 1), 0)


def inside_slowly(views: TrainingViews, view: int, x: int, y: int, inverse_depth: float) -> bool:
    for other, photo in enumerate(views.views):
        pair = Pair.of(views.cameras, view, other)
        here = np.array([x + 0.5, y + 0.5])
        there, ratio = (here, 1) if other == view else pair.project(pair.far_points(here), np.array(inverse_depth))
        column, row = np.floor(there).astype(int)
        if ratio > 0 and 0 <= column < WIDTH and 0 <= row < HEIGHT and photo.alpha is not None:
            around = photo.alpha[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            if not around.any():
                return False
    return True


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3), st.floats(0.05, 2), st.integers(0, 1000))
def test_against_a_slow_version(view: int, inverse_depth: float, seed: int) -> None:
    views = ball()
    hull = VisualHull.of(views)
    assert hull is not None
    found = hull.contains(view, np.full((HEIGHT, WIDTH), inverse_depth))
    random = np.random.default_rng(seed)
    for x, y in zip(random.integers(0, WIDTH, 20), random.integers(0, HEIGHT, 20), strict=True):
        assert found[y, x] == inside_slowly(views, view, x, y, inverse_depth)


def test_surface_is_in_the_hull_and_what_floats_is_not() -> None:
    views = ball()
    hull = VisualHull.of(views)
    assert hull is not None
    for i, view in enumerate(views.views):
        truth = inverse_of(view)
        shown = truth > 0
        assert hull.contains(i, truth)[shown].all()
        assert not hull.contains(i, truth).any(where=~shown), "unknown depth is in no hull"
        assert hull.contains(i, 0.6 * truth)[shown].mean() < 0.5
        if i < 3:  # in front of the ball the last view, which stands aside, is seen by no other
            assert hull.contains(i, 1.6 * truth)[shown].mean() < 0.5


def test_nearest_depth_inside() -> None:
    views = ball()
    hull = VisualHull.of(views)
    assert hull is not None
    truth = inverse_of(views.views[0])
    limits = (0.1, 1.0)
    kept = hull.nearest(0, truth, limits)
    np.testing.assert_array_equal(kept, truth.astype(np.float32))
    start = np.full_like(truth, 0.5)
    moved = hull.nearest(0, start, limits)
    found = moved > 0
    assert found[truth > 0].all()
    assert hull.contains(0, moved)[found].all()
    step = (limits[1] - limits[0]) / STEPS
    on_the_way = found & (moved < start)
    assert on_the_way.sum() > 100
    assert hull.contains(0, moved + step)[on_the_way].mean() < 0.01, "the one before is outside"
    assert (moved >= truth - 2 * step)[truth > 0].all(), "the hull's front is no farther than the surface"


def test_off_where_no_background_is_known() -> None:
    views = ball()
    unknown = replace(views, views=tuple(replace(view, alpha=None) for view in views.views))
    opaque = replace(views, views=tuple(replace(v, alpha=np.ones((HEIGHT, WIDTH), np.float32)) for v in views.views))
    assert VisualHull.of(unknown) is None
    assert VisualHull.of(opaque) is None


def test_views_without_alpha_and_masked_pixels_speak_for_nothing() -> None:
    views = ball()
    first, *others = views.views
    some = replace(views, views=(first, *(replace(view, alpha=None) for view in others)))
    hull = VisualHull.of(some)
    assert hull is not None
    assert hull.contains(1, 0.3 * np.ones((HEIGHT, WIDTH))).any()
    masked = replace(some, views=(replace(first, mask=np.zeros((HEIGHT, WIDTH), bool)), *some.views[1:]))
    assert VisualHull.of(masked) is None


def test_priors_keep_to_the_hull() -> None:
    views = ball((-12, 0, 12))
    hull = VisualHull.of(views)
    assert hull is not None
    truths = [view.depth for view in views.views if view.depth is not None]
    for prior in (EpipolarFlow(), MultiViewStereo()):
        for i, estimate in enumerate(prior(views)):
            known = estimate.known
            assert known.sum() > 100
            assert hull.contains(i, np.where(known, 1 / np.maximum(estimate.depth, 1e-6), 0))[known].all()
    floating = [DepthEstimate((0.7 * t).astype(np.float32), (t > 0).astype(np.float32)) for t in truths]
    for i, estimate in enumerate(Fusion([MultiViewStereo()], least=0.01).fuse(views, [floating])):
        inside = hull.contains(i, np.where(floating[i].known, 1 / np.maximum(floating[i].depth, 1e-6), 0))
        assert not estimate.known[~inside].any()


def test_holes_are_filled_within_the_hull() -> None:
    views = ball()
    hull = VisualHull.of(views)
    assert hull is not None
    estimates = []
    for view in views.views:
        assert view.depth is not None
        depth = view.depth.copy()
        depth[:, 40:] = 0
        depth[30:40, 20:40] = 0
        estimates.append(DepthEstimate(depth, (depth > 0).astype(np.float32)))
    for i, surface in enumerate(complete_surfaces(views, estimates)):
        allowed = hull.contains(i, surface.inverse_depth)
        assert allowed[surface.counts].mean() > 0.99


def test_alpha_of_photos_on_disk(tmp_path: Path) -> None:
    views = ball()
    frames = []
    for i, view in enumerate(views.views):
        assert view.alpha is not None
        pixels = np.dstack([view.image, view.alpha])
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.rint(255 * pixels).astype(np.uint8))
        camera_to_world = views.cameras.camera_to_world[i].double().numpy() @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"{i}.png", "transform_matrix": camera_to_world.tolist()})
    common = {"fl_x": 110, "fl_y": 110, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    (tmp_path / "transforms.json").write_text(json.dumps({**common, "frames": frames}))
    scene = open_scene(tmp_path, train=[0, 1, 2], test=[3])
    loaded = TrainingViews.load(scene)
    for view, expected in zip(loaded.views, views.views, strict=False):
        assert expected.alpha is not None
        np.testing.assert_array_equal(view.alpha, expected.alpha)
    halved = TrainingViews.load(open_scene(tmp_path, train=[0, 1, 2], test=[3], downscale=2)).views[0].alpha
    assert halved is not None
    assert halved.shape == (HEIGHT // 2, WIDTH // 2)
    assert ((halved > 0) & (halved < 1)).any(), "a pixel that shows both is partly covered"


def test_white_parts_of_an_object_on_white_are_surface() -> None:
    views = ball()
    white = tuple(replace(view, image=np.ones_like(view.image)) for view in views.views)
    estimates = [DepthEstimate(v.depth, (v.depth > 0).astype(np.float32)) for v in views.views if v.depth is not None]
    for view, surface in zip(views.views, complete_surfaces(replace(views, views=white), estimates), strict=True):
        assert view.alpha is not None
        np.testing.assert_array_equal(surface.counts, view.alpha > 0)


def test_alpha_of_the_wrong_size() -> None:
    with pytest.raises(ValueError, match="alpha has shape"):
        View(np.zeros((5, 4, 3), np.float32), alpha=np.ones((3, 4), np.float32))
