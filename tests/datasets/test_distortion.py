"""Undistortion against a lens simulated exactly, to a small part of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from datasets.scenes.distortion import Distortion, pinhole_focal, undistortion
from datasets.scenes.images import shrink_image

SIZE, FOCAL, CENTRE = (160, 120), (110.0, 112.0), (83.0, 57.5)
LENSES = {
    "barrel": Distortion((-0.12, 0.02, 0.001, -0.002, 0.0, 0.0, 0.0, 0.0)),
    "pincushion": Distortion((0.06, -0.08, -0.001, 0.0002, 0.0, 0.0, 0.0, 0.0)),
    "rational": Distortion((0.2, 0.05, 0.0, 0.0, 0.01, 0.25, 0.04, 0.005)),
    "fisheye": Distortion((0.02, -0.01, 0.003, -0.0004), fisheye=True),
    "equidistant": Distortion((0.0, 0.0, 0.0, 0.0), fisheye=True),
}


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth colour for each ray (x, y, 1)."""
    waves = [np.sin(17 * x + 5 * y), np.sin(14 * y - 9 * x + 1), np.cos(11 * (x + y))]
    return np.stack([0.5 + 0.35 * wave for wave in waves], -1).astype(np.float32)


def pixel_centres(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    return x, y


def pinhole_rays(lens: Distortion) -> tuple[np.ndarray, np.ndarray]:
    focal = pinhole_focal(FOCAL, CENTRE, SIZE, lens)
    u, v = pixel_centres(SIZE)
    return (u - CENTRE[0]) / focal[0], (v - CENTRE[1]) / focal[1]


def distort(x: np.ndarray, y: np.ndarray, lens: Distortion) -> tuple[np.ndarray, np.ndarray]:
    """The lens models written down from their definition, independent of OpenCV."""
    r2 = x * x + y * y
    if lens.fisheye:
        r = np.sqrt(r2)
        angle = np.arctan(r)
        k = lens.coefficients
        bent = angle * (1 + k[0] * angle**2 + k[1] * angle**4 + k[2] * angle**6 + k[3] * angle**8)
        ratio = np.where(r > 1e-9, bent / np.maximum(r, 1e-9), 1)
        return x * ratio, y * ratio
    k1, k2, p1, p2, k3, k4, k5, k6 = lens.coefficients
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def taken_through(lens: Distortion) -> np.ndarray:
    """What a camera with this lens photographs of the pattern: each pixel's ray by fixed-point inversion."""
    u, v = pixel_centres(SIZE)
    wanted_x, wanted_y = (u - CENTRE[0]) / FOCAL[0], (v - CENTRE[1]) / FOCAL[1]
    x, y = wanted_x.copy(), wanted_y.copy()
    for _ in range(200):
        bent_x, bent_y = distort(x, y, lens)
        x, y = x + (wanted_x - bent_x), y + (wanted_y - bent_y)
    bent_x, bent_y = distort(x, y, lens)
    assert np.abs(bent_x - wanted_x).max() < 1e-9
    return pattern(x, y)


@pytest.mark.parametrize("name", LENSES)
def test_an_undistorted_photo_shows_what_the_pinhole_sees(name: str) -> None:
    lens = LENSES[name]
    result = undistortion(FOCAL, CENTRE, SIZE, lens)
    assert result.mask is None, "no border may be empty"
    photo = taken_through(lens)
    undistorted = result.image(photo)
    x, y = pinhole_rays(lens)
    inner = (slice(3, -3), slice(3, -3))
    error = np.abs(undistorted - pattern(x, y))[inner].max()
    shifted = np.abs(undistorted - pattern(x - 0.5 / FOCAL[0], y))[inner].max()
    assert error < 0.004
    assert shifted > 5 * error, "half a pixel must be seen by this test"


@pytest.mark.parametrize("name", LENSES)
def test_the_view_is_as_wide_as_the_photo_allows(name: str) -> None:
    result = undistortion(FOCAL, CENTRE, SIZE, LENSES[name])
    edges = [result.map_x[:, 0].min() + 0.5, result.map_y[0].min() + 0.5]
    edges += [SIZE[0] - 0.5 - result.map_x[:, -1].max(), SIZE[1] - 0.5 - result.map_y[-1].max()]
    assert min(edges) >= -0.01
    assert min(edges) < 0.1, "one border of the photo is touched"


def test_the_view_ends_before_the_lens_polynomial_turns_back() -> None:
    """x (1 - 0.9 x^2) is largest at x = 0.61; beyond, the photo would be shown a second time, mirrored."""
    lens = Distortion((-0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert undistortion(FOCAL, CENTRE, SIZE, lens).mask is None
    assert 0.5 < np.hypot(*pinhole_rays(lens)).max() < 0.62


def test_what_no_zoom_can_fill_is_masked() -> None:
    """A photo cropped so that its principal point lies outside: what lies there was not photographed."""
    lens, centre = Distortion((-0.12, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)), (-60.0, 57.5)
    assert pinhole_focal(FOCAL, centre, SIZE, lens) == FOCAL
    result = undistortion(FOCAL, centre, SIZE, lens)
    assert result.mask is not None
    assert 0.8 < result.mask.mean() < 1
    np.testing.assert_array_equal(result.mask[60], result.map_x[60] >= -0.51)


def test_shrinking_keeps_rays() -> None:
    """Half the size with half the intrinsics sees the same pattern: no half-pixel is lost."""
    u, v = pixel_centres(SIZE)
    photo = pattern((u - CENTRE[0]) / FOCAL[0], (v - CENTRE[1]) / FOCAL[1])
    for factor in (2, 4):
        size = (SIZE[0] // factor, SIZE[1] // factor)
        u, v = pixel_centres(size)
        x = (u - CENTRE[0] / factor) / (FOCAL[0] / factor)
        y = (v - CENTRE[1] / factor) / (FOCAL[1] / factor)
        error = np.abs(shrink_image(photo, size) - pattern(x, y)).max()
        shifted = np.abs(shrink_image(photo, size) - pattern(x - 0.5 * factor / FOCAL[0], y)).max()
        assert error < 0.01 * factor
        assert shifted > 4 * error


def test_nearest_resampling_follows_the_image() -> None:
    lens = undistortion(FOCAL, CENTRE, SIZE, LENSES["barrel"])
    ramp = np.tile(np.arange(SIZE[0], dtype=np.float32), (SIZE[1], 1))
    smooth = cv2.remap(ramp, lens.map_x, lens.map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(lens.nearest(ramp) - smooth).max() <= 0.52
    partly = undistortion(FOCAL, (-60.0, 57.5), SIZE, LENSES["barrel"])
    assert partly.mask is not None
    assert not partly.nearest(ramp + 1)[~partly.mask].any()
    assert partly.nearest(ramp + 1)[partly.mask].all()


def test_coefficients_are_counted() -> None:
    with pytest.raises(ValueError, match="3 coefficients"):
        Distortion((0.1, 0.2, 0.3))
    assert Distortion((0.0,) * 8).is_none
    assert not LENSES["equidistant"].is_none
