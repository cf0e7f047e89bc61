"""What one step does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plugins import WallStart

from datasets.errors import InputError
from recon3d.fitting.data import SceneData
from recon3d.fitting.densification import DefaultStrategy, DensificationStrategy
from recon3d.fitting.module import SplatModule, with_sh_degree
from recon3d.fitting.optimisers import LearningRates
from recon3d.gaussians import Gaussians
from recon3d.initialise import Start
from recon3d.losses import Loss, Target
from recon3d.render import Render
from recon3d.views import TrainingViews

Fit = Callable[..., SplatModule]


def test_global_step_is_the_number_of_batches(fitted: Fit) -> None:
    module = fitted(7)
    assert module.global_step == 7
    assert module.trainer.fit_loop.epoch_loop.batch_progress.total.completed == 7
    for name, optimiser in module.optimisers.items():
        assert [float(state["step"]) for state in optimiser.state.values()] == [7.0], name


def test_rate_of_the_means_scales_with_the_extent_and_decays(fitted: Fit) -> None:
    class Large(WallStart):
        def __call__(self, views: TrainingViews, seed: int) -> Start:
            return replace(super().__call__(views, seed), extent=5.0)

    module = fitted(4, Large(), learning_rates=LearningRates(means=1e-3, means_decay=0.01, quats=7e-4))
    rates = {name: optimiser.param_groups[0]["lr"] for name, optimiser in module.optimisers.items()}
    assert rates["means"] == pytest.approx(5e-5)
    assert rates["quats"] == 7e-4
    assert module.learning_rates.of_means(5.0, 0.5) == pytest.approx(5e-4)


class Spy(DensificationStrategy):
    """Records what strategies are given and does nothing."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, float]] = []
        self.scene_scale = 0.0

    def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
        self.scene_scale = scene_scale
        return {"note": torch.zeros(2)}

    def step_post_backward(
        self, params: Any, optimizers: Any, state: Any, step: int, info: dict[str, Any], *, lr: float
    ) -> None:
        assert list(params) == list(optimizers) == ["means", "scales", "quats", "opacities", "sh0", "shN"]
        assert all(optimizers[name].param_groups[0]["params"][0] is params[name] for name in params)
        assert info["means2d"].grad.shape == (1, 150, 2)
        assert info["means2d"].grad.abs().sum() > 0
        assert info["radii"].shape == (1, 150, 2)
        assert (info["width"], info["height"], info["n_cameras"]) == (40, 30, 1)
        self.steps.append((step, lr))


def test_strategies_get_what_gsplats_expect(fitted: Fit) -> None:
    spy = Spy()
    fitted(4, densification=spy, learning_rates=LearningRates(means=1e-3, means_decay=0.01))
    assert spy.scene_scale == 1.0
    assert [step for step, _ in spy.steps] == [0, 1, 2, 3]
    assert [rate for _, rate in spy.steps] == pytest.approx([1e-3 * 0.01 ** (i / 4) for i in (1, 2, 3, 4)])


def test_strategy_without_a_learning_rate_is_called_without(fitted: Fit) -> None:
    class Gsplats:
        """The signature of gsplat's DefaultStrategy; no subclass of ours."""

        calls = 0

        def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
            return {}

        def step_pre_backward(self, params: Any, optimizers: Any, state: Any, step: int, info: Any) -> None:
            info["means2d"].retain_grad()

        def step_post_backward(
            self, params: Any, optimizers: Any, state: Any, step: int, info: Any, packed: bool = False
        ) -> None:
            self.calls += not packed

    assert issubclass(Gsplats, DensificationStrategy)
    assert not issubclass(dict, DensificationStrategy)
    strategy = Gsplats()
    fitted(3, densification=strategy)
    assert strategy.calls == 3


@pytest.mark.parametrize("absgrad", [False, True])
def test_default_strategy_grows_where_the_photos_ask_for_it(fitted: Fit, absgrad: bool) -> None:
    strategy = DefaultStrategy(
        refine_start_iter=0, refine_every=4, grow_grad2d=0.002, grow_scale3d=0.2, absgrad=absgrad, prune_opa=1e-4
    )
    count = len(fitted(10, densification=strategy).gaussians)
    assert 150 < count < 600


def test_harmonics_come_in_by_schedule(fitted: Fit) -> None:
    degrees = []

    class Watch(Loss):
        def value(self, render: Render, target: Target, gaussians: Gaussians) -> torch.Tensor:
            used = torch.autograd.grad(render.colour.square().sum(), gaussians.shN, retain_graph=True)[0]
            degrees.append({0: 0, 3: 1, 8: 2}[int((used.abs().sum((0, 2)) > 0).sum())])
            return render.colour.sum()

    fitted(7, sh_degree=2, sh_every=3, losses=[Watch()])
    assert degrees == [0, 0, 0, 1, 1, 1, 2]
    degrees.clear()
    fitted(2, sh_degree=2, sh_every=0, losses=[Watch()])
    assert degrees == [2, 2]


def test_storing_more_or_fewer_harmonics(wall: Path) -> None:
    gaussians = with_sh_degree(WallStart(5)(SceneData(wall).views, 0).gaussians, 2)
    assert gaussians.shN.shape == (5, 8, 3)
    assert not gaussians.shN.any()
    gaussians.shN[:] = torch.arange(8.0)[None, :, None]
    assert torch.equal(with_sh_degree(gaussians, 3).shN[:, :8], gaussians.shN)
    assert torch.equal(with_sh_degree(gaussians, 1).shN, gaussians.shN[:, :3])


class Hidden(WallStart):
    """A start whose last Gaussian is behind every camera."""

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        start = super().__call__(views, seed)
        start.gaussians.means[-1] = torch.tensor([0.0, 0.0, -50.0])
        return start


def test_opacity_decays_only_with_a_gradient(fitted: Fit) -> None:
    rates = LearningRates(opacities=0.0)
    opacities = torch.sigmoid(fitted(1, Hidden(), opacity_decay=0.9, learning_rates=rates).gaussians.opacities)
    assert opacities[-1] == 0.5
    decayed = torch.isclose(opacities, torch.tensor(0.45), atol=1e-6)
    assert decayed.sum() > 100
    assert bool((decayed | (opacities == 0.5)).all())


def test_dropout_leaves_out_a_growing_share_and_makes_up_for_it(fitted: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon3d.fitting import module as under_test

    factors, render = [], under_test.render

    def watch(*args: Any, **options: Any) -> Render:
        factors.append(options["opacity_factor"])
        return render(*args, **options)

    monkeypatch.setattr(under_test, "render", watch)
    fitted(10, WallStart(2000), dropout=0.5)
    for step, factor in enumerate(factors, 1):
        rate = 0.5 * step / 10
        assert factor.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
        assert float((factor == 0).float().mean()) == pytest.approx(rate, abs=0.05)
    factors.clear()
    fitted(1)
    assert factors == [None]


def test_a_chosen_background_gives_way_to_a_known_one(fitted: Fit) -> None:
    views = fitted(1).trainer.datamodule.views
    of_the_start = (0.2, 0.3, 0.4)
    for known, expected in ((None, (0.0, 0.5, 1.0)), ((1.0, 1.0, 1.0), of_the_start)):
        module = SplatModule(WallStart(), background=(0.0, 0.5, 1.0))
        module.begin(replace(views, background=known))
        assert module.result.background == pytest.approx(expected)


def test_start_without_gaussians_is_refused(fitted: Fit) -> None:
    with pytest.raises(InputError, match="WallStart gave no Gaussians"):
        fitted(1, WallStart(0))


def test_learning_rates_are_checked() -> None:
    with pytest.raises(ValueError, match=r"learning_rates\.quats is -1"):
        LearningRates(quats=-1)
    with pytest.raises(ValueError, match=r"learning_rates\.means is nan"):
        LearningRates(means=float("nan"))
