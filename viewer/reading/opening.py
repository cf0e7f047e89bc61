"""Opening any number of paths into one set of layers that share a world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from datasets.errors import InputError, SceneError
from datasets.geometry import up_direction
from datasets.pointclouds.formats import SUFFIXES
from datasets.scenes import open_scene
from datasets.scenes.files import read_json
from datasets.types import Scene
from viewer.accepted import ACCEPTED
from viewer.layers import BoxesLayer, CamerasLayer, Cloud, Layer, PointsLayer, SplatLayer
from viewer.primitives import joined
from viewer.reading.boxes import BoxFile, is_box_json, read_json_boxes, read_kitti_boxes
from viewer.reading.clouds import read_cloud
from viewer.reading.world import World
from viewer.splats import ShownSplat, SplatOpener, open_splat

_Z_UP, _Y_DOWN = np.array([0.0, 0, 1]), np.array([0.0, -1, 0])
SCENE_FILES = ("cameras.json", "transforms.json", "transforms_train.json")


@dataclass
class Contents:
    """What was opened.

    Attributes:
        layers: in the order of the paths; their names differ.
        frame_names: of the longest sequence, "" for each where it has none.
        up: [3] which way is up.
        scene_to_source: [4, 4] similarity from the world that is shown to that of the photos' files.
    """

    layers: list[Layer] = field(default_factory=list)
    frame_names: tuple[str, ...] = ("",)
    up: np.ndarray = field(default_factory=lambda: _Y_DOWN)
    scene_to_source: np.ndarray = field(default_factory=lambda: np.eye(4))

    @property
    def frames(self) -> int:
        """Moments of the longest layer."""
        return max((layer.frames for layer in self.layers), default=1)

    @property
    def cameras(self) -> CamerasLayer | None:
        """The first layer of cameras, whose photos ``photo:N`` counts."""
        return next((layer for layer in self.layers if isinstance(layer, CamerasLayer)), None)

    def extent(self) -> np.ndarray:
        """[2, 3] lowest and highest corner of all layers; a unit cube where nothing has an extent."""
        whole = joined([layer.extent() for layer in self.layers])
        return np.array([[-1.0] * 3, [1.0] * 3]) if whole is None else whole


def open_all(
    paths: Sequence[Path], openers: list[SplatOpener], *, columns: int | None = None, score: float = 0.0
) -> Contents:
    """Layers for every path.

    Boxes whose frames have the names of the clouds' frames are shown with those, else in the order that they have.
    Where something far from its origin is opened, all is moved by the same offset.

    Args:
        paths: see :data:`viewer.accepted.ACCEPTED`.
        openers: who can open splats, see :mod:`viewer.splats`.
        columns: floats a point in .bin files; None to see it from the files.
        score: what has a lower score begins hidden.

    Raises:
        InputError: naming the path, what was found, and the mend.
    """
    splats = {path: splat for path in paths if (splat := open_splat(path, openers)) is not None}
    opening = _Opening(openers, columns, score, splats)
    for splat in splats.values():  # before all clouds: Gaussians stay where they are
        opening.decide(splat.scene_to_source)
    for path in paths:
        for layer in opening.open(path):
            taken = {one.name for one in opening.layers}
            name, number = layer.name, 1
            while layer.name in taken:
                number += 1
                layer.name = f"{name} {number}"
            opening.layers.append(layer)
    return opening.contents()


@dataclass
class _Opening:
    """What has been opened so far, and what all of it shares."""

    openers: list[SplatOpener]
    columns: int | None
    score: float
    splats: dict[Path, ShownSplat]
    layers: list[Layer] = field(default_factory=list)
    world: World = field(default_factory=World)
    to_source: np.ndarray | None = None
    ups: dict[str, np.ndarray] = field(default_factory=dict)
    cloud_names: tuple[str, ...] = ()  # of the frames of the longest sequence of clouds
    box_names: tuple[str, ...] = ()

    def decide(self, scene_to_source: np.ndarray) -> None:
        """Let a scene or splat decide where the world lies, if nothing has yet."""
        if self.to_source is None:
            self.to_source = scene_to_source
        if self.world.offset is None:
            self.world.offset = scene_to_source[:3, 3].copy() if _only_moves(scene_to_source) else np.zeros(3)

    def contents(self) -> Contents:
        """All layers, with the boxes of each moment beside its cloud."""
        for layer in self.layers:
            if isinstance(layer, BoxesLayer):
                layer.follow(self.cloud_names)
        to_source = np.eye(4) if self.to_source is None else self.to_source.copy()
        if _only_moves(to_source) and self.world.offset is not None:
            to_source[:3, 3] = self.world.offset
        up = self.ups.get("cameras", self.ups.get("cloud", _Y_DOWN))
        contents = Contents(self.layers, up=up, scene_to_source=to_source)
        named = [names for names in (self.cloud_names, self.box_names) if 1 < len(names) == contents.frames]
        return replace(contents, frame_names=named[0]) if named else contents

    def open(self, path: Path) -> list[Layer]:
        """The layers of one path."""
        splat = self.splats.get(path)
        if splat is not None:
            layers: list[Layer] = [SplatLayer(_name(path), splat, partial(open_splat, path, self.openers))]
            if splat.scene is not None:
                layers += self._scene(splat.scene, moved=False)  # cameras stay where the Gaussians are
                layers[-1].visible = isinstance(layers[-1], CamerasLayer)
            return layers
        if not path.exists() and str(path) != "builtin":
            raise InputError(f"{path}: there is no such file or folder. Give {ACCEPTED}")
        if path.is_dir():
            return self._folder(path)
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            return [self._clouds(path, [path])]
        if suffix == ".txt":
            return [self._boxes(path, read_kitti_boxes([path]))]
        if suffix == ".json":
            if is_box_json(read_json(path)):
                return [self._boxes(path, read_json_boxes(path, self.world))]
            if path.name not in SCENE_FILES:
                raise SceneError(path, "holds no boxes", f"Give boxes, or a scene's {', '.join(SCENE_FILES)}")
            return self._scene(open_scene(path.parent))
        if str(path) == "builtin":
            return self._scene(open_scene(path))
        absent = not self.openers and suffix in (".spz", ".safetensors")
        hint = " No package that opens splats is installed." if absent else ""
        raise InputError(f"{path}: cannot be shown, its suffix is {suffix or 'missing'}. Give {ACCEPTED}.{hint}")

    def _folder(self, path: Path) -> list[Layer]:
        for base in (path, path / "training"):
            if (base / "velodyne").is_dir():
                return self._kitti(path, base)
        by_suffix = {s: sorted(p for p in path.iterdir() if p.suffix.lower() == s) for s in (*SUFFIXES, ".txt")}
        found = {suffix: files for suffix, files in by_suffix.items() if files}
        try:
            return self._scene(open_scene(path))
        except SceneError as error:
            if not found or error.path != path:
                raise
        suffix, files = max(found.items(), key=lambda item: len(item[1]))
        if suffix == ".txt":
            return [self._boxes(path, read_kitti_boxes(files))]
        return [self._clouds(path, files)]

    def _kitti(self, path: Path, base: Path) -> list[Layer]:
        """Clouds of a folder in KITTI's layout, and their labels where there are some."""
        files = sorted((base / "velodyne").glob("*.bin"))
        if not files:
            raise SceneError(base / "velodyne", "holds no .bin files", "Put the clouds there")
        layers: list[Layer] = [self._clouds(path, files)]
        labels = [base / "label_2" / f"{file.stem}.txt" for file in files]
        if there := [label for label in labels if label.is_file()]:
            layers.append(self._boxes(base / "label_2", read_kitti_boxes(there)))
        return layers

    def _clouds(self, path: Path, files: Sequence[Path]) -> PointsLayer:
        """One cloud a moment."""
        self.ups.setdefault("cloud", _Z_UP)
        self.cloud_names = max(self.cloud_names, tuple(file.stem for file in files), key=len)
        load = [partial(read_cloud, file, self.columns, self.world) for file in files]
        return PointsLayer(_name(path), load, _Z_UP, self.score)

    def _boxes(self, path: Path, found: BoxFile) -> BoxesLayer:
        self.ups.setdefault("cloud", _Z_UP)
        if any(found.frames):
            self.box_names = max(self.box_names, found.frames, key=len)
        return BoxesLayer(f"{_name(path)} boxes", found.boxes, found.class_names, self.score, found.frames)

    def _scene(self, scene: Scene, moved: bool = True) -> list[Layer]:
        """Cameras with their photos, and the sparse points where the source has some, ``moved`` into this world."""
        self.decide(scene.scene_to_source)
        assert self.world.offset is not None
        shift = scene.scene_to_source[:3, 3] - self.world.offset
        if moved and shift.any() and _only_moves(scene.scene_to_source):
            scene = _shifted(scene, shift)
        up = up_direction(scene.cameras)
        self.ups["cameras"] = up
        unused = sorted(set(range(len(scene.cameras))) - {*scene.train, *scene.test}) if scene.train else ()
        name, length = f"{scene.name} cameras", frustum_length(scene)
        cameras = CamerasLayer(name, scene.cameras, scene.photos, length, scene.test, unused)
        if scene.points is None or len(scene.points) == 0:
            return [cameras]
        rgb = np.rint(np.clip(scene.points.rgb, 0, 1) * 255).astype(np.uint8)
        cloud = Cloud(scene.points.xyz.astype(np.float32), rgb)
        return [cameras, PointsLayer(f"{scene.name} points", [lambda: cloud], up)]


def _only_moves(similarity: np.ndarray) -> bool:
    return np.array_equal(similarity[:3, :3], np.eye(3))


def _shifted(scene: Scene, shift: np.ndarray) -> Scene:
    """A scene whose cameras and points lie [3] ``shift`` further along."""
    pose = scene.cameras.world_to_camera.double().clone()
    pose[:, :3, 3] -= pose[:, :3, :3] @ torch.from_numpy(shift)
    cameras = replace(scene.cameras, world_to_camera=pose.to(scene.cameras.world_to_camera.dtype))
    points = scene.points
    if points is not None:
        points = replace(points, xyz=(points.xyz + shift).astype(np.float32))
    return replace(scene, cameras=cameras, points=points)


def frustum_length(scene: Scene) -> float:
    """A frustum's length at which neighbours do not hide one another: 0.3 of the way to the nearest camera."""
    centres = scene.cameras.centres.double().numpy()
    if len(centres) < 2:
        return 0.1
    nearest = cKDTree(centres).query(centres, k=2)[0][:, 1]
    return max(0.3 * float(np.median(nearest)), 1e-6)


def _name(path: Path) -> str:
    return path.resolve().name or str(path)
