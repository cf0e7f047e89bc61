"""Batches in an order that is a function of seed and step alone, so that a training can go on where it was."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from torch.utils.data import DataLoader

from datasets.pointclouds.augmentation import Augmented
from datasets.pointclouds.types import PointCloudBatch, PointCloudSample
from detection.channels import select_channels


def order(epoch: int, samples: int, batch: int, seed: int) -> np.ndarray:
    """[steps, batch] numbers of the samples of each step of an epoch: all of them, some twice to fill the last step."""
    shuffled = np.random.default_rng([seed, epoch]).permutation(samples)
    return np.resize(shuffled, (-(-samples // batch), batch))


def collate(samples: list[PointCloudSample], features: dict[str, float] | None) -> PointCloudBatch:
    """A batch of what the network sees of ``samples``."""
    return PointCloudBatch.collate([select_channels(sample, features) for sample in samples])


class StepLoader:
    """The batch of each step, through all epochs; resumes where its state says.

    Args:
        samples: varied by epoch; its ``epochs`` are how often all are seen.
        features: see :func:`detection.channels.select_channels`.
        batch_size: samples of a batch, in each of the processes.
        seed: of the order.
        workers: loading processes; 0 loads in this one.
        rank, processes: which of the training processes this is; together they see a joint batch.
    """

    def __init__(
        self,
        samples: Augmented,
        features: dict[str, float] | None,
        batch_size: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.samples, self.features, self.seed, self.workers = samples, features, seed, workers
        self.batch_size, self.joint, self.rank = batch_size, batch_size * processes, rank
        self.step = 0

    def __len__(self) -> int:
        return self.samples.epochs * -(-len(self.samples) // self.joint)

    def __iter__(self) -> Iterator[PointCloudBatch]:
        while self.step < len(self):
            epoch, done = divmod(self.step, len(self) // self.samples.epochs)
            steps = order(epoch, len(self.samples), self.joint, self.seed)
            own = steps[done:, self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            self.samples.set_epoch(epoch)
            loader: DataLoader[PointCloudSample] = DataLoader(
                self.samples,  # type: ignore[arg-type]  # anything with a length and numbered samples will do
                batch_sampler=own.tolist(),
                num_workers=self.workers,
                collate_fn=partial(collate, features=self.features),
            )
            for batch in loader:
                self.step += 1  # before it is used: what is saved after a step begins with the next
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]
