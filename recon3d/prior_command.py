"""The command ``recon3d prior``: what a depth prior says of a scene, as files and pictures."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.errors import InputError
from datasets.files import replacing
from datasets.pictures import save_picture, to_bytes
from datasets.programs.fit_command import quiet
from recon3d.fitting.command import FitCLI
from recon3d.fitting.run_folder import write_text
from recon3d.initialisation.clouds import back_project
from recon3d.initialise import DenseInitialiser
from recon3d.pictures import colour_depth, depth_range
from recon3d.priors.types import DepthEstimate
from recon3d.views import TrainingViews

DEPTH, CONFIDENCE, PICTURES = "depth", "confidence", "pictures"
POINTS, SUMMARY = "points.ply", "summary.json"
VERTEX = np.dtype([("position", "<f4", 3), ("colour", "u1", 3), ("confidence", "<f4")])


def prior(argv: Sequence[str]) -> None:
    """Depth of the train views of a scene by the prior of a configuration, without a fit.

    Takes the options of a fit, of which those of the data and of the initialiser's prior matter:

      recon3d prior --config configs/recon3d/photos.yaml --data.root SCENE --out DIR

    Another prior: --model.initialiser.prior recon3d.priors.fusion.Fusion

    DIR gets depth/NAME.npy (z-depth in the scene's units, 0 where unknown, as recon3d.priors.file_depth.FileDepth reads
    it), confidence/NAME.png (8 bits), pictures/NAME.png (photo, depth, confidence), points.ply (coloured points with
    their confidence, in the world of the scene's files) and summary.json.
    """
    with quiet():
        cli = FitCLI(argv, "recon3d prior", prior.__doc__)
    folder: Path = cli.config.out
    if not cli.config.overwrite and any((folder / name).exists() for name in (DEPTH, CONFIDENCE, PICTURES, POINTS)):
        raise InputError(f"{folder}: holds an earlier result. Give another --out, or --overwrite")
    initialiser = cli.model.initialiser
    if not isinstance(initialiser, DenseInitialiser):
        raise InputError(
            f"model.initialiser is {type(initialiser).__name__}, which has no prior: "
            "choose recon3d.initialise.DenseInitialiser"
        )
    views = cli.datamodule.views
    began = time.perf_counter()
    estimates = initialiser.prior(views)
    seconds = time.perf_counter() - began
    for name in (DEPTH, CONFIDENCE, PICTURES):
        shutil.rmtree(folder / name, ignore_errors=True)
    write(folder, views, estimates, cli.datamodule.scene.scene_to_source)
    rows = []
    for name, estimate in zip(names_of(views), estimates, strict=True):
        known = float(estimate.known.mean())
        confidence = float(estimate.confidence[estimate.known].mean()) if known else 0.0
        rows.append({"name": name, "known": known, "confidence": confidence})
        print(f"{name}: depth for {100 * known:.1f} % of the pixels, confidence {confidence:.2f}")
    summary = {"prior": type(initialiser.prior).__name__, "seconds": round(seconds, 2), "views": rows}
    write_text(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
    print(f"{summary['prior']} took {seconds:.1f} s: {folder / POINTS}, {folder / PICTURES}")


def names_of(views: TrainingViews) -> tuple[str, ...]:
    """A file name, without ending, for each view; those of its photos where they differ from one another."""
    names = views.names or ()
    return names if len(set(names)) == len(views) else tuple(f"{i:03d}" for i in range(len(views)))


def write(folder: Path, views: TrainingViews, estimates: Sequence[DepthEstimate], to_source: np.ndarray) -> None:
    """Write everything but the summary; see :func:`prior`.

    Args:
        folder: where to; made if it does not exist.
        views: the photos.
        estimates: of each view.
        to_source: [4, 4] similarity from the scene's world to that of the points.
    """
    near, far = depth_range(estimate.depth for estimate in estimates)
    vertices = []
    for i, (name, view, estimate) in enumerate(zip(names_of(views), views.views, estimates, strict=True)):
        (folder / DEPTH).mkdir(parents=True, exist_ok=True)
        with replacing(folder / DEPTH / f"{name}.npy") as temporary:
            np.save(temporary, estimate.depth, allow_pickle=False)
        grey = np.rint(255 * estimate.confidence).astype(np.uint8)
        save_picture(folder / CONFIDENCE / f"{name}.png", grey)
        panels = [to_bytes(view.image), colour_depth(estimate.depth, near, far), cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)]
        save_picture(folder / PICTURES / f"{name}.png", np.concatenate(panels, axis=1))
        vertices.append(_vertices(views, i, estimate, to_source))
    _write_points(folder / POINTS, np.concatenate(vertices))


def _vertices(views: TrainingViews, view: int, estimate: DepthEstimate, to_source: np.ndarray) -> np.ndarray:
    """[P] :data:`VERTEX` of a view's known pixels."""
    y, x = np.nonzero(estimate.known)
    positions = back_project(
        views.cameras, view, np.stack([x, y], axis=1) + 0.5, 1 / estimate.depth[y, x].astype(np.float64)
    )
    vertices = np.empty(len(x), VERTEX)
    vertices["position"] = positions @ to_source[:3, :3].T + to_source[:3, 3]
    vertices["colour"] = to_bytes(views.views[view].image)[y, x]
    vertices["confidence"] = estimate.confidence[y, x]
    return vertices


def _write_points(path: Path, vertices: np.ndarray) -> None:
    """A binary PLY of coloured points."""
    properties = [*(f"float {axis}" for axis in "xyz"), "uchar red", "uchar green", "uchar blue", "float confidence"]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {name}" for name in properties),
        "end_header\n",
    ]
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + vertices.tobytes())
