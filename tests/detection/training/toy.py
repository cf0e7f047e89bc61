"""Small clouds with a car and a pole, and a detector of them, for tests of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from datasets.pointclouds.types import Boxes3D, PointCloudSample


class ToyClouds:
    """``count`` clouds of a flat ground with a car and, in every other cloud, a pole, whose points fill their boxes."""

    def __init__(self, count: int = 6, seed: int = 0, boxes: bool = True, nan_loss_at: int | None = None) -> None:
        self.count, self.seed, self.boxes, self.nan_loss_at = count, seed, boxes, nan_loss_at

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> PointCloudSample:
        random = np.random.default_rng([self.seed, index])
        rows = [[*random.uniform([3, -5], [13, 5]), 0.0, 4.0, 1.8, 1.6, random.uniform(-3, 3)]]
        if index % 2:
            rows.append([*random.uniform([1, 6], [15, 7]), 0.0, 0.6, 0.6, 2.5, 0.0])
        clouds = [random.uniform([0, -8, -1.3], [16, 8, -1.25], (150, 3))]
        for x, y, z, *size, yaw in rows:
            along, across, up = (random.uniform(-0.5, 0.5, (80, 3)) * size).T
            cos, sin = np.cos(yaw), np.sin(yaw)
            clouds.append(np.stack([x + cos * along - sin * across, y + sin * along + cos * across, z + up], axis=1))
        xyz = np.concatenate(clouds)
        points = torch.from_numpy(np.column_stack([xyz, random.uniform(0, 100, len(xyz))])).float()
        boxes = torch.tensor(rows, dtype=torch.float32)
        if self.nan_loss_at == index:
            boxes[0, 6] = torch.nan
        annotated = Boxes3D(boxes, torch.arange(len(rows)))
        channels, names = ("x", "y", "z", "power"), ("Car", "Pole")
        return PointCloudSample(f"{index:03d}", points, channels, names, annotated if self.boxes else None)


class Swapped(ToyClouds):
    """The same with its classes in another order."""

    def __getitem__(self, index: int) -> PointCloudSample:
        sample = super().__getitem__(index)
        assert sample.boxes is not None
        return replace(sample, class_names=("Pole", "Car"), boxes=replace(sample.boxes, labels=1 - sample.boxes.labels))


class Misread(ToyClouds):
    """The same, as if files had eight channels and were read with four."""

    def __getitem__(self, index: int) -> PointCloudSample:
        sample = super().__getitem__(index)
        wide = torch.cat([sample.points, 0.1 * torch.rand_like(sample.points)], dim=1)
        return replace(sample, points=wide.view(-1, 4))


CONFIG = """
model:
  detector:
    class_path: detection.detector.Detector
    init_args:
      point_range: [0, -8, -2, 16, 8, 2]
      voxel_size: [0.5, 0.5, 4]
      encoder: {class_path: detection.encoders.PointNetEncoder, init_args: {point_channels: 4, channels: [8, 8]}}
      backbone:
        class_path: detection.dsvt.DSVT
        init_args: {channels: 8, heads: 2, feedforward: 16, blocks: [1], set_size: 8, window: [6, 6]}
      neck:
        class_path: detection.backbones.BEVNet
        init_args: {in_channels: 8, layers: [1], strides: [1], filters: [8], upsampled: [16]}
      head: {class_path: detection.heads.CenterHead, init_args: {in_channels: 16, classes: 2, channels: 8}}
data:
  train: {class_path: toy.ToyClouds}
  test: {class_path: toy.ToyClouds, init_args: {count: 3, seed: 1}}
  protocol:
    class_path: detection.protocols.KittiProtocol
    init_args: {overlaps: [{Car: 0.1, Pole: 0.1}]}
  steps:
    - class_path: datasets.pointclouds.augmentation.Flip
    - class_path: datasets.pointclouds.augmentation.Scale
  paste: {Pole: 1}
  features: {power: 100}
  batch_size: 2
trainer: {max_epochs: 4, accelerator: cpu, logger: false}
checkpoint: {every: 2}
history: {every: 1}
"""
