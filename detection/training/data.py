"""Clouds to train on and to test on."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import LightningDataModule

from datasets.errors import InputError
from datasets.pointclouds.augmentation import Augmented, Samples, Step
from datasets.pointclouds.object_paste import Paste, cut_objects
from datasets.pointclouds.types import PointCloudSample
from detection.protocols import KittiProtocol, Protocol
from detection.training.loader import StepLoader


class CloudData(LightningDataModule):
    """Clouds with boxes.

    Args:
        train: to learn from, e.g. datasets.pointclouds.kitti.KittiDataset.
        test: to evaluate on; None for no evaluation.
        protocol: how to evaluate; None for KITTI's average precision of all objects, from above and in space.
        steps: how training samples are varied, e.g. datasets.pointclouds.augmentation.Flip.
        paste: how many objects of each class a training sample should have at least: missing ones are pasted from
            other samples.
        fade: shares of the training between which pasting fades out.
        features: channels beside x, y, z that the network sees, and by what each is divided; None for all as they are.
        batch_size: samples of a batch in each process.
        workers: loading processes.
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
        fade: tuple[float, float] = (0.8, 0.95),
        features: dict[str, float] | None = None,
        batch_size: int = 4,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or workers < 0:
            raise ValueError(f"data.batch_size is {batch_size} and data.workers {workers}: at least 1 and 0")
        if len(train) == 0:
            raise InputError("there are no samples to train on")
        self.train, self.test, self.protocol = train, test, protocol or KittiProtocol()
        self.steps, self.paste, self.fade, self.features = steps or [], paste or {}, fade, features
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.epochs = 1
        self._first: PointCloudSample | None = None
        self._pasting: list[Paste] | None = None

    @property
    def first(self) -> PointCloudSample:
        """The first training sample, which tells channels and classes."""
        if self._first is None:
            self._first = self.train[0]
        return self._first

    def _fading(self) -> Sequence[Step]:
        if self._pasting is None:
            self._pasting = [Paste(cut_objects(self.train), self.paste)] if self.paste else []
        return self._pasting

    def steps_per_epoch(self, processes: int) -> int:
        """Steps in which so many processes see every sample once."""
        return -(-len(self.train) // (self.batch_size * processes))

    def train_dataloader(self) -> StepLoader:
        """The batches of all ``epochs`` (Lightning's hook)."""
        assert self.trainer is not None
        varied = Augmented(
            self.train, self.steps, fading=self._fading(), epochs=self.epochs, fade=self.fade, seed=self.seed
        )
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return StepLoader(varied, self.features, self.batch_size, self.seed, self.workers, rank, processes)
