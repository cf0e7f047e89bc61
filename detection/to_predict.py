"""What boxes are to be found in: clouds in files, or the test data of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from datasets.errors import InputError, SceneError
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.clouds import finite_points
from datasets.pointclouds.formats import SUFFIXES, read_cloud
from datasets.pointclouds.kitti import KittiDataset
from datasets.pointclouds.kitti_calibration import AXES_ONLY, KittiCalibration, read_calibration
from datasets.pointclouds.types import PointCloudSample
from datasets.scenes.images import plain_photo, read_image
from detection.run import read_config, test_samples
from detection.trained import Trained

NUSCENES = ".pcd.bin"


@dataclass(frozen=True)
class Cloud:
    """One cloud that was opened.

    Attributes:
        sample: its points, with the cameras and photos that show them.
        calibration, image_size: of the camera in whose axes KITTI's text is written.
        path: its file, if it has one of its own.
    """

    sample: PointCloudSample
    calibration: KittiCalibration = AXES_ONLY
    image_size: tuple[int, int] = (0, 0)
    path: Path | None = None


Loader = Callable[[], Cloud]


def in_files(clouds: Sequence[Path], trained: Trained) -> list[Loader]:
    """Clouds given as files, or as folders of them; their names are those of the files.

    Raises:
        InputError: where there are none, and for two of one name.
    """
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
    if own := [path for path in files if path.name.lower().endswith(NUSCENES)]:
        raise SceneError(
            own[0],
            "is a cloud of nuScenes, which has axes of its own",
            "Give no clouds, and boxes are found in the run's test data, read as for the training",
        )
    return [partial(_in_file, path, trained) for path in files]


def in_test_data(run: Path, root: Path | None, trained: Trained) -> list[Loader]:
    """The test data of a run.

    Args:
        run: folder of the run.
        root: where the data's folder is now, if it was moved since the fit.
        trained: the run's detector.

    Raises:
        InputError: where ``run`` is no folder or has no test data, and where these do not fit.
    """
    if not run.is_dir():
        raise InputError(f"{run} is a detector without data: give clouds, or the folder of a run that has test data")
    samples = test_samples(run, read_config(run), root, trained)
    return [partial(_of_data, samples, i) for i in range(len(samples))]


def _in_file(path: Path, trained: Trained) -> Cloud:
    points = torch.from_numpy(finite_points(path, read_cloud(path, trained.channels), "skip"))
    calibration, size, photo = _camera_of(path)
    camera = calibration.camera(size)
    photos = () if photo is None or camera is None else (plain_photo(photo),)
    sample = PointCloudSample(path.stem, points, trained.channels, trained.class_names, cameras=camera, photos=photos)
    return Cloud(sample, calibration, size, path)


def _of_data(samples: Samples, index: int) -> Cloud:
    if isinstance(samples, KittiDataset):
        return Cloud(samples[index], samples.frames[index].calibration, samples.size(index))
    return Cloud(samples[index])


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
