"""Opening any number of paths into one set of layers that share a world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from datasets.errors import InputError, SceneError
from datasets.scenes import open_scene
from datasets.scenes.files import read_json
from datasets.types import Scene
from viewer.layers import BoxesLayer, CamerasLayer, Cloud, Layer, PointsLayer, SplatLayer
from viewer.primitives import joined
from viewer.reading.boxes import BoxFile, is_box_json, read_json_boxes, read_kitti_boxes
from viewer.reading.clouds import SUFFIXES, read_cloud
from viewer.splats import SplatOpener, open_splat

_Z_UP, _Y_DOWN = np.array([0.0, 0, 1]), np.array([0.0, -1, 0])
SCENE_FILES = ("cameras.json", "transforms.json", "transforms_train.json")
ACCEPTED = (
    "a recon3d run, a splat (.safetensors, .ply, .spz, .splat), a cloud (.bin, .npy, .pcd, .ply, .las), a folder of "
    "clouds or in KITTI's layout, boxes (.json, KITTI's .txt), or the folder of a scene's photos"
)


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

    Args:
        paths: see :data:`ACCEPTED`.
        openers: who can open splats, see :mod:`viewer.splats`.
        columns: floats a point in .bin files.
        score: what has a lower score begins hidden.

    Raises:
        InputError: naming the path, what was found, and the mend.
    """
    contents = Contents()
    ups: dict[str, np.ndarray] = {}
    for path in paths:
        for layer in _open(path, contents, ups, openers, columns, score):
            taken = {one.name for one in contents.layers}
            name, number = layer.name, 1
            while layer.name in taken:
                number += 1
                layer.name = f"{name} {number}"
            contents.layers.append(layer)
    contents.up = ups.get("cameras", ups.get("cloud", _Y_DOWN))
    return contents


def _open(
    path: Path,
    contents: Contents,
    ups: dict[str, np.ndarray],
    openers: list[SplatOpener],
    columns: int | None,
    score: float,
) -> list[Layer]:
    splat = open_splat(path, openers)
    if splat is not None:
        layers: list[Layer] = [SplatLayer(_name(path), splat, partial(open_splat, path, openers))]
        contents.scene_to_source = splat.scene_to_source
        if splat.scene is not None:
            layers += _scene_layers(splat.scene, contents, ups)
            layers[-1].visible = isinstance(layers[-1], CamerasLayer)
        return layers
    if not path.exists() and str(path) != "builtin":
        raise InputError(f"{path}: there is no such file or folder. Give {ACCEPTED}")
    if path.is_dir():
        return _folder(path, contents, ups, columns, score)
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        ups.setdefault("cloud", _Z_UP)
        return [PointsLayer(_name(path), [partial(read_cloud, path, columns)], _Z_UP, score)]
    if suffix == ".txt":
        ups.setdefault("cloud", _Z_UP)
        return [_boxes(path, read_kitti_boxes([path]), score)]
    if suffix == ".json":
        if is_box_json(read_json(path)):
            ups.setdefault("cloud", _Z_UP)
            found = read_json_boxes(path)
            if any(found.frames) and len(found.frames) > len(contents.frame_names):
                contents.frame_names = found.frames
            return [_boxes(path, found, score)]
        if path.name not in SCENE_FILES:
            raise SceneError(path, "holds no boxes", f"Give boxes, or a scene's {', '.join(SCENE_FILES)}")
        return _scene_layers(open_scene(path.parent), contents, ups)
    if str(path) == "builtin":
        return _scene_layers(open_scene(path), contents, ups)
    hint = " No package that opens splats is installed." if not openers and suffix in (".spz", ".safetensors") else ""
    raise InputError(f"{path}: cannot be shown, its suffix is {suffix or 'missing'}. Give {ACCEPTED}.{hint}")


def _folder(
    path: Path, contents: Contents, ups: dict[str, np.ndarray], columns: int | None, score: float
) -> list[Layer]:
    for base in (path, path / "training"):
        if (base / "velodyne").is_dir():
            return _kitti(path, base, contents, ups, columns, score)
    by_suffix = {s: sorted(p for p in path.iterdir() if p.suffix.lower() == s) for s in (*SUFFIXES, ".txt")}
    found = {suffix: files for suffix, files in by_suffix.items() if files}
    try:
        return _scene_layers(open_scene(path), contents, ups)
    except SceneError as error:
        if not found or error.path != path:
            raise
    suffix, files = max(found.items(), key=lambda item: len(item[1]))
    ups.setdefault("cloud", _Z_UP)
    contents.frame_names = max(contents.frame_names, tuple(file.stem for file in files), key=len)
    if suffix == ".txt":
        return [_boxes(path, read_kitti_boxes(files), score)]
    return [_sequence(_name(path), files, columns, score)]


def _kitti(
    path: Path, base: Path, contents: Contents, ups: dict[str, np.ndarray], columns: int | None, score: float
) -> list[Layer]:
    """Clouds of a folder in KITTI's layout, and their labels where there are some."""
    ups.setdefault("cloud", _Z_UP)
    files = sorted((base / "velodyne").glob("*.bin"))
    if not files:
        raise SceneError(base / "velodyne", "holds no .bin files", "Put the clouds there")
    contents.frame_names = max(contents.frame_names, tuple(file.stem for file in files), key=len)
    layers: list[Layer] = [_sequence(_name(path), files, columns, score)]
    labels = [base / "label_2" / f"{file.stem}.txt" for file in files]
    if all(label.is_file() for label in labels):
        layers.append(_boxes(base / "label_2", read_kitti_boxes(labels), score))
    return layers


def _sequence(name: str, files: Sequence[Path], columns: int | None, score: float) -> PointsLayer:
    return PointsLayer(name, [partial(read_cloud, file, columns) for file in files], _Z_UP, score)


def _boxes(path: Path, found: BoxFile, score: float) -> BoxesLayer:
    return BoxesLayer(f"{_name(path)} boxes", found.boxes, found.class_names, score)


def _scene_layers(scene: Scene, contents: Contents, ups: dict[str, np.ndarray]) -> list[Layer]:
    """Cameras with their photos, and the sparse points where the source has some."""
    up = up_of(scene)
    ups["cameras"] = up
    contents.scene_to_source = scene.scene_to_source
    unused = sorted(set(range(len(scene.cameras))) - {*scene.train, *scene.test}) if scene.train else ()
    name, length = f"{scene.name} cameras", frustum_length(scene)
    cameras = CamerasLayer(name, scene.cameras, scene.photos, length, scene.test, unused)
    if scene.points is None or len(scene.points) == 0:
        return [cameras]
    rgb = np.rint(np.clip(scene.points.rgb, 0, 1) * 255).astype(np.uint8)
    cloud = Cloud(scene.points.xyz.astype(np.float32), rgb)
    return [cameras, PointsLayer(f"{scene.name} points", [lambda: cloud], up)]


def up_of(scene: Scene) -> np.ndarray:
    """[3] upwards: square to the cameras' horizontal axes as far as those tell, and against their downward ones.

    The mean of the cameras' own upward axes leans where they all look down on something.
    """
    rotation = scene.cameras.world_to_camera[:, :3, :3].double().numpy()
    right, down = rotation[:, 0], rotation[:, 1]
    spread = right.T @ right / len(right) + 0.01 * (np.eye(3) - down.T @ down / len(down))
    up = np.linalg.eigh(spread)[1][:, 0]
    return up * (-1 if up @ down.sum(axis=0) > 0 else 1)


def frustum_length(scene: Scene) -> float:
    """A frustum's length at which neighbours do not hide one another: 0.3 of the way to the nearest camera."""
    centres = scene.cameras.centres.double().numpy()
    if len(centres) < 2:
        return 0.1
    nearest = cKDTree(centres).query(centres, k=2)[0][:, 1]
    return max(0.3 * float(np.median(nearest)), 1e-6)


def _name(path: Path) -> str:
    return path.resolve().name or str(path)
