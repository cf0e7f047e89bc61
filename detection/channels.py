"""Which channels of a point a network sees, and in what unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from datasets.errors import InputError
from datasets.pointclouds.ego_motion import over_ground
from datasets.pointclouds.types import PointCloudSample

GROUND = "doppler_over_ground"  # made of the channel doppler where a cloud lacks it


def select_channels(sample: PointCloudSample, features: Mapping[str, float] | None) -> PointCloudSample:
    """``sample`` with x, y, z and the channels that ``features`` names, each divided by the number that it gives.

    Networks learn badly from numbers much larger than 1. None leaves all channels as they are. ``doppler_over_ground``
    is made of ``doppler``, see :func:`datasets.pointclouds.ego_motion.over_ground`.

    Raises:
        InputError: for a channel that the sample lacks, and a divisor that is none.
    """
    if features is None:
        return sample
    if GROUND in features and GROUND not in sample.channels and "doppler" in sample.channels:
        rates = over_ground(sample.points[:, :3], sample.points[:, sample.channels.index("doppler")])
        points = torch.cat([sample.points, rates[:, None]], dim=1)
        sample = replace(sample, points=points, channels=(*sample.channels, GROUND))
    if missing := [name for name in features if name not in sample.channels[3:]]:
        raise InputError(
            f"{sample.frame}: its points have no channel {missing[0]!r} beside x, y, z, only "
            f"{', '.join(sample.channels[3:]) or 'none'}. Correct data.features or the channels of the data"
        )
    if wrong := [name for name, divisor in features.items() if not math.isfinite(divisor) or divisor == 0]:
        raise InputError(f"data.features divides {wrong[0]} by {features[wrong[0]]}: give a number other than 0")
    columns = [0, 1, 2, *(sample.channels.index(name) for name in features)]
    points = sample.points[:, columns]
    points[:, 3:] /= points.new_tensor(list(features.values()))
    return replace(sample, points=points, channels=("x", "y", "z", *features))


def divisors(channels: Sequence[str], features: Mapping[str, float] | None) -> dict[str, float]:
    """By what each channel that the network sees is divided, of those that files have; see :func:`select_channels`."""
    return dict.fromkeys(channels, 1.0) if features is None else {"x": 1.0, "y": 1.0, "z": 1.0, **features}
