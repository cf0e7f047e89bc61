"""Several fields fitted side by side: what each sees, how they agree, what is removed, what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugins import WallStart, WallWithPrior
from torch import Tensor
from torch.nn import Parameter

from datasets.errors import InputError
from datasets.types import Cameras
from recon3d.fitting.data import SceneData
from recon3d.fitting.densification import CoPruning, MCMCStrategy
from recon3d.fitting.densification.co_pruning import without_counterpart
from recon3d.fitting.fields import beside_one_another
from recon3d.fitting.module import SplatModule
from recon3d.fitting.optimisers import LearningRates, make_optimisers
from recon3d.gaussians import Gaussians
from recon3d.initialise import DenseInitialiser
from recon3d.losses import FieldAgreement, Photometric, Scheduled, Step, Target
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.render import Render, render
from recon3d.splats.mean import mean_of, separated
from recon3d.views import TrainingViews

Fit = Callable[..., SplatModule]


def test_joined_fields_come_apart_again(wall: Path) -> None:
    views = SceneData(wall).views
    starts = WallStart(7).several(views, [3, 4, 5])
    joined, field = beside_one_another(starts)
    assert field.bincount().tolist() == [7, 7, 7]
    for one, start in zip(separated(joined.gaussians, field), starts, strict=True):
        assert torch.equal(one.means, start.gaussians.means)
    assert not torch.equal(starts[0].gaussians.means, starts[1].gaussians.means)
    with_origins, _ = beside_one_another(WallWithPrior(7).several(views, [0, 1]))
    assert with_origins.origins is not None
    assert with_origins.origins.shape == (14, 3)


def test_depth_is_asked_for_once(wall: Path) -> None:
    asked = []

    class Flat(DepthPrior):
        def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
            asked.append(len(views))
            ones = [np.ones(view.image.shape[:2], np.float32) for view in views.views]
            return [DepthEstimate(one, one) for one in ones]

    views = SceneData(wall).views
    initialiser = DenseInitialiser(Flat(), budget=300, further=1)
    several = initialiser.several(views, [1, 2])
    assert len(asked) == 1
    for start, seed in zip(several, (1, 2), strict=True):
        assert torch.equal(start.gaussians.means, initialiser(views, seed).gaussians.means)


def test_fields_take_the_opinions_in_turn(wall: Path) -> None:
    class Two(DepthPrior):
        def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
            return self.opinions(views, 1)[0]

        def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
            ones = [np.ones(view.image.shape[:2], np.float32) for view in views.views]
            return [[DepthEstimate(depth * one, one) for one in ones] for depth in (1.0, 2.0)][:count]

    views = SceneData(wall).views
    initialiser = DenseInitialiser(Two(), budget=300, further=1, far_layer=False)
    first, second, third = initialiser.several(views, [1, 2, 3])
    depths = [float(start.estimates[0].depth[0, 0]) for start in (first, second, third) if start.estimates]
    assert depths == [1, 2, 1]
    assert torch.equal(third.gaussians.means, initialiser(views, 3).gaussians.means)
    assert not torch.equal(second.gaussians.means, initialiser(views, 2).gaussians.means)
    assert torch.equal(first.gaussians.means, initialiser(views, 1).gaussians.means)


def test_each_field_sees_the_photos_alone(fitted: Fit, wall: Path) -> None:
    """Two fields take the steps that each would take by itself."""
    seeds = [SplatModule(WallStart(200), seed=seed) for seed in (10, 11)]
    both = fitted(4, WallStart(200), fields=2, seed=5)
    alone = [fitted(4, WallStart(200), seed=seed) for seed in (10, 11)]
    found = separated(both.gaussians, both.densification_state["field"])
    for one, two, module in zip(found, alone, seeds, strict=True):
        module.begin(SceneData(wall).views)
        assert not torch.equal(one.means, module.gaussians.means), "it learned"
        # The order of photos is drawn from the data's seed, which all share; dropout is off.
        torch.testing.assert_close(one.means, two.gaussians.means)
        torch.testing.assert_close(one.sh0, two.gaussians.sh0)
    torch.testing.assert_close(both.result.gaussians.means, mean_of([module.gaussians for module in alone]).means)
    torch.testing.assert_close(
        both.result.gaussians.opacities, mean_of([module.gaussians for module in alone]).opacities
    )


def cameras_around() -> Cameras:
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = -0.5
    intrinsics = torch.tensor([[30.0, 0, 20], [0, 30.0, 15], [0, 0, 1]]).repeat(2, 1, 1)
    return Cameras(poses, intrinsics, torch.tensor([[40, 30]]).repeat(2, 1))


def blobs(seed: int) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.rand(60, 3, generator=draw) * torch.tensor([3.0, 2.0, 1.0]) + torch.tensor([-1.5, -1.0, 2.5]),
        scales=torch.full((60, 3), -1.5),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(60, 1),
        opacities=torch.ones(60),
        sh0=torch.rand(60, 1, 3, generator=draw) - 0.5,
        shN=torch.zeros(60, 0, 3),
    )


def asked(own: Gaussians, *others: Gaussians) -> Tensor:
    """The agreement of ``own`` with the next field, from a place drawn from one seed."""
    places = cameras_around()
    step = Step(
        0, 0.5, 0, places, lambda c: render(own, c), tuple(lambda c, other=other: render(other, c) for other in others)
    )
    torch.manual_seed(3)
    photo = render(own, places[0])
    return FieldAgreement(ssim=0.0).value(photo, Target(photo.colour[0], step=step), own)


def test_agreement_is_the_difference_from_another_place_and_moves_one_field() -> None:
    one, other = blobs(0), blobs(1)
    assert float(asked(one, one).detach()) == 0
    for gaussians in (one, other):
        gaussians.sh0.requires_grad_()
    difference = asked(one, other)
    assert float(difference.detach()) > 0.01
    difference.backward()
    assert one.sh0.grad is not None
    assert one.sh0.grad.abs().sum() > 0
    assert other.sh0.grad is None, "the other's picture is taken as given"
    seen: list[Cameras] = []

    def look(camera: Cameras) -> Render:
        seen.append(camera)
        return render(one, camera)

    places = cameras_around()
    photo = render(one, places[0])
    step = Step(0, 0.5, 0, places, look, (look,))
    FieldAgreement().value(photo, Target(photo.colour[0], step=step), one)
    assert torch.equal(seen[0].world_to_camera, seen[1].world_to_camera)
    assert 0 < float(seen[0].centres[0, 0]) < 0.5, "between the photos"


def test_agreement_needs_two_fields_and_two_photos() -> None:
    with pytest.raises(ValueError, match=r"model\.fields is 1"):
        asked(blobs(0))
    with pytest.raises(ValueError, match=r"compares fields, but model\.fields is 1"):
        SplatModule(WallStart(), [Photometric(), Scheduled(FieldAgreement(), every=2)])
    one, places = blobs(0), cameras_around()[:1]
    photo = render(one, places)
    step = Step(0, 0.5, 0, places, lambda c: render(one, c), (lambda c: render(one, c),))
    with pytest.raises(InputError, match="at least two"):
        FieldAgreement().value(photo, Target(photo.colour[0], step=step), one)
    dark = replace(photo, alpha=torch.zeros_like(photo.alpha))
    assert float(FieldAgreement().value(dark, Target(photo.colour[0], step=step), one)) == 0


def slowly(means: Tensor, field: Tensor, cameras: Cameras, apart: float) -> list[bool]:
    """The same, pair by pair."""
    found = []
    for i, place in enumerate(means):
        depths = [float((c.world_to_camera[0, :3, :3] @ place + c.world_to_camera[0, :3, 3])[2]) for c in cameras]
        pixels = [d / float(c.intrinsics[0, 0, 0]) for d, c in zip(depths, cameras, strict=True) if d > 0]
        others = [float((place - means[j]).norm()) for j in range(len(means)) if field[j] != field[i]]
        found.append(bool(pixels and others and min(others) > apart * min(pixels)))
    return found


@pytest.mark.parametrize("fields", [1, 2, 3])
def test_counterparts_against_every_pair(fields: int) -> None:
    draw = torch.Generator().manual_seed(fields)
    means = torch.rand(150, 3, generator=draw) * torch.tensor([4.0, 3.0, 5.0]) - torch.tensor([2.0, 1.5, 1.0])
    field = torch.randint(fields, (150,), generator=draw)
    places = cameras_around()
    want = slowly(means, field, [places[i] for i in range(2)], 6.0)  # type: ignore[arg-type]
    assert without_counterpart(means, field, places, 6.0).tolist() == want
    assert (sum(want) == 0) if fields == 1 else (10 < sum(want) < 140)


def test_rounds_of_co_pruning_and_what_they_keep() -> None:
    near, lonely = torch.rand(20, 3) * 0.01, torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    means = torch.cat([near, lonely]) + torch.tensor([0.0, 0, 3])
    gaussians = blobs(0)
    params = {name: Parameter(value[:22].clone()) for name, value in gaussians.parameters().items()}
    params["means"] = Parameter(means.clone())
    optimisers = dict(make_optimisers(params, LearningRates(), 1.0))
    state = {"field": torch.arange(22) % 2}
    strategy, info = CoPruning(every=10, begin=20, end=40), {"cameras": cameras_around()}
    counts = []
    for step in (0, 10, 19, 25, 40, 20):
        strategy.step_post_backward(params, optimisers, state, step, info, lr=0.0)
        counts.append(len(params["means"]))
    assert counts == [22, 22, 22, 22, 22, 20]
    assert torch.equal(params["means"], means[:20])
    assert state["field"].tolist() == [0, 1] * 10
    with torch.no_grad():
        params["means"][state["field"] == 1] += 5
    strategy.step_post_backward(params, optimisers, state, 30, info, lr=0.0)
    assert len(params["means"]) == 20, "rather none than all of a field"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SplatModule(WallStart(), fields=0), r"model\.fields is 0"),
        (lambda: SplatModule(WallStart(), fields=2, densification=MCMCStrategy()), "several fields go with CoPruning"),
        (lambda: SplatModule(WallStart(), densification=CoPruning()), "only with several fields"),
        (lambda: CoPruning(every=0), "every is 0"),
        (lambda: CoPruning(begin=5, end=5), "end 5"),
        (lambda: CoPruning(apart=0), "apart is 0"),
        (lambda: FieldAgreement(ssim=2), "ssim is 2"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
