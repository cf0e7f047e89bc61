"""Splats for the viewer: it finds :func:`open_for_viewing` by the entry point in pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch

from datasets.errors import InputError, SceneError
from datasets.programs.run_folder import last_checkpoint
from datasets.scenes import open_scene
from datasets.types import Cameras, Scene, View
from recon3d.fitting.run_folder import CONFIG, SPLAT
from recon3d.gaussians import Gaussians
from recon3d.pictures import draw
from recon3d.rendering_device import rendering_device
from recon3d.runs import read_config
from recon3d.splats import SUFFIXES, Splat, load_splat
from recon3d.splats.mean import separated
from recon3d.uncertainty import Evidence, predict

_HEADER = 1 << 16  # bytes in which a PLY names its properties


@dataclass(frozen=True)
class ViewedSplat:
    """A splat on the device that renders it, and the scene it was fitted to where that is known and still there.

    Attributes:
        splat: the Gaussians and what belongs to them.
        sources: files of which a new version is another splat: of a run, its result and its last checkpoint.
        scene: the photos, in the splat's world.
    """

    splat: Splat
    sources: tuple[Path, ...]
    scene: Scene | None = None

    @property
    def background(self) -> tuple[float, float, float]:
        """Colour behind the Gaussians, 0..1."""
        return self.splat.background

    @property
    def antialiased(self) -> bool:
        """Whether the splat wants the anti-aliased mode."""
        return self.splat.antialiased

    @property
    def scene_to_source(self) -> np.ndarray:
        """[4, 4] similarity from the splat's world to that of the photos' files."""
        return self.splat.scene_to_source

    @property
    def predicts_error(self) -> bool:
        """Whether there are train photos to predict errors from."""
        return self.scene is not None and len(self.scene.train) > 0

    def render(self, camera: Cameras, width: int, height: int) -> View:
        """What ``camera`` (a batch of one) sees when its picture has width x height pixels."""
        seen = draw(self.splat, _sized(camera, width, height))
        return View(seen.colour.cpu().numpy(), depth=seen.depth)

    def error(self, camera: Cameras, width: int, height: int) -> np.ndarray:
        """[H, W] predicted mean absolute error of what :meth:`render` shows, see :mod:`recon3d.uncertainty`."""
        return predict(self.splat, _sized(camera, width, height), self._evidence).error

    @cached_property
    def _evidence(self) -> Evidence:
        assert self.scene is not None  # predicts_error
        return Evidence.of(self.splat, self.scene)

    def parameters(self) -> dict[str, np.ndarray]:
        """The six arrays of :class:`recon3d.gaussians.Gaussians`, by name."""
        return {name: value.cpu().numpy() for name, value in self.splat.gaussians.parameters().items()}


def _sized(camera: Cameras, width: int, height: int) -> Cameras:
    """The same view as a picture of width x height pixels."""
    intrinsics = camera.intrinsics.clone()
    intrinsics[0, :2] *= (torch.tensor([width, height]) / camera.sizes[0])[:, None].to(intrinsics.dtype)
    return Cameras(camera.world_to_camera, intrinsics, torch.tensor([[width, height]]))


def open_for_viewing(path: Path) -> ViewedSplat | None:
    """The splat in a file or in the folder of a run; None for anything else (a PLY without Gaussians, for one).

    Of a run that is going on, its last checkpoint is shown.

    Raises:
        InputError: for a splat that cannot be read, and a run that has none yet.
    """
    if path.is_dir():
        if not (path / CONFIG).is_file():
            return None
        sources = (path / SPLAT, last_checkpoint(path))
        found = [source for source in sources if source.is_file()]
        if not found:
            raise InputError(f"{path}: the fit has written no checkpoint yet. Wait until it has, or give another run")
        newest = max(found, key=lambda source: source.stat().st_mtime_ns)
        scene = _scene(path)
        splat = load_splat(newest) if newest.name == SPLAT else _from_checkpoint(path, newest, scene)
        return ViewedSplat(splat.to(rendering_device("auto")), sources, scene)
    if path.suffix.lower() not in SUFFIXES or (path.suffix.lower() == ".ply" and not _has_gaussians(path)):
        return None
    return ViewedSplat(load_splat(path).to(rendering_device("auto")), (path,))


def _from_checkpoint(run: Path, path: Path, scene: Scene | None) -> Splat:
    """What a fit had found when it wrote its checkpoint."""
    # Not by the fit's own reader: that brings Lightning, whose import takes longer than all the rest.
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state, field = checkpoint["state_dict"], checkpoint["fit"]["densification"].get("field")
        values = {field.name: state[f"params.{field.name}"].clone() for field in fields(Gaussians)}
        red, green, blue = state["background"].tolist()
        antialiased = bool(read_config(run).get("model", {}).get("antialiased", False))
        to_source = np.eye(4) if scene is None else scene.scene_to_source
        gaussians = Gaussians(**values)
        fitted = [gaussians] if field is None else separated(gaussians, field)
        return Splat.of_fields(fitted, (red, green, blue), antialiased, to_source)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise SceneError(path, f"cannot be read as a checkpoint ({reason})", "Fit again") from error


def _scene(run: Path) -> Scene | None:
    """The run's photos; without them (moved, deleted) the splat is still worth seeing."""
    # Not by recon3d.runs.open_scene_of: that brings Lightning, whose import takes longer than all the rest.
    accepted = signature(open_scene).parameters
    try:
        data = {key: value for key, value in read_config(run)["data"].items() if key in accepted}
        return open_scene(**{**data, "root": Path(str(data.get("root")))})
    except (InputError, TypeError):
        return None


def _has_gaussians(path: Path) -> bool:
    if not path.is_file():
        return True  # so that loading says that there is none
    with path.open("rb") as file:
        header = file.read(_HEADER).partition(b"end_header")[0]
    return b" f_dc_0" in header or b" packed_position" in header
