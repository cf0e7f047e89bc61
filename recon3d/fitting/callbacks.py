"""What a fit shows while it runs: progress bar, history, TensorBoard, pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from datasets.pictures import save_picture, to_bytes
from datasets.programs.history import StepHistory
from datasets.programs.progress import StepBar
from recon3d.fitting.data import Batch, SceneData
from recon3d.fitting.module import SplatModule
from recon3d.fitting.run_folder import PREVIEWS
from recon3d.pictures import colour_depth, depth_range, draw


class History(StepHistory):
    """Loss and PSNR of the train views, and the number of Gaussians."""

    def __init__(self, every: int = 10) -> None:
        super().__init__(every)
        self._errors: dict[int, float] = {}

    def is_last(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """A fit ends after its steps or its time."""
        assert isinstance(pl_module, SplatModule)
        return _is_last(trainer, pl_module)

    def values(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch) -> dict[str, float]:
        """The loss of the step, the PSNR over the newest errors of all views, and the number of Gaussians."""
        assert isinstance(pl_module, SplatModule)
        loss = float(outputs["loss"])
        pl_module.require_finite()
        self._errors[batch.index] = _squared_error(outputs["colour"][0], batch)
        mean = sum(self._errors.values()) / len(self._errors)
        psnr = round(-10 * math.log10(max(mean, 1e-10)), 3)
        return {"loss": round(loss, 6), "psnr": psnr, "gaussians": len(pl_module.params["means"])}

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        return {**super().state_dict(), "errors": dict(self._errors)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""
        super().load_state_dict(state_dict)
        self._errors = state_dict["errors"]


def _is_last(trainer: Trainer, module: SplatModule) -> bool:
    """Whether the step that has just been taken ends the fit as it was meant to."""
    return trainer.global_step == trainer.max_steps or module.time_progress == 1


def _squared_error(colour: torch.Tensor, batch: Batch) -> float:
    """Mean squared error of a render where the photo counts."""
    error = (colour.clamp(0, 1) - batch.target.image).square_().mean(-1)
    mask = batch.target.mask
    return float(error.mean() if mask is None else error[mask].mean() if bool(mask.any()) else error.new_zeros(()))


class ProgressBar(StepBar):
    """A bar with the PSNR and the number of Gaussians that History recorded last."""

    def text(self, trainer: Trainer, outputs: Any) -> str | None:
        """The newest record."""
        history = next(callback for callback in trainer.callbacks if isinstance(callback, History))  # type: ignore[attr-defined]
        if not history.records or history.records[-1]["step"] != trainer.global_step:
            return None
        latest = history.records[-1]
        assert isinstance(trainer.lightning_module, SplatModule)
        gone = trainer.lightning_module.time_progress
        time_gone = f", {100 * gone:.0f} % of the time" if gone else ""
        return f"PSNR {latest['psnr']:.2f}, {latest['gaussians']} Gaussians{time_gone}"


class Previews(Callback):
    """Pictures of a train view beside its photo, with depth: previews/step_000100.png.

    Args:
        steps: when to take the first pictures.
        every: and then at multiples of this.
    """

    def __init__(self, steps: tuple[int, ...] = (1, 50, 100), every: int = 250) -> None:
        if every < 1:
            raise ValueError(f"previews.every is {every}, expected at least 1")
        self.steps, self.every = steps, every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        step = trainer.global_step
        assert isinstance(pl_module, SplatModule)
        if step not in self.steps and step % self.every != 0 and not _is_last(trainer, pl_module):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SceneData)
        path = Path(trainer.default_root_dir) / PREVIEWS / f"step_{step:06d}.png"
        save_picture(path, preview(pl_module, data.batch(0, pl_module.device)))


def preview(module: SplatModule, batch: Batch) -> np.ndarray:
    """[H, 3 W, 3] uint8: what ``module`` renders for the view of ``batch``, its photo, and the depth (near is red)."""
    seen = draw(module.result, batch.camera)
    depth = colour_depth(seen.depth, *depth_range([seen.depth]))
    return np.hstack([to_bytes(seen.colour.cpu().numpy()), to_bytes(batch.target.image.cpu().numpy()), depth])
