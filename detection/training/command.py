"""The command ``detect3d fit``: a LightningCLI over DetectorModule and CloudData."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from datasets.errors import InputError
from datasets.programs.fit_command import RunFolderCLI, quiet
from datasets.programs.run_folder import RunFolders, checkpoint_of
from detection.channels import select_channels
from detection.detector import Detector
from detection.interleaved import turns
from detection.run import METRICS, PICTURES
from detection.sparse import voxelise
from detection.trained import MODEL, Trained, save_model
from detection.training.callbacks import History, Previews, ProgressBar
from detection.training.data import CloudData
from detection.training.loader import collate
from detection.training.module import DetectorModule

_DECISIVE = ("max_epochs", "precision", "gradient_clip_val", "gradient_clip_algorithm", "devices", "num_nodes")
RUNS = RunFolders(MODEL, (METRICS, PICTURES), ("seed", "model.", "data.", *(f"trainer.{key}" for key in _DECISIVE)))
LOOKED_AT = 10  # samples at most, among which one must have points within the detector's range


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
        if data.objects is not None:
            data.objects = Path(data.objects).resolve()


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
    if trainer.accumulate_grad_batches != 1:
        raise InputError("gradients are not accumulated: set data.batch_size, not trainer.accumulate_grad_batches")
    if trainer.precision == "16-mixed":
        raise InputError("trainer.precision 16-mixed is not supported: choose bf16-mixed or 32-true")
    # To Lightning all epochs are one: the loader knows at which step it is, and goes on within an epoch.
    cli.datamodule.epochs = trainer.max_epochs
    trainer.fit_loop.epoch_loop.max_steps = trainer.max_epochs * cli.datamodule.steps_per_epoch(trainer.world_size)
    trainer.fit_loop.max_epochs = -1
    if config.time_limit is not None:
        cli.stop.deadline = began + config.time_limit
    trained = _described(cli)  # what cannot be trained must not touch an earlier run
    if trainer.is_global_zero:
        checkpoint = RUNS.checked(run, cli.configuration(), resume=config.resume, overwrite=config.overwrite)
        RUNS.claim(run, cli.configuration(), checkpoint)
    else:
        checkpoint = checkpoint_of(run, resume=config.resume, overwrite=config.overwrite)
    history: History = cli.config_init.history
    history.start_clock(began)
    trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)

    finished = cli.tell_the_end()
    if trainer.is_global_zero:
        save_model(run / MODEL, trained)
        if finished:
            RUNS.finish(run)
        print(f"{trainer.global_step} steps in {history.seconds:.1f} s: {run / MODEL}", file=sys.stderr)


def _described(cli: FitCLI) -> Trained:
    """The detector with what it needs, after a look at whether network, data and protocol fit.

    Raises:
        InputError: where they do not.
    """
    data, first = cli.datamodule, cli.datamodule.first
    detector = cli.model.detector
    names, classes = first.class_names, detector.head.classes
    if len(names) != classes:
        raise InputError(
            f"model.detector's head finds {classes} classes, but the data have {len(names)} ({', '.join(names)}): "
            f"set its init_args.classes to {len(names)}"
        )
    if (kinds := turns([first.points])) > 1:
        warnings.warn(
            f"data.train: in {first.frame} rows of {kinds} kinds take turns, as if a point had more channels than "
            f"{', '.join(first.channels)}: set init_args.channels to all that the files have (`detect3d check` looks)",
            stacklevel=2,
        )
    if first.boxes is None:
        raise InputError(f"data.train: {first.frame} has no annotation to learn from. Set its labelled to true")
    if unknown := [name for name in data.paste if name not in names]:
        raise InputError(f"data.paste names {unknown[0]!r}, but the data have {', '.join(names)}")
    if data.test is not None:
        if data.test[0].class_names != names:
            raise InputError(
                f"data.train has the classes {names}, data.test {data.test[0].class_names}: give both the same, in the "
                "same order"
            )
        data.protocol.check(data.test, names)
    seen = select_channels(first, data.features).channels
    expected = getattr(detector.encoder, "point_channels", len(seen))
    if expected != len(seen):
        raise InputError(
            f"model.detector's encoder takes points of {expected} channels, but the data give {len(seen)} "
            f"({', '.join(seen)}): set its init_args.point_channels to {len(seen)}, or choose data.features"
        )
    _tried(detector, data)
    data.check_objects()
    config = yaml.safe_load(cli.configuration())["model"]["detector"]
    return Trained(detector, config, names, first.channels, data.features)


def _tried(detector: Detector, data: CloudData) -> None:
    """Look for boxes in the first sample with points in range, so that parts that do not fit are found out at once."""
    for i in range(min(len(data.train), LOOKED_AT)):
        sample = data.first if i == 0 else data.train[i]
        batch = collate([sample], None if data.features is None else dict(data.features))
        if len(voxelise(batch.points, batch.batch_index, 1, detector.grid)):
            break
    else:
        raise InputError(
            f"model.detector: none of the first {i + 1} clouds has a point within its point_range "
            f"{list(detector.grid.point_range)}. detect3d check says where the points are"
        )
    try:
        detector.eval().detect(batch)
    except (ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"model.detector: its parts do not fit together ({' '.join(str(error).split())})") from error
    detector.train()
