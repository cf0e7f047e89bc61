"""Train views for a fit: which photo each step sees, and the tensors on the device."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from datasets.errors import SceneError
from datasets.scenes import Kind, SplitName, open_scene
from datasets.types import Cameras, Scene, View
from recon3d.exposure import equalised
from recon3d.losses import Target
from recon3d.views import TrainingViews

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """One step's view: ``camera`` is a batch of one, ``index`` its place among the train views."""

    camera: Cameras
    target: Target
    index: int


def view_at(step: int, views: int, seed: int) -> int:
    """Index of the view that ``step`` sees: every epoch is a permutation of all views, a pure function of the seed."""
    epoch, place = divmod(step, views)
    return _order(epoch, views, seed)[place]


@lru_cache(maxsize=1)
def _order(epoch: int, views: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(views).tolist()
    return order


class StepLoader:
    """Yields the view index of each step up to ``steps``; resumes where its state says."""

    def __init__(self, views: int, steps: int, seed: int) -> None:
        self.views, self.steps, self.seed = views, steps, seed
        self.step = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[int]:
        while self.step < self.steps:
            self.step += 1
            yield view_at(self.step - 1, self.views, self.seed)

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


def _batch(cameras: Cameras, view: View, index: int) -> Batch:
    def tensor(value: np.ndarray | None) -> torch.Tensor | None:
        return None if value is None else torch.from_numpy(np.ascontiguousarray(value))

    image = torch.from_numpy(np.ascontiguousarray(view.image, dtype=np.float32))
    return Batch(cameras[index].to(dtype=torch.float32), Target(image, tensor(view.mask), tensor(view.depth)), index)


class SceneData(LightningDataModule):
    """The train split of a scene; test photos are never opened.

    Args:
        root: the scene's folder, or "builtin" for the scene that needs no files.
        kind: the folder's format; None recognises it.
        split: protocol by which train and test views are chosen; None takes what the source declares.
        views: number of train views; None keeps all that may train.
        nth: for the split "every_nth": every nth view tests.
        train: explicit indices of train views instead of a split; needs ``test``.
        test: explicit indices of test views.
        downscale: the photos at 1/N of their full size.
        background: colour in 0..1 behind photos with an alpha channel.
        equalise: bring the train photos to their mean exposure and white balance, see :mod:`recon3d.exposure`.
        seed: seed of the order in which views are seen.
    """

    def __init__(
        self,
        root: Path,
        kind: Kind | None = None,
        split: SplitName | None = None,
        views: int | None = None,
        nth: int = 8,
        train: list[int] | None = None,
        test: list[int] | None = None,
        downscale: int = 1,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        equalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root, self.downscale, self.equalise, self.seed = root, downscale, equalise, seed
        self._open = partial(
            open_scene,
            root,
            kind,
            split=split,
            views=views,
            nth=nth,
            train=train,
            test=test,
            background=background,
        )
        self._scene: Scene | None = None
        self._views: TrainingViews | None = None
        self._batches: list[Batch] = []

    @property
    def scene(self) -> Scene:
        """The scene, opened once."""
        if self._scene is None:
            self._scene = self._open(downscale=self.downscale)
        return self._scene

    @property
    def views(self) -> TrainingViews:
        """The train views, loaded once."""
        if self._views is None:
            twice = self._finer if self.downscale % 2 == 0 else None
            self._views = replace(self._load(self.scene), finer=twice)
            self._batches = [_batch(self._views.cameras, view, i) for i, view in enumerate(self._views.views)]
        return self._views

    def _load(self, scene: Scene) -> TrainingViews:
        views = TrainingViews.load(scene)
        return equalised(views) if self.equalise else views

    def _finer(self) -> TrainingViews | None:
        try:
            return self._load(self._open(downscale=self.downscale // 2))
        except SceneError as error:
            logger.warning("photos of twice the size would give a finer depth: %s", error)
            return None

    def setup(self, stage: str) -> None:
        """Load the train photos (Lightning's hook)."""
        _ = self.views

    def batch(self, index: int, device: torch.device) -> Batch:
        """Train view ``index`` on ``device``, moved there once."""
        batch = self._batches[index]
        if batch.target.image.device != device:
            mask, depth = (None if x is None else x.to(device) for x in (batch.target.mask, batch.target.depth))
            target = Target(batch.target.image.to(device), mask, depth)
            batch = self._batches[index] = Batch(batch.camera.to(device), target, index)
        return batch

    def train_dataloader(self) -> StepLoader:
        """One epoch of ``trainer.max_steps`` steps (Lightning's hook)."""
        assert self.trainer is not None
        return StepLoader(len(self.views), self.trainer.max_steps, self.seed)

    def transfer_batch_to_device(self, batch: int, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch that a step index stands for (Lightning's hook)."""
        return self.batch(batch, device)
