"""Clouds to train on and to test on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from lightning.pytorch import LightningDataModule

from datasets.errors import InputError
from datasets.pointclouds.augmentation import Augmented, Samples, Step
from datasets.pointclouds.object_paste import (
    ObjectDatabase,
    Paste,
    cut_objects,
    fingerprint,
    has_objects,
    read_objects,
    write_objects,
)
from datasets.pointclouds.types import PointCloudSample
from detection.channels import select_channels
from detection.protocols import KittiProtocol, Protocol
from detection.training.loader import StepLoader


class Needed:
    """Samples with nothing but what a training needs of them, so that less has to be varied.

    Args:
        samples: with all channels, cameras and photos.
        features: see :func:`detection.channels.select_channels`; the numbers are left as they are.
        in_memory: keep every sample once it was read.
    """

    def __init__(self, samples: Samples, features: Mapping[str, float] | None, in_memory: bool) -> None:
        self.samples, self.in_memory = samples, in_memory
        self.features = None if features is None else dict.fromkeys(features, 1.0)
        self._kept: dict[int, PointCloudSample] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> PointCloudSample:
        if index in self._kept:
            return self._kept[index]
        sample = replace(select_channels(self.samples[index], self.features), cameras=None, photos=())
        if self.in_memory:
            self._kept[index] = sample
        return sample


class CloudData(LightningDataModule):
    """Clouds with boxes.

    Args:
        train: to learn from, e.g. datasets.pointclouds.kitti.KittiDataset.
        test: to evaluate on; None for no evaluation.
        protocol: how to evaluate; None for KITTI's average precision of all objects, from above and in space.
        steps: how training samples are varied, e.g. datasets.pointclouds.augmentation.Flip.
        paste: how many objects of each class a training sample should have at least: missing ones are pasted from
            other samples.
        objects: folder that keeps the objects to paste: cut out of the training samples once, then read. Delete it
            after a change of labels or clouds, as not every frame is compared. None cuts them out at every start.
        fade: shares of the training between which pasting fades out.
        features: channels beside x, y, z that the network sees, and by what each is divided; None for all as they are.
        batch_size: samples of a batch in each process.
        workers: loading processes.
        in_memory: keep the training samples in memory, for sets that fit into it; of use without loading processes.
        seed: of order and variation.

    ``epochs``, how often each sample is seen, is set by the command.
    """

    def __init__(
        self,
        train: Samples,
        test: Samples | None = None,
        protocol: Protocol | None = None,
        steps: list[Step] | None = None,
        paste: dict[str, int] | None = None,
        objects: Path | str | None = None,
        fade: tuple[float, float] = (0.8, 0.95),
        features: dict[str, float] | None = None,
        batch_size: int = 4,
        workers: int = 0,
        in_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or workers < 0:
            raise ValueError(f"data.batch_size is {batch_size} and data.workers {workers}: at least 1 and 0")
        if len(train) == 0:
            raise InputError("there are no samples to train on")
        Augmented(train, (), fade=fade)  # refuses a fade that is none
        self.train, self.test, self.protocol = train, test, protocol or KittiProtocol()
        self.steps, self.paste, self.fade, self.features = steps or [], paste or {}, fade, features
        self.objects = None if objects is None else Path(objects)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.epochs = 1
        self._needed = Needed(train, features, in_memory)
        self._first: PointCloudSample | None = None
        self._pasting: list[Paste] | None = None

    @property
    def first(self) -> PointCloudSample:
        """The first training sample, which tells channels and classes."""
        if self._first is None:
            self._first = self.train[0]
        return self._first

    @cached_property
    def _source(self) -> str:
        return fingerprint(self._needed)

    def check_objects(self) -> None:
        """Raise InputError where the folder ``objects`` holds what cannot be pasted, or cannot be filled."""
        if self.objects is None or not self.paste:
            return
        if has_objects(self.objects):
            self._fading()
            return
        try:
            self.objects.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.objects}: cannot hold objects ({error.strerror}). Give another folder") from error
        if not os.access(self.objects, os.W_OK):
            raise InputError(f"{self.objects}: cannot be written to. Allow it, or give another folder")

    def prepare_data(self) -> None:
        """Fill the folder ``objects`` where that is to be done (Lightning's hook: in one process, others wait)."""
        if self.paste and self.objects is not None and not has_objects(self.objects):
            write_objects(cut_objects(self._needed), self.objects, self._source)

    def _to_paste(self) -> ObjectDatabase:
        return cut_objects(self._needed) if self.objects is None else read_objects(self.objects, self._source)

    def _fading(self) -> Sequence[Step]:
        if self._pasting is None:
            self._pasting = [Paste(self._to_paste(), self.paste)] if self.paste else []
        return self._pasting

    def steps_per_epoch(self, processes: int) -> int:
        """Steps in which so many processes see every sample once."""
        return -(-len(self.train) // (self.batch_size * processes))

    def train_dataloader(self) -> StepLoader:
        """The batches of all ``epochs`` (Lightning's hook)."""
        assert self.trainer is not None
        varied = Augmented(
            self._needed, self.steps, fading=self._fading(), epochs=self.epochs, fade=self.fade, seed=self.seed
        )
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return StepLoader(varied, self.features, self.batch_size, self.seed, self.workers, rank, processes)
