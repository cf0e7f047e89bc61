"""Overlap and suppression of boxes against exact rational polygons and a polygon library's."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detection.boxes import iou_3d, iou_3d_aligned, iou_bev, iou_bev_aligned, rotated_nms

Point = tuple[Fraction, Fraction]


def polygon(box: list[float]) -> list[Point]:
    x, y, _, length, width, _, yaw = box
    cos, sin = Fraction(math.cos(yaw)), Fraction(math.sin(yaw))
    half_l, half_w = Fraction(length) / 2, Fraction(width) / 2
    corners = [(half_l, half_w), (-half_l, half_w), (-half_l, -half_w), (half_l, -half_w)]
    return [(Fraction(x) + cos * a - sin * b, Fraction(y) + sin * a + cos * b) for a, b in corners]


def clip(subject: list[Point], clipper: list[Point]) -> list[Point]:
    """Sutherland and Hodgman, exactly."""
    for (ax, ay), (bx, by) in zip(clipper, clipper[1:] + clipper[:1], strict=True):
        side = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for x, y in subject]
        kept: list[Point] = []
        for i, (x, y) in enumerate(subject):
            j = (i + 1) % len(subject)
            if side[i] >= 0:
                kept.append((x, y))
            if side[i] * side[j] < 0:
                t = side[i] / (side[i] - side[j])
                kept.append((x + t * (subject[j][0] - x), y + t * (subject[j][1] - y)))
        subject = kept
    return subject


def area(points: list[Point]) -> Fraction:
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum((a[0] * b[1] - b[0] * a[1] for a, b in pairs), Fraction(0))) / 2


def exact(first: list[float], second: list[float]) -> tuple[float, float]:
    """IoU from above and in space."""
    a, b = polygon(first), polygon(second)
    shared = area(clip(a, b)) if area(a) and area(b) else Fraction(0)
    union = area(a) + area(b) - shared
    (za, ha), (zb, hb) = ((Fraction(box[2]), Fraction(box[5])) for box in (first, second))
    height = max(min(za + ha / 2, zb + hb / 2) - max(za - ha / 2, zb - hb / 2), Fraction(0))
    volume = area(a) * ha + area(b) * hb - shared * height
    return float(shared / union) if union else 0.0, float(shared * height / volume) if volume else 0.0


quarter = st.integers(-12, 12).map(lambda n: n / 4)
angle = st.one_of(st.floats(-10, 10), st.integers(-8, 8).map(lambda n: n * math.pi / 4))
size = st.one_of(st.sampled_from([0.0, 0.25, 1.0, 2.0, 4.0]), st.floats(1e-3, 10))
place = st.one_of(quarter, st.floats(-4, 4))
box = st.tuples(place, place, place, size, size, size, angle).map(list)


@given(box, box)
@settings(max_examples=150, deadline=None)
def test_iou_is_that_of_exact_polygons(first: list[float], second: list[float]) -> None:
    a, b = (torch.tensor([each], dtype=torch.float64) for each in (first, second))
    bev, volume = exact(first, second)
    # A rounding of 1e-15 in a corner moves the area of a needle by more than its own size is worth.
    slack = 1e-9 if min(*first[3:5], *second[3:5]) > 0 else 1e-12
    assert iou_bev_aligned(a, b).item() == pytest.approx(bev, abs=slack)
    assert iou_3d_aligned(a, b).item() == pytest.approx(volume, abs=slack)
    assert iou_bev_aligned(b, a).item() == pytest.approx(bev, abs=slack)
    assert iou_bev(a, b).item() == pytest.approx(bev, abs=slack)
    assert iou_3d(a, b).item() == pytest.approx(volume, abs=slack)


@given(box.filter(lambda b: min(b[3:6]) > 0), st.sampled_from([0.0, 1e3, 1e6]), st.sampled_from([1e-3, 1.0, 100.0]))
@settings(max_examples=100, deadline=None)
def test_a_box_is_itself_however_it_is_turned_and_wherever_it_lies(b: list[float], far: float, scale: float) -> None:
    first = torch.tensor([b], dtype=torch.float64)
    first[:, :6] *= scale
    first[:, :2] += far
    turned = first.clone()
    turned[:, 6] += math.pi
    swapped = first[:, [0, 1, 2, 4, 3, 5, 6]]
    swapped[:, 6] += math.pi / 2
    for other in (first, turned, swapped):
        assert iou_3d_aligned(first, other).item() == pytest.approx(1, abs=1e-9)


def random_boxes(count: int, seed: int, spread: float = 10.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(count, 7, generator=generator, dtype=torch.float64)
    low = torch.tensor([-spread, -spread, -1, 0.5, 0.5, 0.5, -4])
    high = torch.tensor([spread, spread, 1, 5, 3, 2, 4])
    return low + values * (high - low)


def test_pairs_are_the_aligned_ones() -> None:
    first, second = random_boxes(13, 0), random_boxes(17, 1)
    rows, columns = torch.meshgrid(torch.arange(13), torch.arange(17), indexing="ij")
    for pairwise, aligned in ((iou_bev, iou_bev_aligned), (iou_3d, iou_3d_aligned)):
        expected = aligned(first[rows.flatten()], second[columns.flatten()]).view(13, 17)
        torch.testing.assert_close(pairwise(first, second), expected)
        assert pairwise(first.float(), second.float()).dtype == torch.float32
        assert pairwise(first[:0], second).shape == (0, 17)
        assert aligned(first[:0], second[:0]).shape == (0,)


def boxes_that_meet(count: int, seed: int) -> Tensor:
    """On a grid of quarters, turned by eighths: many share edges or corners, hold one another, or are needles."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(-8, 9, (count, 3), generator=generator) / 4
    size = torch.tensor([1e-3, 0.25, 1, 2, 4])[torch.randint(0, 5, (count, 3), generator=generator)]
    yaw = torch.randint(-8, 9, (count, 1), generator=generator) * (math.pi / 4)
    return torch.cat([place, size, yaw], dim=1).double()


def test_iou_is_that_of_a_polygon_library() -> None:
    shapely = pytest.importorskip("shapely")
    meeting = boxes_that_meet(2000, 0)
    turned = meeting + torch.tensor([0, 0, 0, 0, 0, 0, math.pi])
    first = torch.cat([random_boxes(2000, 0, 3.0), meeting, meeting, meeting])
    second = torch.cat([random_boxes(2000, 1, 3.0), boxes_that_meet(2000, 1), meeting, turned])
    a, b = first.numpy(), second.numpy()

    def polygons(boxes: np.ndarray) -> np.ndarray:
        x, y = (boxes[:, 3:5, None] / 2 * [[1, -1, -1, 1], [1, 1, -1, -1]]).transpose(1, 0, 2)
        cos, sin = np.cos(boxes[:, 6:]), np.sin(boxes[:, 6:])
        return shapely.polygons(np.stack([cos * x - sin * y, sin * x + cos * y], axis=2) + boxes[:, None, :2])

    shared, union = (
        shapely.area(function(polygons(a), polygons(b))) for function in (shapely.intersection, shapely.union)
    )
    assert 5000 < (shared > 0).sum() < 6000
    np.testing.assert_allclose(iou_bev_aligned(first, second), shared / union, rtol=0, atol=1e-9)
    top, bottom = (np.stack([box[:, 2] + sign * box[:, 5] / 2 for box in (a, b)]) for sign in (1, -1))
    volume = shared * (top.min(axis=0) - bottom.max(axis=0)).clip(min=0)
    both = a[:, 3:6].prod(axis=1) + b[:, 3:6].prod(axis=1)
    np.testing.assert_allclose(iou_3d_aligned(first, second), volume / (both - volume), rtol=0, atol=1e-9)


def test_touching_boxes_share_nothing_and_bad_ones_do_no_harm() -> None:
    unit = torch.tensor([[0.0, 0, 0, 2, 2, 2, 0]])
    assert iou_bev(unit, unit + torch.tensor([2.0, 0, 0, 0, 0, 0, 0])).item() == 0
    assert iou_3d(unit, unit + torch.tensor([0, 0, 2.0, 0, 0, 0, 0])).item() == 0
    flat, negative = unit.clone(), unit.clone()
    flat[:, 3:6], negative[:, 3] = 0, -1
    assert iou_3d_aligned(flat, flat).item() == iou_3d_aligned(unit, negative).item() == 0
    assert iou_bev(unit, torch.full((1, 7), math.nan)).item() == 0
    with pytest.raises(ValueError, match=r"second has shape \(1, 6\)"):
        iou_bev(unit, unit[:, :6])


def test_gradients_are_those_of_differences() -> None:
    first, second = random_boxes(30, 2, 1.5).requires_grad_(), random_boxes(30, 3, 1.5).requires_grad_()
    torch.autograd.gradcheck(iou_bev_aligned, (first, second))
    torch.autograd.gradcheck(iou_3d_aligned, (first, second))
    same = random_boxes(5, 4).requires_grad_()
    iou_3d(same, same.detach()).sum().backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()


def greedy(boxes: Tensor, scores: Tensor, threshold: list[float], labels: list[int]) -> list[int]:
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        rivals = [j for j in kept if labels[i] == labels[j]]
        if all(exact(boxes[i].tolist(), boxes[j].tolist())[0] <= threshold[labels[i]] for j in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_the_greedy_one(seed: int) -> None:
    boxes = random_boxes(60, seed, 6.0)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 20, (60,), generator=generator) / 20
    labels = torch.randint(0, 3, (60,), generator=generator)
    assert rotated_nms(boxes, scores, 0.1).tolist() == greedy(boxes, scores, [0.1], [0] * 60)
    thresholds = torch.tensor([0.05, 0.2, 0.5])
    kept = rotated_nms(boxes, scores, thresholds, labels)
    assert kept.tolist() == greedy(boxes, scores, thresholds.tolist(), labels.tolist())
    assert rotated_nms(boxes, scores, thresholds, labels, limit=7).tolist() == kept[:7].tolist()


def test_suppression_of_nothing_and_of_misuse() -> None:
    assert rotated_nms(torch.zeros(0, 7), torch.zeros(0), 0.5).tolist() == []
    with pytest.raises(ValueError, match="need the labels"):
        rotated_nms(torch.zeros(1, 7), torch.zeros(1), torch.tensor([0.5]))


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@on_cuda
@pytest.mark.parametrize("overlap", [iou_bev, iou_3d, iou_bev_aligned, iou_3d_aligned])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_overlap_on_cuda_is_that_on_the_cpu(overlap: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> None:
    boxes = [random_boxes(200, seed, 5.0).to(dtype) for seed in (0, 1)]
    outcomes = []
    for device in ("cpu", "cuda"):
        first, second = (each.detach().to(device).requires_grad_() for each in boxes)
        values = overlap(first, second)
        values.square().sum().backward()
        outcomes.append(
            [values.detach().cpu(), *(each.grad.cpu() for each in (first, second) if each.grad is not None)]
        )
    assert len(outcomes[0]) == 3
    assert float(outcomes[0][0].max()) > 0.1
    torch.testing.assert_close(outcomes[1], outcomes[0])


@on_cuda
@pytest.mark.parametrize("seed", range(5))
def test_suppression_on_cuda_is_that_on_the_cpu(seed: int) -> None:
    boxes, generator = random_boxes(300, seed, 8.0), torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 20, (300,), generator=generator) / 20
    labels = torch.randint(0, 3, (300,), generator=generator)
    assert rotated_nms(boxes.cuda(), scores.cuda(), 0.1).tolist() == rotated_nms(boxes, scores, 0.1).tolist()
    thresholds = torch.tensor([0.05, 0.2, 0.5])
    kept = rotated_nms(boxes.cuda(), scores.cuda(), thresholds, labels.cuda(), limit=50)
    assert kept.is_cuda
    assert kept.tolist() == rotated_nms(boxes, scores, thresholds, labels, limit=50).tolist()
