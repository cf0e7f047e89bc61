"""What the commands that fit have in common: a LightningCLI over a run folder that can be stopped and resumed."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datasets.errors import InputError
from datasets.programs.checkpoints import AtomicCheckpointIO, LastCheckpoint
from datasets.programs.command_line import ErrorsThatHelp
from datasets.programs.run_folder import LOGS
from datasets.programs.stopping import Stop


class FitParser(ErrorsThatHelp, LightningArgumentParser):
    """LightningCLI's parser with this project's error messages."""


class RunFolderCLI(LightningCLI):
    """Options of a fit; after construction ``config``, ``model``, ``datamodule`` and ``trainer`` are ready.

    Args:
        argv: the command's arguments.
        program: how the command is called, "recon3d fit".
        description: what its help says.
        module: the class of the model.
        data: the class of its data.
        trainer: defaults of the trainer.
        progress: shows how far the fit is.
        checkpoint_keys: what a checkpoint of this program holds besides the network.
        seeds: what the seed decides, for the help.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        program: str,
        description: str | None,
        module: type[LightningModule],
        data: type[LightningDataModule],
        trainer: dict[str, Any],
        progress: Callback,
        checkpoint_keys: tuple[str, ...],
        seeds: str,
    ) -> None:
        self.stop = Stop()
        self._program, self._checkpoint_keys, self._seeds = program, checkpoint_keys, seeds
        super().__init__(
            module,
            data,
            save_config_callback=None,  # the run folder keeps the configuration
            seed_everything_default=False,
            parser_class=FitParser,
            parser_kwargs={"prog": program, "description": description},
            trainer_defaults={
                "devices": 1,
                "num_sanity_val_steps": 0,
                "limit_val_batches": 0,
                "enable_progress_bar": False,  # ours tells more
                "enable_model_summary": False,
                "enable_checkpointing": True,
                "callbacks": [self.stop, progress],
                **trainer,
            },
            args=list(argv),
            run=False,
            auto_configure_optimizers=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our own ``--seed`` in place of Lightning's global one, and the run folder."""
        parser.add_argument("--seed", type=int, default=0, help=f"Seed of {self._seeds}.")
        parser.add_argument("--out", type=Path, required=True, help="Folder of the run; made if it does not exist.")
        parser.add_argument("--resume", action="store_true", help="Continue from the run folder's last checkpoint.")
        parser.add_argument("--overwrite", action="store_true", help="Delete what an earlier run left in --out.")
        parser.add_argument(
            "--time_limit", type=float | None, help="Stop with a checkpoint after this many seconds, start included."
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Checkpoints with settings, and one seed for module and data."""
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.link_arguments("seed", "model.seed")
        parser.link_arguments("seed", "data.seed")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer, writing into the run folder."""
        from lightning.pytorch.loggers import TensorBoardLogger

        run = self.config.out
        trainer = self.config_init.trainer
        trainer.default_root_dir = run
        if trainer.logger in (None, True):
            trainer.logger = TensorBoardLogger(run, name="", version=LOGS)
        plugins = trainer.plugins or []
        trainer.plugins = [
            *(plugins if isinstance(plugins, list) else [plugins]),
            AtomicCheckpointIO(self._checkpoint_keys, self._program),
        ]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ImportError, ValueError) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def configuration(self) -> str:
        """The full configuration as YAML, to fit again from."""
        config = self.config.clone()
        config.resume = config.overwrite = False
        text: str = self.parser.dump(config, skip_none=False)
        return text

    def tell_the_end(self) -> bool:
        """Whether the fit has done all its steps; says on stderr where one that ended early stands.

        Raises:
            KeyboardInterrupt: where it was interrupted.
        """
        step, steps = self.trainer.global_step, self.trainer.max_steps
        if self.stop.signal is not None:
            print(f"stopped after step {step} of {steps}; the same command with --resume continues", file=sys.stderr)
            raise KeyboardInterrupt
        early = self.stop.out_of_time and step < steps
        if early and self.trainer.is_global_zero:
            print(f"time is up after step {step} of {steps}; the same command with --resume continues", file=sys.stderr)
        return not early


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's advice about things that do not concern a fit from the terminal."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
