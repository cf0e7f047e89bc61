"""The command ``detect3d predict``: boxes in clouds, as JSON, KITTI's text and pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from datasets.errors import InputError
from datasets.pictures import save_picture
from datasets.pointclouds.clouds import Policy
from datasets.pointclouds.formats import SUFFIXES
from datasets.pointclouds.kitti_calibration import from_boxes
from datasets.pointclouds.kitti_labels import write_objects
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from datasets.programs.command_line import Parser
from datasets.programs.devices import Device, Precision, autocast, torch_device
from datasets.programs.run_folder import write_text
from datasets.programs.shots import photographer
from detection.evaluate import detect, draw, one_per_object
from detection.pictures import in_photo
from detection.to_predict import Cloud, in_files, in_test_data
from detection.trained import Trained, load_model

SIZE_3D = (960, 540)
DESCRIPTION = """Find boxes in clouds.

Clouds are files, or folders of them; without any, boxes are found in the test data of the run.

For each cloud NAME writes into --out: NAME.json (boxes in the cloud's axes: x, y, z of the centre, length, width,
height, yaw), NAME.txt (the same as KITTI has it), NAME.png (the cloud from above with the boxes) and NAME_3d.png (both
from behind the sensor). An object that several classes claim gets the best of their boxes. In KITTI's layout, in a
folder velodyne beside calib and image_2, NAME.txt has its camera's axes. There, and in a folder clouds beside cameras,
boxes are also drawn into the photo, NAME_photo.png; of several photos, NAME_photo_0.png and so on.
"""


def predict(argv: Sequence[str]) -> None:
    """The command, given its arguments."""
    parser = Parser(prog="detect3d predict", description=DESCRIPTION)
    parser.add_argument("model", type=Path, help="run folder of a fit, or its detector.safetensors")
    parser.add_argument("clouds", type=Path, nargs="*", help=f"clouds ({', '.join(SUFFIXES)}) or folders of them")
    parser.add_argument("--root", type=Path, help="where the test data's folder is now, if it was moved since the fit")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results; made if it does not exist")
    parser.add_argument("--score", type=float, default=0.3, help="least score of boxes that are written")
    parser.add_argument("--pictures", type=bool, default=True, help="whether to draw pictures")
    parser.add_argument("--on-bad", type=Policy, default="error", help="end at a bad cloud, or skip it and say so")
    parser.add_argument("--device", type=Device, default="auto", help="where to run the network")
    parser.add_argument("--precision", type=Precision, default="32-true", help="bf16-mixed is faster where native")
    values = parser.parse_args(list(argv))
    predict_clouds(
        values.model,
        values.clouds,
        out=values.out,
        root=values.root,
        score=values.score,
        pictures=values.pictures,
        on_bad=values.on_bad,
        device=torch_device(values.device),
        precision=values.precision,
    )


def predict_clouds(
    model: Path,
    clouds: Sequence[Path],
    *,
    out: Path,
    root: Path | None = None,
    score: float = 0.3,
    pictures: bool = True,
    on_bad: Policy = "error",
    device: torch.device | str = "cpu",
    precision: Precision = "32-true",
) -> None:
    """Find boxes in each of ``clouds`` and write them to ``out``, as :data:`DESCRIPTION` says.

    Where ``on_bad`` is "skip", a cloud that cannot be used gives a line on stderr instead of an error.

    Raises:
        InputError: for a model or a cloud that cannot be used, two clouds of one name, and where no cloud is left.
    """
    if clouds and root is not None:
        raise InputError("--root says where the run's test data are, but clouds are given: leave one of them out")
    trained = load_model(model, device)
    loaders = in_files(clouds, trained) if clouds else in_test_data(model, root, trained, on_bad)
    out.mkdir(parents=True, exist_ok=True)
    counts, bad = [], []
    for load in tqdm(loaders, desc="predict", unit="cloud"):
        try:
            cloud = load()
            with autocast(torch.device(device), precision):
                found = one_per_object(detect(trained.detector, cloud.sample, trained.features), score)
            _write(out, cloud, found, trained, score, pictures)
        except InputError as error:
            if on_bad == "error":
                raise
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            bad.append(error)
        else:
            counts.append(len(found))
    if bad and not counts:
        raise InputError(f"none of {len(bad)} clouds can be used; the first: {bad[0]}")
    skipped = f", {len(bad)} more skipped" if bad else ""
    print(f"{sum(counts)} boxes in {len(counts)} clouds{skipped}: {out}")


def _write(out: Path, cloud: Cloud, found: Boxes3D, trained: Trained, score: float, pictures: bool) -> None:
    name = cloud.sample.frame.replace("/", "_")
    source = cloud.sample.frame if cloud.path is None else cloud.path.name
    if pictures:  # first, as a photo may turn out to be damaged
        _draw_in_photos(out, name, cloud.sample, found)
    write_text(out / f"{name}.json", json.dumps(_document(source, found, trained.class_names)) + "\n")
    objects = from_boxes(found, cloud.calibration, trained.class_names, cloud.image_size)
    write_objects(out / f"{name}.txt", objects)
    if pictures:
        draw(out / f"{name}.png", trained.detector, cloud.sample, found, score)
        _draw_in_space(out, name, cloud)


def _draw_in_space(out: Path, name: str, cloud: Cloud) -> None:
    """Write NAME_3d.png of a cloud with points, from its file or from what was read."""
    shoot, points = photographer(), cloud.sample.points
    if shoot is None or not len(points):
        return
    with TemporaryDirectory() as folder:
        path = cloud.path
        if path is None:
            np.save(path := Path(folder) / f"{name}.npy", points[:, :3].numpy())
        save_picture(
            out / f"{name}_3d.png", shoot([path, out / f"{name}.json"], SIZE_3D, columns=len(cloud.sample.channels))
        )


def _draw_in_photos(out: Path, name: str, sample: PointCloudSample, found: Boxes3D) -> None:
    """Write NAME_photo.png, or NAME_photo_0.png and so on where there are several."""
    for i, photo in enumerate(sample.photos):
        if not photo.path.is_file():  # many keep nuScenes without its photos
            continue
        assert sample.cameras is not None
        number = "" if len(sample.photos) == 1 else f"_{i}"
        save_picture(out / f"{name}_photo{number}.png", in_photo(photo.load().image, sample.cameras[i], found))


def _document(cloud: str, found: Boxes3D, class_names: Sequence[str]) -> dict[str, Any]:
    document: dict[str, Any] = {"cloud": cloud, "class_names": list(class_names)}
    document["boxes"] = [[round(value, 4) for value in box] for box in found.boxes.tolist()]
    document["labels"] = found.labels.tolist()
    document["scores"] = [] if found.scores is None else [round(value, 5) for value in found.scores.tolist()]
    if found.velocities is not None:
        document["velocities"] = [[round(value, 4) for value in speed] for speed in found.velocities.tolist()]
    return document
