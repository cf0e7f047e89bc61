"""Heads: coding, targets against literal versions, losses, and boxes found again in perfect predictions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from datasets.pointclouds.types import Boxes3D, wrap_angle
from detection.boxes import iou_3d, iou_3d_aligned
from detection.heads import CenterHead, Head, LossWeights, Predictions, Selection, SparseHead
from detection.heads.coding import CODE, DIVIDE, FRONT, BevGrid, _stride, decode_boxes, encode_boxes
from detection.heads.losses import distance_iou_loss, focal_loss
from detection.heads.targets import gaussian_radius, heat_around
from detection.sparse import SparseTensor, VoxelGrid

GRID = VoxelGrid((-2, -8, -2, 14, 8, 2), (0.25, 0.25, 4))
CLASSES = 3


def scene(seed: int, count: int = 6) -> Boxes3D:
    """Boxes that do not overlap, some way from the map's border."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(0, 7)
    while len(chosen) < count:
        low, high = torch.tensor([-1, -7, -1, 0.5, 0.5, 0.5, -math.pi]), torch.tensor([13, 7, 1, 4, 2, 2, math.pi])
        box = low + torch.rand(1, 7, generator=generator) * (high - low)
        if not iou_3d(box, chosen).any():
            chosen = torch.cat([chosen, box])
    velocities = torch.randn(count, 2, generator=generator)
    return Boxes3D(chosen, torch.randint(0, CLASSES, (count,), generator=generator), velocities=velocities)


def heads(**options) -> dict[str, tuple[Head, Tensor | SparseTensor]]:
    torch.manual_seed(0)
    indices = (torch.rand(2, 1, 32, 32) < 0.5).nonzero().int()
    voxels = SparseTensor(torch.randn(len(indices), 8), indices, (1, 32, 32), 2)
    return {
        "center": (CenterHead(8, CLASSES, 16, **options), torch.randn(2, 8, 32, 32)),
        "sparse": (SparseHead(8, CLASSES, 16, **options), voxels),
    }


def perfect(head: Head, predictions: Predictions, boxes: list[Boxes3D]) -> Predictions:
    """What the head would say if it knew."""
    targets = head.targets(predictions, boxes)
    code = torch.zeros(len(predictions.heat), head.code_size)
    cells = predictions.cells[targets.rows, 1:]
    code[targets.rows, :CODE] = encode_boxes(targets.boxes, cells, predictions.bev)
    code[targets.rows, FRONT] *= 20  # a logit
    code[targets.rows, CODE] = 1
    if head.velocity:
        code[targets.rows, CODE + 1 :] = targets.velocities
    return replace(predictions, heat=targets.heat.clamp(1e-4, 1 - 1e-4).logit(), code=code)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_cells_are_as_large_as_the_strides_of_layers_that_round_up(stride: int) -> None:
    for voxels in range(2 * stride, 450):
        cells = voxels
        for _ in range(stride.bit_length() - 1):
            cells = -(-cells // 2)
        assert _stride(voxels, cells) == stride, voxels


def test_coding_there_and_back() -> None:
    boxes = scene(0, 12).boxes
    bev = BevGrid.of(GRID, 32, 32)
    assert bev.cell == (0.5, 0.5)
    cells = bev.positions(boxes[:, :2]).floor().long().flip(1)
    code = encode_boxes(boxes, cells, bev)
    assert bool((code[:, :2].abs() <= 0.5 + 1e-5).all())
    torch.testing.assert_close(decode_boxes(code, cells, bev), boxes, atol=1e-5, rtol=1e-5)
    code[:, 6:] *= 3  # only the direction counts
    torch.testing.assert_close(decode_boxes(code, cells, bev), boxes, atol=1e-5, rtol=1e-5)


def test_front_and_back_differ_in_the_front_alone() -> None:
    bev, yaw = BevGrid.of(GRID, 32, 32), torch.linspace(-math.pi, math.pi, 721)[:-1]
    boxes = torch.tensor([[3.0, 1, 0, 4, 2, 1.5, 0]]).repeat(len(yaw), 1)
    cells = bev.positions(boxes[:, :2]).floor().long().flip(1)
    boxes[:, 6] = yaw
    turned = boxes.clone()
    turned[:, 6] = wrap_angle(yaw + math.pi)
    code, back = encode_boxes(boxes, cells, bev), encode_boxes(turned, cells, bev)
    torch.testing.assert_close(code[:, :FRONT], back[:, :FRONT], atol=1e-5, rtol=0)
    known = (yaw - DIVIDE).cos().abs() > 1e-3  # there an end is on either side
    assert (~known).sum() == 2
    assert (code[known, FRONT] == -back[known, FRONT]).all()
    code[:, FRONT] *= -1
    found = decode_boxes(code, cells, bev)
    assert bool(((found[:, 6] >= -math.pi) & (found[:, 6] < math.pi)).all())
    difference = wrap_angle(found[:, 6] - turned[:, 6])
    assert bool((difference[known].abs() < 1e-5).all())


def test_a_front_that_cannot_be_known_does_not_turn_the_box() -> None:
    """Of cars whose fronts point either way, with nothing that tells which, a network learns the mean: their axis."""
    bev, cells = BevGrid.of(GRID, 32, 32), torch.zeros(2, 2, dtype=torch.int64)
    boxes = torch.tensor([[0.0, 0, 0, 4, 2, 1.5, 0.4], [0.0, 0, 0, 4, 2, 1.5, 0.4 - math.pi]])
    wanted = encode_boxes(boxes, cells, bev)
    learned = wanted.mean(dim=0, keepdim=True)
    assert learned[0, FRONT] == 0
    axis = decode_boxes(learned, cells[:1], bev)[0, 6]
    assert abs(math.sin(axis - 0.4)) < 1e-5


@pytest.mark.parametrize("name", heads())
def test_boxes_are_found_again(name: str) -> None:
    head, features = heads(velocity=True, selection=Selection(score=0.3))[name]
    boxes = [scene(1), scene(2)]
    head.eval()
    found = head.boxes(perfect(head, head(features, GRID), boxes))
    for wanted, got in zip(boxes, found, strict=True):
        overlap = iou_3d(wanted.boxes, got.boxes)
        assert len(got) == len(wanted)
        assert bool((overlap.amax(dim=1) > 0.999).all())
        which = overlap.argmax(dim=1)
        assert torch.equal(got.labels[which], wanted.labels)
        assert got.scores is not None
        assert bool((got.scores > 0.99).all())
        assert bool((got.scores[1:] <= got.scores[:-1]).all())
        torch.testing.assert_close(got.velocities[which], wanted.velocities)


@pytest.mark.parametrize("name", heads())
def test_perfect_predictions_cost_nothing(name: str) -> None:
    head, features = heads(velocity=True)[name]
    boxes = [scene(1), scene(2)]
    guessed = head.loss(head(features, GRID), boxes)
    assert set(guessed) == {"heat", "box", "front", "overlap", "quality", "velocity"}
    known = head.loss(perfect(head, head(features, GRID), boxes), boxes)
    for part, value in known.items():
        # The focal loss is not quite zero around objects, where the heat it wants is below one.
        assert value < (0.5 if part == "heat" else 1e-4), part
        assert value < 0.2 * guessed[part]
    sum(guessed.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("name", heads())
def test_scenes_without_boxes_and_boxes_without_a_place(name: str) -> None:
    head, features = heads()[name]
    losses = head.loss(head(features, GRID), [Boxes3D.empty(), Boxes3D.empty()])
    assert losses["heat"] > 0
    assert losses["box"] == losses["front"] == losses["overlap"] == losses["quality"] == 0
    outside = scene(0)
    outside.boxes[:, 0] += 100
    flat = scene(1)
    flat.boxes[:, 4] = 0
    assert len(head.targets(head(features, GRID), [outside, flat]).rows) == 0


@pytest.mark.parametrize(("length", "width"), [(8.0, 4.0), (1.6, 1.2), (20.0, 5.0)])
def test_radius_is_that_of_centerpoints_code(length: float, width: float) -> None:
    least, total, area = 0.1, length + width, length * width
    roots = (
        (total + math.sqrt(total**2 - 4 * area * (1 - least) / (1 + least))) / 2,
        (2 * total + math.sqrt(4 * total**2 - 16 * (1 - least) * area)) / 2,
        (-2 * least * total + math.sqrt(4 * least**2 * total**2 - 16 * least * (least - 1) * area)) / 2,
    )
    found = gaussian_radius(torch.tensor(length), torch.tensor(width))
    assert float(found) == pytest.approx(min(roots), rel=1e-5)


def literal_heat(cells: Tensor, labels: Tensor, boxes: Tensor, bev: BevGrid, batch: int) -> Tensor:
    heat = torch.zeros(batch, bev.height, bev.width, CLASSES)
    for (number, cy, cx), label, box in zip(cells.tolist(), labels.tolist(), boxes, strict=True):
        radius = max(int(gaussian_radius(box[3] / bev.cell[0], box[4] / bev.cell[1])), 2)
        sigma = (2 * radius + 1) / 6
        for y in range(max(cy - radius, 0), min(cy + radius + 1, bev.height)):
            for x in range(max(cx - radius, 0), min(cx + radius + 1, bev.width)):
                value = math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
                heat[number, y, x, label] = max(float(heat[number, y, x, label]), value)
    return heat


def test_heat_is_that_of_a_loop() -> None:
    bev = BevGrid.of(GRID, 32, 32)
    boxes = Boxes3D.concatenate([scene(0, 8), scene(1, 8)])
    boxes.boxes[:, 3:5] *= 2
    batch = torch.arange(16) // 8
    cells = torch.cat([batch[:, None], bev.positions(boxes.boxes[:, :2]).long().flip(1)], dim=1)
    expected = literal_heat(cells, boxes.labels, boxes.boxes, bev, 2)
    heat = heat_around(cells, boxes.labels, boxes.boxes, bev, 2, CLASSES, None)
    torch.testing.assert_close(heat.view_as(expected), expected)
    there = torch.rand(2 * 32 * 32, generator=torch.Generator().manual_seed(0)) < 0.5
    rows = torch.where(there, there.cumsum(0) - 1, -1)
    sparse = heat_around(cells, boxes.labels, boxes.boxes, bev, 2, CLASSES, rows)
    torch.testing.assert_close(sparse, expected.view(-1, CLASSES)[there])


def test_the_nearest_voxel_answers_for_a_box() -> None:
    head, features = heads()["sparse"]
    predictions, boxes = head(features, GRID), [scene(3), scene(4)]
    targets = head.targets(predictions, boxes)
    centres = (predictions.cells[:, [2, 1]] + 0.5) * 0.5 + torch.tensor([-2.0, -8.0])
    for row, box, label in zip(targets.rows, targets.boxes, targets.labels, strict=True):
        number = predictions.cells[row, 0]
        distance = (centres - box[:2]).norm(dim=1)
        distance[predictions.cells[:, 0] != number] = math.inf
        assert distance[row] == distance.min()
        assert targets.heat[row, label] == 1
    far = replace(boxes[0], boxes=boxes[0].boxes.clone())
    far.boxes[:, 0] += 60
    assert len(head.targets(predictions, [far, boxes[1]]).rows) == len(boxes[1])


def test_sparse_peaks_are_those_of_max_pooling() -> None:
    head, features = heads()["sparse"]
    predictions = head(features, GRID)
    assert isinstance(features, SparseTensor)
    dense = torch.full((2, CLASSES, 32, 32), -math.inf)
    b, y, x = predictions.cells.unbind(dim=1)
    dense[b, :, y, x] = predictions.heat
    greatest = torch.nn.functional.max_pool2d(dense, 3, 1, 1)[b, :, y, x]
    assert torch.equal(head.peaks(predictions), greatest == predictions.heat)


def test_patches_give_what_the_whole_map_gives() -> None:
    head, features = heads(velocity=True)["center"]
    assert isinstance(head, CenterHead)
    head.train()
    head(features, GRID)  # running statistics that are not those of the beginning
    head.eval()
    predictions = head(features, GRID)
    assert predictions.code is None
    assert isinstance(predictions.features, Tensor)
    whole = head.box(predictions.features).permute(0, 2, 3, 1).flatten(0, 2)
    rows = torch.arange(len(whole))
    torch.testing.assert_close(head.code(predictions, rows), whole, atol=1e-5, rtol=1e-4)
    assert head.code(predictions, rows[:0]).shape == (0, head.code_size)


def test_focal_loss_is_the_written_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, heat = torch.randn(40, 2, generator=generator), torch.rand(40, 2, generator=generator)
    heat[::7] = 1
    total = 0.0
    for logit, wanted in zip(logits.flatten().tolist(), heat.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        total -= (1 - p) ** 2 * math.log(p) if wanted == 1 else (1 - wanted) ** 4 * p**2 * math.log(1 - p)
    assert focal_loss(logits, heat, 5).item() == pytest.approx(total / 5, rel=1e-5)
    extreme = focal_loss(torch.tensor([[200.0], [-200.0]]), torch.tensor([[0.0], [1.0]]), 1)
    assert bool(extreme.isfinite())


def test_distance_iou() -> None:
    boxes = scene(0).boxes
    assert distance_iou_loss(boxes, boxes).abs().max() < 1e-6
    cube, beside = (torch.tensor([[x, 0, 0, 2, 2, 2, 0]]) for x in (0.0, 1.0))
    assert float(distance_iou_loss(cube, beside)) == pytest.approx(1 - 1 / 3 + 1 / 17)
    moved = boxes + torch.tensor([50.0, 0, 0, 0, 0, 0, 0])
    assert bool((distance_iou_loss(boxes, moved) > 1.5).all())
    near = (boxes + 0.1).requires_grad_()
    distance_iou_loss(near, boxes).sum().backward()
    assert near.grad is not None
    better = near.detach() - 0.005 * near.grad
    assert distance_iou_loss(better, boxes).sum() < distance_iou_loss(near, boxes).sum()
    assert iou_3d_aligned(better, boxes).mean() > iou_3d_aligned(near, boxes).mean()


def test_scores_weigh_heat_and_quality_by_class() -> None:
    head, features = heads(selection=Selection(score=0.05, quality=(0.0, 0.5, 1.0), overlap=(0.2, 0.3, 0.4)))["sparse"]
    boxes = [scene(1), scene(2)]
    predictions = perfect(head, head(features, GRID), boxes)
    assert predictions.code is not None
    predictions.code[:, CODE] = -0.5  # an IoU of a quarter
    for got in head.boxes(replace(predictions, heat=predictions.heat.clamp(max=math.log(0.81 / 0.19)))):
        wanted = torch.tensor([0.81, 0.9 * 0.5, 0.25])[got.labels]
        torch.testing.assert_close(got.scores, wanted, atol=1e-4, rtol=1e-4)


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap has 2 numbers for 3 classes"):
        CenterHead(8, 3, selection=Selection(overlap=(0.1, 0.2)))
    head, features = heads()["sparse"]
    with pytest.raises(ValueError, match="2 voxels along z"):
        head(replace(features, spatial_shape=(2, 32, 32)), GRID)
    weights = LossWeights(front=0, overlap=0, quality=0)
    head, features = heads(weights=weights)["center"]
    assert set(head.loss(head(features, GRID), [scene(1), scene(2)])) == {"heat", "box"}
