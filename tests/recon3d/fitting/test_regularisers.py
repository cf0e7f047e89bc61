"""What a fit hands to losses beyond render and photo, also after it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from plugins import WallStart, WallWithPrior

from datasets.errors import InputError
from datasets.geometry import project
from recon3d.fitting.command import fit
from recon3d.fitting.data import SceneData
from recon3d.fitting.densification import DefaultStrategy
from recon3d.fitting.module import SplatModule
from recon3d.fitting.optimisers import LearningRates
from recon3d.gaussians import Gaussians
from recon3d.initialise import DenseInitialiser, Start
from recon3d.losses import EstimatedDepth, Loss, Photometric, Scheduled, Step, Target, UncertainColour
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.render import Render
from recon3d.views import TrainingViews

EVERYTHING = """
model:
  initialiser:
    class_path: plugins.WallWithPrior
  sh_degree: 1
  sh_every: 0
  dropout: 0.2
  sh_dropout: 0.3
  bound: 0.8
  losses:
    - class_path: recon3d.losses.Photometric
      init_args: {ssim: 1.0, weight: 0.2}
    - class_path: recon3d.losses.UncertainColour
    - class_path: recon3d.losses.EstimatedDepth
    - class_path: recon3d.losses.DepthCorrelation
      init_args: {patch: 8}
    - class_path: recon3d.losses.NormalisedDepth
    - class_path: recon3d.losses.DepthRanking
    - class_path: recon3d.losses.DepthContinuity
    - class_path: recon3d.losses.DisparityVariation
    - class_path: recon3d.losses.Scheduled
      init_args:
        every: 3
        begin: 0.2
        loss:
          class_path: recon3d.losses.WarpedView
          init_args: {place: beside, pixels: 3.0}
    - class_path: recon3d.losses.Scheduled
      init_args:
        every: 4
        fade: true
        loss:
          class_path: recon3d.losses.WarpedView
          init_args: {place: between}
"""


class Watch(Loss):
    """Keeps the targets."""

    uses_prior = True

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Target] = []

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> torch.Tensor:
        self.targets.append(target)
        return render.colour.mean()


@pytest.fixture
def fitted(wall: Path, tmp_path: Path) -> Callable[..., SplatModule]:
    def run(steps: int, **options: Any) -> SplatModule:
        module = SplatModule(options.pop("initialiser", None) or WallWithPrior(), **options)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            max_steps=steps, accelerator="cpu", enable_checkpointing=False, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(module, datamodule=SceneData(wall))
        return module

    return run


def test_each_photo_comes_with_its_own_prior_and_the_step(fitted: Callable[..., SplatModule]) -> None:
    watch = Watch()
    module = fitted(6, losses=[Scheduled(watch)])
    assert len(watch.targets) == 6
    for number, target in enumerate(watch.targets):
        step, prior = target.step, target.prior
        assert isinstance(step, Step)
        assert prior is not None
        assert (step.number, step.progress) == (number, pytest.approx((number + 1) / 6))
        assert float(prior.depth.max()) == 2.0 + step.index
        assert not prior.depth[:4].any()
        assert torch.equal(prior.confidence, (prior.depth > 0) / 2)
        assert len(step.cameras) == 3
        assert torch.equal(step.camera.world_to_camera, module.cameras[step.index].world_to_camera)
    assert sorted(target.step.index for target in watch.targets[:3] if target.step) == [0, 1, 2]


def test_looking_from_elsewhere_leaves_out_the_same_gaussians(fitted: Callable[..., SplatModule]) -> None:
    class Same(Loss):
        def value(self, render: Render, target: Target, gaussians: Gaussians) -> torch.Tensor:
            step = target.required_step
            torch.testing.assert_close(step.look(step.camera).colour, render.colour)
            return render.colour.mean()

    fitted(4, losses=[Same()], dropout=0.5, sh_degree=1, sh_every=0, sh_dropout=0.5)


def test_prior_is_not_kept_unless_used(fitted: Callable[..., SplatModule]) -> None:
    module = fitted(1)
    assert module.prior == []
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["fit"]["prior"] == []


def test_losses_of_a_prior_need_a_start_with_one(fitted: Callable[..., SplatModule]) -> None:
    with pytest.raises(InputError, match=r"EstimatedDepth holds renders.*WallStart has none.*DenseInitialiser"):
        fitted(1, initialiser=WallStart(), losses=[Photometric(), EstimatedDepth()])


def test_dense_start_hands_over_what_its_prior_said(wall: Path) -> None:
    class Known(DepthPrior):
        def __init__(self, depth: float) -> None:
            self.depth = depth

        def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
            shape = views.views[0].image.shape[:2]
            return [DepthEstimate(np.full(shape, self.depth, np.float32), np.ones(shape, np.float32)) for _ in range(3)]

    views = SceneData(wall).views
    for depth in (2.0, 0.0):  # of nothing, the start is random
        start = DenseInitialiser(Known(depth), budget=200, far_layer=False)(views, 0)
        assert start.estimates is not None
        assert [float(estimate.depth.mean()) for estimate in start.estimates] == [depth] * 3


def test_uncertainty_is_learned_and_follows_densification(fitted: Callable[..., SplatModule]) -> None:
    strategy = DefaultStrategy(refine_start_iter=0, refine_every=4, grow_grad2d=0.002, grow_scale3d=0.2, prune_opa=1e-4)
    module = fitted(10, losses=[Photometric(ssim=1, weight=0.2), UncertainColour()], densification=strategy)
    uncertainty = module.params["uncertainty"]
    assert len(uncertainty) == len(module.gaussians) > 150
    assert float((uncertainty != 0).float().mean()) > 0.5
    assert "uncertainty" not in module.gaussians.parameters()
    assert "uncertainty" not in fitted(1).params


def test_harmonics_are_left_out_in_a_growing_share(
    fitted: Callable[..., SplatModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon3d.fitting import module as under_test

    class Coloured(WallStart):
        def __call__(self, views: TrainingViews, seed: int) -> Start:
            start = super().__call__(views, seed)
            more = {"shN": torch.ones(len(start.gaussians), 3, 3)}
            return replace(start, gaussians=Gaussians.from_parameters(start.gaussians.parameters() | more))

    shares, render = [], under_test.render

    def watch(gaussians: Gaussians, *args: Any, **options: Any) -> Render:
        plain = (gaussians.shN == 0).flatten(1)
        assert torch.equal(plain.any(1), plain.all(1)), "all harmonics of a Gaussian or none"
        shares.append(float(plain.all(1).float().mean()))
        return render(gaussians, *args, **options)

    monkeypatch.setattr(under_test, "render", watch)
    fitted(8, initialiser=Coloured(2000), sh_degree=1, sh_every=0, sh_dropout=0.8)
    assert shares == pytest.approx([0.1 * n for n in range(1, 9)], abs=0.05)
    with pytest.raises(ValueError, match=r"sh_dropout is 1\.5"):
        SplatModule(WallStart(), sh_dropout=1.5)


def test_bound_gaussians_stay_on_their_rays_until_they_are_freed(fitted: Callable[..., SplatModule]) -> None:
    def off_the_rays(module: SplatModule) -> tuple[float, float]:
        start = module.initialiser(module.trainer.datamodule.views, module.seed)  # type: ignore[attr-defined]
        assert start.origins is not None
        ray = torch.nn.functional.normalize(start.gaussians.means - start.origins, dim=1)
        moved = module.gaussians.means.detach() - start.gaussians.means
        along = (moved * ray).sum(1, keepdim=True) * ray
        return float(along.abs().max()), float((moved - along).abs().max())

    rates = LearningRates(means=1e-2)
    along, aside = off_the_rays(fitted(6, bound=1.0, learning_rates=rates))
    assert along > 0.01
    assert aside < 1e-5
    assert off_the_rays(fitted(6, bound=0.5, learning_rates=rates))[1] > 5e-4
    assert off_the_rays(fitted(6, learning_rates=rates))[1] > 0.01


def test_binding_needs_rays_and_a_constant_set(fitted: Callable[..., SplatModule]) -> None:
    with pytest.raises(InputError, match=r"model\.bound.*WallStart has others.*DenseInitialiser"):
        fitted(1, initialiser=WallStart(), bound=0.5)
    with pytest.raises(ValueError, match=r"take model\.densification out"):
        SplatModule(WallWithPrior(), bound=0.5, densification=DefaultStrategy())
    with pytest.raises(ValueError, match=r"model\.bound is 1\.5"):
        SplatModule(WallWithPrior(), bound=1.5)


def test_pixels_know_their_cameras(wall: Path) -> None:
    """Going back from each Gaussian of a dense start to its origin leads through its pixel, whatever its depth."""

    class Flat(DepthPrior):
        def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
            shape = views.views[0].image.shape[:2]
            return [DepthEstimate(np.full(shape, 2.0, np.float32), np.ones(shape, np.float32)) for _ in range(3)]

    views = SceneData(wall).views
    start = DenseInitialiser(Flat(), budget=300, far_layer=False)(views, 0)
    assert start.origins is not None
    farther = start.origins + 1.7 * (start.gaussians.means - start.origins)
    there, _ = project(farther.double(), views.cameras.to(dtype=torch.float64))
    chosen = torch.cdist(start.origins.double(), views.cameras.centres.double()).argmin(1)
    pixels = there[chosen, torch.arange(len(chosen))]
    assert len(set(chosen.tolist())) == 3
    torch.testing.assert_close(pixels, pixels.floor() + 0.5, atol=1e-3, rtol=0)


def test_fit_with_everything_goes_on_after_it_was_cut_short(
    arguments: Callable[..., list[str]], same_fit: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    straight, cut, config = tmp_path / "straight", tmp_path / "cut", tmp_path / "everything.yaml"
    config.write_text(EVERYTHING)
    options = [argument for argument in arguments(straight, f"--config={config}") if "initialiser" not in argument]
    fit(options)

    class Enough(Exception):
        pass

    def stop(self: SplatModule, *args: Any) -> None:
        if self.global_step == 17:
            raise Enough
        return step(self, *args)

    step = SplatModule._update
    again = [argument.replace(str(straight), str(cut)) for argument in options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SplatModule, "_update", stop)
        with pytest.raises(Enough):
            fit(again)
    fit([*again, "--resume"])
    same_fit(straight, cut)
    stored = torch.load(cut / "checkpoints" / "last.ckpt", weights_only=True)["fit"]["prior"]
    assert [float(one["depth"].max()) for one in stored] == [2.0, 3.0, 4.0]
