"""The command ``recon3d suggest``: which photo to take next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from datasets.errors import InputError
from datasets.pictures import save_picture, to_bytes
from datasets.programs.devices import Device
from datasets.types import Cameras, Scene
from recon3d import paths
from recon3d.camera_map import camera_map
from recon3d.fitting.run_folder import write_text
from recon3d.novel_views import camera_records, focus_of
from recon3d.pictures import heat
from recon3d.rendering_device import rendering_device
from recon3d.runs import CAMERAS, SUGGESTION_MAP, SUGGESTIONS, open_scene_of, open_splat
from recon3d.splats import Splat
from recon3d.suggestion import Suggestion, suggest_views
from recon3d.uncertainty import Evidence, predict

POOLS = ("around", "photos")


def suggest(
    run: Path,
    *,
    candidates: str = "around",
    count: int = 3,
    root: Path | None = None,
    device: Device = "auto",
    report: bool = True,
) -> None:
    """Say which further photos would help a fitted run most, best first.

    Writes cameras.json (the suggested poses: `recon3d render --path` and `view3d` take it), a picture of each (what the
    splat shows from there, and the error predicted), and map.png to RUN/suggestions. A photo helps by showing what no
    other shows from nearly the same side, as seen from the other candidates, and with --candidates photos from the
    test photos too. Of these only poses are looked at, no photo is opened.

    Args:
        run: Folder of the run.
        candidates: around (places beside and beyond those of the photos used), photos (the scene's photos that neither
            the fit used nor the test), or a file with cameras, FILE.json, as in cameras.json.
        count: How many to suggest.
        root: Where the scene's folder is now, if it was moved since the fit.
        device: Where to compute.
        report: Whether to write the run's report.html again.
    """
    if candidates not in POOLS and Path(candidates).suffix != ".json":
        raise InputError(
            f"there are no candidates {candidates!r}: give {' or '.join(POOLS)}, or FILE.json with cameras"
        )
    scene, splat = open_scene_of(run, root), open_splat(run)
    splat = splat.to(rendering_device(device))
    used = scene.cameras[list(scene.train)]
    pool, names = _pool(candidates, scene, splat, used)
    further = scene.cameras[list(scene.test)] if candidates == "photos" else None
    found = suggest_views(splat, used, pool, count, further)
    evidence = Evidence.of(splat, scene)

    folder = run / SUGGESTIONS
    lines = []
    for rank, suggestion in enumerate(found, 1):
        seen = predict(splat, pool[suggestion.index], evidence)
        save_picture(folder / f"{rank}.png", np.hstack([to_bytes(seen.picture.colour.cpu().numpy()), heat(seen.error)]))
        lines.append(f"{rank}. {_words(names, suggestion.index, pool, used, scene)}: {_gain(suggestion)}")
    save_picture(folder / SUGGESTION_MAP, camera_map(splat, used, pool, [suggestion.index for suggestion in found]))
    write_text(folder / CAMERAS, _listing(found, lines, pool, splat))
    print("\n".join(lines))
    print(f"poses, pictures and map: {folder}")
    if report:
        from recon3d.report import write_report

        print(f"report: {write_report(run, root)}")


def _pool(candidates: str, scene: Scene, splat: Splat, used: Cameras) -> tuple[Cameras, list[str]]:
    """The candidates, and their photos' names where they have them."""
    if candidates == "photos":
        others = [i for i in range(len(scene)) if i not in (*scene.train, *scene.test)]
        if not others:
            raise InputError(f"scene {scene.name} has no photos beside those of fit and test: give --candidates around")
        if len({scene.cameras[i].size for i in others}) > 1:
            raise InputError(f"the further photos of {scene.name} differ in size: give --candidates around")
        return scene.cameras[others], [scene.photos[i].path.name for i in others]
    if candidates == "around":
        return paths.around(used, focus_of(splat, used)), []
    return paths.from_json(Path(candidates), splat.scene_to_source), []


def _gain(suggestion: Suggestion) -> str:
    return f"photos show {suggestion.before:.1%} from nearly the same side, with it {suggestion.after:.1%}"


def _words(names: list[str], index: int, pool: Cameras, used: Cameras, scene: Scene) -> str:
    """Where a candidate is: its photo's name, or the way from the nearest photo used."""
    if names:
        return names[index]
    pose, poses = pool.world_to_camera[index].double(), used.world_to_camera.double()
    centre = -pose[:3, :3].T @ pose[:3, 3]
    centres = -torch.einsum("cji,cj->ci", poses[:, :3, :3], poses[:, :3, 3])
    nearest = int((centres - centre).norm(dim=1).argmin())
    right, down, ahead = (poses[nearest, :3, :3] @ (centre - centres[nearest])).tolist()
    relative = pose[:3, :3] @ poses[nearest, :3, :3].T
    turned = float(torch.rad2deg(torch.arccos(((relative.trace() - 1) / 2).clamp(-1, 1))))
    way = (
        f"{abs(right):.2g} {'right' if right > 0 else 'left'}",
        f"{abs(down):.2g} {'down' if down > 0 else 'up'}",
        f"{abs(ahead):.2g} {'ahead' if ahead > 0 else 'back'}",
    )
    return f"from {scene.photos[scene.train[nearest]].path.name} {', '.join(way)}, turned by {turned:.0f} degrees"


def _listing(found: list[Suggestion], lines: list[str], pool: Cameras, splat: Splat) -> str:
    records = camera_records(pool[[suggestion.index for suggestion in found]], splat)
    frames = [
        {**record, "file": f"{rank}.png", "text": line, "before": suggestion.before, "after": suggestion.after}
        for rank, (record, line, suggestion) in enumerate(zip(records, lines, found, strict=True), 1)
    ]
    return json.dumps({"frames": frames}, indent=1) + "\n"
