"""The command ``detect3d check``: what is wrong with the data of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from datasets.errors import InputError
from datasets.pointclouds.kitti import KittiDataset
from detection.check import check
from detection.run import open_samples, read_config


def check_config(
    config: Path,
    *,
    root: Path | None = None,
    which: Literal["train", "test"] = "train",
    frames: int = 50,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Look at the data of a configuration and say what is wrong: axes, box centres, headings, class names, range.

    Run it before a training, or where nothing is found after one. Errors give exit code 1.

    Args:
        config: YAML file, as for `detect3d fit --config`, or the folder of a run.
        root: Folder of the data, in place of the configuration's.
        which: Look at data.train or at data.test.
        frames: How many frames to look at.
        seed: Seed of which.
        out: Folder for pictures of some frames from above, and of all objects of each class.
    """
    values = read_config(config)
    samples = open_samples(values, which, root, str(config))
    try:
        point_range = values["model"]["detector"]["init_args"]["point_range"]
    except (KeyError, TypeError):
        point_range = None
    source = samples.class_counts() if isinstance(samples, KittiDataset) else None
    report = check(samples, point_range=point_range, source_classes=source, frames=frames, seed=seed, out=out)
    print(report.text())
    if out is not None:
        print(f"\npictures: {out}")
    if not report.sound:
        raise InputError(f"{config}: the data have errors; see above")
