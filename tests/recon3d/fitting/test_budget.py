"""Time as a dial: `recon3d fit --budget`."""

from __future__ import annotations

import json
import signal
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plugins
import pytest
import torch

from datasets.errors import InputError
from datasets.scenes import builtin
from recon3d.fitting import affordable_start
from recon3d.fitting.affordable_prior import AffordablePrior
from recon3d.fitting.budget import HASTE, MOST_HASTE, WRITING, Budget, duration, haste
from recon3d.fitting.callbacks import History
from recon3d.fitting.command import fit
from recon3d.fitting.data import SceneData
from recon3d.fitting.densification import CoPruning
from recon3d.fitting.module import SplatModule
from recon3d.fitting.optimisers import LearningRates
from recon3d.initialise import DenseInitialiser, SparseInitialiser
from recon3d.priors.finer_photos import SOONER, FinerPhotos
from recon3d.priors.kept_depth import KeptDepth
from recon3d.priors.resizing import enlarged
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews

Arguments = Callable[..., list[str]]
Same = Callable[[Path, Path], None]
SLOW = (
    "--model.initialiser=plugins.SlowStart",
    "--model.losses+=plugins.Slow",
    "--model.losses+=recon3d.losses.Photometric",
)
CPU = torch.device("cpu")
START = 5  # seconds that plugins.SlowStart takes
DENSE = (
    "--model.initialiser=recon3d.initialise.DenseInitialiser",
    "--model.initialiser.init_args.prior=plugins.FlatPrior",
    "--model.initialiser.init_args.budget=300",
)


def timed_fit(arguments: list[str]) -> None:
    fit(arguments, plugins.CLOCK)


def facts(run: Path) -> dict[str, Any]:
    return json.loads((run / "fit.json").read_text())


def checkpoint_of(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def rates_of(run: Path) -> dict[str, float]:
    groups = (state["param_groups"][0] for state in checkpoint_of(run)["optimizer_states"])
    return {group["name"]: group["lr"] for group in groups}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("2m", 120), ("1.5m", 90), ("1h", 3600), (" 30 s ", 30), (45, 45), (0.5, 0.5)],
)
def test_times_that_are_understood(text: str | float, seconds: float) -> None:
    assert duration(text) == seconds
    assert duration(duration(text)) == seconds, "as config.yaml gives it back"


@pytest.mark.parametrize("text", ["", "s", "0", "0s", "-5", "2d", "1m30", "1e3", "inf", "nan", "9" * 400, "soon", "٣s"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="90s, 2m or 1h"):
        duration(text)


def test_a_bad_time_is_an_error_of_the_command_line(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit(arguments(tmp_path / "run", "--budget=2 minutes"))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "--budget" in message
    assert "'2 minutes' is no time to work in: give seconds, or a time like 90s, 2m or 1h" in message
    assert not (tmp_path / "run").exists()


def test_steps_take_what_the_start_leaves_and_schedules_end_with_the_time(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    timed_fit(arguments(run, *SLOW, "--budget=20s"))
    steps = 20 - START - int(WRITING)
    assert facts(run)["steps"] == checkpoint_of(run)["global_step"] == steps
    assert facts(run)["budget"] == 20
    assert facts(run)["seconds"] == START + steps
    history = json.loads((run / "history.json").read_text())
    assert [record["step"] for record in history] == [1, 10, steps], "the last step is recorded"
    assert (run / "previews" / f"step_{steps:06d}.png").is_file()
    assert "of 20.0 s given" in (run / "report.html").read_text()
    # The last step began when all but one of the seconds after the first step, which loads kernels, were gone.
    progress = (steps - 2) / (steps - 1)
    rates = rates_of(run)
    assert rates["means"] == pytest.approx(LearningRates().of_means(1.0, progress))
    hurry = (24 * progress / (steps - 1)) ** HASTE
    assert hurry > 1.3
    assert rates["sh0"] == pytest.approx(LearningRates().sh0 * hurry)


def test_few_steps_are_larger_steps() -> None:
    assert haste(0.5, step=0, max_steps=2000) == 1
    assert haste(0.5, step=500, max_steps=1000) == pytest.approx(1)
    assert haste(0.5, step=900, max_steps=1000) == 1
    assert haste(0.5, step=125, max_steps=1000) == pytest.approx(4**HASTE)
    assert haste(1.0, step=5, max_steps=1000) == MOST_HASTE


def test_more_time_than_needed_is_not_taken(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    timed_fit(arguments(run, *SLOW, "--budget=1h", "--trainer.max_steps=10"))
    assert facts(run)["steps"] == 10
    assert facts(run)["seconds"] == START + 10
    assert rates_of(run)["means"] == pytest.approx(LearningRates().of_means(1.0, 1.0))
    assert rates_of(run)["sh0"] == LearningRates().sh0


def test_hardly_any_time_still_gives_a_splat(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    timed_fit(arguments(run, *SLOW, "--budget=0.1"))
    assert facts(run)["steps"] == 1
    assert (run / "splat.safetensors").is_file()


@pytest.mark.parametrize(("start", "fields", "budget"), [(SLOW[:1], None, 30), (DENSE, 4, 60)])
def test_interrupted_fit_resumes_with_the_time_that_was_left(
    arguments: Arguments,
    same_fit: Same,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: tuple[str, ...],
    fields: int | None,
    budget: int,
) -> None:
    more = (*start, *SLOW[1:], f"--budget={budget}", "--model.dropout=0.3", "--model.opacity_decay=0.99")
    timed_fit(arguments(tmp_path / "straight", *more))
    assert facts(tmp_path / "straight")["start"].get("fields") == fields
    run = tmp_path / "interrupted"
    record = History.on_train_batch_end

    def interrupt(self: History, trainer: Any, *rest: Any) -> None:
        record(self, trainer, *rest)
        if trainer.global_step == 10:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            timed_fit(arguments(run, *more))
    assert not (run / "fit.json").exists()
    plugins.CLOCK.now += 500
    timed_fit(arguments(run, *more, "--resume"))
    same_fit(tmp_path / "straight", run)
    assert facts(run) == facts(tmp_path / "straight")


def test_finished_fit_takes_no_more_steps(arguments: Arguments, same_fit: Same, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    timed_fit(arguments(run, *SLOW, "--budget=12"))
    copy.mkdir()
    for path in ("checkpoints/last.ckpt", "splat.safetensors"):
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_bytes((run / path).read_bytes())
    timed_fit(arguments(run, *SLOW, "--budget=12", "--resume"))
    same_fit(run, copy)


def test_another_budget_is_another_configuration(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    timed_fit(arguments(run, *SLOW, "--budget=8"))
    with pytest.raises(InputError, match=r"budget: 8\.0 -> 9\.0"):
        timed_fit(arguments(run, *SLOW, "--budget=9"))
    with pytest.raises(InputError, match=r"budget: 8\.0 -> None"):
        timed_fit(arguments(run, *SLOW))


class Wall(DepthPrior):
    """The slanted wall 1 / depth = .3 + .1 x / width, right of a hole; takes 25 seconds for a photo of full size."""

    def __init__(self, full_width: int) -> None:
        self.full_width = full_width
        self.asked: list[tuple[int, int]] = []

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        width, height = views.cameras.size
        self.asked.append((len(views), width))
        plugins.CLOCK.now += 25 * len(views) * (width / self.full_width) ** 2
        x = np.broadcast_to((np.arange(width, dtype=np.float32) + 0.5) / width, (height, width))
        known = x > 0.25
        depth = np.where(known, 1 / (0.3 + 0.1 * x), 0).astype(np.float32)
        return [DepthEstimate(depth, known.astype(np.float32) * np.float32(0.7))] * len(views)


@pytest.fixture(scope="module")
def four() -> TrainingViews:
    return TrainingViews.load(builtin.generate((400, 320), views=4))


TRIED = 3.125 + 6.25  # seconds for two views to warm up, then all four, at a quarter of the size


@pytest.mark.parametrize(
    ("seconds", "scale", "took"),
    [
        (1000, 1.0, TRIED + 100),
        (110, 1.0, TRIED + 100),
        (109, 0.7, TRIED + 49),
        (40, 0.5, TRIED + 25),
        (22, 0.35, TRIED + 12.25),
        (21, 0.25, TRIED),
        (0, 0.25, TRIED),
        (-10, 0.25, TRIED),
    ],
)
def test_prior_sees_photos_as_large_as_the_time_allows(
    four: TrainingViews, seconds: float, scale: float, took: float
) -> None:
    wall = Wall(400)
    prior = AffordablePrior(wall, seconds, plugins.CLOCK)
    estimates = prior(four)
    assert wall.asked == [(2, 100), (4, 100), (4, round(400 * scale))][: 2 if scale == 0.25 else 3]
    assert (prior.scale, prior.took) == (scale, pytest.approx(took, abs=0.01))
    assert prior(four) is estimates, "not asked again"
    for estimate in estimates:
        assert estimate.depth.shape == (320, 400)
        x = (np.arange(400) + 0.5) / 400
        known = estimate.known[0]
        np.testing.assert_array_equal(known, x > 0.25)
        np.testing.assert_allclose(estimate.depth[:, known], np.tile(1 / (0.3 + 0.1 * x[known]), (320, 1)), rtol=2e-3)
        assert set(np.unique(estimate.confidence)) == {np.float32(0), np.float32(0.7)}


@pytest.mark.parametrize(
    ("seconds", "scale", "took"), [(600, 2.0, TRIED + 500), (509, 1.0, TRIED + 100), (21, 0.25, TRIED)]
)
def test_larger_photos_are_for_those_who_have_time(
    four: TrainingViews, seconds: float, scale: float, took: float
) -> None:
    larger = TrainingViews.load(builtin.generate((800, 640), views=4))
    wall = Wall(400)
    prior = AffordablePrior(FinerPhotos(wall), seconds, plugins.CLOCK)
    estimates = prior(replace(four, finer=lambda: larger))
    assert (prior.scale, prior.took) == (scale, pytest.approx(took, abs=0.01))
    assert {estimate.depth.shape for estimate in estimates} == {(320, 400)}
    assert ((4, 800) in wall.asked) == (scale == 2)


class InLessTime(FinerPhotos):
    """Has a quicker wall for the larger photos, which takes a tenth of the time."""

    quick = Wall(4000)

    def in_less_time(self) -> DepthPrior:
        return FinerPhotos(self.prior, self.least, self.quick, SOONER)


@pytest.mark.parametrize(("seconds", "scale"), [(600, 2.0), (509, 1.4), (170, 1.4), (169, 1.0)])
def test_larger_photos_in_less_time_come_before_none(four: TrainingViews, seconds: float, scale: float) -> None:
    larger = TrainingViews.load(builtin.generate((800, 640), views=4))
    wall = Wall(400)
    prior = AffordablePrior(InLessTime(wall), seconds, plugins.CLOCK)
    InLessTime.quick.asked.clear()
    estimates = prior(replace(four, finer=lambda: larger))
    assert prior.scale == scale
    assert {estimate.depth.shape for estimate in estimates} == {(320, 400)}
    assert InLessTime.quick.asked == [(4, 560)] * (scale == 1.4)
    assert ((4, 800) in wall.asked) == (scale == 2)


@pytest.mark.parametrize(("seconds", "counts"), [(600, [1, 1, 3]), (0, [1, 1])])
def test_opinions_are_for_those_who_have_time(four: TrainingViews, seconds: float, counts: list[int]) -> None:
    asked = []

    class Several(Wall):
        def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
            asked.append(count)
            return [self(views) for _ in range(count)]

    prior = AffordablePrior(Several(400), seconds, plugins.CLOCK, 3)
    found = prior.opinions(four, 3)
    assert asked == counts
    assert len(found) == counts[-1]
    assert all(found[0] is not other for other in found[1:])
    assert prior(four) is found[0]


def test_kept_depth_is_of_one_size(four: TrainingViews, tmp_path: Path) -> None:
    wall = Wall(400)
    larger = TrainingViews.load(builtin.generate((800, 640), views=4))
    kept = KeptDepth(FinerPhotos(wall), tmp_path / "kept.safetensors")
    first = AffordablePrior(kept, 0.0, plugins.CLOCK)(replace(four, finer=lambda: larger))
    assert wall.asked == [(4, 400), (4, 800)]
    again = AffordablePrior(kept, 0.0, plugins.CLOCK)(replace(four, finer=lambda: larger))
    assert len(wall.asked) == 2
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.depth, other.depth)


@pytest.mark.parametrize(
    ("seconds", "fields", "scale"), [(1000, 4, 1.0), (176, 2, 1.0), (130, 2, 0.7), (120, 1, 0.7), (20, 1, 0.5)]
)
def test_start_within_a_time(monkeypatch: pytest.MonkeyPatch, seconds: float, fields: int, scale: float) -> None:
    data = SceneData(Path("builtin"), views=2, downscale=2)
    module = SplatModule(DenseInitialiser(Wall(240), budget=1000, further=1, far_layer=False))
    monkeypatch.setattr(affordable_start, "seconds_of_step", lambda *_: 0.5)
    budget = Budget(seconds, plugins.CLOCK, plugins.CLOCK())
    facts = affordable_start.begin_within(module, data, budget, 100, CPU)
    assert facts["fields"] == module.fields == fields
    assert facts["prior_scale"] == scale
    assert len(module.gaussians) == pytest.approx(1000 * fields, rel=0.15)


@pytest.mark.parametrize(("seconds", "further", "pixels"), [(93, 0.5, 1000), (92, 0.5, 500), (92, 1, 1000)])
def test_without_time_for_every_step_gaussians_are_fewer(
    monkeypatch: pytest.MonkeyPatch, seconds: float, further: float, pixels: int
) -> None:
    data = SceneData(Path("builtin"), views=2, downscale=2)
    module = SplatModule(DenseInitialiser(Wall(240), budget=1000, further=further, far_layer=False))
    monkeypatch.setattr(affordable_start, "seconds_of_step", lambda *_: 0.5)
    begun = []
    monkeypatch.setattr(module, "begin", lambda views, begin=module.begin: begun.append(views) or begin(views))
    budget = Budget(seconds, plugins.CLOCK, plugins.CLOCK())
    found = affordable_start.begin_within(module, data, budget, 100, CPU)
    assert (found["fields"], found["pixels"]) == (1, pixels)
    assert len(module.gaussians) == pytest.approx(pixels, rel=0.15)
    assert len(begun) == 1 + (pixels == 500)


@pytest.mark.parametrize(("seconds", "fields"), [(1000, 4), (216, 4), (215, 3), (181, 3), (180, 2), (20, 1)])
def test_time_decides_on_fields_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, seconds: float, fields: int
) -> None:
    data = SceneData(Path("builtin"), views=2, downscale=2)
    module = SplatModule(DenseInitialiser(Wall(240), budget=1000, further=1, far_layer=False), fields=3)
    monkeypatch.setattr(affordable_start, "seconds_of_step", lambda *_: 0.5)
    budget = Budget(seconds, plugins.CLOCK, plugins.CLOCK())
    assert affordable_start.begin_within(module, data, budget, 100, CPU)["fields"] == module.fields == fields
    assert len(module.gaussians) == pytest.approx(1000 * fields, rel=0.15)


def test_fields_that_are_held_against_one_another_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SceneData(Path("builtin"), views=2, downscale=2)
    start = DenseInitialiser(Wall(240), budget=1000, far_layer=False)
    module = SplatModule(start, densification=CoPruning(), fields=2)
    monkeypatch.setattr(affordable_start, "seconds_of_step", lambda *_: 0.5)
    budget = Budget(20, plugins.CLOCK, plugins.CLOCK())
    assert affordable_start.begin_within(module, data, budget, 100, CPU)["fields"] == module.fields == 2


def test_a_step_is_tried_without_a_trace() -> None:
    data = SceneData(Path("builtin"), views=2, downscale=8)
    module = SplatModule(SparseInitialiser(count=100))
    module.begin(data.views)
    before = {name: param.detach().clone() for name, param in module.params.items()}
    assert affordable_start.seconds_of_step(module, data, time.perf_counter, CPU) > 0
    for name, param in module.params.items():
        assert param.grad is None
        assert torch.equal(param, before[name])


def test_small_photos_are_not_reduced_further() -> None:
    views = TrainingViews.load(builtin.generate((96, 72), views=2))
    wall = Wall(96)
    assert AffordablePrior(wall, 0.0, plugins.CLOCK)(views)[0].depth.shape == (72, 96)
    assert wall.asked == [(2, 96)]


def test_enlarged_depth_jumps_between_surfaces() -> None:
    depth = np.where(np.arange(8) < 4, 1, 2).astype(np.float32)[None].repeat(6, axis=0)
    found = enlarged(DepthEstimate(depth, np.ones_like(depth)), 21, 17)
    assert set(np.unique(found.depth)) == {1.0, 2.0}
    assert (np.diff(found.depth, axis=1) != 0).sum() == 17
