"""A start and a loss for tests, named by class_path like any plug-in from outside the package."""

import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.initialise import Initialiser, Start
from recon3d.losses import Loss, Target
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.render import Render
from recon3d.views import TrainingViews


class WallStart(Initialiser):
    """Grey Gaussians on the plane z = 0, drawn from the seed."""

    def __init__(self, count: int = 150) -> None:
        self.count = count

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        draw = torch.Generator().manual_seed(seed)
        means = torch.rand(self.count, 3, generator=draw) * torch.tensor([3.0, 2.4, 0.2]) - torch.tensor(
            [1.5, 1.2, 0.1]
        )
        gaussians = Gaussians(
            means=means,
            scales=torch.full((self.count, 3), -2.0),
            quats=torch.randn(self.count, 4, generator=draw),
            opacities=torch.zeros(self.count),
            sh0=torch.zeros(self.count, 1, 3),
            shN=torch.zeros(self.count, 0, 3),
        )
        return Start(gaussians, torch.tensor([0.2, 0.3, 0.4]), 1.0)


class WallWithPrior(WallStart):
    """The same with a prior that believes photo i's wall i + 2 away, and knows nothing of its top; each Gaussian is
    said to be a pixel of camera 1."""

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        estimates = []
        for i, view in enumerate(views.views):
            depth = np.full(view.image.shape[:2], 2.0 + i, np.float32)
            depth[:4] = 0
            estimates.append(DepthEstimate(depth, (depth > 0).astype(np.float32) / 2))
        origins = views.cameras.centres[1].float().expand(self.count, 3)
        return replace(super().__call__(views, seed), estimates=tuple(estimates), origins=origins)


class FlatPrior(DepthPrior):
    """Believes everything 2 away."""

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        ones = [np.ones(view.image.shape[:2], np.float32) for view in views.views]
        return [DepthEstimate(2 * one, one) for one in ones]


class Blowup(Loss):
    """Turns into NaN at its 15th value."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        self.steps += 1
        return render.colour.mean() * (float("nan") if self.steps == 15 else 1.0)


class KillSwitch(Loss):
    """Kills the process without warning, as the environment says: in the n-th step, or within the n-th checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        save, saves = torch.save, [0]

        def save_half(checkpoint: dict[str, Any], file: Any) -> None:
            saves[0] += 1
            if str(saves[0]) != os.environ.get("KILL_IN_CHECKPOINT"):
                return save(checkpoint, file)
            file.write(b"PK half a file")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        if "KILL_IN_CHECKPOINT" in os.environ:
            torch.save = save_half

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        self.steps += 1
        if str(self.steps) == os.environ.get("KILL_IN_STEP"):
            os.kill(os.getpid(), signal.SIGKILL)
        return render.colour.new_zeros(())


class Clock:
    """Tells a time that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Slow(Loss):
    """Takes a second of :data:`CLOCK` a step."""

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        CLOCK.now += 1
        return render.colour.new_zeros(())


class SlowStart(WallStart):
    """Takes five seconds of :data:`CLOCK`."""

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        CLOCK.now += 5
        return super().__call__(views, seed)
