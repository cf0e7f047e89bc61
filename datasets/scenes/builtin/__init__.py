"""A scene that needs no files: a still life, generated in seconds by ray casting, with exact depth.

It is furnished to be hard where real photos are: rich texture, occlusion, thin stems, wicker and wires, soft
shadows, glazed and mirroring surfaces. Twelve photos lie on a forward-facing arc; eight test views lie between and a
little beyond them. Nothing is written unless :func:`write` is called, and a photo is rendered when it is opened.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from datasets.errors import InputError
from datasets.files import replacing
from datasets.pictures import save_picture, to_bytes
from datasets.scenes.builtin.still_life import furnish
from datasets.scenes.builtin.tracer import World
from datasets.scenes.splits import spread
from datasets.types import Cameras, Photo, Scene, View

SIZE = (480, 360)
TRAIN_VIEWS, TEST_VIEWS = 12, 8
LOOK_AT = np.array([0.0, 0.12, 0.20])
DISTANCE, ARC = 1.95, math.radians(13)
FOCAL = 1.22  # in widths
SAMPLES = 2


def generate(size: tuple[int, int] = SIZE, *, views: int | None = None, seed: int = 0) -> Scene:
    """The still life as a scene: twelve views that may train, then eight that test.

    Args:
        size: width and height of the photos in pixels.
        views: how many of the twelve train, evenly spread; None takes all.
        seed: of patterns and flowers; the cameras are always the same.

    Raises:
        InputError: for a size below 16 pixels or another number of views than 2 to 12.
    """
    if min(size) < 16:
        raise InputError(f"the built-in scene cannot be photographed at {size[0]}x{size[1]}: give 16 pixels or more")
    if views is not None and views < 2:
        raise InputError(f"{views} training views were asked for, and at least two are needed")
    poses, intrinsics = _poses(), _intrinsics(size)
    names = [f"train_{i:02d}" for i in range(TRAIN_VIEWS)] + [f"test_{i:02d}" for i in range(TEST_VIEWS)]
    count = len(names)
    return Scene(
        name="still-life",
        cameras=Cameras(
            torch.from_numpy(poses).float(),
            torch.from_numpy(intrinsics).float().expand(count, 3, 3).clone(),
            torch.tensor(size).expand(count, 2).clone(),
        ),
        photos=tuple(
            Photo(Path("images") / f"{name}.png", partial(_photograph, size, seed, index))
            for index, name in enumerate(names)
        ),
        train=spread(range(TRAIN_VIEWS), views),
        test=tuple(range(TRAIN_VIEWS, count)),
    )


def write(folder: Path, size: tuple[int, int] = SIZE, *, seed: int = 0) -> None:
    """Write the still life as a real folder: ``cameras.json``, 8-bit PNG photos, and depth as float32 ``.npy``.

    Opening it gives the views that :func:`generate` gives, bit for bit, in the order of their names.
    """
    scene = generate(size, seed=seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "depth").mkdir(exist_ok=True)
    frames = []
    for index, photo in enumerate(scene.photos):
        view = photo.load()
        assert view.depth is not None
        depth = Path("depth") / f"{photo.path.stem}.npy"
        save_picture(folder / photo.path, to_bytes(view.image))
        with replacing(folder / depth) as part:
            np.save(part, view.depth, allow_pickle=False)
        k = scene.cameras.intrinsics[index].tolist()
        frames.append(
            {
                "file": photo.path.as_posix(),
                "width": size[0],
                "height": size[1],
                **{"fx": k[0][0], "fy": k[1][1], "cx": k[0][2], "cy": k[1][2]},
                "w2c": scene.cameras.world_to_camera[index].tolist(),
                "depth": depth.as_posix(),
                "split": "train" if index < TRAIN_VIEWS else "test",
            }
        )
    with replacing(folder / "cameras.json") as part:
        part.write_text(json.dumps({"frames": frames}, indent=1))


def forget() -> None:
    """Free the meshes and baked light that are kept for the next photo."""
    _world.cache_clear()


@lru_cache(maxsize=2)
def _world(size: tuple[int, int], seed: int) -> World:
    detail = min(1.0, max(0.35, size[0] / SIZE[0]))
    footprint = DISTANCE / (FOCAL * size[0] * SAMPLES)
    return World(furnish(seed, detail), footprint, light_rays=16 if detail == 1 else 9, sky_rays=round(56 * detail))


def _photograph(size: tuple[int, int], seed: int, index: int) -> View:
    image, depth = _world(size, seed).photograph(_poses()[index], _intrinsics(size), size, SAMPLES)
    return View(np.round(image * 255).astype(np.float32) / np.float32(255), depth=depth)


def _intrinsics(size: tuple[int, int]) -> np.ndarray:
    focal = FOCAL * size[0]
    return np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])


def _poses() -> np.ndarray:
    """[20, 4, 4] world-to-camera: the train arc, alternately higher and lower, then the test views."""
    train = [(a, 0.18 + 0.045 * math.sin(2.4 * i), 0.0) for i, a in enumerate(np.linspace(-1, 1, TRAIN_VIEWS))]
    test = [(a, 0.19 + 0.05 * math.cos(1.9 * i), 0.03) for i, a in enumerate(np.linspace(-1.08, 1.08, TEST_VIEWS))]
    return np.stack([_looking(azimuth * ARC, elevation, nearer) for azimuth, elevation, nearer in train + test])


def _looking(azimuth: float, elevation: float, nearer: float) -> np.ndarray:
    backward = np.array(
        [math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation)]
    )
    centre = LOOK_AT + (DISTANCE - nearer) * backward
    right = np.cross(-backward, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(-backward, right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, down, -backward])
    pose[:3, 3] = -pose[:3, :3] @ centre
    return pose
