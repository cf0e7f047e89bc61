"""The command ``detect3d demo``: the other commands, one after another, on streets that need no files."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import numpy as np

from datasets.errors import InputError
from datasets.files import replacing
from datasets.pointclouds.simulator import SimulatedStreets
from detection.__main__ import main

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "detection" / "demo.yaml"
UNSEEN = 1000  # seed of streets that neither train nor test


def demo(*, out: Path = Path("demo_detection"), cloud: Path | None = None) -> None:
    """Train a small detector on simulated streets, score it on others, and find cars in a sweep.

    Takes a few minutes on a laptop and downloads nothing. The commands are printed as they run: the same ones serve
    for other data. An earlier demo in the same folder is replaced.

    Args:
        out: Folder for the streets, the run and what is found.
        cloud: A LiDAR sweep of your own to find cars in (x, y, z, intensity; KITTI's .bin, or .npy, .pcd, .ply, .las),
            in place of one more simulated sweep.
    """
    if not CONFIG.is_file():
        raise InputError(f"{CONFIG}: there is no such file. Install the project with `pip install -e .` in its folder")
    began = time.perf_counter()
    run, found, streets = out / "run", out / "found", out / "streets"
    folders = [f"--data.{which}.init_args.folder={streets}" for which in ("train", "test")]
    _run("fit", "--config", CONFIG, *folders, "--out", run, "--overwrite")
    _run("test", run)
    sweep = cloud
    if sweep is None:
        sweep = out / "sweep.npy"
        with replacing(sweep) as part, part.open("wb") as file:
            np.save(file, SimulatedStreets(1, ("Car",), seed=UNSEEN)[0].points.numpy())
    _run("predict", run, sweep, "--out", found)
    print(f"\nThe demo took {time.perf_counter() - began:.0f} s. Open these:")
    print(f"  scores   {run / 'metrics.json'}")
    print(f"  test     {run / 'pictures'} (found: coloured; annotated: white)")
    print(f"  sweep    {found / f'{sweep.stem}.png'}")
    print(f"  in 3D    view3d {sweep} {found / f'{sweep.stem}.json'}")


def _run(*words: object) -> None:
    arguments = [str(word) for word in words]
    print(f"\n$ detect3d {shlex.join(arguments)}", flush=True)
    if code := main(arguments):
        raise InputError(f"the demo ended early: `detect3d {arguments[0]}` gave exit code {code}")
