"""The command ``detect3d predict``: boxes in clouds, as JSON, KITTI's text and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from datasets.errors import InputError, SceneError
from datasets.pictures import save_picture
from datasets.pointclouds.clouds import finite_points
from datasets.pointclouds.formats import SUFFIXES, read_cloud
from datasets.pointclouds.kitti_calibration import AXES_ONLY, KittiCalibration, from_boxes, read_calibration
from datasets.pointclouds.kitti_labels import write_objects
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from datasets.programs.command_line import Parser
from datasets.programs.devices import Device, Precision, autocast, torch_device
from datasets.programs.run_folder import write_text
from datasets.programs.shots import photographer
from datasets.scenes.images import read_image
from detection.evaluate import detect, draw, one_per_object
from detection.pictures import in_photo
from detection.trained import load_model

SIZE_3D = (960, 540)
DESCRIPTION = """Find boxes in clouds.

For each cloud NAME writes into --out: NAME.json (boxes in the cloud's axes: x, y, z of the centre, length, width,
height, yaw), NAME.txt (the same as KITTI has it), NAME.png (the cloud from above with the boxes) and NAME_3d.png (both
from behind the sensor). An object that several classes claim gets the best of their boxes. Clouds that lie
in KITTI's layout, in a folder velodyne beside calib and image_2, get boxes in their camera's axes, and NAME_photo.png.
"""


def predict(argv: Sequence[str]) -> None:
    """The command, given its arguments."""
    parser = Parser(prog="detect3d predict", description=DESCRIPTION)
    parser.add_argument("model", type=Path, help="run folder of a fit, or its detector.safetensors")
    parser.add_argument("clouds", type=Path, nargs="+", help=f"clouds ({', '.join(SUFFIXES)}) or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results; made if it does not exist")
    parser.add_argument("--score", type=float, default=0.3, help="least score of boxes that are written")
    parser.add_argument("--pictures", type=bool, default=True, help="whether to draw pictures")
    parser.add_argument("--device", type=Device, default="auto", help="where to run the network")
    parser.add_argument("--precision", type=Precision, default="32-true", help="bf16-mixed is faster where native")
    values = parser.parse_args(list(argv))
    predict_clouds(
        values.model,
        values.clouds,
        out=values.out,
        score=values.score,
        pictures=values.pictures,
        device=torch_device(values.device),
        precision=values.precision,
    )


def predict_clouds(
    model: Path,
    clouds: Sequence[Path],
    *,
    out: Path,
    score: float = 0.3,
    pictures: bool = True,
    device: torch.device | str = "cpu",
    precision: Precision = "32-true",
) -> None:
    """Find boxes in each of ``clouds`` and write them to ``out``, as :data:`DESCRIPTION` says.

    Raises:
        InputError: for a model or a cloud that cannot be used, and two clouds of one name.
    """
    files = _files(clouds)
    trained = load_model(model, device)
    out.mkdir(parents=True, exist_ok=True)
    total, shoot = 0, photographer()
    for path in tqdm(files, desc="predict", unit="cloud"):
        points = finite_points(path, read_cloud(path, trained.channels), "skip")
        sample = PointCloudSample(path.stem, torch.from_numpy(points), trained.channels, trained.class_names)
        with autocast(torch.device(device), precision):
            found = one_per_object(detect(trained.detector, sample, trained.features), score)
        total += len(found)
        write_text(out / f"{path.stem}.json", json.dumps(_document(path, found, trained.class_names)) + "\n")
        calibration, size, photo = _camera_of(path)
        write_objects(out / f"{path.stem}.txt", from_boxes(found, calibration, trained.class_names, size))
        if pictures:
            draw(out / f"{path.stem}.png", trained.detector, sample, found, score)
            if shoot is not None and len(points):
                seen = shoot([path, out / f"{path.stem}.json"], SIZE_3D, columns=len(trained.channels))
                save_picture(out / f"{path.stem}_3d.png", seen)
            camera = calibration.camera(size)
            if photo is not None and camera is not None:
                save_picture(out / f"{path.stem}_photo.png", in_photo(read_image(photo), camera, found))
    print(f"{total} boxes in {len(files)} clouds: {out}")


def _files(clouds: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in clouds:
        inside = [file for file in sorted(path.glob("*")) if file.suffix.lower() in SUFFIXES] if path.is_dir() else []
        if not (path.is_file() or inside):
            found = "holds no clouds" if path.is_dir() else "there is no such file or folder"
            raise SceneError(path, found, f"Give clouds ({', '.join(SUFFIXES)}) or folders of them")
        files += inside or [path]
    names = [path.stem for path in files]
    if double := {name for name in names if names.count(name) > 1}:
        raise InputError(f"several clouds are called {min(double)}, whose results would overwrite one another")
    return files


def _document(path: Path, found: Boxes3D, class_names: Sequence[str]) -> dict[str, Any]:
    document: dict[str, Any] = {"cloud": path.name, "class_names": list(class_names)}
    document["boxes"] = [[round(value, 4) for value in box] for box in found.boxes.tolist()]
    document["labels"] = found.labels.tolist()
    document["scores"] = [] if found.scores is None else [round(value, 5) for value in found.scores.tolist()]
    if found.velocities is not None:
        document["velocities"] = [[round(value, 4) for value in speed] for speed in found.velocities.tolist()]
    return document


def _camera_of(cloud: Path) -> tuple[KittiCalibration, tuple[int, int], Path | None]:
    """Calibration, image size and photo of a cloud in KITTI's layout; of any other, axes alone."""
    folder = cloud.resolve().parent.parent
    path = folder / "calib" / f"{cloud.stem}.txt"
    if cloud.resolve().parent.name != "velodyne" or not path.is_file():
        return AXES_ONLY, (0, 0), None
    calibration = read_calibration(path)
    photos = (folder / "image_2" / f"{cloud.stem}{suffix}" for suffix in (".png", ".jpg", ".jpeg"))
    photo = next((photo for photo in photos if photo.is_file()), None)
    if photo is not None:
        height, width = read_image(photo).shape[:2]
        return calibration, (width, height), photo
    return calibration, (0, 0) if calibration.projection is None else calibration.image_size(), None
