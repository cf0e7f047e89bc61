"""Colour maps."""

from __future__ import annotations

import numpy as np

from recon3d.pictures import colour_depth, colour_error, depth_range


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
