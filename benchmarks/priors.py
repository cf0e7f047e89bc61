"""Accuracy of the depth priors where the true depth is known, and the time that stereo takes on photos.

    python benchmarks/priors.py --rgbd SCENE --json out.json
    python benchmarks/priors.py --photos SCENE --downscale 4

Scenes: the built-in one (exact depth) at 2, 3 and 6 views, and with ``--rgbd`` a folder of RGB-D photos (a sensor's
depth): of all its photos the ``--views`` consecutive ones whose depth shows that they overlap most. Photos alone go
into a prior; the depth is only compared with. "flow, last target" is flow whose targets overwrite one another, as in
NexusGS's public code, instead of giving way to the least sensitive. Fusion is of flow and stereo, "as configured" of
flow and plane sweep with hardly any hole, as the configurations have it. ProjectedCloud alone is given truth: one
measured point for 400 pixels, of all photos together.

Columns: mean relative error |depth - truth| / truth; shares of the known pixels within 1, 3 and 10 %; coverage, the
share of pixels with a true depth that the prior knows; the share of all pixels with a true depth that are within 3 %;
CPU and wall clock seconds, after kernels are compiled. Each is given for everything that a prior knows, and for what
it is confident of.

With ``--photos`` instead: seconds that multi-view stereo and plane sweep take on ``--views`` evenly spread photos of a
scene, and the share of pixels that they know.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import yaml

from datasets.files import replacing
from datasets.geometry import unproject
from datasets.programs.environment import machine, versions
from datasets.scenes import builtin, open_scene
from datasets.types import Scene
from recon3d.priors import epipolar_flow
from recon3d.priors.agreement import round_trip_error
from recon3d.priors.fusion import Fusion
from recon3d.priors.multi_view_stereo import MultiViewStereo
from recon3d.priors.plane_sweep import PlaneSweep
from recon3d.priors.projected_cloud import ProjectedCloud
from recon3d.priors.types import DepthEstimate
from recon3d.views import TrainingViews

WITHIN = (0.01, 0.03, 0.1)
CONFIDENT = 0.8
CONFIG = Path(__file__).resolve().parent.parent / "configs" / "recon3d" / "photos.yaml"
SPARSENESS = 400
SAME_SURFACE = 5.0  # pixels; a sensor's depth is rough
TIMED = ("MultiViewStereo", "PlaneSweep")


class Result(NamedTuple):
    """Estimates of all views and what they cost."""

    estimates: Sequence[DepthEstimate]
    cpu: float
    wall: float


def timed(run: Callable[[], Sequence[DepthEstimate]]) -> Result:
    """Call ``run`` and measure."""
    cpu, wall = time.process_time(), time.perf_counter()
    estimates = run()
    return Result(estimates, time.process_time() - cpu, time.perf_counter() - wall)


def accuracy(views: TrainingViews, estimates: Sequence[DepthEstimate], least: float) -> dict[str, float | None]:
    """Compare with the true depth of all views together where the confidence is at least ``least`` (and not 0)."""
    errors, truths = [], 0
    for view, estimate in zip(views.views, estimates, strict=True):
        if view.depth is None:
            continue
        truths += int((view.depth > 0).sum())
        both = estimate.known & (estimate.confidence >= least) & (view.depth > 0)
        errors.append(np.abs(estimate.depth[both] / view.depth[both].astype(np.float64) - 1))
    error = np.concatenate(errors)
    known = len(error) > 0
    row: dict[str, float | None] = {"abs_rel": float(error.mean()) if known else None}
    row |= {f"within_{100 * w:.0f}": float((error < w).mean()) if known else None for w in WITHIN}
    return row | {"coverage": len(error) / truths, "all_within_3": float((error < 0.03).sum() / truths)}


def overlapping(scene: Scene, count: int) -> tuple[int, ...]:
    """The ``count`` consecutive photos of ``scene`` whose true depth agrees most, each with its best other."""
    depths = [np.zeros((1, 1)) if photo is None else photo for photo in (p.load().depth for p in scene.photos)]
    best, chosen = -1.0, tuple(range(count))
    shares = np.zeros((len(depths), len(depths)))
    for i in range(len(depths)):
        for j in range(max(0, i - count + 1), min(len(depths), i + count)):
            if i != j:
                shares[i, j] = (round_trip_error(scene.cameras, depths, i, j) < SAME_SURFACE).mean()
    for first in range(len(depths) - count + 1):
        window = shares[first : first + count, first : first + count]
        if (share := float(window.max(axis=1).mean())) > best:
            best, chosen = share, tuple(range(first, first + count))
    return chosen


def scenes(rgbd: Path | None, count: int) -> dict[str, Scene]:
    """Scenes whose train photos have their true depth, by title."""
    found = {f"built-in, {n} views": builtin.generate(views=n) for n in (2, 3, 6)}
    if rgbd is not None:
        scene = open_scene(rgbd)
        chosen = overlapping(scene, count)
        found[f"{scene.name}, photos {chosen[0]}-{chosen[-1]}"] = scene.with_split(chosen, ())
    return found


def last_target(depths: Sequence[np.ndarray], sensitivities: Sequence[np.ndarray]) -> np.ndarray:
    """[H, W] of T maps: what the last target says whose match survived, 0 where none did."""
    chosen = np.zeros(depths[0].shape)
    for depth, sensitivity in zip(depths, sensitivities, strict=True):
        chosen = np.where(np.isfinite(sensitivity), depth, chosen)
    return chosen


def overwritten(views: TrainingViews) -> list[DepthEstimate]:
    """Flow whose targets overwrite one another."""
    with patch.object(epipolar_flow, "least_sensitive", last_target):
        return epipolar_flow.EpipolarFlow()(views)


def scanned(views: TrainingViews) -> list[DepthEstimate]:
    """The cloud of one measured point for SPARSENESS pixels of all photos, as a scanner among them would have it."""
    random, points = np.random.default_rng(0), []
    for i, view in enumerate(views.views):
        if view.depth is not None:
            seen = unproject(torch.from_numpy(view.depth), views.cameras[i]).reshape(-1, 3)
            measured = np.flatnonzero(view.depth > 0)
            points.append(seen[random.choice(measured, len(measured) // SPARSENESS, replace=False)])
    world = views.scene_to_source
    with TemporaryDirectory() as folder:
        np.save(path := Path(folder) / "cloud.npy", torch.cat(points).numpy() @ world[:3, :3].T + world[:3, 3])
        return ProjectedCloud(path)(views)


PRIORS: dict[str, Callable[[TrainingViews], Sequence[DepthEstimate]]] = {
    "flow, last target": overwritten,
    "EpipolarFlow": epipolar_flow.EpipolarFlow(),
    "PlaneSweep": PlaneSweep(),
    "MultiViewStereo": MultiViewStereo(),
    "ProjectedCloud": scanned,
}


def configured() -> Fusion:
    """The fusion of the configurations, whose priors do not matter here."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    finer = config["model"]["initialiser"]["init_args"]["prior"]["init_args"]
    return Fusion(**{key: value for key, value in finer["prior"]["init_args"].items() if key != "priors"})


FUSED = {
    "Fusion": (Fusion(), ("EpipolarFlow", "MultiViewStereo")),
    "as configured": (configured(), ("EpipolarFlow", "PlaneSweep")),
}


def estimated(views: TrainingViews) -> dict[str, Result]:
    """What each prior and each fusion says of ``views``, and took, fused ones with what they are made of."""
    results = {name: timed(partial(prior, views)) for name, prior in PRIORS.items()}
    for name, (fusion, parts) in FUSED.items():
        before = [results[part] for part in parts]
        fused = timed(partial(fusion.fuse, views, [result.estimates for result in before]))
        cpu, wall = (sum(getattr(result, part) for result in (*before, fused)) for part in ("cpu", "wall"))
        results[name] = Result(fused.estimates, cpu, wall)
    return results


def compile_kernels() -> None:
    """Run everything once, so that no time includes compiling."""
    estimated(TrainingViews.load(builtin.generate((96, 72), views=2)))


def seconds(result: Result) -> dict[str, float]:
    """What a result cost, as a row has it."""
    return {"cpu_seconds": round(result.cpu, 1), "wall_seconds": round(result.wall, 1)}


def compare(chosen: dict[str, Scene]) -> list[dict[str, Any]]:
    """Print the accuracy of all priors on each scene, and return it as rows."""
    rows = []
    head = ("abs_rel", *(f"within_{100 * w:.0f}" for w in WITHIN), "coverage", "all_within_3")
    print(f"| scene | prior | pixels | {' | '.join(head)} | CPU s | wall s |\n{'|---' * (len(head) + 5)}|")
    for title, scene in chosen.items():
        views = TrainingViews.load(scene)
        for name, result in estimated(views).items():
            for pixels, least in (("known", 0.0), ("confident", CONFIDENT)):
                row = accuracy(views, result.estimates, least)
                rows.append({"scene": title, "prior": name, "pixels": pixels, **row, **seconds(result)})
                numbers = " | ".join("–" if row[key] is None else f"{row[key]:.3f}" for key in head)
                print(f"| {title} | {name} | {pixels} | {numbers} | {result.cpu:.1f} | {result.wall:.1f} |", flush=True)
    return rows


def clock(scene: Scene) -> list[dict[str, Any]]:
    """Print what stereo takes on the train photos of a scene, and return it as rows."""
    rows = []
    views = TrainingViews.load(scene)
    size = "x".join(map(str, views.cameras.sizes[0].tolist()))
    print("| scene | photos | size | prior | known | CPU s | wall s |\n|---|---|---|---|---|---|---|")
    for name in TIMED:
        result = timed(partial(PRIORS[name], views))
        known = float(np.concatenate([one.known.ravel() for one in result.estimates]).mean())
        row = {"scene": scene.name, "photos": len(views), "size": size, "prior": name, "known": known}
        rows.append(row | seconds(result))
        numbers = f"{known:.3f} | {result.cpu:.1f} | {result.wall:.1f}"
        print(f"| {scene.name} | {len(views)} | {size} | {name} | {numbers} |", flush=True)
    return rows


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scene = parser.add_mutually_exclusive_group()
    scene.add_argument("--rgbd", type=Path, help="folder of RGB-D photos")
    scene.add_argument("--photos", type=Path, help="folder of a scene on which stereo is timed")
    parser.add_argument("--views", type=int, help="how many photos of the folder; by default 6 with depth, 3 without")
    parser.add_argument("--downscale", type=int, default=1, help="of --photos: 1/N of the full size")
    parser.add_argument("--only", default="", help="only scenes with a true depth whose title contains this")
    parser.add_argument("--json", type=Path, help="where to write the results")
    arguments = parser.parse_args()
    if arguments.photos is None:
        known = scenes(arguments.rgbd, arguments.views or 6)
        compile_kernels()
        rows = compare({title: known[title] for title in known if arguments.only in title})
    else:
        photos = open_scene(arguments.photos, views=arguments.views or 3, downscale=arguments.downscale)
        compile_kernels()
        rows = clock(photos)
    if arguments.json is not None:
        summary = {"rows": rows, "confident": CONFIDENT, "versions": versions(), "machine": machine()}
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
