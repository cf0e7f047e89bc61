"""Varying samples: what moves together stays together, nothing given is changed, and seeds decide."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from datasets.errors import InputError, SceneError
from datasets.geometry import project
from datasets.pointclouds.augmentation import Ahead, Augmented, Flip, Rotate, Scale, Tilt, Translate, flipped, moved
from datasets.pointclouds.boxes import in_box_axes, meet_bev, points_in_boxes
from datasets.pointclouds.object_paste import (
    OBJECTS,
    ObjectDatabase,
    Paste,
    cut_objects,
    fingerprint,
    has_objects,
    read_objects,
    write_objects,
)
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from datasets.types import Cameras

CLASSES = ("Car", "Cyclist")
POLAR = ("x", "y", "z", "doppler", "range", "azimuth", "elevation")


def random_boxes(draw: np.random.Generator, count: int) -> Boxes3D:
    """Boxes in cells of 10 m, so that they do not meet."""
    cells = draw.permutation(36)[:count]
    x, y = cells // 6 * 10 - 25 + draw.uniform(-1, 1, count), cells % 6 * 10 - 25 + draw.uniform(-1, 1, count)
    rest = draw.uniform([-1, 3, 1.5, 1.4, -3.14], [0, 5, 2, 2, 3.14], (count, 5))
    values = torch.from_numpy(np.column_stack([x, y, rest])).float()
    return Boxes3D(
        values,
        torch.from_numpy(draw.integers(0, 2, count)),
        velocities=torch.from_numpy(draw.normal(size=(count, 2))).float(),
    )


def filled(boxes: Boxes3D, draw: np.random.Generator, each: int = 20, channels: int = 4) -> torch.Tensor:
    """Points spread within the boxes, and as many outside of all."""
    unit = torch.from_numpy(draw.uniform(-0.49, 0.49, (len(boxes), each, 3))).float() * boxes.boxes[:, None, 3:6]
    cos, sin = boxes.boxes[:, 6:].cos(), boxes.boxes[:, 6:].sin()
    xyz = torch.stack(
        [unit[..., 0] * cos - unit[..., 1] * sin, unit[..., 0] * sin + unit[..., 1] * cos, unit[..., 2]], 2
    )
    inside = (xyz + boxes.boxes[:, None, :3]).reshape(-1, 3)
    outside = inside + torch.tensor([0, 0, 9.0])
    points = torch.cat([inside, outside])
    return torch.cat([points, torch.from_numpy(draw.random((len(points), channels - 3))).float()], dim=1)


def sample(seed: int = 0, count: int = 6, name: str = "a", polar: int = 0) -> PointCloudSample:
    draw = np.random.default_rng(seed)
    boxes = random_boxes(draw, count)
    pose = torch.tensor([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]])
    intrinsics = torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    cameras = Cameras(pose[None], intrinsics[None], torch.tensor([[640, 480]]))
    points = filled(boxes, draw, channels=7 if polar else 4)
    channels = POLAR if polar else ("x", "y", "z", "intensity")
    if polar:
        x, y, z = points[:, :3].T
        points[:, 4] = points[:, :3].norm(dim=1)
        points[:, 5] = polar * torch.rad2deg(torch.atan2(y, x))
        points[:, 6] = polar * torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))
    return PointCloudSample(name, points, channels, CLASSES, boxes, cameras)


def test_a_tilted_sensor_sees_the_same_things_from_a_slope() -> None:
    before = sample(3, polar=1)
    heights = []
    for seed in range(200):
        after = Tilt(1.5)(before, np.random.default_rng(seed))
        torch.testing.assert_close(after.points[:, :3].norm(dim=1), before.points[:, :3].norm(dim=1))
        torch.testing.assert_close(after.points[:, 4], after.points[:, :3].norm(dim=1))
        (there, depth), (here, same_depth) = (project(each.points[:, :3], each.cameras) for each in (before, after))
        torch.testing.assert_close(depth, same_depth, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(there[depth > 1], here[depth > 1], atol=0.05, rtol=1e-3)
        torch.testing.assert_close(after.boxes.boxes[:, 3:], before.boxes.boxes[:, 3:])
        # A box moves with its points, as far as it can without leaning.
        nearness = in_box_axes(after.points, after.boxes.boxes) - in_box_axes(before.points, before.boxes.boxes)
        inside = points_in_boxes(before.points, before.boxes.boxes)
        assert nearness[inside].abs().max() < 0.35
        heights.append(after.boxes.boxes[:, 2] - before.boxes.boxes[:, 2])
    away = torch.stack(heights).std(dim=0) / before.boxes.boxes[:, :2].norm(dim=1)
    torch.testing.assert_close(away, torch.full((6,), math.radians(1.5)), rtol=0.2, atol=0)


@pytest.mark.parametrize("angle", [20, 90, 180, 360])
def test_ahead_keeps_what_a_camera_would_see(angle) -> None:
    """Points by their angle, boxes by the points that they keep, however small the part of them."""
    for seed in range(20):
        before = sample(seed)
        before = replace(before, boxes=replace(before.boxes, point_counts=torch.full((6,), 20)))
        after = Ahead(angle, least=5)(before, np.random.default_rng(0))
        kept = [math.degrees(abs(math.atan2(y, x))) <= angle / 2 for x, y in before.points[:, :2].tolist()]
        assert torch.equal(after.points, before.points[torch.tensor(kept)])
        held = [int(points_in_boxes(after.points, box[None]).sum()) for box in before.boxes.boxes]
        assert torch.equal(after.boxes.boxes, before.boxes.boxes[torch.tensor([count >= 5 for count in held])])
        assert after.boxes.point_counts.tolist() == [count for count in held if count >= 5]
        assert len(before.points) == 240
        if angle == 360:
            assert len(after.boxes) == 6
    bare = replace(before, boxes=None, points=before.points[:0])
    assert Ahead()(bare, np.random.default_rng(0)).boxes is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(-4, 4), st.floats(0.5, 2), st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_points_keep_their_place_in_boxes_and_photos(seed, angle, scale, offset) -> None:
    before = sample(seed)
    after = moved(before, angle, scale, offset)
    torch.testing.assert_close(
        in_box_axes(after.points, after.boxes.boxes),
        in_box_axes(before.points, before.boxes.boxes) * scale,
        atol=2e-4,
        rtol=1e-4,
    )
    torch.testing.assert_close(after.boxes.boxes[:, 3:6], before.boxes.boxes[:, 3:6] * scale)
    ahead = project(before.points[:, :3], before.cameras)[1][0] > 1
    pixels, expected = (project(one.points[:, :3], one.cameras)[0][0][ahead] for one in (after, before))
    torch.testing.assert_close(pixels, expected, atol=0.5, rtol=1e-3)
    speed = before.boxes.velocities.norm(dim=1) * scale
    torch.testing.assert_close(after.boxes.velocities.norm(dim=1), speed)
    torch.testing.assert_close(after.points[:, 3], before.points[:, 3])


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_sample_is_the_mirror_image(axis) -> None:
    before = sample(3)
    after = flipped(before, axis)
    seen, mirrored = (in_box_axes(one.points, one.boxes.boxes) for one in (before, after))
    mirrored[..., 1] *= -1  # left and right of each object change sides
    torch.testing.assert_close(mirrored, seen, atol=1e-4, rtol=0)
    heading, other = (
        torch.stack([one.boxes.boxes[:, 6].cos(), one.boxes.boxes[:, 6].sin()], 1) for one in (before, after)
    )
    heading[:, axis] *= -1
    torch.testing.assert_close(other, heading, atol=1e-5, rtol=0)
    assert after.cameras is None
    twice = flipped(after, axis)
    torch.testing.assert_close(twice.points, before.points)
    torch.testing.assert_close(twice.boxes.velocities, before.boxes.velocities)


@pytest.mark.parametrize("polar", [1, -1])
def test_polar_channels_follow(polar) -> None:
    before = sample(2, polar=polar)
    for after in (flipped(before, 1), moved(before, 0.7, 1.1, (1, 2, 0.3))):
        x, y, z = after.points[:, :3].T
        torch.testing.assert_close(after.points[:, 4], after.points[:, :3].norm(dim=1))
        torch.testing.assert_close(after.points[:, 5], polar * torch.rad2deg(torch.atan2(y, x)))
        torch.testing.assert_close(after.points[:, 6], polar * torch.rad2deg(torch.atan2(z, torch.hypot(x, y))))
        torch.testing.assert_close(after.points[:, 3], before.points[:, 3])


def test_steps_stay_within_their_limits_and_leave_the_given_sample_alone() -> None:
    before = sample()
    points, boxes = before.points.clone(), before.boxes.boxes.clone()
    random = np.random.default_rng(0)
    for _ in range(20):
        turned = Rotate(10)(before, random)
        turn = (turned.boxes.boxes[:, 6] - boxes[:, 6] + math.pi) % (2 * math.pi) - math.pi
        assert turn.abs().max() <= math.radians(10) + 1e-5
        assert turn.std() < 1e-5
        factor = Scale(0.9, 1.1)(before, random).boxes.boxes[0, 3] / boxes[0, 3]
        assert 0.9 <= factor <= 1.1
        shift = Translate(0.5, 0, 0)(before, random).boxes.boxes[:, :3] - boxes[:, :3]
        assert shift[:, 1:].abs().max() == 0
    assert Flip(0)(before, random) is before
    torch.testing.assert_close(Flip(1)(before, random).points[:, 1], -points[:, 1])
    both = Flip(1, lengthwise=True)(before, random)
    torch.testing.assert_close(both.points[:, :2], -points[:, :2])
    assert torch.equal(before.points, points)
    assert torch.equal(before.boxes.boxes, boxes)
    bare = replace(before, boxes=None, cameras=None)
    assert Rotate()(Flip(1)(bare, random), random).boxes is None


def test_seed_epoch_and_number_decide() -> None:
    steps = [Flip(), Rotate(), Scale(), Translate()]
    samples = [sample(0), sample(0)]
    one, same, other = (Augmented(samples, steps, epochs=3, seed=seed) for seed in (1, 1, 2))
    assert len(one) == 2
    assert torch.equal(one[0].points, same[0].points)
    assert not torch.equal(one[0].points, one[1].points)
    assert not torch.equal(one[0].points, other[0].points)
    first = one[0].points
    one.set_epoch(1)
    assert not torch.equal(one[0].points, first)
    one.set_epoch(0)
    assert torch.equal(one[0].points, first)


def test_loading_processes_hear_of_the_epoch() -> None:
    augmented = Augmented([sample(0)], [Rotate()], epochs=2)
    loader = torch.utils.data.DataLoader(
        augmented, num_workers=1, persistent_workers=True, collate_fn=lambda found: found[0]
    )
    (first,) = loader
    augmented.set_epoch(1)
    (second,) = loader
    assert torch.equal(second.points, augmented[0].points)
    assert not torch.equal(first.points, second.points)


def test_fading_ends_before_the_last_epoch() -> None:
    calls = []

    def step(given, random):
        calls.append(1)
        return given

    augmented = Augmented([sample()] * 50, [], fading=[step], epochs=10, fade=(0.5, 1.0))
    counts = []
    for epoch in range(10):
        augmented.set_epoch(epoch)
        calls.clear()
        for i in range(50):
            augmented[i]
        counts.append(len(calls))
    assert counts[:5] == [50] * 5
    assert counts[-1] == 0
    assert counts[9] <= counts[7] < counts[4]
    assert augmented.strength(7) == pytest.approx(0.4)
    assert Augmented([], [], epochs=4, fade=(0.5, 0.5)).strength(1) == 1
    with pytest.raises(ValueError, match="two rising shares"):
        Augmented([], [], fade=(0.9, 0.5))


def test_footprints_that_meet() -> None:
    box = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0]])
    others = torch.tensor(
        [[4.0, 0, 0, 4, 2, 1, 0], [3.99, 0, 0, 4, 2, 1, 0], [3.2, 0, 9, 4, 2, 1, 1.5708], [2.9, 2.0, 0, 2, 2, 1, 0.785]]
    )
    assert meet_bev(box, others).tolist() == [[False, True, False, False]]
    assert meet_bev(box[:0], others).shape == (0, 4)


def test_meeting_agrees_with_drawn_points() -> None:
    draw = np.random.default_rng(0)
    values = torch.from_numpy(draw.uniform([-4, -4, 0, 1, 1, 1, -3], [4, 4, 0.1, 5, 3, 2, 3], (60, 7))).float()
    values[:, 2] = 0
    grid = torch.stack(torch.meshgrid(torch.arange(-8, 8, 0.05), torch.arange(-8, 8, 0.05), indexing="ij"), -1)
    points = torch.cat([grid.reshape(-1, 2), torch.zeros(grid.numel() // 2, 1)], 1)
    inside = points_in_boxes(points, values).float()
    shared = inside @ inside.T
    meets = meet_bev(values, values)
    assert meets[shared > 0].all()
    assert (shared[~meets] == 0).all()
    assert (meets & (shared == 0)).float().mean() < 0.03  # they meet in less than the grid resolves


def database(count: int = 40) -> ObjectDatabase:
    return cut_objects([sample(seed, 8) for seed in range(1, count // 8 + 1)])


def test_objects_are_cut_with_exactly_their_points() -> None:
    found = database()
    assert len(found) == 40
    for i in range(40):
        assert len(found.points_of(i)) == 20
        assert points_in_boxes(found.points_of(i), found.boxes.boxes[i : i + 1]).all()
    with pytest.raises(InputError, match="no annotated object holds 99 points"):
        cut_objects([sample()], min_points=99)


def test_a_database_is_read_as_written_and_damage_is_named(tmp_path) -> None:
    found, folder = database(), tmp_path / "objects"
    write_objects(found, folder, "source")
    assert [path.name for path in folder.iterdir()] == [OBJECTS]
    back = read_objects(folder, "source")
    assert torch.equal(back.points, found.points)
    assert torch.equal(back.boxes.velocities, found.boxes.velocities)
    assert (back.class_names, back.channels) == (found.class_names, found.channels)
    with pytest.raises(SceneError, match=r"other data \(classes Car, Cyclist; channels x, y, z, intensity\)"):
        read_objects(folder, "another source")
    path = folder / OBJECTS
    whole, tensors = path.read_bytes(), load_file(path)
    about = {"about": json.dumps({"class_names": CLASSES, "channels": found.channels, "source": "source"})}
    path.write_bytes(whole[:-100])
    with pytest.raises(SceneError, match="cannot be read"):
        read_objects(folder, "source")
    for name, value in (
        ("starts", tensors["starts"] + 1),
        ("points", tensors["points"][:, :3]),
        ("points", tensors["points"] * torch.nan),
        ("labels", tensors["labels"] + 5),
    ):
        save_file({**tensors, name: value.contiguous()}, path, about)
        with pytest.raises(SceneError, match="do not fit one another"):
            read_objects(folder, "source")
    save_file({key: value for key, value in tensors.items() if key != "labels"}, path, about)
    with pytest.raises(SceneError, match="does not describe its objects"):
        read_objects(folder, "source")
    for other in (None, {"about": "[1]"}, {"about": "{"}):
        save_file(tensors, path, other)
        with pytest.raises(SceneError, match="does not describe its objects"):
            read_objects(folder, "source")
    with pytest.raises(SceneError, match="cannot be read"):
        read_objects(tmp_path, "source")


def test_writing_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch) -> None:
    def interrupted(tensors, path, metadata) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("datasets.pointclouds.object_paste.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_objects(database(), tmp_path, "source")
    assert not has_objects(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_tells_data_apart() -> None:
    frames = [sample(seed) for seed in range(40)]
    same, looked_at = fingerprint([sample(seed) for seed in range(40)]), set()

    class Watched(list):
        def __getitem__(self, index):
            looked_at.add(index)
            return super().__getitem__(index)

    assert fingerprint(Watched(frames)) == same
    assert len(looked_at) == 16
    assert {0, 39} <= looked_at
    first = frames[0]
    turned = replace(first.boxes, boxes=first.boxes.boxes + 0.001)
    for other in (
        replace(first, frame="b"),
        replace(first, class_names=CLASSES[::-1]),
        replace(first, channels=("x", "y", "z", "power")),
        replace(first, points=first.points[1:]),
        replace(first, points=first.points * torch.tensor([1, 1, 1, 255])),
        replace(first, boxes=first.boxes[1:]),
        replace(first, boxes=turned),
        replace(first, boxes=replace(first.boxes, labels=1 - first.boxes.labels)),
        replace(first, boxes=replace(first.boxes, velocities=first.boxes.velocities + 1)),
        replace(first, boxes=replace(first.boxes, velocities=None)),
    ):
        assert fingerprint([other, *frames[1:]]) != same
    assert fingerprint(frames[:-1]) != same
    assert fingerprint(frames[::-1]) != same
    assert fingerprint(frames, min_points=6) != same


def test_pasted_objects_bring_their_points_and_meet_nothing() -> None:
    before, paste = sample(0, 3), Paste(database(), {"Car": 10, "Cyclist": 4})
    after = paste(before, np.random.default_rng(0))
    counts = after.boxes.labels.bincount(minlength=2)
    assert len(after.boxes) > 3
    assert counts[0] <= 10
    assert counts[1] <= 4
    torch.testing.assert_close(after.boxes.boxes[:3], before.boxes.boxes)
    meets = meet_bev(after.boxes.boxes, after.boxes.boxes)
    assert (meets == torch.eye(len(meets), dtype=torch.bool)).all()
    assert points_in_boxes(after.points, after.boxes.boxes[3:]).sum(dim=1).tolist() == [20] * (len(after.boxes) - 3)
    assert len(after.boxes.velocities) == len(after.boxes)
    assert torch.equal(after.points, paste(before, np.random.default_rng(0)).points)
    assert Paste(database(), {"Car": 0})(before, np.random.default_rng(0)) is before


def test_points_behind_a_pasted_object_go() -> None:
    found = database()
    spot = found.boxes.boxes[0, :3]
    scene = replace(sample(0, 0), points=torch.cat([spot, torch.tensor([0.5])])[None], boxes=Boxes3D.empty())
    alone = replace(found, boxes=found.boxes[:1], starts=found.starts[:2], points=found.points[: found.starts[1]])
    after = Paste(alone, {CLASSES[int(alone.boxes.labels[0])]: 1})(scene, np.random.default_rng(0))
    assert len(after.boxes) == 1
    assert len(after.points) == 20


def test_pasting_what_does_not_fit_says_so() -> None:
    with pytest.raises(InputError, match="no class 'Lorry', only Car, Cyclist"):
        Paste(database(), {"Lorry": 1})
    paste, random = Paste(database(), {"Car": 1}), np.random.default_rng(0)
    with pytest.raises(InputError, match="Build the database again"):
        paste(replace(sample(), class_names=("Cyclist", "Car")), random)
    with pytest.raises(InputError, match="no annotation"):
        paste(replace(sample(), boxes=None), random)
