"""Losses that hold rendered depth against a prior, or against itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from recon3d.losses import (
    DepthContinuity,
    DepthCorrelation,
    DepthRanking,
    DisparityVariation,
    EstimatedDepth,
    Loss,
    NormalisedDepth,
    PriorDepth,
    Target,
)
from recon3d.losses import depth_correlation as correlation_file
from recon3d.losses import normalised_depth as normalised_file
from recon3d.losses.surface import Space
from recon3d.render import Render
from tests.recon3d import losses_oracle as oracle
from tests.recon3d.losses_oracle import HEIGHT, NO_GAUSSIANS, WIDTH, assert_alike, gradients, rendered, target

OF_PRIOR = [EstimatedDepth, DepthCorrelation, NormalisedDepth, DepthRanking, DepthContinuity]


def at_depth(depth: torch.Tensor, alpha: float = 1.0) -> Render:
    none = torch.zeros(1, 0, 2)
    opaque = torch.full_like(depth, alpha)[None]
    return Render(torch.zeros(1, *depth.shape, 3), opaque, (alpha * depth)[None], None, none, none.int())


def wavy() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    return 3 + torch.sin(0.3 * x) + 0.02 * y


def expects(depth: torch.Tensor) -> Target:
    return Target(torch.zeros(*depth.shape, 3), None, None, PriorDepth(depth, torch.ones_like(depth)))


def value(loss: Loss, render: Render, target: Target) -> float:
    torch.manual_seed(0)
    return float(loss.value(render, target, NO_GAUSSIANS))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("space", ["depth", "inverse"])
def test_estimated_depth(space: Space, masked: bool) -> None:
    render, photo = rendered(), target(masked=masked)
    assert_alike(EstimatedDepth(space), oracle.estimated_depth(render, photo, space), render, photo, 0)


@pytest.mark.parametrize("space", ["depth", "inverse"])
@pytest.mark.parametrize("patch", [None, 2, 5, 13])
def test_depth_correlation(patch: int | None, space: Space) -> None:
    render, photo = rendered(), target()
    for seed in range(3):
        slow = oracle.depth_correlation(render, photo, patch, space, seed, correlation_file.FLAT)
        assert_alike(DepthCorrelation(patch, space), slow, render, photo, seed)


@pytest.mark.parametrize("sides", [(5, 5), (2, 17)])
def test_normalised_depth(sides: tuple[int, int]) -> None:
    render, photo = rendered(), target()
    for seed in range(3):
        slow = oracle.normalised_depth(render, photo, sides, 0.1, seed, normalised_file.FLAT)
        assert_alike(NormalisedDepth(*sides), slow, render, photo, seed)


@pytest.mark.parametrize("seed", range(6))
def test_depth_order(seed: int) -> None:
    render, photo = rendered(), target()
    slow = oracle.depth_ranking(render, photo, 4, 0.02, 0.01, seed)
    assert_alike(DepthRanking(reach=4, least=0.02, margin=0.01), slow, render, photo, seed)
    slow = oracle.depth_continuity(render, photo, 3, 0.05, 0.01, seed)
    assert_alike(DepthContinuity(reach=3, alike=0.05, slack=0.01), slow, render, photo, seed)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_disparity_variation(order: int, masked: bool) -> None:
    render, photo = rendered(), target(masked=masked)
    assert_alike(
        DisparityVariation(order, 3.0), oracle.disparity_variation(render, photo, order, 3.0), render, photo, 0
    )


@pytest.mark.parametrize("kind", OF_PRIOR)
def test_the_priors_own_depth_costs_nothing(kind: type[Loss]) -> None:
    assert value(kind(), at_depth(wavy(), alpha=0.8), expects(wavy())) == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("loss", [DepthCorrelation(space="depth"), DepthCorrelation(8, "depth"), NormalisedDepth()])
def test_shape_is_compared_whatever_scale_and_shift(loss: Loss) -> None:
    assert value(loss, at_depth(2.5 * wavy() + 4), expects(wavy())) == pytest.approx(0, abs=2e-3)
    assert value(loss, at_depth(8 - wavy()), expects(wavy())) > 1.0


@pytest.mark.parametrize("kind", OF_PRIOR)
def test_nothing_depends_on_the_unit_of_length(kind: type[Loss]) -> None:
    smooth = 3 + 0.1 * wavy()
    rough = smooth + torch.rand(40, 50, generator=torch.Generator().manual_seed(1))
    small, large = (value(kind(), at_depth(k * rough), expects(k * smooth)) for k in (0.01, 100.0))
    assert small > 0
    assert small == pytest.approx(large, rel=1e-3)
    assert value(DisparityVariation(), at_depth(0.01 * rough), expects(rough)) == pytest.approx(
        value(DisparityVariation(), at_depth(100 * rough), expects(rough)), rel=1e-3
    )


def test_second_order_variation_likes_planes() -> None:
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    plane = at_depth(1 / (0.2 + 0.01 * x + 0.003 * y))
    assert value(DisparityVariation(1), plane, expects(wavy())) > 0.01
    assert value(DisparityVariation(2), plane, expects(wavy())) < 1e-5


@pytest.mark.parametrize("kind", [*OF_PRIOR, DisparityVariation])
@pytest.mark.parametrize("case", ["no prior depth", "nothing rendered", "nothing counts", "flat", "tiny"])
def test_where_there_is_nothing_to_compare(kind: type[Loss], case: str) -> None:
    render, photo = rendered(), target()
    assert photo.prior is not None
    if case == "no prior depth":
        photo = replace(photo, prior=PriorDepth(torch.zeros(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)))
    elif case == "nothing rendered":
        empty = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.float64)
        render = replace(render, alpha=empty.clone().requires_grad_(), depth_sum=empty.clone().requires_grad_())
    elif case == "nothing counts":
        photo = replace(photo, mask=torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))
    elif case == "flat":
        opaque = torch.ones(1, HEIGHT, WIDTH).double()
        render = replace(render, alpha=opaque.requires_grad_(), depth_sum=(2 * opaque).detach().requires_grad_())
        flat = torch.full((HEIGHT, WIDTH), 3.0).double()
        photo = replace(photo, mask=None, prior=PriorDepth(flat, torch.ones_like(flat)))
    else:
        cut = (slice(0, 1), slice(0, 2))
        render = replace(
            render,
            alpha=torch.ones(1, 1, 2).requires_grad_(),
            depth_sum=torch.ones(1, 1, 2).requires_grad_(),
            colour=torch.zeros(1, 1, 2, 3).requires_grad_(),
        )
        prior = PriorDepth(photo.prior.depth[cut].float(), photo.prior.confidence[cut].float())
        photo = Target(photo.image[cut].float(), None, None, prior)
    loss = kind().value(render, photo, NO_GAUSSIANS)
    assert bool(torch.isfinite(loss))
    if case not in ("flat", "tiny") and not (kind is DisparityVariation and case == "no prior depth"):
        assert float(loss.detach()) == 0
    if loss.requires_grad:
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients(loss, render))


@pytest.mark.parametrize("kind", OF_PRIOR)
def test_prior_is_asked_for(kind: type[Loss]) -> None:
    assert kind.uses_prior
    with pytest.raises(ValueError, match="carries none"):
        kind()(rendered(), replace(target(), prior=None), NO_GAUSSIANS)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (EstimatedDepth, {"space": "disparity"}, "space is 'disparity', expected one of depth, inverse"),
        (DepthCorrelation, {"patch": 1}, "patch is 1"),
        (DepthCorrelation, {"space": "log"}, "space is 'log'"),
        (NormalisedDepth, {"smallest": 1}, "smallest is 1"),
        (NormalisedDepth, {"smallest": 9, "largest": 8}, "largest 8"),
        (NormalisedDepth, {"whole": float("nan")}, "whole is nan"),
        (DepthRanking, {"reach": 0}, "DepthRanking: reach is 0"),
        (DepthRanking, {"least": -0.1}, "least is -0.1"),
        (DepthRanking, {"margin": float("nan")}, "margin is nan"),
        (DepthContinuity, {"reach": 0}, "DepthContinuity: reach is 0"),
        (DepthContinuity, {"alike": 1.0}, "alike is 1.0"),
        (DepthContinuity, {"slack": -1.0}, "slack is -1.0"),
        (DisparityVariation, {"order": 3}, "order is 3"),
        (DisparityVariation, {"edge": -1.0}, "edge is -1.0"),
        *((kind, {"weight": -1.0}, f"{kind.__name__}: weight") for kind in [*OF_PRIOR, DisparityVariation]),
    ],
)
def test_settings_are_checked(kind: type[Loss], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)
