"""Time as a dial: what ``recon3d fit --budget`` does with the time that it is given.

The prior gets the photos at the largest size that it is quick enough for, and as many fields are fitted as there is
time for (:mod:`recon3d.fitting.affordable_start`). All schedules run with the time, so that they end where they should
when it is up, and where steps are few they are larger. A fit takes no more steps than it would without a budget: over
several scenes neither more of them nor more Gaussians gained anything.

The constants were chosen on photos of two scenes that neither trained nor tested, at half their size.
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
HASTE, MOST_HASTE = 2 / 3, 4.0
MORE_FIELDS = 4  # at most, where a configuration asks for fewer

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
    knows. The first step, which loads kernels, does not count. What has been spent is in the checkpoint: a resumed fit
    goes on with the rest, and its start does not count.

    Args:
        budget: the time for everything.
        start: what was decided before, kept for the record.
    """

    def __init__(self, budget: Budget, start: dict[str, float]) -> None:
        self.budget, self.start = budget, start
        self.seconds: float | None = None  # for the steps after the first, once that is done
        self._before, self._began = 0.0, budget.clock()

    @property
    def spent(self) -> float:
        """Seconds that the steps after the first took so far, in earlier sessions too."""
        return self._before + (self.budget.clock() - self._began)

    def _tell(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SplatModule)
        if self.seconds is None:
            return
        pl_module.time_progress = min(1.0, self.spent / self.seconds) if self.seconds > 0 else 1.0
        if pl_module.time_progress == 1:
            trainer.should_stop = True
        pl_module.haste = haste(pl_module.time_progress, trainer.global_step, trainer.max_steps)

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
        if self.seconds is None:
            self.seconds, self._began = max(self.budget.left - WRITING, 0.0), self.budget.clock()
        self._tell(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook."""
        return {"seconds": self.seconds, "spent": self.spent, "start": self.start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""
        self.seconds, self._before, self.start = (state_dict[key] for key in ("seconds", "spent", "start"))
        self._began = self.budget.clock()


def haste(time_progress: float, step: int, max_steps: int) -> float:
    """Factor on learning rates where ``step`` steps took a share of the time that leaves too few for the usual ones.

    A power of the ratio of the steps that the configuration asks for to those that there will be, at least 1 and at
    most :data:`MOST_HASTE`.
    """
    if step == 0:
        return 1.0
    ratio = max_steps * time_progress / step
    return min(max(ratio**HASTE, 1.0), MOST_HASTE)
