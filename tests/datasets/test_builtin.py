"""The built-in scene: deterministic, exact in depth, consistent between views, and the same on disk."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.geometry import inside, project, unproject
from datasets.scenes import builtin, open_scene
from datasets.types import Scene
from recon3d.views import TrainingViews

SMALL = (120, 90)


@pytest.fixture(scope="module")
def still_life() -> Scene:
    return builtin.generate(SMALL)


def test_twelve_photos_and_eight_test_views(still_life: Scene) -> None:
    assert still_life.train == tuple(range(12))
    assert still_life.test == tuple(range(12, 20))
    assert still_life.cameras.size == SMALL
    centres = still_life.cameras.centres.numpy()
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 9 * np.eye(20)
    assert apart.min() > 0.01
    assert builtin.generate(SMALL, views=3).train == (0, 6, 11)
    for views, size in ((13, SMALL), (1, SMALL), (3, (15, 20))):
        with pytest.raises(ValueError, match=r"training views|photographed"):
            builtin.generate(size, views=views)


def test_a_photo_is_the_same_every_time_and_another_for_another_seed(still_life: Scene) -> None:
    first = still_life.photos[4].load()
    builtin.forget()
    again = pickle.loads(pickle.dumps(still_life.photos[4])).load()
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.depth, again.depth)
    other = builtin.generate(SMALL, seed=1).photos[4].load()
    assert np.abs(first.image - other.image).mean() > 0.02


def test_photos_are_sharp_full_photos(still_life: Scene) -> None:
    image = still_life.photos[6].load().image
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert 0.25 < image.mean() < 0.6
    assert image.std() > 0.15
    assert (image > 0.99).mean() < 0.05, "highlights are not blown out"
    steps = np.abs(np.diff(image, axis=1)).mean()
    assert steps > 0.03, "richly textured"


def test_depth_is_exact_where_the_surface_is_known(still_life: Scene) -> None:
    """The wall is the plane y = 0.95, the table's top z = 0: so what shows them, lies on them."""
    for index in (0, 12, 19):
        depth = still_life.photos[index].load().depth
        assert depth is not None
        assert (depth > 0).all()
        world = unproject(torch.from_numpy(depth).double(), still_life.cameras[index].to(dtype=torch.float64)).numpy()
        wall = (np.abs(world[..., 1] - 0.95) < 0.004) & (np.abs(world[..., 2] - 0.15) < 0.14)  # below the picture
        table = (np.abs(world[..., 2]) < 0.0008) & (world[..., 0] > 0.7) & (np.abs(world[..., 1]) < 0.4)
        assert wall.mean() > 0.05
        assert table.sum() > 50
        assert np.abs(world[wall][:, 1] - 0.95).max() < 2e-5
        assert np.abs(world[table][:, 2]).max() < 2e-5


def transfer(scene: Scene, a: int, b: int) -> tuple[np.ndarray, ...]:
    """For the pixels of a that b sees too: their places, and both colours."""
    first, second = scene.photos[a].load(), scene.photos[b].load()
    assert first.depth is not None
    assert second.depth is not None
    world = unproject(torch.from_numpy(first.depth), scene.cameras[a]).reshape(-1, 3)
    pixels, depth = project(world, scene.cameras[b])
    seen = inside(pixels, depth, scene.cameras[b])[0].numpy()
    column, row = pixels[0].long().numpy()[seen].T
    both = np.abs(depth[0].numpy()[seen] - second.depth[row, column]) < 0.01
    return world.numpy()[seen][both], first.image.reshape(-1, 3)[seen][both], second.image[row, column][both]


def test_views_agree_on_matt_surfaces_and_differ_on_the_mirror() -> None:
    scene = builtin.generate((240, 180))
    world, first, second = transfer(scene, 0, 11)
    assert len(world) > 10_000, "many pixels are seen by both ends of the arc"
    wall = np.abs(world[:, 1] - 0.95) < 0.01
    ball = np.linalg.norm(world - (-0.25, -0.09, 0.047), axis=1) < 0.043
    difference = np.abs(first - second).mean(axis=1)
    assert ball.sum() > 40
    assert np.median(difference[wall]) < 0.03
    assert np.median(difference[ball]) > 3 * np.median(difference[wall])


def test_the_views_have_parallax_and_occlusion(still_life: Scene) -> None:
    depth = still_life.photos[0].load().depth
    assert depth is not None
    world = unproject(torch.from_numpy(depth), still_life.cameras[0]).reshape(-1, 3)
    (here, _), (there, _) = (project(world, still_life.cameras[i]) for i in (0, 11))
    shift = (here - there)[0].norm(dim=1)
    assert shift.max() - shift.min() > 0.15 * SMALL[0]
    seen = len(transfer(still_life, 0, 11)[0])
    assert 0.5 < seen / len(world) < 0.95


def test_the_folder_holds_the_same_scene(still_life: Scene, tmp_path: Path) -> None:
    builtin.write(tmp_path, SMALL)
    scene = open_scene(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    names = [photo.path.name for photo in scene.photos]
    assert len(scene.train) == 12
    for index, photo in enumerate(still_life.photos):
        there = names.index(photo.path.name)
        assert (there in scene.train) == (index in still_life.train)
        torch.testing.assert_close(scene.cameras[there].world_to_camera, still_life.cameras[index].world_to_camera)
        torch.testing.assert_close(scene.cameras[there].intrinsics, still_life.cameras[index].intrinsics)
        if index in (0, 15):
            ours, theirs = photo.load(), scene.photos[there].load()
            np.testing.assert_array_equal(ours.image, theirs.image)
            np.testing.assert_array_equal(ours.depth, theirs.depth)


def test_opened_by_name() -> None:
    scene = open_scene("builtin", views=3, downscale=4)
    assert (scene.train, scene.test, scene.cameras.size) == ((0, 6, 11), tuple(range(12, 20)), SMALL)
    assert open_scene(Path("anything"), "builtin", train=[1, 2], test=[15], downscale=4).train == (1, 2)
    assert [len(view.image) for view in TrainingViews.load(scene).views] == [90] * 3
    for options, says in (
        ({"split": "llff"}, "has its own split"),
        ({"views": 13}, "13 training views were asked for, of 12"),
        ({"views": 1}, "1 training views"),
        ({"train": [0, 20], "test": []}, "does not fit a scene of 20 views"),
        ({"downscale": 40}, "cannot be photographed at 12x9"),
    ):
        with pytest.raises(InputError, match=says):
            open_scene("builtin", **options)
