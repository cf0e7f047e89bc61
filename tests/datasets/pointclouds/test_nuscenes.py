"""nuScenes tables: a made-up drive past things whose places are known, a real key frame, and damaged tables."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.errors import InputError, SceneError
from datasets.geometry import project
from datasets.pointclouds.boxes import points_in_boxes
from datasets.pointclouds.nuscenes import ATTRIBUTES, CAMERAS, CLASSES, TABLES, NuScenesDataset
from datasets.pointclouds.nuscenes_splits import scenes_of
from datasets.pointclouds.types import Boxes3D
from detection.evaluation.nuscenes import RANGES
from detection.protocols import NuScenesProtocol
from tests.datasets.pointclouds.made_up_drive import LANDMARKS, LIDAR, ROOT_STEP, write_drive, write_tables


def quaternion(matrix: np.ndarray) -> list[float]:
    """(w, x, y, z) of a rotation that does not turn by half a turn."""
    w = np.sqrt(1 + np.trace(matrix)) / 2
    skew = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    return [w, *(skew / (4 * w))]


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return write_drive(tmp_path)


def test_landmarks_stay_where_they_are_in_every_sweep(drive) -> None:
    data = NuScenesDataset(drive, "v1.0-test", sweeps=5)
    assert [frame.token for frame in data.frames] == ["k0", "k1", "k2"]
    assert len(data[0]) == 4  # the drive begins there; the roof of the own car is left out
    sample, frame = data[2], data.frames[2]
    assert len(sample) == 6 * 4
    world = sample.points[:, :3].double().numpy() @ frame.to_global[:3, :3].T + frame.to_global[:3, 3]
    np.testing.assert_allclose(world.reshape(6, 4, 3), np.broadcast_to(LANDMARKS, (6, 4, 3)), atol=1e-4)
    np.testing.assert_allclose(sample.points[:, 4].reshape(6, 4)[:, 0], ROOT_STEP * np.arange(6), atol=1e-6)
    torch.testing.assert_close(sample.points[:, 3], torch.full((24,), 0.2))
    first = data[0].points[0, :3]  # from the sensor at (0.9, 0, 1.8): x forward, y left
    torch.testing.assert_close(first, torch.tensor([29.1, 5, -0.8]), atol=1e-4, rtol=1e-5)


def test_distances_count_from_the_car_and_not_from_its_lidar(drive) -> None:
    """A car that the LiDAR, .9 m ahead of the axle, sees at 29.1 m is at 30 m, and so beyond a limit of 29.5 m."""
    data = NuScenesDataset(drive, "v1.0-test")
    np.testing.assert_allclose(data.frames[0].origin, [-LIDAR["translation"][0], 0], atol=1e-6)
    for limit, counted in ((30.5, 100.0), (29.5, 0.0)):
        ranges = {**RANGES, "car": limit}
        frames = [replace(data[0], boxes=data[0].boxes[:1])]
        found = [replace(frames[0].boxes, scores=torch.ones(1))]
        score = NuScenesProtocol(ranges)(data, frames, found)
        assert score.values["mAP"] == pytest.approx(counted / len(CLASSES), abs=0.2)


def test_bicycles_in_racks_do_not_count(drive) -> None:
    data = NuScenesDataset(drive, "v1.0-test", ("bicycle", "pedestrian"))
    assert [len(frame.racks) for frame in data.frames] == [0, 1, 0]
    world = data.frames[1].to_global
    placed = world[:3, :3] @ data.frames[1].racks[0, :3].double().numpy() + world[:3, 3]
    np.testing.assert_allclose(placed, [20, -10, 0.5], atol=1e-4)
    along, across = (np.linalg.inv(world)[:3, :3] @ [np.cos(a), np.sin(a), 0] for a in (0.8, 0.8 + np.pi / 2))
    centre = data.frames[1].racks[0, :3].double().numpy()
    rows = [[*(centre + 1.9 * along), 1.7, 0.6, 1.2, 0], [*(centre + 1.9 * across), 1.7, 0.6, 1.2, 0]]
    boxes = Boxes3D(torch.tensor(rows).float(), torch.tensor([0, 0]), torch.tensor([0.9, 0.8]))
    frames = [replace(data[i], boxes=boxes[:0]) for i in range(3)]
    frames[1] = replace(frames[1], boxes=replace(boxes[1:], scores=None))
    values = [NuScenesProtocol()(data, frames, [boxes[:0], found, boxes[:0]]).values for found in (boxes, boxes[1:])]
    assert values[0] == values[1]  # that in the rack, though most certain, is no false alarm
    assert values[0]["mAP"] == pytest.approx(50)
    frames[1] = replace(frames[1], boxes=replace(boxes, scores=None))
    assert NuScenesProtocol()(data, frames, [boxes[:0], boxes[1:], boxes[:0]]).values["mAP"] == pytest.approx(50)


def test_boxes_and_velocities_in_our_axes(drive) -> None:
    data = NuScenesDataset(drive, "v1.0-test")
    start = data[0].boxes
    torch.testing.assert_close(start.boxes[0], torch.tensor([29.1, 5, -0.8, 4.5, 1.9, 1.6, 0.3]), atol=1e-4, rtol=0)
    torch.testing.assert_close(start.velocities[0], torch.tensor([4.0, 0]), atol=1e-4, rtol=0)
    middle = data[1].boxes
    assert [CLASSES[label] for label in middle.labels] == ["car", "pedestrian"]  # an animal is no class
    heading = 0.2 * 0.5
    expected = torch.tensor([4 * np.cos(heading), -4 * np.sin(heading)]).float()
    torch.testing.assert_close(middle.velocities[0], expected, atol=1e-4, rtol=0)
    assert middle.boxes[0, 6] == pytest.approx(0.3 - heading, abs=1e-5)
    assert middle.velocities[1].isnan().all()
    assert [ATTRIBUTES[i] if i >= 0 else None for i in middle.attributes] == ["vehicle.moving", None]
    assert middle.point_counts.tolist() == [4, 0]
    some = NuScenesDataset(drive, "v1.0-test", ("pedestrian", "car"), min_points=1)
    assert some[1].boxes.labels.tolist() == [1]


def test_a_sweep_without_a_finite_point_adds_none(drive) -> None:
    (drive / "sweeps" / "19.bin").write_bytes(np.full((5, 5), np.nan, "<f4").tobytes())
    with pytest.raises(SceneError, match=r"19\.bin: 5 of 5 points hold NaN"):
        NuScenesDataset(drive, "v1.0-test", sweeps=5)[2]
    with pytest.warns(UserWarning, match=r"19\.bin: 5 of 5 points"):
        assert len(NuScenesDataset(drive, "v1.0-test", sweeps=5, invalid_points="skip")[2]) == 5 * 4


def test_the_camera_sees_the_landmarks_where_geometry_says(drive) -> None:
    sample = NuScenesDataset(drive, "v1.0-test", sweeps=0)[0]
    pixels, depth = project(sample.points[:1, :3], sample.cameras)
    assert sample.cameras.size == (1600, 900)
    assert depth[0, 0] == pytest.approx(28.3, abs=1e-3)
    expected = torch.tensor([800.5 - 1000 * 5 / 28.3, 450.5 + 1000 * 0.5 / 28.3])
    torch.testing.assert_close(pixels[0, 0], expected, atol=1e-2, rtol=0)
    with pytest.raises(SceneError, match="no such file"):
        sample.photos[0].load()


def test_a_real_key_frame(shared_data, tmp_path) -> None:
    """The public sample is a summary of tables: the tables are made from it, with one pose for all sensors."""
    folder = shared_data("lidar/nuscenes_sample")
    info = json.loads((folder / "sample.json").read_text())
    (sample,), names = info["data_list"], {value: key for key, value in info["metainfo"]["categories"].items()}
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    to_world = np.array(sample["ego2global"])

    def row(matrix: np.ndarray) -> dict:
        return {"translation": matrix[:3, 3].tolist(), "rotation": quaternion(matrix[:3, :3])}

    sensors = {"LIDAR_TOP": (sample["lidar_points"]["lidar2ego"], sample["lidar_points"]["lidar_path"], [])}
    for name in CAMERAS:
        image = sample["images"][name]
        sensors[name] = (image["cam2ego"], image["img_path"], image["cam2img"])
    tables["ego_pose"] = [{"token": "e", **row(to_world)}]
    for name, (matrix, file, intrinsic) in sensors.items():
        tables["sensor"].append({"token": name, "channel": name})
        sensor = {"token": name, "sensor_token": name, "camera_intrinsic": intrinsic, **row(np.array(matrix))}
        tables["calibrated_sensor"].append(sensor)
        data = {"token": name, "calibrated_sensor_token": name, "ego_pose_token": "e", "sample_token": "k"}
        more = {"timestamp": 0, "is_key_frame": True, "filename": file, "width": 1600, "height": 900, "prev": ""}
        tables["sample_data"].append({**data, **more})
    lidar_to_world = to_world @ np.array(sample["lidar_points"]["lidar2ego"])
    tables["category"] = [{"token": str(i), "name": name} for i, name in enumerate(("vehicle.car", "animal"))]
    for i, one in enumerate(sample["instances"]):
        x, y, z, length, width, height, yaw = one["bbox_3d"]
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[:3, 3] = x, y, z
        kind = "0" if names.get(one["bbox_label"]) == "car" else "1"
        tables["instance"].append({"token": str(i), "category_token": kind})
        counts = {key: one[key] for key in ("num_lidar_pts", "num_radar_pts")}
        links = {"prev": "", "next": "", "sample_token": "k", "instance_token": str(i), "attribute_tokens": []}
        size = {"size": [width, length, height]}
        tables["sample_annotation"].append({"token": str(i), **links, **counts, **size, **row(lidar_to_world @ pose)})
    tables["sample"] = [{"token": "k", "timestamp": 0, "prev": "", "next": ""}]
    tables["scene"] = [{"token": "scene", "name": "scene-0061", "first_sample_token": "k"}]
    for file in folder.iterdir():
        shutil.copy(file, tmp_path / file.name)
    found = NuScenesDataset(write_tables(tmp_path, tables), "v1.0-test")[0]
    stated = [one["num_lidar_pts"] for one in sample["instances"] if names.get(one["bbox_label"]) == "car"]
    inside = points_in_boxes(found.points, found.boxes.boxes).sum(dim=1)
    assert len(inside) == len(stated) > 5
    assert (inside - torch.tensor(stated)).abs().max() <= 2
    assert len(found.photos) == 6
    assert found.photos[0].load().image.shape == (900, 1600, 3)
    _, depth = project(found.boxes.boxes[:, :3], found.cameras[0])
    assert ((depth[0] > 0) == (found.boxes.boxes[:, 0] > 0.8)).float().mean() > 0.9  # the front camera looks along +x


def test_scenes_and_versions_that_are_not_there(drive) -> None:
    with pytest.raises(SceneError, match=r"Choose version v1\.0-test"):
        NuScenesDataset(drive)
    with pytest.raises(SceneError, match="has no scene 'scene-0002'"):
        NuScenesDataset(drive, "v1.0-test", scenes=["scene-0002"])
    with pytest.raises(InputError, match="no class 'tram'"):
        NuScenesDataset(drive, "v1.0-test", ("tram",))
    assert len(NuScenesDataset(drive, "v1.0-test", scenes=["scene-0001"])) == 3


@pytest.mark.parametrize(("version", "held", "learned"), [("v1.0-trainval", 3, 1), ("v1.0-mini", 103, 553)])
def test_splits(drive, version: str, held: int, learned: int) -> None:
    (drive / "v1.0-test").rename(drive / version)
    scenes = drive / version / "scene.json"
    (row,) = json.loads(scenes.read_text())
    names = {"val": f"scene-{held:04}", "train": f"scene-{learned:04}"}
    scenes.write_text(json.dumps([{**row, "name": name, "token": name} for name in names.values()]))
    for split in ("train", "val"):
        alone = NuScenesDataset(drive, version, scenes=[names[split]])
        assert len(NuScenesDataset(drive, version, split=split)) == len(alone) == 3
    assert len(NuScenesDataset(drive, version)) == 6
    assert scenes_of("val", version, names.values()) == [names["val"]]
    assert scenes_of("train", version, names.values()) == [names["train"]]
    with pytest.raises(InputError, match="not both"):
        NuScenesDataset(drive, version, split="val", scenes=[names["val"]])
    with pytest.raises(InputError, match="no split 'test'"):
        NuScenesDataset(drive, version, split="test")


def test_the_benchmarks_validation_scenes() -> None:
    everything = [f"scene-{number:04}" for number in range(1, 1111)]
    held = scenes_of("val", "v1.0-trainval", everything)
    never_given = {37, 628, 631, 772, 773, 774, 776, 779, 801, 918, 964, 965, 970}
    assert len(held) - len(never_given) == 150
    assert never_given < {int(name[-4:]) for name in held}
    with pytest.raises(InputError, match=r"v1.0-test has no splits"):
        scenes_of("val", "v1.0-test", everything)
    with pytest.raises(InputError, match="'mine', which is no number"):
        scenes_of("val", "v1.0-mini", ["mine"])


def change(folder: Path, table: str, number: int, **values) -> None:
    path = folder / "v1.0-test" / f"{table}.json"
    rows = json.loads(path.read_text())
    rows[number].update(values)
    path.write_text(json.dumps(rows))


def test_damaged_tables_name_what_is_missing(drive) -> None:
    change(drive, "sample_annotation", 1, size=[1, -2, 1])
    with pytest.raises(SceneError, match=r"annotation a1 has size \[1, -2, 1\]"):
        NuScenesDataset(drive, "v1.0-test")
    with pytest.warns(UserWarning, match="1 of 3 frames are left out"):
        assert len(NuScenesDataset(drive, "v1.0-test", on_bad_frame="skip")) == 2
    change(drive, "sample_annotation", 1, size=[1, 2, 1], instance_token="nobody")
    with pytest.raises(SceneError, match=r"instance.json: has no row 'nobody'"):
        NuScenesDataset(drive, "v1.0-test")
    change(drive, "sample_annotation", 1, instance_token="i-car")
    change(drive, "sample_data", 0, filename="../elsewhere.bin")
    with pytest.raises(SceneError, match="leads out of"):
        NuScenesDataset(drive, "v1.0-test")
    change(drive, "sample_data", 0, filename="sweeps/absent.bin")
    with pytest.raises(SceneError, match=r"absent.bin: there is no such cloud"):
        NuScenesDataset(drive, "v1.0-test")
    change(drive, "sample_data", 0, filename="sweeps/0.bin")
    (drive / "sweeps" / "0.bin").write_bytes(bytes(30))
    with pytest.raises(SceneError, match=r"0\.bin: holds 30 bytes"):
        NuScenesDataset(drive, "v1.0-test")
    with pytest.warns(UserWarning, match="1 of 3 frames are left out"):
        assert len(NuScenesDataset(drive, "v1.0-test", on_bad_frame="skip")) == 2
    path = drive / "v1.0-test" / "sensor.json"
    for text in ("[{}]", "{", "[1]", "3"):
        path.write_text(text)
        with pytest.raises(SceneError, match=r"sensor.json: is no table"):
            NuScenesDataset(drive, "v1.0-test")
    path.unlink()
    with pytest.raises(SceneError, match=r"sensor.json: there is no such file"):
        NuScenesDataset(drive, "v1.0-test")
