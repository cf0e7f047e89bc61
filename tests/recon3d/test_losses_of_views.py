"""Losses that look from elsewhere, learn what they cannot meet, or come and go."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.errors import InputError
from datasets.geometry import project, unproject
from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.losses import EstimatedDepth, Loss, Scheduled, Step, Target, UncertainColour, WarpedView
from recon3d.losses import uncertain_colour as uncertain_file
from recon3d.losses.warping import sample, warp, within
from recon3d.render import Render
from recon3d.render import render as draw
from tests.recon3d import losses_oracle as oracle
from tests.recon3d.conftest import cameras_around, coloured_blobs
from tests.recon3d.losses_oracle import HEIGHT, NO_GAUSSIANS, WIDTH, assert_alike, rendered, target, uniform


def cameras(*shifts: float) -> Cameras:
    """Beside one another, looking ahead."""
    poses = torch.eye(4).repeat(len(shifts), 1, 1)
    poses[:, 0, 3] = -torch.tensor(shifts)
    intrinsics = torch.tensor([[20.0, 0, WIDTH / 2], [0, 22.0, HEIGHT / 2], [0, 0, 1]]).repeat(len(shifts), 1, 1)
    return Cameras(poses, intrinsics, torch.tensor([[WIDTH, HEIGHT]]).repeat(len(shifts), 1))


def at(number: int = 0, progress: float = 0.5, look: Any = None, places: Cameras | None = None, index: int = 0) -> Step:
    return Step(number, progress, index, cameras(0.0) if places is None else places, look)


def test_warping_is_projecting_what_was_unprojected() -> None:
    both = cameras_around(2).to(dtype=torch.float64)
    width, height = both.size
    depth = uniform(0, 3.0, 5.0, height, width)
    pixels, z = warp(depth, both[0], both[1])
    points = unproject(depth, both[0]).reshape(-1, 3)
    expected, expected_z = project(points, both[1])
    torch.testing.assert_close(pixels.reshape(-1, 2), expected[0], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(z.reshape(-1), expected_z[0], rtol=1e-5, atol=1e-5)


def test_warping_behind_the_other_camera_stays_finite() -> None:
    ahead = torch.eye(4)[None].clone()
    ahead[0, 2, 3] = -3.0
    one = cameras(0.0)
    depth = torch.full((HEIGHT, WIDTH), 2.0, requires_grad=True)
    pixels, z = warp(depth, one, replace(one, world_to_camera=ahead))
    assert bool((z < 0).all())
    pixels.sum().backward()
    assert bool(torch.isfinite(pixels).all())
    assert depth.grad is not None
    assert bool(torch.isfinite(depth.grad).all())


def bilinear(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[E] value of ``image`` [H, W, E] at a place, pixel by pixel."""
    height, width = image.shape[:2]
    x, y = (x - 0.5).clamp(0, width - 1), (y - 0.5).clamp(0, height - 1)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, b = x - left, y - top
    upper = (1 - a) * image[top, left] + a * image[top, left + 1]
    lower = (1 - a) * image[top + 1, left] + a * image[top + 1, left + 1]
    return (1 - b) * upper + b * lower


def test_sampling() -> None:
    image = uniform(0, 0, 1, HEIGHT, WIDTH, 2).requires_grad_()
    pixels = (uniform(1, -0.1, 1.1, 6, 7, 2) * torch.tensor([WIDTH, HEIGHT])).requires_grad_()
    values = sample(image, pixels)
    slow = torch.stack([torch.stack([bilinear(image, *pixels[i, j]) for j in range(7)]) for i in range(6)])
    torch.testing.assert_close(values, slow)
    cotangent = uniform(2, -1, 1, 6, 7, 2)
    for mine, theirs in zip(
        torch.autograd.grad(values, (image, pixels), cotangent),
        torch.autograd.grad(slow, (image, pixels), cotangent),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def slow_warped_view(render: Render, photo: Target, look: Render, disparity_at_one: float, tolerance: float) -> Tensor:
    """The loss for a camera moved sideways, pixel by pixel: ``disparity_at_one`` is the shift at depth 1."""
    total = torch.zeros(()).double()
    for y, x in oracle.shown(render, photo):
        depth = render.depth_sum[0, y, x] / render.alpha[0, y, x]
        there, row = x + 0.5 + disparity_at_one / depth, torch.tensor(y + 0.5).double()
        if not 0 <= there < WIDTH:
            continue
        place = (there.detach(), row)
        theirs = bilinear((look.depth_sum / look.alpha)[0, ..., None].detach(), *place)
        if bilinear(look.alpha[0, ..., None].detach(), *place) <= 0.5 or theirs < (1 - tolerance) * depth:
            continue
        total = total + (bilinear(look.colour[0], there, row) - photo.image[y, x]).abs().mean()
    return total / (HEIGHT * WIDTH)


@pytest.mark.parametrize("seed", range(4))
def test_warped_view_beside(seed: int) -> None:
    render, photo, look = rendered(), target(), rendered(50)
    loss, asked = WarpedView("beside", pixels=5.0, tolerance=0.1), []

    def see(camera: Cameras) -> Render:
        asked.append(camera)
        return look

    photo = replace(photo, step=at(look=see))
    torch.manual_seed(seed)
    fast = loss.value(render, photo, NO_GAUSSIANS)
    shift = float(asked[0].world_to_camera[0, 0, 3])
    slow = slow_warped_view(render, photo, look, 20 * shift, 0.1)
    assert float(slow.detach()) > 0.01
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-7)
    inputs = (render.alpha, render.depth_sum, look.colour)
    for mine, theirs in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)
    shown = oracle.shown(render, photo)
    depths = [float((render.depth_sum[0][p] / render.alpha[0][p]).detach()) for p in shown]
    assert abs(20 * shift / np.median(depths)) < 5.0 * 1.3, "about at most so many pixels at the median depth"
    assert torch.equal(asked[0].world_to_camera[0, :, :3], torch.eye(4)[:, :3])


def blobs_seen(index: int, places: Cameras, gaussians: Gaussians) -> tuple[Render, Target]:
    def look(camera: Cameras) -> Render:
        return draw(gaussians, camera)

    render = draw(gaussians, places[index])
    return render, Target(render.colour[0].detach(), None, None, None, at(look=look, places=places, index=index))


@pytest.mark.parametrize("place", ["beside", "between"])
def test_true_geometry_costs_little_and_wrong_depth_much(place: Any) -> None:
    places, gaussians = cameras_around(4), coloured_blobs()
    right, photo = blobs_seen(1, places, gaussians)
    loss = WarpedView(place, pixels=4.0)
    torch.manual_seed(1)
    true = float(loss.value(right, photo, gaussians).detach())
    wrong = replace(right, depth_sum=right.depth_sum * 0.8)
    torch.manual_seed(1)
    displaced = float(loss.value(wrong, photo, gaussians).detach())
    assert 0 < true < 0.03
    assert displaced > 2 * true


def test_occlusion_is_what_a_nearer_thing_hides() -> None:
    """A red wall behind a green post: from beside, the post hides wall that the photo shows."""
    post = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    post[:, 6:9] = True
    one, none = torch.ones(1, HEIGHT, WIDTH), torch.zeros(1, 0, 2)

    def picture(where: Tensor) -> Render:
        colour = torch.where(where[..., None], torch.tensor([0.0, 1, 0]), torch.tensor([1.0, 0, 0]))[None]
        depth = torch.where(where, 2.0, 4.0)[None]
        return Render(colour, one, depth, None, none, none.int())

    def look(camera: Cameras) -> Render:
        shift = 20 * float(camera.world_to_camera[0, 0, 3]) / 2
        assert abs(shift) > 0.4, "the case is to move the post"
        moved = torch.zeros_like(post)
        columns = (torch.arange(WIDTH) + 0.5 - shift).floor().long()
        inside = (columns >= 0) & (columns < WIDTH)
        moved[:, inside] = post[:, columns[inside]]
        return picture(moved)

    photo = Target(picture(post).colour[0], None, None, None, at(look=look))
    torch.manual_seed(1)
    strict = float(WarpedView("beside", 6.0, 0.1).value(picture(post), photo, NO_GAUSSIANS))
    torch.manual_seed(1)
    blind = float(WarpedView("beside", 6.0, 0.9).value(picture(post), photo, NO_GAUSSIANS))
    assert strict < 0.5 * blind, "without the test the post's colour counts against the wall"


def test_cameras_between_lie_on_the_way() -> None:
    places, gaussians = cameras_around(2), coloured_blobs()
    render, photo = blobs_seen(0, places, gaussians)
    asked: list[Cameras] = []

    def look(camera: Cameras) -> Render:
        asked.append(camera)
        return draw(gaussians, camera)

    assert photo.step is not None
    photo = replace(photo, step=replace(photo.step, look=look))
    for seed in range(8):
        torch.manual_seed(seed)
        WarpedView("between").value(render, photo, gaussians)
    apart = float((places.centres[1] - places.centres[0]).norm())
    for camera in asked:
        assert camera.size == places.size
        ways = (places.centres - camera.centres).norm(dim=1)
        assert bool((ways > 0.01 * apart).all() & (ways < apart).all())
    assert len({tuple(camera.centres[0].tolist()) for camera in asked}) > 3


def test_one_photo_has_no_between() -> None:
    with pytest.raises(InputError, match="at least two"):
        WarpedView("between").value(rendered(), replace(target(), step=at(look=None)), NO_GAUSSIANS)


def test_warped_view_where_nothing_shows() -> None:
    empty = torch.zeros(1, HEIGHT, WIDTH)
    render = replace(rendered(), alpha=empty, depth_sum=empty)
    assert float(WarpedView().value(render, replace(target(), step=at(look=None)), NO_GAUSSIANS)) == 0


@pytest.mark.parametrize("masked", [False, True])
def test_uncertain_colour(masked: bool) -> None:
    render, photo = rendered(features=True), target(masked=masked)
    constants = (uncertain_file.LEAST, uncertain_file.UNKNOWN, uncertain_file.LIKELIHOOD)
    loss = UncertainColour()
    assert_alike(loss, oracle.uncertain_colour(render, photo, *constants), render, photo, 0)
    assert loss.uses_uncertainty


def test_uncertainty_becomes_the_error() -> None:
    """Where the colour is off by e, the likeliest uncertainty is e."""
    photo = Target(torch.full((1, 2, 3), 0.5))
    scale = torch.full((1, 1, 2, 1), 0.5, requires_grad=True)
    colour = torch.tensor([0.6, 0.9])[None, None, :, None].expand(1, 1, 2, 3)
    one, none = torch.ones(1, 1, 2), torch.zeros(1, 0, 2)
    descent = torch.optim.Adam([scale], lr=0.01)
    for _ in range(400):
        descent.zero_grad()
        UncertainColour()(Render(colour, one, one, scale, none, none.int()), photo, NO_GAUSSIANS).backward()
        descent.step()
    assert (scale.flatten() + uncertain_file.LEAST).tolist() == pytest.approx([0.1, 0.4], abs=0.01)


class Counts(Loss):
    """One, and how often it was asked."""

    uses_prior = True

    def __init__(self) -> None:
        super().__init__(2.0)
        self.asked = 0

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        self.asked += 1
        return render.colour.new_ones(())


def test_scheduled() -> None:
    def values(loss: Loss) -> list[float]:
        steps = [replace(target(), step=at(n, (n + 1) / 10)) for n in range(10)]
        return [round(float(loss(rendered(), step, NO_GAUSSIANS)), 6) for step in steps]

    inner = Counts()
    assert values(Scheduled(inner)) == [2.0] * 10
    assert values(Scheduled(inner, begin=0.35, end=0.7)) == [0, 0, 0, 2, 2, 2, 2, 0, 0, 0]
    assert values(Scheduled(inner, fade=True)) == pytest.approx([2 * (1 - n / 10) for n in range(1, 11)])
    inner.asked = 0
    assert values(Scheduled(inner, every=4)) == [2, 0, 0, 0, 2, 0, 0, 0, 2, 0]
    assert inner.asked == 3, "a loss that is not due costs nothing"
    assert Scheduled(inner).uses_prior
    assert not Scheduled(inner).uses_uncertainty
    assert Scheduled(UncertainColour()).uses_uncertainty
    with pytest.raises(ValueError, match="training step"):
        Scheduled(inner)(rendered(), target(), NO_GAUSSIANS)


def test_within() -> None:
    pixels = torch.tensor([[0.0, 0.0], [WIDTH - 0.01, HEIGHT - 0.01], [WIDTH, 1.0], [1.0, -0.01], [math.nan, 1.0]])
    assert within(pixels[None], cameras(0.0)).tolist() == [[True, True, False, False, False]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarpedView(place="above"), "place is 'above', expected one of beside, between"),  # type: ignore[arg-type]
        (lambda: WarpedView(pixels=0.0), "pixels is 0"),
        (lambda: WarpedView(pixels=math.inf), "pixels is inf"),
        (lambda: WarpedView(tolerance=0.0), "tolerance is 0"),
        (lambda: WarpedView(weight=-1.0), "WarpedView: weight"),
        (lambda: UncertainColour(weight=math.nan), "UncertainColour: weight"),
        (lambda: Scheduled(EstimatedDepth(), begin=0.5, end=0.5), "begin is 0.5 and end 0.5"),
        (lambda: Scheduled(EstimatedDepth(), end=1.5), "end 1.5"),
        (lambda: Scheduled(EstimatedDepth(), every=0), "every is 0"),
        (lambda: UncertainColour()(rendered(), target(), NO_GAUSSIANS), "uncertainty as the render's feature"),
        (lambda: WarpedView()(rendered(), target(), NO_GAUSSIANS), "training step"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
