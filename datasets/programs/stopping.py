"""Ending a training early without losing it."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Stop(Callback):
    """Ends the fit after the step in hand, with a checkpoint, on Ctrl-C, SIGTERM, or when the time is up.

    A second Ctrl-C ends it at once.

    Args:
        deadline: moment (of time.perf_counter) after which to stop, or None.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.signal: int | None = None
        self.out_of_time = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, which only the main thread may (Lightning's hook)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._heard)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back (Lightning's hook)."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back (Lightning's hook)."""
        self.on_train_end(trainer, pl_module)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        self.out_of_time = self.deadline is not None and time.perf_counter() >= self.deadline
        wanted = self.signal is not None or self.out_of_time
        if trainer.strategy.reduce_boolean_decision(wanted, all=False):  # of several processes, all stop or none
            trainer.should_stop = True
