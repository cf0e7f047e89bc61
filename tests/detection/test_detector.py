"""Whole detectors: they learn a small scene, for every backbone and either head, and stand clouds without points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from datasets.pointclouds.types import Boxes3D, PointCloudBatch, PointCloudSample
from detection.backbones import BEVNet, SparseEncoder, SparsePyramid
from detection.boxes import iou_3d
from detection.detector import Detector
from detection.dsvt import DSVT
from detection.encoders import MeanEncoder, PointNetEncoder
from detection.heads import CenterHead, Selection, SparseHead

RANGE = (0.0, -8.0, -2.0, 16.0, 8.0, 2.0)
CHANNELS, CLASSES = ("x", "y", "z", "intensity"), ("Car", "Pole")
STEPS = 60
SELECTION = Selection(score=0.2, overlap=0.1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network only waits for a second one
    yield
    torch.set_num_threads(before)


def dense(head_in: int) -> CenterHead:
    return CenterHead(head_in, 2, 16, selection=SELECTION)


def bev(in_channels: int, strides: tuple[int, ...] = (1, 2)) -> BEVNet:
    return BEVNet(in_channels, (1, 1), strides, (16, 32), (16, 16))


PILLAR, FINE = (0.5, 0.5, 4.0), (0.25, 0.25, 0.25)
SETS = {"heads": 2, "feedforward": 32, "set_size": 8, "window": (6, 6)}
DETECTORS: dict[str, Callable[[], Detector]] = {
    "pillars": lambda: Detector(RANGE, PILLAR, PointNetEncoder(4, (16, 16)), dense(32), neck=bev(16)),
    "dsvt": lambda: Detector(
        RANGE, PILLAR, PointNetEncoder(4, (16, 16)), dense(32), DSVT(16, blocks=(2,), **SETS), bev(16)
    ),
    "dsvt voxels": lambda: Detector(
        RANGE,
        (0.5, 0.5, 0.5),
        PointNetEncoder(4, (16, 16)),
        dense(32),
        DSVT(16, 8, blocks=(1, 1), pooling=(8,), **SETS),
        bev(16),
    ),
    "second": lambda: Detector(
        RANGE, FINE, MeanEncoder(4), dense(32), SparseEncoder(4, (8, 16), (1, 1), 16), bev(16 * 3)
    ),
    "sparse": lambda: Detector(
        RANGE,
        FINE,
        MeanEncoder(4),
        SparseHead(16, 2, 16, selection=SELECTION),
        SparsePyramid(4, (8, 16, 16, 16), (1, 1, 1, 1), merged=1),
    ),
}


def detector_of(name: str) -> Detector:
    """Each with the weights of seed 0, whatever was made before it."""
    torch.manual_seed(0)
    return DETECTORS[name]()


def sample(seed: int) -> PointCloudSample:
    """Two cars and a pole on a ground, each with points all over its surface."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.tensor([[3.0, -4, 0], [9.0, 3, 0], [12.0, -3, 0]]) + torch.rand(3, 3, generator=generator) - 0.5
    sizes = torch.tensor([[4.0, 1.8, 1.6], [4.0, 1.8, 1.6], [0.6, 0.6, 2.5]])
    yaw = torch.rand(3, 1, generator=generator) * 3 - 1.5
    boxes = torch.cat([places, sizes, yaw], dim=1)
    clouds = [
        torch.rand(300, 4, generator=generator) * torch.tensor([16, 16, 0.05, 1]) + torch.tensor([0, -8, -1.3, 0])
    ]
    for box in boxes:
        local = (torch.rand(150, 3, generator=generator) - 0.5) * box[3:6]
        cos, sin = box[6].cos(), box[6].sin()
        turn = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
        local[:, :2] = local[:, :2] @ turn.T
        clouds.append(torch.cat([local + box[:3], torch.rand(150, 1, generator=generator)], dim=1))
    return PointCloudSample(str(seed), torch.cat(clouds), CHANNELS, CLASSES, Boxes3D(boxes, torch.tensor([0, 0, 1])))


@pytest.mark.parametrize("name", DETECTORS)
def test_it_learns_two_scenes(name: str) -> None:
    detector = detector_of(name)
    batch = PointCloudBatch.collate([sample(0), sample(1)])
    assert batch.boxes is not None
    for module in detector.modules():  # so short a training needs running statistics that run faster
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 0.3
    optimiser = torch.optim.AdamW(detector.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=STEPS)
    history = []
    for _ in range(STEPS):
        losses = detector.loss(batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10)
        optimiser.step()
        schedule.step()
        history.append(losses["loss"].item())
    assert history[-1] < 0.2 * history[0]
    detector.eval()
    for wanted, got in zip(batch.boxes, detector.detect(batch), strict=True):
        best = got[: len(wanted)]
        overlap = iou_3d(wanted.boxes, best.boxes) * (wanted.labels[:, None] == best.labels)
        assert bool((overlap.amax(dim=1) > 0.4).all()), overlap


@pytest.mark.parametrize("name", DETECTORS)
def test_clouds_without_points(name: str) -> None:
    detector = detector_of(name).eval()
    nothing = PointCloudSample("empty", torch.zeros(0, 4), CHANNELS, CLASSES, Boxes3D.empty())
    found = detector.detect(PointCloudBatch.collate([nothing, sample(0), nothing]))
    assert len(found) == 3
    assert len(detector.detect(PointCloudBatch.collate([nothing]))) == 1


@pytest.mark.parametrize("name", DETECTORS)
def test_clouds_without_points_do_no_harm_to_a_training(name: str) -> None:
    detector = detector_of(name)
    nothing = PointCloudSample("empty", torch.zeros(0, 4), CHANNELS, CLASSES, sample(0).boxes)
    single = replace(nothing, points=torch.tensor([[8.0, 0, 0, 1]]))
    for samples in ([nothing, sample(1)], [nothing, nothing], [single]):
        detector.loss(PointCloudBatch.collate(samples))["loss"].backward()
    gradients = (parameter.grad for parameter in detector.parameters() if parameter.grad is not None)
    assert all(bool(value.isfinite().all()) for value in (*detector.state_dict().values(), *gradients))


@pytest.mark.parametrize("name", DETECTORS)
def test_a_batch_of_two_is_two_batches_of_one(name: str) -> None:
    detector = detector_of(name).eval()
    first, second = sample(0), sample(1)
    joint = PointCloudBatch.collate([first, second])
    both = detector(joint.points, joint.batch_index, 2)
    for number, each in enumerate((first, second)):
        alone = detector(each.points, torch.zeros(len(each), dtype=torch.int64), 1)
        heat = both.heat[both.cells[:, 0] == number]
        torch.testing.assert_close(heat, alone.heat, atol=1e-4, rtol=1e-3)


def test_a_batch_without_boxes_cannot_teach() -> None:
    unknown = PointCloudSample("7", sample(0).points, CHANNELS, CLASSES)
    with pytest.raises(ValueError, match="no boxes to learn from in 7"):
        detector_of("pillars").loss(PointCloudBatch.collate([unknown]))


def test_weights_go_through_a_state_dict() -> None:
    first, second = detector_of("dsvt").eval(), detector_of("dsvt").eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.01)
    second.load_state_dict(first.state_dict())
    batch = PointCloudBatch.collate([sample(0)])
    a, b = (each(batch.points, batch.batch_index, 1).heat for each in (first, second))
    assert torch.equal(a, b)
