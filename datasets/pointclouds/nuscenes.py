"""The nuScenes tables, read without its devkit: key frames with sweeps, boxes with velocity, and six cameras.

nuScenes' LiDAR has x right, y forward, z up, which is turned here, and only here, into x forward, y left, z up.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.errors import InputError, SceneError
from datasets.pointclouds.clouds import Policy, check_bin_size, finite_points, read_bin, usable
from datasets.pointclouds.nuscenes_splits import Split, scenes_of
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from datasets.scenes.files import inside, read_bytes
from datasets.scenes.images import plain_photo
from datasets.types import Cameras, Photo

CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
"""The detection benchmark's ten classes."""

CATEGORIES = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "movable_object.barrier": "barrier",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
}
"""The tables' categories that belong to a class; all others belong to none."""

RACK = "static_object.bicycle_rack"

ATTRIBUTES = (
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)
"""What :attr:`Boxes3D.attributes` counts."""

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
TABLES = (
    *("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor"),
    *("sample_annotation", "instance", "category", "attribute"),
)
STORED = ("x", "y", "z", "intensity", "ring")
TURN = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # nuScenes' LiDAR axes to ours
LONGEST_STEP = 1.5  # seconds between two annotations that still give a velocity

Row = dict[str, Any]


@dataclass(frozen=True)
class NuScenesFrame:
    """What is known of a key frame before its files are opened.

    Attributes:
        token: of the sample.
        clouds: path, [4, 4] transform into the key frame's axes, and age in seconds, of the key frame's cloud and of
            the sweeps before it.
        boxes: in the key frame's axes.
        cameras, photos: what of CAMERAS the frame has.
        to_global: [4, 4] from our axes of the key frame to the world.
        origin: [2] where the car's own origin lies in the key frame's axes, from which the benchmark counts distances.
        racks: [R, 7] boxes of bicycle racks, in which the benchmark counts neither bicycles nor motorcycles.
    """

    token: str
    clouds: tuple[tuple[Path, np.ndarray, float], ...]
    boxes: Boxes3D
    cameras: Cameras | None
    photos: tuple[Photo, ...]
    to_global: np.ndarray
    origin: np.ndarray
    racks: Tensor


class NuScenesDataset:
    """Key frames of a nuScenes folder, in the order of scenes and time.

    Points have x, y, z, intensity in 0..1, and time: the age of the point's sweep in seconds. Velocities are those of
    the boxes over the ground.

    Args:
        root: the folder with samples, sweeps and the tables' folder.
        version: name of the tables' folder.
        class_names: classes to detect; labels count in this order.
        split: the benchmark's train or val scenes of v1.0-trainval or v1.0-mini, or None for all.
        scenes: names of the scenes to take ("scene-0001") instead of a split.
        sweeps: sweeps to add to each key frame, moved to where the sensor was then.
        min_points: LiDAR and radar points that a box must hold, as the tables state them.
        on_bad_frame, invalid_points: as in :class:`datasets.pointclouds.kitti.KittiDataset`.

    Raises:
        SceneError, InputError: naming the file, what was found, and the mend.
    """

    channels = ("x", "y", "z", "intensity", "time")

    def __init__(
        self,
        root: Path | str,
        version: str = "v1.0-trainval",
        class_names: Sequence[str] = CLASSES,
        *,
        split: Split | None = None,
        scenes: Sequence[str] | None = None,
        sweeps: int = 9,
        min_points: int = 0,
        on_bad_frame: Policy = "error",
        invalid_points: Policy = "error",
    ) -> None:
        if unknown := [name for name in class_names if name not in CLASSES]:
            raise InputError(f"nuScenes has no class {unknown[0]!r}: choose of {', '.join(CLASSES)}")
        if split is not None and scenes is not None:
            raise InputError(f"give the split ({split}) or the scenes of nuScenes, not both")
        self.root, self.class_names, self.sweeps = Path(root), tuple(class_names), sweeps
        self.invalid_points: Policy = invalid_points
        tables = _Tables(self.root, version)
        if split is not None:
            scenes = scenes_of(split, version, tables.scenes)
        load = partial(_frame, tables=tables, class_names=self.class_names, sweeps=sweeps, min_points=min_points)
        self.frames, self.skipped = usable(tables.samples_of(scenes), load, on_bad_frame)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> PointCloudSample:
        frame = self.frames[index]
        clouds = []
        for path, to_key, age in frame.clouds:
            stored = finite_points(path, read_bin(path, STORED), self.invalid_points)
            # The sensor's own car is in every sweep and would be smeared along its way.
            stored = stored[(np.abs(stored[:, :2]) >= 1).any(axis=1)]
            xyz = stored[:, :3].astype(np.float64) @ to_key[:3, :3].T + to_key[:3, 3]
            columns = [xyz, stored[:, 3:4] / 255, np.full((len(xyz), 1), age)]
            clouds.append(np.concatenate(columns, axis=1).astype(np.float32))
        return PointCloudSample(
            frame.token,
            torch.from_numpy(np.concatenate(clouds)),
            self.channels,
            self.class_names,
            frame.boxes,
            frame.cameras,
            frame.photos,
        )


class _Tables:
    """The tables by token, and what their lists of tokens leave out: data by sample, annotations by sample."""

    def __init__(self, root: Path, version: str) -> None:
        self.root, self.folder = root, root / version
        if not self.folder.is_dir():
            found = sorted(path.name for path in root.glob("v1.0-*"))
            mend = f"Choose version {', '.join(found)}" if found else "Give the folder that holds samples and v1.0-*"
            raise SceneError(self.folder, "there is no such folder of tables", mend)
        self.rows = {name: self._read(name) for name in TABLES}
        self.key_data: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in self.rows["sample_data"].values():
            if row["is_key_frame"]:
                self.key_data[row["sample_token"]][self.channel(row)] = row
        self.annotations: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows["sample_annotation"].values():
            self.annotations[row["sample_token"]].append(row)

    def _read(self, name: str) -> dict[str, Row]:
        path = self.folder / f"{name}.json"
        try:
            rows = json.loads(read_bytes(path))
            return {row["token"]: row for row in rows}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise SceneError(path, f"is no table ({error!r})", "Unpack the table again") from error

    def get(self, table: str, token: str) -> Row:
        """One row; SceneError where a table refers to a row that is not there."""
        if token not in self.rows[table]:
            raise SceneError(self.folder / f"{table}.json", f"has no row {token!r}", "Unpack the tables again")
        return self.rows[table][token]

    def channel(self, data: Row) -> str:
        """Name of the sensor that took ``data``."""
        sensor = self.get("calibrated_sensor", data["calibrated_sensor_token"])
        return str(self.get("sensor", sensor["sensor_token"])["channel"])

    @property
    def scenes(self) -> dict[str, Row]:
        """Scenes by name."""
        return {row["name"]: row for row in self.rows["scene"].values()}

    def samples_of(self, scenes: Sequence[str] | None) -> list[str]:
        """Tokens of the key frames of scenes by name."""
        rows = self.scenes
        if missing := [name for name in scenes or () if name not in rows]:
            found = f"has no scene {missing[0]!r} (it has {len(rows)})"
            raise SceneError(self.folder / "scene.json", found, "Give scenes of this version")
        tokens = []
        for name in sorted(rows) if scenes is None else scenes:
            token, seen = rows[name]["first_sample_token"], set()
            while token and token not in seen:
                seen.add(token)
                tokens.append(token)
                token = self.get("sample", token)["next"]
        return tokens

    def category(self, annotation: Row) -> str:
        """What the tables call an annotated thing."""
        instance = self.get("instance", annotation["instance_token"])
        return str(self.get("category", instance["category_token"])["name"])

    def sensor_to_global(self, data: Row) -> np.ndarray:
        """[4, 4] from the axes of the sensor that took ``data`` to the world."""
        sensor = self.get("calibrated_sensor", data["calibrated_sensor_token"])
        return pose(self.get("ego_pose", data["ego_pose_token"])) @ pose(sensor)

    def path(self, data: Row) -> Path:
        """File of ``data``, within the root."""
        return inside(self.root, data["filename"], self.folder / "sample_data.json")

    def velocity(self, annotation: Row) -> np.ndarray:
        """[3] in the world, from the annotations before and after; NaN where there is none or it is too far."""
        ends = [annotation[side] or annotation["token"] for side in ("prev", "next")]
        if ends[0] == ends[1]:
            return np.full(3, np.nan)
        first, last = (self.get("sample_annotation", token) for token in ends)
        times = [self.get("sample", row["sample_token"])["timestamp"] for row in (first, last)]
        seconds = (times[1] - times[0]) / 1e6
        limit = LONGEST_STEP * (2 if annotation["prev"] and annotation["next"] else 1)
        if not 0 < seconds <= limit:
            return np.full(3, np.nan)
        return (np.array(last["translation"]) - np.array(first["translation"])) / seconds


def pose(row: Row) -> np.ndarray:
    """[4, 4] of a row's translation and quaternion (w, x, y, z)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(row["rotation"])
    matrix[:3, 3] = row["translation"]
    return matrix


def rotation(quaternion: Sequence[float]) -> np.ndarray:
    """[3, 3] of a quaternion (w, x, y, z) of any length but 0."""
    w, x, y, z = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _frame(token: str, tables: _Tables, class_names: tuple[str, ...], sweeps: int, min_points: int) -> NuScenesFrame:
    data = tables.key_data[token]
    if "LIDAR_TOP" not in data:
        raise SceneError(tables.folder / "sample_data.json", f"has no LIDAR_TOP of sample {token}", "Unpack it again")
    key = data["LIDAR_TOP"]
    to_global = tables.sensor_to_global(key) @ TURN.T
    from_global = np.linalg.inv(to_global)
    clouds, row = [], key
    for _ in range(sweeps + 1):
        path = tables.path(row)
        if not path.is_file():
            raise SceneError(path, "there is no such cloud", "Unpack samples and sweeps, or ask for fewer sweeps")
        check_bin_size(path, path.stat().st_size, STORED)
        clouds.append((path, from_global @ tables.sensor_to_global(row), (key["timestamp"] - row["timestamp"]) / 1e6))
        if not row["prev"]:
            break
        row = tables.get("sample_data", row["prev"])
    seen = [data[name] for name in CAMERAS if name in data]
    photos = tuple(plain_photo(tables.path(row)) for row in seen)
    cameras = _cameras(tables, seen, to_global) if seen else None
    boxes = _boxes(tables, token, from_global, class_names, min_points)
    car = np.array([*tables.get("ego_pose", key["ego_pose_token"])["translation"], 1.0])
    racks = [_placed(row, from_global) for row in tables.annotations[token] if tables.category(row) == RACK]
    return NuScenesFrame(
        token, tuple(clouds), boxes, cameras, photos, to_global, (from_global @ car)[:2], _values(racks)
    )


def _cameras(tables: _Tables, rows: Sequence[Row], to_global: np.ndarray) -> Cameras:
    poses = [np.linalg.inv(tables.sensor_to_global(row)) @ to_global for row in rows]
    sensors = [tables.get("calibrated_sensor", row["calibrated_sensor_token"]) for row in rows]
    intrinsics = torch.tensor([sensor["camera_intrinsic"] for sensor in sensors])
    intrinsics[:, :2, 2] += 0.5  # nuScenes counts pixels' centres from 0
    sizes = torch.tensor([[row["width"], row["height"]] for row in rows])
    return Cameras(torch.from_numpy(np.stack(poses)).float(), intrinsics, sizes)


def _boxes(
    tables: _Tables, token: str, from_global: np.ndarray, class_names: tuple[str, ...], min_points: int
) -> Boxes3D:
    rows, labels, velocities, attributes, counts = [], [], [], [], []
    for row in tables.annotations[token]:
        name = CATEGORIES.get(tables.category(row))
        count = row["num_lidar_pts"] + row["num_radar_pts"]
        if name not in class_names or count < min_points:
            continue
        if min(row["size"]) <= 0:
            found = f"annotation {row['token']} has size {row['size']}"
            raise SceneError(tables.folder / "sample_annotation.json", found, "Sizes must be positive")
        rows.append(_placed(row, from_global))
        labels.append(class_names.index(name))
        velocities.append((from_global[:3, :3] @ tables.velocity(row))[:2])
        names = [tables.get("attribute", attribute)["name"] for attribute in row["attribute_tokens"]]
        attributes.append(ATTRIBUTES.index(names[0]) if names and names[0] in ATTRIBUTES else -1)
        counts.append(count)
    return Boxes3D(
        _values(rows),
        torch.tensor(labels, dtype=torch.int64),
        velocities=torch.from_numpy(np.array(velocities, np.float32).reshape(-1, 2)),
        attributes=torch.tensor(attributes, dtype=torch.int64),
        point_counts=torch.tensor(counts, dtype=torch.int64),
    )


def _placed(annotation: Row, from_global: np.ndarray) -> list[float]:
    """The box of an annotation in the key frame's axes."""
    width, length, height = annotation["size"]
    centre = from_global[:3, :3] @ annotation["translation"] + from_global[:3, 3]
    ahead = from_global[:3, :3] @ rotation(annotation["rotation"])[:, 0]
    return [*centre, length, width, height, np.arctan2(ahead[1], ahead[0])]


def _values(boxes: Sequence[Sequence[float]]) -> Tensor:
    """[M, 7] float32, yaws in [-pi, pi) after rounding too."""
    values = torch.from_numpy(np.array(boxes, np.float64).reshape(-1, 7)).float()
    values[:, 6] = torch.where(values[:, 6] >= torch.pi, -torch.pi, values[:, 6])
    return values
