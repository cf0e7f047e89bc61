"""A bar over the steps of a fit."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm


class StepBar(Callback):
    """A bar over all steps, shown by the first process; a subclass says what stands beside it."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def text(self, trainer: Trainer, outputs: Any) -> str | None:
        """What stands beside the bar after a step that returned ``outputs``; None leaves what stands there."""
        return None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        # Where nobody watches (a log file) a line now and then is enough.
        interval = 0.1 if sys.stderr.isatty() else 15
        self._bar = tqdm(
            total=trainer.max_steps,
            initial=trainer.global_step,
            desc="fit",
            unit="step",
            mininterval=interval,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        assert self._bar is not None
        if (text := self.text(trainer, outputs)) is not None:
            self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lightning's hook."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
