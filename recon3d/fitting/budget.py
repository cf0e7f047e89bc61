"""Time as a dial: what ``recon3d fit --budget`` does with the time that it is given.

The prior gets the photos at the largest size that it is quick enough for (:mod:`recon3d.fitting.affordable_prior`), and
all schedules of the fit run with the time, so that they end where they should when it is up.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from recon3d.fitting.module import SplatModule

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
PRIOR_SHARE = 0.5  # of the time, for the prior: larger photos for it are worth more than steps
WRITING = 1.0  # second, for what follows the last step: checkpoint and splat
MORE_STEPS = 2  # times trainer.max_steps, that a fit takes where there is time

Clock = Callable[[], float]


def duration(text: str | float) -> float:
    """Seconds that ``90``, ``90s``, ``1.5m`` or ``1h`` stands for.

    Raises:
        ArgumentTypeError: for anything else, and for no time at all.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d*)?)\s*([smh]?)", str(text).strip(), re.ASCII)
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if seconds == 0:
        raise ArgumentTypeError(f"'{text}' is no time to work in: give seconds, or a time like 90s, 2m or 1h")
    return seconds


@dataclass(frozen=True)
class Budget:
    """Time for a fit: ``seconds`` since the moment ``began`` of ``clock``, which tells seconds since whenever."""

    seconds: float
    clock: Clock
    began: float

    @property
    def left(self) -> float:
        """Seconds that are left, negative once the time is up."""
        return self.seconds - (self.clock() - self.began)


class Pace(Callback):
    """Tells the module which share of the time for its steps is gone, and ends the fit when all of it is.

    The module learns of the time before a step, never within, so that the step stays a pure function of what the module
    knows. What has been spent is in the checkpoint: a resumed fit goes on with the rest, and its start does not count.

    Args:
        seconds: for all steps together, from now on; there is one step at least.
        clock: seconds since whenever.
        prior: what was done about the prior before, kept for the record.
    """

    def __init__(self, seconds: float, clock: Clock, prior: dict[str, float] | None = None) -> None:
        self.seconds, self.clock, self.prior = seconds, clock, prior
        self._before, self._began = 0.0, clock()

    @property
    def spent(self) -> float:
        """Seconds that steps took so far, in earlier sessions too."""
        return self._before + (self.clock() - self._began)

    def _tell(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SplatModule)
        pl_module.time_progress = min(1.0, self.spent / self.seconds) if self.seconds > 0 else 1.0
        if pl_module.time_progress == 1 and trainer.global_step > 0:
            trainer.should_stop = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A finished fit takes no more steps (Lightning's hook)."""
        self._tell(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Lightning's hook."""
        self._tell(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        self._tell(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        return {"seconds": self.seconds, "spent": self.spent, "prior": self.prior}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""
        self.seconds, self._before, self.prior = (state_dict[key] for key in ("seconds", "spent", "prior"))
        self._began = self.clock()
