"""How densely pixels become Gaussians: by detail, in holes, and all of it within a budget."""

from __future__ import annotations

import numpy as np
import pytest

from recon3d.initialisation.density import density_of, scaled_to
from recon3d.initialisation.surfaces import Surface

SHAPE = (40, 60)


def surface(known: np.ndarray | None = None, counts: np.ndarray | None = None) -> Surface:
    everywhere = np.ones(SHAPE, bool)
    return Surface(np.ones(SHAPE), everywhere if known is None else known, everywhere if counts is None else counts)


@pytest.mark.parametrize("seed", range(20))
def test_densities_are_scaled_to_the_budget(seed: int) -> None:
    random = np.random.default_rng(seed)
    densities = [random.gamma(0.5, size=(7, 9)) * (random.random((7, 9)) < 0.8) for _ in range(3)]
    pixels = sum(int((density > 0).sum()) for density in densities)
    for budget in random.uniform(0.5, pixels, 5):
        scaled = scaled_to(budget, densities)
        assert sum(density.sum() for density in scaled) == pytest.approx(budget)
        ratios = np.concatenate([now[was > 0] / was[was > 0] for now, was in zip(scaled, densities, strict=True)])
        values = np.concatenate([now[was > 0] for now, was in zip(scaled, densities, strict=True)])
        assert values.max() <= 1
        free = values < 1
        np.testing.assert_allclose(ratios[free], ratios[free].max())
        assert (ratios[~free] <= ratios[free].max() * (1 + 1e-9)).all()


@pytest.mark.parametrize("beyond", [0, 1, 1e9])
def test_a_budget_for_all_takes_all(beyond: float) -> None:
    density = np.array([[0.1, 0.0, 3.0], [0.5, 0.5, 0.0]])
    (scaled,) = scaled_to(4 + beyond, [density])
    np.testing.assert_array_equal(scaled, density > 0)


def test_nothing_has_no_density() -> None:
    (scaled,) = scaled_to(10, [np.zeros(SHAPE)])
    assert not scaled.any()


def test_holes_are_sparser_and_what_shows_no_surface_is_empty() -> None:
    known, counts = np.ones(SHAPE, bool), np.ones(SHAPE, bool)
    known[:, :20], counts[:10] = False, False
    density = density_of(np.full((*SHAPE, 3), 0.5, np.float32), surface(known, counts), in_holes=0.25, detail=2)
    np.testing.assert_allclose(density, np.where(known, 1, 0.25) * counts)


def test_detail_is_denser_within_limits() -> None:
    image = np.full((*SHAPE, 3), 0.5, np.float32)
    image[:, 40:] = np.random.default_rng(0).random((SHAPE[0], 20, 3))
    density = density_of(image, surface(), in_holes=1, detail=1.5)
    assert density[:, :30].max() == pytest.approx(1 / 1.5)
    assert density[:, 48:].min() > 1
    assert density.max() == pytest.approx(1.5)
    np.testing.assert_allclose(density_of(image, surface(), in_holes=1, detail=1), 1)


def test_the_square_root_of_contrast_counts() -> None:
    """Away from its limits, four times the contrast is twice the density."""
    image = np.full((*SHAPE, 3), 0.5, np.float32)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (SHAPE[0], 30, 1)).astype(np.float32)
    image[:, :30] += noise
    image[:, 30:] += noise * 4
    density = density_of(image, surface(), in_holes=1, detail=100)
    assert density[5:35, 38:52].mean() / density[5:35, 8:22].mean() == pytest.approx(2, rel=1e-3)


def test_what_does_not_count_is_no_measure_of_detail() -> None:
    """A plain background around an object does not make all of the object detailed."""
    counts = np.zeros(SHAPE, bool)
    counts[10:30, 10:30] = True
    image = np.ones((*SHAPE, 3), np.float32)
    image[5:35, 5:35] = np.random.default_rng(0).random((30, 30, 3))
    density = density_of(image, surface(counts=counts), in_holes=1, detail=2)
    assert density[counts].mean() == pytest.approx(1, abs=0.05)
