"""A radar's own motion from one cloud, and how fast what it sees moves over ground.

A radar states how fast a point comes nearer or goes away (Doppler), by which a parked car beside a moving sensor is as
fast as the street. As most points stand still, the speed that most agree on is the sensor's own (Kellner et al.,
"Instantaneous ego-motion estimation using Doppler radar", ITSC 2013).
"""

from __future__ import annotations

import torch
from torch import Tensor

OWN_CAR = 2.0  # metres within which returns come from the car that carries the sensor, and move with it
STEP, SPREAD = 0.1, 0.15  # m/s: between speeds that are tried, and by which points that stand still may disagree
SIDEWAYS = 0.01  # how many points' weight speaks for a sensor that does not move sideways
FASTEST = 100.0  # m/s that a sensor moves, at most
VOTERS = 2000  # points that vote, at most


def ego_velocity(xyz: Tensor, doppler: Tensor) -> Tensor:
    """Velocity [2] of the sensor along x and y, m/s; 0 where no point tells.

    Every speed along x is voted for by the points that it would explain; the best is refined, with its sideways part
    (of a sensor before the axle of a turning car), by least squares over these. Speeds wrapped by a radar's ambiguity
    are not unwrapped.

    Args:
        xyz: [N, 3] points, metres, x forward.
        doppler: [N] range rates, m/s; positive away from the sensor.
    """
    distance = xyz.norm(dim=1)
    told = (distance > OWN_CAR) & torch.isfinite(distance) & torch.isfinite(doppler)
    if not told.any():
        return torch.zeros(2, dtype=torch.float32, device=xyz.device)
    directions = (xyz[told, :2] / distance[told, None]).double()
    rates = doppler[told].double()
    every = -(-len(rates) // VOTERS)
    fastest = min(float(rates.abs().max()) + 1, FASTEST)
    speeds = torch.arange(-fastest, fastest, STEP, dtype=torch.float64, device=xyz.device)
    unexplained = rates[::every] + speeds[:, None] * directions[::every, 0]
    votes = (-0.5 * (unexplained / SPREAD).square()).exp().sum(dim=1)
    velocity = torch.stack([speeds[votes.argmax()], speeds.new_zeros(())])
    prior = torch.diag(velocity.new_tensor([1e-6, SIDEWAYS * len(rates)]))
    for _ in range(5):
        weights = (-0.5 * ((rates + directions @ velocity) / SPREAD).square()).exp()[:, None]
        velocity = torch.linalg.solve(
            directions.T @ (weights * directions) + prior, -directions.T @ (weights[:, 0] * rates)
        )
    return velocity.float()


def over_ground(xyz: Tensor, doppler: Tensor) -> Tensor:
    """Range rates [N] that are left when the sensor's own motion is taken out: 0 for what stands still.

    Args:
        xyz, doppler: as of :func:`ego_velocity`.
    """
    directions = xyz[:, :2] / xyz.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return doppler + directions @ ego_velocity(xyz, doppler)
