"""Checkpoints that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from datasets.errors import SceneError
from datasets.files import replacing
from datasets.programs.run_folder import last_checkpoint


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the old checkpoint, then takes its place; reads nothing but tensors and plain values.

    Args:
        own: keys that a checkpoint of this program has besides Lightning's.
        command: the command that writes such checkpoints, for messages.
    """

    def __init__(self, own: Iterable[str], command: str) -> None:
        self.keys = {"state_dict", "optimizer_states", "loops", *own}
        self.mend = f"Fit again without --resume, or give a checkpoint that {command} wrote"

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint``; a crash at any moment leaves the old file or the new one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU, never executing what it holds.

        Raises:
            SceneError: for a file that is no checkpoint of a fit.
        """
        try:
            checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            reason = (str(error).splitlines() or ["it is empty"])[0]
            raise SceneError(path, f"cannot be read as a checkpoint ({reason})", self.mend) from error
        if missing := self.keys - set(checkpoint):
            raise SceneError(path, f"lacks {', '.join(sorted(missing))}", self.mend)
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


class LastCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder up to date.

    Args:
        every: steps between two checkpoints; another is written when the fit stops.
    """

    def __init__(self, every: int = 250) -> None:
        if every < 1:
            raise ValueError(f"checkpoint.every is {every}, expected at least 1")
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save now and then, and after the batch that a request to stop let finish (Lightning's hook)."""
        if trainer.global_step % self.every == 0 or trainer.should_stop or trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(last_checkpoint(Path(trainer.default_root_dir)))
