"""Colour maps and image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recon3d.pictures import colour_depth, colour_error, depth_range, encode, read_image, save_image, to_bytes


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


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
def test_images_come_back(tmp_path: Path, kind: str) -> None:
    y, x = np.mgrid[:40, :60]
    image = np.stack([4 * x, 6 * y, np.full_like(x, 30)], axis=2).astype(np.uint8)
    path = tmp_path / "new" / f"image{kind}"
    save_image(path, image)
    got = read_image(path)
    assert got is not None
    assert np.abs(got.astype(int) - image).mean() < (0.01 if kind == ".png" else 4)
    assert len(list(path.parent.iterdir())) == 1


def test_what_is_no_image_reads_as_none(tmp_path: Path) -> None:
    assert read_image(tmp_path / "nothing.png") is None
    for content in (b"", b"not an image", encode(np.zeros((9, 9, 3), np.uint8), ".png")[:30]):
        (tmp_path / "bad.png").write_bytes(content)
        assert read_image(tmp_path / "bad.png") is None


def test_to_bytes_rounds_and_clamps() -> None:
    np.testing.assert_array_equal(to_bytes(np.array([-1, 0, 0.5 / 255 + 1e-6, 1 / 255, 1, 2])), [0, 0, 1, 1, 255, 255])
