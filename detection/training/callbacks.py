"""What a training shows while it runs: progress bar, history, TensorBoard, scores and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from datasets.programs.history import StepHistory
from datasets.programs.progress import StepBar
from datasets.programs.run_folder import PREVIEWS
from detection.evaluate import detect, draw, evaluate
from detection.training.data import CloudData
from detection.training.module import DetectorModule


class History(StepHistory):
    """Losses, learning rate and scores."""

    def values(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> dict[str, float]:
        """The losses and the learning rate."""
        losses = {name: round(float(value), 6) for name, value in outputs.items()}
        return {**losses, "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"])}


class ProgressBar(StepBar):
    """A bar over all steps with the loss."""

    def text(self, trainer: Trainer, outputs: Any) -> str:
        """The loss of the step."""
        return f"loss {float(outputs['loss']):.3f}"


class Previews(Callback):
    """Now and then a picture from above of a test sample (of a training sample where nothing tests) with what is found
    in it, and the score on all test samples.

    Args:
        every: epochs between two pictures; another is made at the end.
        score_every: epochs between two scores; 0 for none.
        least: least score of boxes that are shown.
    """

    def __init__(self, every: int = 5, score_every: int = 0, least: float = 0.3) -> None:
        if every < 1 or score_every < 0:
            raise ValueError(f"previews.every is {every} and score_every {score_every}: at least 1 and 0")
        self.every, self.score_every, self.least = every, score_every, least

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, CloudData)
        assert isinstance(pl_module, DetectorModule)
        epoch, rest = divmod(trainer.global_step, data.steps_per_epoch(trainer.world_size))
        if rest or not trainer.is_global_zero:
            return
        detector = pl_module.detector.eval()
        if epoch % self.every == 0 or epoch == data.epochs:
            sample = data.first if data.test is None else data.test[0]
            path = Path(trainer.default_root_dir) / PREVIEWS / f"epoch_{epoch:04d}.png"
            draw(path, detector, sample, detect(detector, sample, data.features), self.least)
        if self.score_every and epoch % self.score_every == 0 and data.test is not None:
            values = evaluate(detector, data.test, data.features, data.protocol).values
            history = next(each for each in trainer.callbacks if isinstance(each, History))  # type: ignore[attr-defined]
            history.add(trainer, {name: value for name, value in values.items() if value is not None})
        detector.train()
