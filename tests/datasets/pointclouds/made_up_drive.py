"""A made-up drive in nuScenes' tables, past things whose places are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from datasets.pointclouds.nuscenes import RACK, TABLES, rotation

# The sensor looks along its y; its car looks along x.
LIDAR = {"translation": [0.9, 0, 1.8], "rotation": [2**-0.5, 0, 0, -(2**-0.5)]}
CAMERA = {"translation": [1.7, 0, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5]}
LANDMARKS = np.array([[30.0, 5, 1], [25, -8, 0.5], [40, 0, 2], [22, 3, 0]])
INTRINSICS = [[1000.0, 0, 800], [0, 1000, 450], [0, 0, 1]]
ROOT_STEP = 0.05  # seconds between sweeps


def transform(row: dict) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(row["rotation"]), row["translation"]
    return matrix


def write_tables(root: Path, tables: dict[str, list[dict]]) -> Path:
    (root / "v1.0-test").mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        (root / "v1.0-test" / f"{name}.json").write_text(json.dumps(tables[name]))
    return root


def write_drive(root: Path) -> Path:
    """Key frames at 0, 0.5 and 1 s, sweeps every 0.05 s; the car drives a bend at 10 m/s; a car ahead drives at 4."""
    (root / "sweeps").mkdir()
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    for name, row in (("LIDAR_TOP", LIDAR), ("CAM_FRONT", CAMERA)):
        tables["sensor"].append({"token": f"s-{name}", "channel": name})
        intrinsic = INTRINSICS if name == "CAM_FRONT" else []
        tables["calibrated_sensor"].append(
            {"token": f"c-{name}", "sensor_token": f"s-{name}", "camera_intrinsic": intrinsic, **row}
        )
    for i in range(21):
        seconds = i * ROOT_STEP
        yaw = 0.2 * seconds
        ego = {
            "translation": [10 * seconds, seconds**2, 0],
            "rotation": [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)],
        }
        tables["ego_pose"].append({"token": f"e{i}", **ego})
        from_world = np.linalg.inv(transform(ego) @ transform(LIDAR))
        seen = LANDMARKS @ from_world[:3, :3].T + from_world[:3, 3]
        own_roof = np.array([[0.3, -0.4, 0.1]])
        rows = np.column_stack([np.concatenate([seen, own_roof]), np.full((5, 1), 51), np.zeros((5, 1))])
        (root / "sweeps" / f"{i}.bin").write_bytes(rows.astype("<f4").tobytes())
        common = {"timestamp": int(seconds * 1e6), "ego_pose_token": f"e{i}", "sample_token": f"k{i // 10}"}
        common["is_key_frame"] = i % 10 == 0
        link = {"prev": f"d{i - 1}" if i else "", "next": f"d{i + 1}" if i < 20 else ""}
        lidar = {"token": f"d{i}", "calibrated_sensor_token": "c-LIDAR_TOP", "filename": f"sweeps/{i}.bin"}
        tables["sample_data"].append({**lidar, **common, **link})
        if i % 10 == 0:
            photo = {"token": f"p{i}", "calibrated_sensor_token": "c-CAM_FRONT", "filename": f"samples/{i}.jpg"}
            size = {"width": 1600, "height": 900, "prev": "", "next": ""}
            tables["sample_data"].append({**photo, **common, **size})
    tables["scene"] = [{"token": "scene", "name": "scene-0001", "first_sample_token": "k0"}]
    for k in range(3):
        times = {"timestamp": k * 500_000, "prev": f"k{k - 1}" if k else "", "next": f"k{k + 1}" if k < 2 else ""}
        tables["sample"].append({"token": f"k{k}", "scene_token": "scene", **times})
        links = {"prev": f"a{k - 1}" if k else "", "next": f"a{k + 1}" if k < 2 else ""}
        counts = {"num_lidar_pts": 3, "num_radar_pts": 1, "sample_token": f"k{k}"}
        moving = {"instance_token": "i-car", "attribute_tokens": ["t-moving"], "size": [1.9, 4.5, 1.6]}
        pose = {"translation": [30 + 2 * k, 5, 1], "rotation": [np.cos(0.15), 0, 0, np.sin(0.15)]}
        tables["sample_annotation"].append({"token": f"a{k}", **links, **counts, **moving, **pose})
    single = {"token": "b", "prev": "", "next": "", "sample_token": "k1", "num_lidar_pts": 0, "num_radar_pts": 0}
    person = {"instance_token": "i-child", "attribute_tokens": [], "size": [0.6, 0.5, 1.2]}
    place = {"translation": [20, 0, 0.6], "rotation": [1, 0, 0, 0]}
    tables["sample_annotation"] += [
        {**single, **person, **place},
        {**single, **person, **place, "token": "c", "instance_token": "i-dog"},
    ]
    rack = {"translation": [20, -10, 0.5], "rotation": [np.cos(0.4), 0, 0, np.sin(0.4)], "size": [1, 4, 1.2]}
    tables["sample_annotation"].append(
        {**single, **rack, "token": "d", "instance_token": "i-rack", "attribute_tokens": []}
    )
    things = {"car": "vehicle.car", "child": "human.pedestrian.child", "dog": "animal", "rack": RACK}
    for instance, category in things.items():
        tables["instance"].append({"token": f"i-{instance}", "category_token": f"g-{category}"})
        tables["category"].append({"token": f"g-{category}", "name": category})
    tables["attribute"] = [{"token": "t-moving", "name": "vehicle.moving"}]
    return write_tables(root, tables)
