"""The training step, the optimiser and its schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from datasets.errors import InputError
from datasets.pointclouds.types import PointCloudBatch
from detection.detector import Detector
from detection.training.processes import join_batch_norms


class DetectorModule(LightningModule):
    """A detector that learns with AdamW and one cycle of the learning rate (Smith and Topin, 2018).

    Every step is a function of weights, the optimiser's state, seed and step: noise is seeded anew at each step, so
    that a resumed training continues bit for bit.

    Args:
        detector: what learns.
        learning_rate: the highest.
        weight_decay: of weights; biases and normalisations have none.
        warm_up: share of the training in which the learning rate rises.
        seed: of all noise.
    """

    def __init__(
        self,
        detector: Detector,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        warm_up: float = 0.4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, valid, accepted in (
            ("learning_rate", learning_rate, learning_rate > 0, "more than 0"),
            ("weight_decay", weight_decay, weight_decay >= 0, "0 or more"),
            ("warm_up", warm_up, 0 < warm_up < 1, "more than 0 and less than 1"),
        ):
            if not valid:
                raise ValueError(f"model.{name} is {value}, expected {accepted}")
        self.detector = detector
        self.learning_rate, self.weight_decay, self.warm_up, self.seed = learning_rate, weight_decay, warm_up, seed

    def configure_model(self) -> None:
        """Let several processes share their batches' statistics (Lightning's hook)."""
        if self.trainer.world_size > 1:
            join_batch_norms(self.detector)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW and its schedule (Lightning's hook)."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [each for each in parameters if each.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser = AdamW(groups, lr=self.learning_rate, fused=True)
        schedule = OneCycleLR(
            optimiser,
            self.learning_rate,
            total_steps=max(self.trainer.max_steps, 2),
            pct_start=self.warm_up,
            base_momentum=0.85,
            max_momentum=0.95,
            div_factor=10,
            final_div_factor=100,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: PointCloudBatch, batch_idx: int) -> dict[str, Tensor]:
        """The losses of a batch by name (Lightning's hook).

        Raises:
            InputError: where the loss is no longer finite.
        """
        mixed = np.random.SeedSequence([self.seed, self.global_step, self.global_rank]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(mixed >> 1))
        losses = self.detector.loss(batch)
        if not bool(losses["loss"].detach().isfinite()):
            parts = ", ".join(f"{name} {float(value.detach()):g}" for name, value in losses.items())
            raise InputError(
                f"after step {self.global_step} the loss is not finite ({parts}) for {', '.join(batch.frames)}. Lower "
                "model.learning_rate, or look at these frames with detect3d check"
            )
        return {name: value if name == "loss" else value.detach() for name, value in losses.items()}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm, or each value (Lightning's hook, whose own refuses fused optimisers under bf16)."""
        if gradient_clip_val:
            clip = clip_grad_value_ if gradient_clip_algorithm == "value" else clip_grad_norm_
            clip(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook; InputError for weights that must not be kept."""
        for name, value in checkpoint["state_dict"].items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise InputError(
                    f"after step {self.global_step} {name} is not finite. Lower model.learning_rate; the last "
                    "checkpoint is from before"
                )
