"""Removing what hovers before the surfaces."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from datasets.types import Cameras
from recon3d.fitting.densification import DefaultStrategy, DensificationStrategy, FloaterRemoval
from recon3d.fitting.densification.floaters import floaters
from recon3d.fitting.optimisers import LearningRates, make_optimisers
from recon3d.gaussians import Gaussians
from recon3d.render import render

WIDTH, HEIGHT, FOCAL = 40, 30, 30.0


def camera(x: float = 0.0) -> Cameras:
    pose = torch.eye(4)[None].clone()
    pose[0, 0, 3] = -x
    intrinsics = torch.tensor([[[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]])
    return Cameras(pose, intrinsics, torch.tensor([[WIDTH, HEIGHT]]))


def wall_with(floating: Tensor, opacity: float = 0.5, size: float = 0.12) -> Gaussians:
    """An opaque wall at depth 4, and some blobs [M, 3] before it, which come last."""
    y, x = torch.meshgrid(torch.arange(-2.5, 2.6, 0.15), torch.arange(-3.5, 3.6, 0.15), indexing="ij")
    wall = torch.stack([x, y, torch.full_like(x, 4.0)], -1).reshape(-1, 3)
    count, extra = len(wall) + len(floating), len(floating)
    scales = torch.full((count, 3), 0.15).log()
    scales[: len(wall), 2] = -6.0
    opacities = torch.full((count,), 4.0)
    if extra:
        scales[-extra:] = torch.tensor(size).log()
        opacities[-extra:] = torch.logit(torch.tensor(opacity))
    return Gaussians(
        means=torch.cat([wall, floating]),
        scales=scales,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacities=opacities,
        sh0=torch.zeros(count, 1, 3),
        shN=torch.zeros(count, 0, 3),
    )


FLOATING = torch.tensor([[0.0, 0.0, 2.0], [-0.8, 0.5, 2.5], [0.7, -0.4, 1.5]])


def test_blobs_before_a_wall_float_and_the_wall_does_not() -> None:
    found = floaters(wall_with(FLOATING), camera(), 0.1, 0.1)
    assert found[-3:].all()
    assert not found[:-3].any()
    assert not floaters(wall_with(FLOATING[:0]), camera(), 0.1, 0.1).any()


def test_what_is_opaque_or_near_the_surface_does_not_float() -> None:
    table = torch.tensor([[0.1 * i - 0.3, 0.1 * j - 0.3, 2.5] for i in range(7) for j in range(7)])
    found = floaters(wall_with(table, opacity=0.99, size=0.1), camera(), 0.1, 0.1)
    assert not found[: -len(table)].any()
    inner = (table[:, :2].abs() < 0.25).all(1)
    assert not found[-len(table) :][inner].any(), "rays through an opaque thing end there"
    assert not floaters(wall_with(torch.tensor([[0.0, 0, 3.8]])), camera(), 0.1, 0.1).any()


def test_what_a_camera_does_not_see_is_left_to_others() -> None:
    behind = torch.tensor([[0.0, 0, -2.0], [9.0, 0, 2.0], [0.0, 0.0, 5.0]])
    assert not floaters(wall_with(behind), camera(), 0.1, 0.1).any()


def slowly(gaussians: Gaussians, spread: float, front: float) -> Tensor:
    """The same from a render of each Gaussian's own channel."""
    count = len(gaussians)
    place = gaussians.means
    drawn = render(gaussians, camera(), features=torch.eye(count))
    weight = drawn.features[0]  # type: ignore[index]
    alpha = weight.sum(-1).clamp(min=1e-10)
    mean = (weight * place[:, 2]).sum(-1) / alpha
    deviation = ((weight * (place[:, 2] - mean[..., None]) ** 2).sum(-1) / alpha).sqrt()
    spreads = (alpha > 0.5) & (deviation > spread * mean)
    found = torch.zeros(count, dtype=torch.bool)
    for n in range(count):
        x, y = (FOCAL * place[n, :2] / place[n, 2] + torch.tensor([WIDTH / 2, HEIGHT / 2])).tolist()
        if place[n, 2] > 0 and 0 <= x < WIDTH and 0 <= y < HEIGHT and weight[..., n].sum() > 0.05:
            share = weight[..., n][spreads].sum() / weight[..., n].sum()
            found[n] = (share > 0.5) & (place[n, 2] < (1 - front) * mean[int(y), int(x)])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_against_every_gaussian_rendered_by_itself(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    floating = torch.rand(40, 3, generator=draw) * torch.tensor([4.0, 3.0, 3.0]) - torch.tensor([2.0, 1.5, -0.8])
    gaussians = wall_with(floating, opacity=0.4)
    want = slowly(gaussians, 0.12, 0.15)
    assert 5 < int(want.sum()) < 40
    assert torch.equal(floaters(gaussians, camera(), 0.12, 0.15), want)


def ready(gaussians: Gaussians) -> tuple[dict[str, Parameter], dict[str, Any]]:
    params = {name: Parameter(value.clone()) for name, value in gaussians.parameters().items()}
    return params, dict(make_optimisers(params, LearningRates(), 1.0))


def test_rounds_and_what_they_remove() -> None:
    gaussians = wall_with(FLOATING)
    cameras = Cameras.concatenate([camera(), camera(0.3)])
    strategy = FloaterRemoval(every=10, begin=20, end=40)
    params, optimisers = ready(gaussians)
    state = strategy.initialize_state()
    counts = []
    for step in (0, 10, 19, 20):
        strategy.step_post_backward(params, optimisers, state, step, {"cameras": cameras}, lr=0.0)
        counts.append(len(gaussians) - len(params["means"]))
    assert counts == [0, 0, 0, 3]
    assert torch.equal(params["means"], gaussians.means[:-3])
    assert all(optimisers[name].param_groups[0]["params"][0] is params[name] for name in params)
    params, optimisers = ready(gaussians)
    for step in (25, 40, 50):
        strategy.step_post_backward(params, optimisers, state, step, {"cameras": cameras}, lr=0.0)
    assert len(params["means"]) == len(gaussians)


def test_another_strategy_comes_first() -> None:
    class Other(DensificationStrategy):
        absgrad = True
        asked = 0

        def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
            return {"scale": scene_scale}

        def step_pre_backward(self, *args: Any) -> None:
            self.asked += 1

        def step_post_backward(self, *args: Any, lr: float) -> None:
            assert lr == 0.5
            self.asked += 10

    other = Other()
    strategy = FloaterRemoval(other=other)
    assert strategy.absgrad
    assert not FloaterRemoval(other=DefaultStrategy()).absgrad
    assert strategy.initialize_state(3.0) == {"scale": 3.0}
    params, optimisers = ready(wall_with(FLOATING))
    strategy.step_pre_backward(params, optimisers, {}, 0, {})
    strategy.step_post_backward(params, optimisers, {}, 0, {}, lr=0.5)
    assert other.asked == 11


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"begin": -1}, "begin -1"),
        ({"begin": 10, "end": 10}, "end 10"),
        ({"spread": 0.0}, "spread is 0"),
        ({"front": 1.0}, "front 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FloaterRemoval(**settings)
