"""The command ``detect3d fit``: a LightningCLI over DetectorModule and CloudData."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from datasets.errors import InputError
from datasets.programs.fit_command import RunFolderCLI, quiet
from datasets.programs.run_folder import RunFolders, last_checkpoint
from detection.channels import select_channels
from detection.run import METRICS, PICTURES
from detection.trained import MODEL, Trained, save_model
from detection.training.callbacks import History, Previews, ProgressBar
from detection.training.data import CloudData
from detection.training.module import DetectorModule

RUNS = RunFolders(MODEL, (METRICS, PICTURES), ("seed", "model.", "data.", "trainer.max_epochs", "trainer.precision"))


class FitCLI(RunFolderCLI):
    """Options of a fit of a detector."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(
            argv,
            program="detect3d fit",
            description=fit.__doc__,
            module=DetectorModule,
            data=CloudData,
            trainer={
                "accelerator": "cuda" if torch.cuda.is_available() else "cpu",
                "max_epochs": 20,
                "gradient_clip_val": 10.0,
                "use_distributed_sampler": False,  # our loader shares the batches out
            },
            progress=ProgressBar(),
            checkpoint_keys=("pytorch-lightning_version",),
            seeds="weights, order, variation and noise",
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Where the data are."""
        super().add_default_arguments_to_parser(parser)
        parser.add_argument(
            "--root", type=Path | None, help="Folder of the data: in place of `root` in data.train and data.test."
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Callbacks with settings."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(History, "history")
        parser.add_lightning_class_args(Previews, "previews")

    def _set_seed(self) -> None:
        """Seed what draws the first weights."""
        lightning.seed_everything(self.config.seed, verbose=False)

    def before_instantiate_classes(self) -> None:
        """Make the data's paths independent of the current folder."""
        data, root = self.config.data, self.config.root
        for key in [key for key in data.keys() if key.startswith(("train.", "test.")) and key.endswith(".root")]:  # noqa: SIM118
            data[key] = Path(data[key] if root is None else root).resolve()
        self.config.root = None


def fit(argv: Sequence[str]) -> None:
    """Train a detector on clouds with boxes.

    Give a configuration and the folder of the data:

      detect3d fit --config configs/detection/radar_dsvt.yaml --root DATA --out RUN

    RUN gets detector.safetensors, config.yaml, history.json, previews/, checkpoints/ and logs/ (TensorBoard).
    Every key of the YAML is an option too, and options after --config win.
    """
    began = time.perf_counter()
    with quiet():
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

    cli.tell_the_end()
    if trainer.is_global_zero:
        save_model(run / MODEL, trained)
        print(f"{trainer.global_step} steps in {history.seconds:.1f} s: {run / MODEL}", file=sys.stderr)


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
