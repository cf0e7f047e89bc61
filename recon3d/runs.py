"""Reading what a fit left in its run folder: the splat, the configuration, and the scene it was fitted to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets.errors import SceneError
from datasets.programs import run_folder
from datasets.types import Scene
from recon3d.fitting.run_folder import CONFIG, SPLAT
from recon3d.splats import Splat, load_splat

METRICS, REPORT, VIDEO, RENDERS = "metrics.json", "report.html", "video.mp4", "renders"
SUGGESTIONS, SUGGESTION_MAP, CAMERAS = "suggestions", "map.png", "cameras.json"


def open_splat(run: Path) -> Splat:
    """The splat that a fit left in ``run``.

    Raises:
        SceneError: where ``run`` is not the folder of a finished fit.
        SplatError: for a file that cannot be used.
    """
    if not (run / SPLAT).is_file():
        found = f"holds no {SPLAT}" if run.is_dir() else "there is no such folder"
        raise SceneError(run, found, "Give the folder that `recon3d fit --out` wrote to, once it has finished")
    return load_splat(run / SPLAT)


def read_config(run: Path) -> dict[str, Any]:
    """The full configuration of the fit.

    Raises:
        SceneError: where it is missing or not YAML.
    """
    return run_folder.read_config(run / CONFIG, "Give the folder that `recon3d fit --out` wrote to")


def open_scene_of(run: Path, root: Path | None = None) -> Scene:
    """The scene that ``run`` was fitted to, with the same split and size.

    Args:
        run: the folder of the run.
        root: where the scene's folder is now, if it was moved since.

    Raises:
        SceneError: where the run's configuration or the scene cannot be used.
    """
    from recon3d.fitting.data import SceneData

    data = read_config(run)["data"]
    if root is not None:
        data = {**data, "root": root}
    try:
        return SceneData(**{**data, "root": Path(data["root"])}).scene
    except (TypeError, KeyError) as error:
        raise SceneError(run / CONFIG, f"its section `data` does not open a scene ({error})", "Fit again") from error


def read_json(path: Path) -> Any | None:
    """What a JSON file of a run holds, or None where there is no such file.

    Raises:
        SceneError: for a file that is not JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SceneError(path, f"is not readable JSON ({error})", "Delete it and make it again") from error
