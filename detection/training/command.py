"""The command ``detect3d fit``: a LightningCLI over DetectorModule and CloudData."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from datasets.errors import InputError
from datasets.programs.checkpoints import AtomicCheckpointIO, LastCheckpoint
from datasets.programs.command_line import ErrorsThatHelp
from datasets.programs.run_folder import LOGS, RunFolders, last_checkpoint
from datasets.programs.stopping import Stop
from detection.channels import select_channels
from detection.run import METRICS, PICTURES
from detection.trained import MODEL, Trained, save_model
from detection.training.callbacks import History, Previews, ProgressBar
from detection.training.data import CloudData
from detection.training.module import DetectorModule

RUNS = RunFolders(MODEL, (METRICS, PICTURES), ("seed", "model.", "data.", "trainer.max_epochs", "trainer.precision"))


class FitParser(ErrorsThatHelp, LightningArgumentParser):
    """LightningCLI's parser with this project's error messages."""


class FitCLI(LightningCLI):
    """Options of a fit; after construction ``config``, ``model``, ``datamodule`` and ``trainer`` are ready."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.stop = Stop()
        super().__init__(
            DetectorModule,
            CloudData,
            save_config_callback=None,  # the run folder keeps the configuration
            seed_everything_default=False,
            parser_class=FitParser,
            parser_kwargs={"prog": "detect3d fit", "description": fit.__doc__},
            trainer_defaults={
                "accelerator": "cuda" if torch.cuda.is_available() else "cpu",
                "devices": 1,
                "max_epochs": 20,
                "gradient_clip_val": 10.0,
                "num_sanity_val_steps": 0,
                "limit_val_batches": 0,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "enable_checkpointing": True,
                "use_distributed_sampler": False,  # our loader shares the batches out
                "callbacks": [self.stop, ProgressBar()],
            },
            args=list(argv),
            run=False,
            auto_configure_optimizers=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our own ``--seed`` in place of Lightning's."""
        parser.add_argument("--seed", type=int, default=0, help="Seed of weights, order, variation and noise.")
        parser.add_argument("--out", type=Path, required=True, help="Folder of the run; made if it does not exist.")
        parser.add_argument(
            "--root", type=Path | None, help="Folder of the data: in place of `root` in data.train and data.test."
        )
        parser.add_argument("--resume", action="store_true", help="Continue from the run folder's last checkpoint.")
        parser.add_argument("--overwrite", action="store_true", help="Delete what an earlier run left in --out.")
        parser.add_argument(
            "--time_limit", type=float | None, help="Stop with a checkpoint after this many seconds, start included."
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Callbacks with settings, and one seed for module and data."""
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_lightning_class_args(History, "history")
        parser.add_lightning_class_args(Previews, "previews")
        parser.link_arguments("seed", "model.seed")
        parser.link_arguments("seed", "data.seed")

    def _set_seed(self) -> None:
        """Seed what draws the first weights."""
        lightning.seed_everything(self.config.seed, verbose=False)

    def before_instantiate_classes(self) -> None:
        """Make the data's paths independent of the current folder."""
        data, root = self.config.data, self.config.root
        for key in [key for key in data.keys() if key.startswith(("train.", "test.")) and key.endswith(".root")]:  # noqa: SIM118
            data[key] = Path(data[key] if root is None else root).resolve()
        self.config.root = None

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer, writing into the run folder."""
        from lightning.pytorch.loggers import TensorBoardLogger

        run = self.config.out
        trainer = self.config_init.trainer
        trainer.default_root_dir = run
        if trainer.logger in (None, True):
            trainer.logger = TensorBoardLogger(run, name="", version=LOGS)
        plugins = trainer.plugins or []
        checkpoints = AtomicCheckpointIO(("pytorch-lightning_version",), "detect3d fit")
        trainer.plugins = [*(plugins if isinstance(plugins, list) else [plugins]), checkpoints]
        return super().instantiate_trainer(**kwargs)

    def configuration(self) -> str:
        """The full configuration as YAML, to fit again from."""
        config = self.config.clone()
        config.resume = config.overwrite = False
        text: str = self.parser.dump(config, skip_none=False)
        return text


def fit(argv: Sequence[str]) -> None:
    """Train a detector on clouds with boxes.

    Give a configuration and the folder of the data:

      detect3d fit --config configs/detection/radar_dsvt.yaml --root DATA --out RUN

    RUN gets detector.safetensors, config.yaml, history.json, previews/, checkpoints/ and logs/ (TensorBoard).
    Every key of the YAML is an option too, and options after --config win.
    """
    began = time.perf_counter()
    with _quiet():
        _fit(FitCLI(argv), began)


def _fit(cli: FitCLI, began: float) -> None:
    config, trainer = cli.config, cli.trainer
    run: Path = config.out
    if trainer.max_epochs is None or trainer.max_epochs < 1 or trainer.max_steps != -1:
        raise InputError("give the length of a training as trainer.max_epochs, 1 or more, and no trainer.max_steps")
    # To Lightning all epochs are one: the loader knows at which step it is, and goes on within an epoch.
    cli.datamodule.epochs = trainer.max_epochs
    trainer.fit_loop.epoch_loop.max_steps = trainer.max_epochs * cli.datamodule.steps_per_epoch(trainer.world_size)
    trainer.fit_loop.max_epochs = -1
    if config.time_limit is not None:
        cli.stop.deadline = began + config.time_limit
    trained = _described(cli)  # what cannot be trained must not touch an earlier run
    if trainer.is_global_zero:
        checkpoint = RUNS.prepare(run, cli.configuration(), resume=config.resume, overwrite=config.overwrite)
    else:  # the first process has prepared the folder before it started this one
        checkpoint = last_checkpoint(run) if last_checkpoint(run).is_file() else None
    history: History = cli.config_init.history
    history.start_clock(began)
    trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)

    step, steps = trainer.global_step, trainer.max_steps
    if cli.stop.signal is not None:
        print(f"stopped after step {step} of {steps}; the same command with --resume continues", file=sys.stderr)
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        save_model(run / MODEL, trained)
        if cli.stop.out_of_time and step < steps:
            print(f"time is up after step {step} of {steps}; the same command with --resume continues", file=sys.stderr)
        print(f"{step} steps in {history.seconds:.1f} s: {run / MODEL}", file=sys.stderr)


def _described(cli: FitCLI) -> Trained:
    """The detector with what it needs, after a look at whether network and data fit.

    Raises:
        InputError: where numbers of classes or channels disagree.
    """
    first = cli.datamodule.first
    detector = cli.model.detector
    names, classes = first.class_names, detector.head.classes
    if len(names) != classes:
        raise InputError(
            f"model.detector's head finds {classes} classes, but the data have {len(names)} ({', '.join(names)}): "
            f"set its init_args.classes to {len(names)}"
        )
    seen = select_channels(first, cli.datamodule.features).channels
    expected = getattr(detector.encoder, "point_channels", len(seen))
    if expected != len(seen):
        raise InputError(
            f"model.detector's encoder takes points of {expected} channels, but the data give {len(seen)} "
            f"({', '.join(seen)}): set its init_args.point_channels to {len(seen)}, or choose data.features"
        )
    config = yaml.safe_load(cli.configuration())["model"]["detector"]
    return Trained(detector, config, names, first.channels, cli.datamodule.features)


@contextmanager
def _quiet() -> Iterator[None]:
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
