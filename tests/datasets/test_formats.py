"""Every format read back as what was written: poses, intrinsics, order, pixels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.scenes import open_scene
from datasets.types import Scene


def expect_same(scene: Scene, truth, images: bool = True) -> None:
    np.testing.assert_allclose(scene.cameras.world_to_camera.numpy(), truth.poses, atol=1e-5)
    expected = np.broadcast_to(truth.intrinsics, (len(scene), 3, 3))
    np.testing.assert_allclose(scene.cameras.intrinsics.numpy(), expected, rtol=1e-6)
    assert scene.cameras.size == truth.size
    assert [photo.path.name for photo in scene.photos] == list(truth.names)
    if images:
        for photo, image in zip(scene.photos, truth.images, strict=True):
            np.testing.assert_allclose(photo.load().image, image / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["cameras_json", "transforms", "llff"])
def test_a_scene_is_read_as_it_was_written(truth, tmp_path: Path, kind: str) -> None:
    getattr(truth, f"write_{kind}")(tmp_path)
    expect_same(open_scene(tmp_path), truth)
    expect_same(open_scene(str(tmp_path), kind), truth)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=2, max_size=5),
    spread=st.floats(0.01, 100),
    kind=st.sampled_from(["cameras_json", "transforms", "llff"]),
)
def test_axes_survive_every_convention(truth, tmp_path_factory, turns, spread: float, kind: str) -> None:
    """A point in the world keeps its place in every camera, whatever axes the format uses."""
    poses = []
    for i, turn in enumerate(turns):
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(np.array(turn))[0]
        pose[:3, 3] = -pose[:3, :3] @ (spread * np.array([i, i * i, -i]))
        poses.append(pose)
    truth = type(truth)(
        np.stack(poses), truth.intrinsics, truth.size, truth.images[: len(poses)], truth.names[: len(poses)]
    )
    root = tmp_path_factory.mktemp("scene")
    getattr(truth, f"write_{kind}")(root)
    scene = open_scene(root)
    world = spread * np.array([0.3, -0.2, 1.7, 1.0])
    world[3] = 1
    read = scene.cameras.world_to_camera.double().numpy() @ world
    np.testing.assert_allclose(read, truth.poses @ world, atol=1e-5 * spread * 30)
    centres = np.linalg.inv(truth.poses)[:, :3, 3]
    np.testing.assert_allclose(scene.cameras.centres.numpy(), centres, atol=1e-5 * spread * 30)


def test_llff_uses_the_shipped_size_and_never_resizes_it(truth, tmp_path: Path) -> None:
    truth.write_llff(tmp_path)
    half = [cv2.resize(image, (20, 15), interpolation=cv2.INTER_NEAREST) for image in truth.images]
    (tmp_path / "images_2").mkdir()
    for name, image in zip(truth.names, half, strict=True):
        cv2.imwrite(str(tmp_path / "images_2" / name), image[:, :, ::-1])
    scene = open_scene(tmp_path, downscale=2)
    assert scene.photos[0].path.parent.name == "images_2"
    assert scene.cameras.intrinsics[0].tolist() == [[17.5, 0, 10], [0, 17.5, 7.5], [0, 0, 1]]
    np.testing.assert_allclose(scene.photos[3].load().image, half[3] / 255, atol=1e-6)
    assert scene.bounds is not None
    assert scene.bounds.tolist() == [[1.5, 9.5]] * 10


def test_llff_reduces_only_where_images_is_all_there_is(truth, tmp_path: Path) -> None:
    truth.write_llff(tmp_path)
    scene = open_scene(tmp_path, downscale=2)
    assert scene.cameras.size == (20, 15)
    expected = truth.images[0].reshape(15, 2, 20, 2, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(scene.photos[0].load().image, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["cameras_json", "transforms"])
def test_shipped_sizes_are_used_by_other_formats_too(truth, tmp_path: Path, kind: str) -> None:
    getattr(truth, f"write_{kind}")(tmp_path)
    (tmp_path / "images_4").mkdir()
    for name, image in zip(truth.names, truth.images, strict=True):
        small = cv2.resize(image, (10, 8), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / "images_4" / Path(name).with_suffix(".jpg")), small)
    scene = open_scene(tmp_path, downscale=4)  # 30 / 4 = 7.5 rounds up, as image tools do
    assert scene.cameras.size == (10, 8)
    assert scene.photos[0].load().image.shape == (8, 10, 3)
    np.testing.assert_allclose(scene.cameras.intrinsics[0, 1].numpy(), [0, 35 * 8 / 30, 15 * 8 / 30], rtol=1e-6)


@pytest.mark.parametrize("kind", ["cameras_json", "transforms"])
def test_shipped_sizes_may_be_rounded_down(truth, tmp_path: Path, kind: str) -> None:
    getattr(truth, f"write_{kind}")(tmp_path)
    (tmp_path / "images_4").mkdir()
    for name, image in zip(truth.names, truth.images, strict=True):
        cv2.imwrite(str(tmp_path / "images_4" / name), cv2.resize(image, (10, 7), interpolation=cv2.INTER_AREA))
    scene = open_scene(tmp_path, downscale=4)
    assert scene.cameras.size == (10, 7)
    assert scene.photos[9].load().image.shape == (7, 10, 3)
    np.testing.assert_allclose(scene.cameras.intrinsics[9, 1].numpy(), [0, 35 * 7 / 30, 15 * 7 / 30], rtol=1e-6)


def test_an_opaque_alpha_channel_is_no_cut_out(truth, tmp_path: Path) -> None:
    truth.write_cameras_json(tmp_path)
    for path, image in zip(sorted((tmp_path / "images").iterdir()), truth.images, strict=True):
        cv2.imwrite(str(path), np.dstack([image[:, :, ::-1], np.full(image.shape[:2], 255, np.uint8)]))
    scene = open_scene(tmp_path)
    assert scene.background is None
    np.testing.assert_allclose(scene.photos[2].load().image, truth.images[2] / 255, atol=1e-6)
    assert open_scene(tmp_path, background=(0.0, 0.0, 0.0)).background is None
    hidden = np.full(truth.images[0].shape[:2], 255, np.uint8)
    hidden[:3] = 0
    cv2.imwrite(str(tmp_path / "images" / "view_3.png"), np.dstack([truth.images[3][:, :, ::-1], hidden]))
    assert open_scene(tmp_path, train=[0, 1, 2], test=[3]).background is None
    assert open_scene(tmp_path, train=[0, 3], test=[1]).background == (1.0, 1.0, 1.0)


def test_whole_files_with_unusual_bytes_are_read(truth, tmp_path: Path) -> None:
    truth.write_cameras_json(tmp_path)
    path = tmp_path / "images" / "view_2.png"
    path.write_bytes(path.read_bytes() + b"\0" * 500)
    jpeg = cv2.imencode(".jpg", truth.images[3][:, :, ::-1])[1].tobytes()
    filled = jpeg[:2] + b"\xff\xff" + jpeg[2:]
    (tmp_path / "images" / "view_3.png").write_bytes(filled)
    photos = open_scene(tmp_path).photos
    np.testing.assert_allclose(photos[2].load().image, truth.images[2] / 255, atol=1e-6)
    assert np.abs(photos[3].load().image - truth.images[3] / 255).mean() < 0.1


def write_blender(root: Path, truth, angle: float) -> None:
    for part, names in (("train", truth.names[:6]), ("test", truth.names[6:])):
        (root / part).mkdir(parents=True)
        frames = []
        for name in names:
            index = truth.names.index(name)
            image = truth.images[index]
            alpha = np.zeros(image.shape[:2], np.uint8)
            alpha[:, 10:], alpha[:, 5:10] = 255, 51
            cv2.imwrite(str(root / part / f"r_{index}.png"), np.dstack([image[:, :, ::-1], alpha]))
            pose = np.linalg.inv(truth.poses[index]) @ np.diag([1.0, -1, -1, 1])
            frames.append({"file_path": f"./{part}/r_{index}", "transform_matrix": pose.tolist()})
        document = {"camera_angle_x": angle, "frames": frames}
        (root / f"transforms_{part}.json").write_text(json.dumps(document))


def test_blender_declares_its_split_and_is_composited(truth, tmp_path: Path) -> None:
    angle = 2 * np.arctan(20 / 35)
    write_blender(tmp_path, truth, angle)
    scene = open_scene(tmp_path)
    assert scene.train == (0, 1, 2, 3, 4, 5)
    assert scene.test == (6, 7, 8, 9)
    assert scene.background == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(scene.cameras.world_to_camera.numpy(), truth.poses, atol=1e-5)
    np.testing.assert_allclose(scene.cameras.intrinsics[0].numpy(), truth.intrinsics, rtol=1e-5)
    image, photo = scene.photos[2].load().image, truth.images[2] / 255
    np.testing.assert_allclose(image[:, :5], 1, atol=1e-6)
    np.testing.assert_allclose(image[:, 5:10], 0.2 * photo[:, 5:10] + 0.8, atol=1e-6)
    np.testing.assert_allclose(image[:, 10:], photo[:, 10:], atol=1e-6)
    black = open_scene(tmp_path, background=(0.0, 0.0, 0.0), views=2)
    assert black.train == (0, 5)
    assert black.background == (0.0, 0.0, 0.0)
    assert not black.photos[2].load().image[:, :5].any()


def test_intrinsics_may_differ_from_frame_to_frame(truth, tmp_path: Path) -> None:
    path = truth.write_transforms(tmp_path)
    document = json.loads(path.read_text())
    document["frames"][4] |= {"fl_x": 50.0, "fl_y": 51.0, "cx": 19.0, "cy": 14.0}
    path.write_text(json.dumps(document))
    scene = open_scene(tmp_path)
    assert scene.cameras.intrinsics[4].tolist() == [[50, 0, 19], [0, 51, 14], [0, 0, 1]]
    assert scene.cameras.intrinsics[5].tolist() == truth.intrinsics.tolist()


def test_depth_and_mask_arrive_with_the_photo(truth, tmp_path: Path) -> None:
    path = truth.write_cameras_json(tmp_path)
    document = json.loads(path.read_text())
    millimetres = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    cv2.imwrite(str(tmp_path / "d.png"), millimetres)
    np.save(tmp_path / "d.npy", millimetres.astype(np.float32) / 100)
    mask = np.zeros((30, 40), np.uint8)
    mask[:, :21] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    by_name = {frame["file"]: frame for frame in document["frames"]}
    by_name["images/view_0.png"] |= {"depth": "d.png", "mask": "m.png"}
    by_name["images/view_1.png"] |= {"depth": "d.npy"}
    path.write_text(json.dumps(document))
    scene = open_scene(tmp_path)
    first, second, third = (scene.photos[i].load() for i in range(3))
    assert first.depth is not None
    assert second.depth is not None
    assert first.mask is not None
    np.testing.assert_allclose(first.depth, millimetres / 1000, rtol=1e-6)
    np.testing.assert_allclose(second.depth, millimetres / 100, rtol=1e-6)
    assert first.mask.sum() == 30 * 21
    assert third.depth is None
    assert third.mask is None
    halved = open_scene(tmp_path, downscale=2).photos[0].load()
    assert halved.depth is not None
    assert halved.mask is not None
    assert halved.mask.sum() == 15 * 10  # the column that is half masked does not count
    assert set(halved.depth.ravel()) <= set(first.depth.ravel())  # chosen, never averaged


def test_depth_and_mask_fit_a_shipped_smaller_photo(truth, tmp_path: Path) -> None:
    path = truth.write_cameras_json(tmp_path)
    document = json.loads(path.read_text())
    depth = np.arange(1200, dtype=np.float32).reshape(30, 40) + 1
    np.save(tmp_path / "d.npy", depth)
    cv2.imwrite(str(tmp_path / "m.png"), np.repeat([[0, 255]], 20, axis=1).repeat(30, axis=0).astype(np.uint8))
    for frame in document["frames"]:
        frame |= {"depth": "d.npy", "mask": "m.png"}
    path.write_text(json.dumps(document))
    half = type(truth)(truth.poses, truth.intrinsics, (20, 15), tuple(i[::2, ::2] for i in truth.images), truth.names)
    half.write_images(tmp_path / "images_2")
    view = open_scene(tmp_path, downscale=2).photos[0].load()
    np.testing.assert_allclose(view.image, truth.images[0][::2, ::2] / 255, atol=1e-6)
    assert view.depth is not None
    assert view.mask is not None
    assert set(view.depth.ravel()) <= set(depth.ravel())
    assert view.mask[:, 10:].all()
    assert not view.mask[:, :10].any()


def test_a_declared_split_is_taken_and_can_be_overruled(truth, tmp_path: Path) -> None:
    path = truth.write_cameras_json(tmp_path)
    document = json.loads(path.read_text())
    for frame in document["frames"]:
        frame["split"] = "test" if frame["file"] == "images/view_3.png" else "train"
    path.write_text(json.dumps(document))
    assert open_scene(tmp_path).test == (3,)
    assert open_scene(tmp_path, views=3).train == (0, 5, 9)  # view 3 is not in the pool
    assert open_scene(tmp_path, split="llff", views=2).train == (1, 9)
    assert open_scene(tmp_path, split="every_nth", nth=3, views=2).test == (0, 3, 6, 9)
    chosen = open_scene(tmp_path, train=[7, 2], test=[])
    assert (chosen.train, chosen.test) == ((7, 2), ())


def test_a_scene_far_from_its_origin_is_brought_to_it(truth, tmp_path: Path) -> None:
    """Coordinates of a map (hundreds of kilometres) would not survive float32."""
    far = truth.poses.copy()
    offset = np.array([4.2e5, -5.1e6, 300.0])
    far[:, :3, 3] -= np.einsum("vij,j->vi", far[:, :3, :3], offset)
    type(truth)(far, truth.intrinsics, truth.size, truth.images, truth.names).write_cameras_json(tmp_path)
    scene = open_scene(tmp_path)
    centres = np.linalg.inv(far)[:, :3, 3]
    back = scene.cameras.centres.double().numpy() @ scene.scene_to_source[:3, :3].T + scene.scene_to_source[:3, 3]
    np.testing.assert_allclose(back, centres, atol=1e-5)
    np.testing.assert_allclose(scene.cameras.world_to_camera[:, :3, :3].numpy(), truth.poses[:, :3, :3], atol=1e-6)
