"""What a fit records as it goes: history.json and the loggers' scalars."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from datasets.programs.run_folder import HISTORY, write_text


class StepHistory(Callback, ABC):
    """Records now and then what a subclass finds worth it, with the time; a resumed run goes on with both.

    Args:
        every: steps between two records.
    """

    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"history.every is {every}, expected at least 1")
        self.every = every
        self.records: list[dict[str, float]] = []
        self._clock: Callable[[], float] = time.perf_counter
        self._started = self._clock()

    @abstractmethod
    def values(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> dict[str, float]:
        """What to record of a step that returned ``outputs``."""

    def is_last(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Whether the step that has just been taken ends the fit as it was meant to."""
        return trainer.global_step == trainer.max_steps

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, its start and earlier parts of a resumed run included."""
        return self._clock() - self._started

    def start_clock(self, at: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Count time from ``at`` (of ``clock``) on."""
        self._clock, self._started = clock, at

    def add(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """Record what is known after the step in hand."""
        self.records.append({"step": trainer.global_step, **values, "seconds": round(self.seconds, 3)})
        scalars = {f"fit/{name.replace(' ', '_')}": value for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)

    def write(self, run: Path) -> None:
        """Write history.json into the run folder."""
        lines = ",\n".join(json.dumps(record) for record in self.records)
        write_text(run / HISTORY, f"[\n{lines}\n]\n")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record this step if it is due (Lightning's hook)."""
        if trainer.global_step % self.every == 0 or trainer.global_step == 1 or self.is_last(trainer, pl_module):
            self.add(trainer, self.values(trainer, pl_module, outputs, batch))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write history.json (Lightning's hook)."""
        if trainer.is_global_zero:
            self.write(Path(trainer.default_root_dir))

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        return {"records": list(self.records), "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""
        self.records = state_dict["records"]
        self._started -= state_dict["seconds"]
