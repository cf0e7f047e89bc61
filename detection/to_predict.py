"""What boxes are to be found in: clouds in files, or the test data of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from datasets.errors import InputError, SceneError
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.clouds import Policy, finite_points
from datasets.pointclouds.custom_cameras import read_cameras
from datasets.pointclouds.formats import SUFFIXES, read_cloud
from datasets.pointclouds.kitti import KittiDataset, find_photo, photo_size
from datasets.pointclouds.kitti_calibration import AXES_ONLY, KittiCalibration, read_calibration
from datasets.pointclouds.types import PointCloudSample
from datasets.scenes.images import plain_photo
from datasets.types import Cameras, Photo
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


def in_test_data(run: Path, root: Path | None, trained: Trained, on_bad: Policy) -> list[Loader]:
    """The test data of a run.

    Args:
        run: folder of the run.
        root: where the data's folder is now, if it was moved since the fit.
        trained: the run's detector.
        on_bad: "skip" leaves out frames that cannot be opened.

    Raises:
        InputError: where ``run`` is no folder or has no test data, and where these do not fit.
    """
    if not run.is_dir():
        raise InputError(f"{run} is a detector without data: give clouds, or the folder of a run that has test data")
    samples = test_samples(run, read_config(run), root, trained, on_bad)
    return [partial(_of_data, samples, i) for i in range(len(samples))]


def _in_file(path: Path, trained: Trained) -> Cloud:
    points = torch.from_numpy(finite_points(path, read_cloud(path, trained.channels), "skip"))
    calibration, size, cameras, photos = _cameras_of(path)
    sample = PointCloudSample(path.stem, points, trained.channels, trained.class_names, None, cameras, photos)
    return Cloud(sample, calibration, size, path)


def _of_data(samples: Samples, index: int) -> Cloud:
    if isinstance(samples, KittiDataset):
        return Cloud(samples[index], samples.frames[index].calibration, samples.size(index))
    return Cloud(samples[index])


def _cameras_of(cloud: Path) -> tuple[KittiCalibration, tuple[int, int], Cameras | None, tuple[Photo, ...]]:
    """Calibration and image size of a cloud in KITTI's layout, else axes alone; cameras and photos of one that lies
    there or in a folder of one's own.
    """
    layout, folder = cloud.resolve().parent.name, cloud.resolve().parent.parent
    own, path = folder / "cameras" / f"{cloud.stem}.json", folder / "calib" / f"{cloud.stem}.txt"
    if layout == "clouds" and own.is_file():
        return AXES_ONLY, (0, 0), *read_cameras(own, folder)
    if layout != "velodyne" or not path.is_file():
        return AXES_ONLY, (0, 0), None, ()
    calibration, photo = read_calibration(path), find_photo(folder, cloud.stem)
    if calibration.projection is None:
        return calibration, (0, 0), None, ()
    size = calibration.image_size() if photo is None else photo_size(photo)
    return calibration, size, calibration.camera(size), () if photo is None else (plain_photo(photo),)
