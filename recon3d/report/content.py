"""What a report tells, gathered from a run folder; whatever is missing there is left out of the page."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets.errors import InputError, SceneError
from datasets.pictures import read_picture, to_bytes
from datasets.programs.shots import photographer
from recon3d.fitting.run_folder import HISTORY, PREVIEWS, SPLAT
from recon3d.runs import (
    CAMERAS,
    METRICS,
    RENDERS,
    SUGGESTION_MAP,
    SUGGESTIONS,
    VIDEO,
    open_scene_of,
    read_config,
    read_json,
)

OUTSIDE_SIZE = (960, 540)
SUFFIXES = {"render": "", **{kind: f"_{kind}" for kind in ("photo", "depth", "error", "predicted")}}  # of pictures
MOST_VIEWS, MOST_PHOTOS, MOST_PREVIEWS = 8, 24, 4


@dataclass(frozen=True)
class TestView:
    """One test view: its measures, and uint8 RGB pictures, "render", "photo", "depth", "error", "predicted" (error)."""

    name: str
    pictures: dict[str, np.ndarray]
    measures: dict[str, float | None]


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes:
        scene: the scene's name.
        config: text of config.yaml.
        photos: name and picture of the train photos, or why there are none.
        missing_photos: why ``photos`` is empty, or "".
        history: columns of history.json.
        metrics: metrics.json, or None before a test.
        views: test views with pictures, at most eight of them, spread over all.
        previews: name and picture of early views of the fit.
        video: the newest video, or None.
        suggestions: text and picture of each photo that `recon3d suggest` would take, best first.
        suggestion_map: where they would be taken, or None.
        outside: the splat with the places of its photos, from behind them, or None.
        train: how many train photos there are, of which ``photos`` may be a part.
        splat_bytes: size of the splat's file, 0 where there is none.
        budget: seconds that the fit was given, or None.
    """

    scene: str
    config: str
    photos: list[tuple[str, np.ndarray]]
    missing_photos: str
    history: dict[str, list[float]]
    metrics: dict[str, Any] | None
    views: list[TestView] = field(default_factory=list)
    previews: list[tuple[str, np.ndarray]] = field(default_factory=list)
    video: Path | None = None
    suggestions: list[tuple[str, np.ndarray]] = field(default_factory=list)
    suggestion_map: np.ndarray | None = None
    outside: np.ndarray | None = None
    train: int = 0
    splat_bytes: int = 0
    budget: float | None = None


def gather(run: Path, root: Path | None = None) -> Content:
    """Read everything a report needs.

    Args:
        run: the folder of a run.
        root: where the scene's folder is now, if it was moved since the fit.

    Raises:
        SceneError: where ``run`` is not the folder of a run, or one of its files cannot be read.
    """
    config = read_config(run)
    name = Path(str(config["data"].get("root") or run.resolve().name)).name
    photos, missing, train = [], "", 0
    try:
        scene = open_scene_of(run, root)
        name, train = scene.name, len(scene.train)
        for index in spread(len(scene.train), MOST_PHOTOS):
            photo = scene.photos[scene.train[index]]
            photos.append((photo.path.name, to_bytes(photo.load().image)))
    except SceneError as error:
        missing = f"The photos cannot be shown: {error}"
    metrics = _metrics(run)
    previews = sorted((run / PREVIEWS).glob("step_*.png"))
    return Content(
        scene=name,
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        photos=photos,
        missing_photos=missing,
        history=_history(run),
        metrics=metrics,
        views=_views(run, metrics),
        previews=[(path.stem, image) for path in _chosen(previews) if (image := read_picture(path)) is not None],
        video=run / VIDEO if (run / VIDEO).is_file() else None,
        suggestions=_suggestions(run),
        suggestion_map=read_picture(run / SUGGESTIONS / SUGGESTION_MAP),
        outside=None if missing else _outside(run, root),
        train=train,
        splat_bytes=(run / SPLAT).stat().st_size if (run / SPLAT).is_file() else 0,
        budget=float(budget) if isinstance(budget := config.get("budget"), (int, float)) else None,
    )


def _outside(run: Path, root: Path | None) -> np.ndarray | None:
    draw = photographer()
    if draw is None or root is not None or not (run / SPLAT).is_file():
        return None
    try:
        return draw([run], OUTSIDE_SIZE, "behind")
    except InputError:  # a picture less is still a report
        return None


def _suggestions(run: Path) -> list[tuple[str, np.ndarray]]:
    path = run / SUGGESTIONS / CAMERAS
    listing = read_json(path)
    frames = listing.get("frames") if isinstance(listing, dict) else [] if listing is None else None
    if not isinstance(frames, list) or not all(isinstance(f, dict) and isinstance(f.get("text"), str) for f in frames):
        raise SceneError(path, "does not hold suggestions", "Make it again with `recon3d suggest`")
    pictures = (read_picture(run / SUGGESTIONS / f"{rank}.png") for rank in range(1, len(frames) + 1))
    return [(frame["text"], image) for frame, image in zip(frames, pictures, strict=True) if image is not None]


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the indices below ``count``, the first and last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))}) if count else []


def _chosen(previews: list[Path]) -> list[Path]:
    return [previews[i] for i in spread(len(previews), MOST_PREVIEWS)]


def _metrics(run: Path) -> dict[str, Any] | None:
    metrics = read_json(run / METRICS)
    if metrics is None:
        return None
    images = metrics.get("images") if isinstance(metrics, dict) else None
    if (
        not isinstance(images, list)
        or not all(isinstance(image, dict) and isinstance(image.get("name"), str) for image in images)
        or not all(isinstance(metrics.get(key, {}), dict) for key in ("mean", "notes", "conventions"))
        or not _is_curve(metrics.get("uncertainty"))
    ):
        raise SceneError(run / METRICS, "does not hold metrics", "Make it again with `recon3d test`")
    return metrics


def _views(run: Path, metrics: dict[str, Any] | None) -> list[TestView]:
    images = metrics["images"] if metrics else []
    views = []
    for image in (images[i] for i in spread(len(images), MOST_VIEWS)):
        name = Path(image["name"]).name  # never a path that leads elsewhere
        pictures = {
            kind: found
            for kind, suffix in SUFFIXES.items()
            if (found := read_picture(run / RENDERS / "test" / f"{name}{suffix}.png")) is not None
        }
        if "render" in pictures and "photo" in pictures:
            views.append(TestView(image["name"], pictures, measures(image)))
    return views


def _is_curve(summary: Any) -> bool:
    """Whether metrics.json tells nothing about predicted errors, or a curve of them."""
    if summary is None:
        return True
    if not isinstance(summary, dict):
        return False
    columns = [summary.get(name) for name in ("predicted", "measured")]
    values = [summary.get("ause"), summary.get("ause_of_chance"), summary.get("measured_over_predicted", 1)]
    for column in columns:
        if not isinstance(column, list) or not column or len(column) != len(columns[0] or ()):
            return False
        values += column
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )


def measures(image: dict[str, Any]) -> dict[str, float | None]:
    """The measures among what metrics.json says of an image or the mean."""
    return {
        key: None if value is None else float(value)
        for key, value in image.items()
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    }


def _history(run: Path) -> dict[str, list[float]]:
    records = read_json(run / HISTORY)
    if records is None:
        return {}
    names = ("step", "loss", "psnr", "gaussians", "seconds")
    try:
        columns = {name: [float(record.get(name, math.nan)) for record in records] for name in names}
    except (TypeError, ValueError, AttributeError) as error:
        raise SceneError(run / HISTORY, "does not hold a history of steps", "Fit again") from error
    return columns if records else {}
