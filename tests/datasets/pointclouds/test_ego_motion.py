"""A radar's own motion out of one cloud."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.pointclouds.ego_motion import ego_velocity, over_ground
from datasets.pointclouds.kitti import KittiDataset


def cloud(seed: int, velocity: tuple[float, float], still: int = 200, moving: int = 80) -> tuple[torch.Tensor, ...]:
    """Points before a sensor with ``velocity``, the first ``still`` of which stand still; range rates; own speeds."""
    random = np.random.default_rng(seed)
    azimuth, elevation = np.radians(random.uniform([[-55], [-10]], [[55], [10]], (2, still + moving)))
    distance = random.uniform(3, 28, still + moving)
    directions = np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    own = np.zeros((2, still + moving))
    own[:, still:] = np.repeat(random.uniform(-12, 12, (2, 4)), moving // 4, axis=1)  # four objects
    rates = (directions[:2] * (own - np.array(velocity)[:, None])).sum(axis=0) + random.normal(0, 0.05, still + moving)
    radial = (directions[:2] * own).sum(axis=0)
    return tuple(torch.from_numpy(value.astype(np.float32)) for value in ((directions * distance).T, rates, radial))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), speed=st.floats(-10, 35), sideways=st.floats(-0.4, 0.4))
def test_the_sensors_velocity_is_what_most_points_agree_on(seed: int, speed: float, sideways: float) -> None:
    xyz, rates, radial = cloud(seed, (speed, sideways))
    assert torch.allclose(ego_velocity(xyz, rates), torch.tensor([speed, sideways]), atol=0.15)
    assert (over_ground(xyz, rates) - radial).abs().median() < 0.15


def test_returns_from_the_own_car_do_not_vote() -> None:
    xyz, rates, _ = cloud(0, (8.0, 0.0), still=60, moving=0)
    near, at_rest = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(100)
    velocity = ego_velocity(torch.cat([xyz, near]), torch.cat([rates, at_rest]))
    assert velocity[0] == pytest.approx(8, abs=0.1)


def test_the_order_and_a_mirror_image_change_nothing() -> None:
    xyz, rates, _ = cloud(1, (6.0, 0.2))
    velocity, order = ego_velocity(xyz, rates), torch.randperm(len(xyz), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ego_velocity(xyz[order], rates[order]), velocity, atol=1e-4)
    mirror = torch.tensor([1.0, -1.0])
    assert torch.allclose(ego_velocity(xyz * torch.tensor([1.0, -1, 1]), rates), velocity * mirror, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_points_give_a_finite_answer(count: int) -> None:
    xyz, rates = torch.full((count, 3), 5.0), torch.full((count,), -1.0)
    assert torch.isfinite(ego_velocity(xyz, rates)).all()
    assert over_ground(xyz, rates).shape == (count,)
    assert torch.isfinite(over_ground(torch.zeros(count, 3), rates)).all()


def test_points_and_rates_that_no_radar_states_do_not_vote() -> None:
    xyz, rates, _ = cloud(3, (9.0, 0.0))
    nothing = torch.tensor([[torch.nan, 1, 1], [torch.inf, 1, 1], [5, 1, 1], [5, 1, 1], [5, 1, 1]])
    wild = torch.tensor([1.0, 1.0, torch.nan, torch.inf, 1e30])
    velocity = ego_velocity(torch.cat([nothing, xyz]), torch.cat([wild, rates]))
    assert velocity[0] == pytest.approx(9, abs=0.1)


def test_more_points_than_vote_are_all_compensated() -> None:
    xyz, rates, radial = cloud(2, (11.0, 0.0), still=9000, moving=800)
    assert (over_ground(xyz, rates) - radial).abs().quantile(0.9) < 0.2


def test_most_of_a_real_radars_points_stand_still_over_ground(shared_data) -> None:
    channels = ("x", "y", "z", "power", "doppler", "range", "azimuth", "elevation")
    frames = KittiDataset(shared_data("radar"), ("Car", "Cyclist", "Truck"), split="train", channels=channels)
    still, before = [], []
    for i in range(0, len(frames), 37):
        points = frames[i].points
        far = points[:, :3].norm(dim=1) > 2
        still.append((over_ground(points[:, :3], points[:, 4]).abs() < 0.4)[far].float().mean())
        before.append((points[:, 4].abs() < 0.4)[far].float().mean())
    assert torch.stack(still).median() > 0.75
    assert torch.stack(still).median() > 2 * torch.stack(before).median()
