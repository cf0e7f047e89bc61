"""The CPU's picture: kernels against a slow oracle, what hides what, and what layers draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.geometry import project
from datasets.pointclouds.types import Boxes3D
from datasets.scenes import open_scene
from datasets.types import Cameras, Photo, View
from tests.viewer.stand_ins import WallSplat
from viewer.drawing import BACKGROUND, draw, draw_with_depth
from viewer.layers import BoxesLayer, CamerasLayer, Cloud, Layer, PointsLayer, SplatLayer
from viewer.layers.splat import normals_image
from viewer.primitives import Dots, Panel, Primitive, Segments, Surroundings, thinned
from viewer.raster import NEAR, paint

RED, GREEN = np.array([[255, 0, 0]], np.uint8), np.array([[0, 255, 0]], np.uint8)


def painted(camera: Cameras, *primitives: Primitive) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth of primitives alone."""
    width, height = camera.size
    image, depth = np.zeros((height, width, 3), np.uint8), np.full((height, width), np.inf, np.float32)
    for primitive in primitives:
        paint(primitive, camera, image, depth)
    return image, depth


@pytest.mark.parametrize("size", [1, 3])
def test_dots_against_the_oracle(ahead: Cameras, size: int) -> None:
    random = np.random.default_rng(0)
    xyz = random.uniform([-3, -3, -2], [3, 3, 6], (400, 3)).astype(np.float32)
    xyz[7] = np.nan
    rgb = random.integers(1, 255, (400, 3), dtype=np.uint8)
    image, depth = painted(ahead, Dots(xyz, rgb, size))

    width, height = ahead.size
    expected, nearest = np.zeros_like(image), np.full_like(depth, np.inf)
    pixels, z = project(torch.from_numpy(xyz).double(), ahead.to(dtype=torch.float64))
    for (u, v), w, colour in zip(pixels[0].numpy(), z[0].numpy(), rgb, strict=True):
        if not w > NEAR:
            continue
        for y in range(height):
            for x in range(width):
                inside = -size / 2 < x + 0.5 - u <= size / 2 and -size / 2 < y + 0.5 - v <= size / 2
                if inside and w < nearest[y, x]:
                    nearest[y, x], expected[y, x] = w, colour
    assert (image != expected).any(axis=2).mean() < 0.002  # a dot that falls on a pixel's border
    seen = np.isfinite(depth) & np.isfinite(nearest)
    assert np.allclose(depth[seen], nearest[seen], rtol=1e-3)
    assert np.isfinite(depth).sum() > 100


def test_a_line_follows_the_projection_of_its_points(ahead: Cameras) -> None:
    ends = np.array([[[-1.0, -0.4, 2], [2, 1, 6]]], np.float32)
    image, depth = painted(ahead, Segments(ends, RED, 1))
    for share in np.linspace(0, 1, 50):
        point = torch.from_numpy(ends[0, 0] + share * (ends[0, 1] - ends[0, 0])).float()[None]
        pixels, z = project(point, ahead)
        x, y = (int(p) for p in pixels[0, 0])
        near = image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2, 0]
        assert near.max() == 255
        assert (
            np.abs(depth[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] - float(z)).min() < 0.25
        )  # a pixel spans this much


@pytest.mark.parametrize(
    ("ends", "seen"),
    [
        ([[0, 0, -5], [0, 0.2, 5]], True),  # from behind the camera
        ([[-1e6, 0.1, 3], [1e6, 0.1, 3]], True),  # far beyond the picture
        ([[-1, 0, -3], [1, 0, -3]], False),
        ([[50, 0, 3], [50, 9, 3]], False),
        ([[0, np.nan, 3], [0, 1, 3]], False),
        ([[0, np.inf, 3], [0, 1, 3]], False),
    ],
)
def test_lines_are_cut_at_the_picture(ahead: Cameras, ends: list, seen: bool) -> None:
    image, _ = painted(ahead, Segments(np.array([ends], np.float32), RED, 2))
    assert (image[..., 0] > 0).any() == seen


def test_a_panel_shows_its_picture_upright(ahead: Cameras) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:10, :15] = 255  # white at the top left
    corners = np.array([(-1, -0.7, 3), (1, -0.7, 3), (1, 0.7, 3), (-1, 0.7, 3)])
    image, depth = painted(ahead, Panel(corners, picture))
    pixels, _ = project(torch.tensor([[-0.5, -0.35, 3], [0.5, -0.35, 3], [-0.5, 0.35, 3]]), ahead)
    values = [image[int(y), int(x), 0] for x, y in pixels[0]]
    assert values == [255, 0, 0]
    assert np.allclose(depth[np.isfinite(depth)], 3, atol=1e-4)
    share = np.isfinite(depth).mean()
    focal = float(ahead.intrinsics[0, 0, 0])
    assert share == pytest.approx((2 * focal / 3) * (1.4 * focal / 3) / (64 * 48), rel=0.05)


def test_the_nearer_hides_the_farther(ahead: Cameras) -> None:
    corners = np.array([(-9.0, -9, 4), (9, -9, 4), (9, 9, 4), (-9, 9, 4)])
    panel = Panel(corners, np.full((4, 4, 3), 100, np.uint8))
    front, behind = np.array([[0, 0, 3]], np.float32), np.array([[0, 0, 5]], np.float32)
    for order in (
        (Dots(front, RED, 3), Dots(behind, GREEN, 5), panel),
        (panel, Dots(behind, GREEN, 5), Dots(front, RED, 3)),
    ):
        image, _ = painted(ahead, *order)
        assert image[24, 32].tolist() == [255, 0, 0]
        assert not (image == [0, 255, 0]).all(axis=2).any()


def points(xyz: list, **values: np.ndarray) -> PointsLayer:
    cloud = Cloud(np.array(xyz, np.float32), values=values)
    return PointsLayer("points", [lambda: cloud], np.array([0.0, 0, 1]))


def splat(**values: object) -> SplatLayer:
    return SplatLayer("splat", WallSplat(**values), lambda: None)  # type: ignore[arg-type]


def test_a_splat_hides_what_is_behind_it(ahead: Cameras) -> None:
    wall, layer = splat(), points([[0, 0, 3], [0.5, 0, 5]])
    layer.size = 4
    image = draw([wall, layer], ahead)
    assert image.shape == (48, 64, 3)
    assert image[5, 5].tolist() == [51, 153, 102]
    coloured = (np.abs(image.astype(int) - [51, 153, 102]).max(axis=2) > 30).nonzero()
    assert len(coloured[0]) > 0
    assert np.abs(coloured[1] - 32).max() <= 4  # only the dot in front
    wall.visible = False
    hidden = draw([wall, layer], ahead)
    assert hidden[5, 5].tolist() == list(BACKGROUND)
    assert (hidden[:, 36:] != BACKGROUND).any()  # now the dot behind too


def test_a_cloud_can_be_drawn_with_fewer_dots(ahead: Cameras) -> None:
    random = np.random.default_rng(0)
    layer = points(random.uniform([-1, -1, 3], [1, 1, 5], (4000, 3)).tolist(), score=np.ones(4000, np.float32))
    (whole,) = layer.primitives(0)
    assert isinstance(whole, Dots)
    few = thinned(whole, 1000)
    assert few.scores is not None
    assert len(few.xyz) == len(few.rgb) == len(few.scores) == 1000
    assert few.size == 2 * whole.size
    assert thinned(whole, 4000) is whole
    drawn = [np.isfinite(draw_with_depth([layer], ahead, most_dots=most)[1]).mean() for most in (None, 1000)]
    assert drawn[1] == pytest.approx(drawn[0], rel=0.1)  # as much is covered


def test_of_two_splats_the_nearer_is_seen(ahead: Cameras) -> None:
    image = draw([splat(z=5.0), splat(z=3.0, colour=(1, 0, 0)), splat(z=4.0)], ahead)
    assert image[3, 3].tolist() == [255, 0, 0]


def test_depth_and_normals_of_a_splat(ahead: Cameras) -> None:
    layer = splat()
    layer.show = "normals"
    assert np.abs(draw([layer], ahead)[10:-10, 10:-10].astype(int) - [128, 128, 255]).max() <= 1
    layer.show = "depth"
    assert (draw([layer], ahead) > 0).any()
    layer.show = "uncertainty"
    low, high = draw([layer], ahead)[[5, -5], 30].astype(int)
    assert low[2] > low[0]
    assert high[0] > high[2]
    x = (np.arange(64) + 0.5 - 32) / float(ahead.intrinsics[0, 0, 0])
    slope = np.tile(4 / (1 - x), (48, 1)).astype(np.float32)  # z = 4 + x: it faces right
    image = normals_image(slope, ahead, 64, 48)[24, 30].astype(float) / 255 * 2 - 1
    assert image == pytest.approx([0.7071, 0, 0.7071], abs=0.02)


def test_colours_of_points() -> None:
    layer = points([[0, 0, z] for z in range(100)], **{"class": np.arange(100) % 3, "score": np.linspace(0, 1, 100)})
    assert [s.name for s in layer.settings] == ["colour", "size", "score"]

    def dots() -> Dots:
        (one,) = layer.primitives(0)
        assert isinstance(one, Dots)
        return one

    assert (dots().rgb[0] == dots().rgb[3]).all()  # by class
    layer.colour = "height"
    low, high = dots().rgb[2].astype(int), dots().rgb[-3].astype(int)
    assert low[2] > low[0]
    assert high[0] > high[2]
    layer.score = 0.9
    assert len(dots().xyz) == 10


def test_boxes_have_edges_and_a_front(ahead: Cameras) -> None:
    boxes = Boxes3D(
        torch.tensor([[0.0, 0, 5, 4, 2, 1, 0], [0, 0, 9, 1, 1, 1, 1]]), torch.tensor([0, 1]), torch.tensor([0.9, 0.2])
    )
    layer = BoxesLayer("boxes", [boxes], ["Car", "Van"], score=0.5)
    (lines,) = layer.primitives(0)
    assert isinstance(lines, Segments)
    assert lines.ends.shape == (14, 2, 3)
    lengths = np.linalg.norm(lines.ends[:, 0] - lines.ends[:, 1], axis=1)
    assert sorted(np.round(lengths[:12], 5)) == [1] * 4 + [2] * 4 + [4] * 4
    assert np.allclose(lines.ends[12:, :, 0], 2)  # the cross stands at the front, +x
    assert np.allclose(lines.ends[12:].mean(axis=(0, 1)), [2, 0, 5])
    layer.score = 0.0
    assert len(layer.primitives(7)[0].ends) == 28  # type: ignore[union-attr]


def test_a_frustum_holds_its_photo_where_the_camera_sees_it(scene_folder: object, ahead: Cameras) -> None:
    scene = open_scene(str(scene_folder))
    layer = CamerasLayer("cameras", scene.cameras, scene.photos, 0.5)
    drawn = layer.primitives(0)
    panels = [one for one in drawn if isinstance(one, Panel)]
    assert len(panels) == 3
    pixels, depth = project(torch.from_numpy(panels[1].corners).float(), scene.cameras[1])
    assert np.allclose(pixels[0], [(0, 0), (64, 0), (64, 48), (0, 48)], atol=1e-3)
    assert np.allclose(depth, 0.5)
    assert panels[0].image[0, 0].tolist() == [255, 0, 0]
    layer.size = 2.0
    behind = Cameras(ahead.world_to_camera.clone(), ahead.intrinsics, ahead.sizes)
    behind.world_to_camera[0, 2, 3] = 3.0
    seen = {tuple(colour) for colour in draw([layer], behind).reshape(-1, 3).tolist()}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= seen


def test_frusta_tell_what_their_photos_were_for(scene_folder: object) -> None:
    scene = open_scene(str(scene_folder))
    drawn = CamerasLayer("c", scene.cameras, scene.photos, 0.5, test=[1], unused=[2]).primitives(0)
    assert len({tuple(one.rgb[0]) for one in drawn if isinstance(one, Segments)}) == 3


def test_a_photo_does_not_block_the_view_from_its_own_camera(scene_folder: object) -> None:
    scene = open_scene(str(scene_folder))
    layer = CamerasLayer("cameras", scene.cameras, scene.photos, 0.5)
    image = draw([splat(), layer], scene.cameras[1])
    assert not (image == [0, 255, 0]).all(axis=2).any()
    assert Surroundings(np.zeros(3), 1.0).hold(np.array([0.5, 0, 0]))
    assert not Surroundings(np.zeros(3), 1.0).hold(np.array([1.5, 0, 0]))


def test_thumbnails_are_small(ahead: Cameras) -> None:
    photo = Photo(None, lambda: View(np.ones((900, 1600, 3), np.float32)))  # type: ignore[arg-type]
    panels = [p for p in CamerasLayer("c", ahead, [photo], 1.0).primitives(0) if isinstance(p, Panel)]
    assert panels[0].image.shape == (216, 384, 3)


def test_every_layer_keeps_to_what_it_offers(ahead: Cameras) -> None:
    layers: list[Layer] = [points([[0, 0, 1]]), splat(), CamerasLayer("c", ahead, (), 1.0)]
    for layer in layers:
        for setting in layer.settings:
            assert hasattr(layer, setting.name)
        extent = layer.extent()
        assert extent is not None
        assert (extent[0] <= extent[1]).all()
