"""Colour maps."""

from __future__ import annotations

import numpy as np
import torch

from recon3d.pictures import colour_depth, colour_error, depth_range, draw
from recon3d.splats import Splat
from tests.recon3d.conftest import cameras_around, coloured_blobs


def test_depth_colours_go_from_red_to_blue_and_unknown_is_black() -> None:
    depth = np.array([[1.0, 10.0, 0.0, 0.1, 99.0]])
    near, far, unknown, nearer, farther = colour_depth(depth, 1.0, 10.0)[0].astype(int)
    assert near[0] > 100 > near[2]
    assert far[2] > far[0]
    assert (unknown == 0).all()
    np.testing.assert_array_equal(nearer, near)
    np.testing.assert_array_equal(farther, far)


def test_depth_range_ignores_the_unknown_and_the_odd() -> None:
    depths = [np.linspace(2, 3, 1000).reshape(20, 50), np.zeros((4, 4)), np.array([[1e6]])]
    near, far = depth_range(depths)
    assert 1.8 < near < 2.1
    assert 2.9 < far < 3.2
    assert depth_range([np.zeros((3, 3))]) == (1.0, 2.0)
    assert depth_range([]) == (1.0, 2.0)
    near, far = depth_range([np.full((2, 2), 5.0)])
    assert near < 5 < far


def test_error_colours_grow_brighter() -> None:
    target = np.zeros((1, 4, 3))
    image = target + np.array([0, 0.1, 0.3, 1.0])[None, :, None]
    brightness = colour_error(image, target)[0].astype(int).sum(axis=1)
    assert brightness[0] < 10 < brightness[1] < brightness[2] == brightness[3]


def test_several_fields_show_the_mean_of_their_pictures() -> None:
    camera, background = cameras_around(1), (0.2, 0.3, 0.4)
    fields = [coloured_blobs(150, seed) for seed in (0, 1, 2)]
    features = [torch.rand(150, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 2)]
    alone = [draw(Splat(field, background), camera, own) for field, own in zip(fields, features, strict=True)]
    seen = draw(Splat.of_fields(fields, background), camera, torch.cat(features))
    for name in ("colour", "alpha", "features"):
        mean = torch.stack([getattr(one, name) for one in alone]).mean(dim=0)
        torch.testing.assert_close(getattr(seen, name), mean, atol=1e-5, rtol=1e-4)
    known = (seen.depth > 0) & np.all([one.depth > 0 for one in alone], axis=0)
    assert known.mean() > 0.1
    weights = np.stack([one.alpha.numpy() for one in alone]).clip(1e-9)
    mean_depth = np.average([one.depth for one in alone], axis=0, weights=weights)
    np.testing.assert_allclose(seen.depth[known], mean_depth[known], rtol=1e-4)
    np.testing.assert_array_equal(seen.depth > 0, seen.alpha.numpy() > 0.5)
