"""The command ``recon3d fit``: a LightningCLI over SplatModule and SceneData."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from datasets.errors import InputError
from datasets.programs.checkpoints import AtomicCheckpointIO, LastCheckpoint
from datasets.programs.command_line import ErrorsThatHelp
from datasets.programs.stopping import Stop
from recon3d.fitting import run_folder
from recon3d.fitting.callbacks import History, Previews, ProgressBar
from recon3d.fitting.data import SceneData
from recon3d.fitting.module import SplatModule
from recon3d.report import write_report
from recon3d.splats import Splat, save_splat


class FitParser(ErrorsThatHelp, LightningArgumentParser):
    """LightningCLI's parser with this project's error messages."""


class FitCLI(LightningCLI):
    """Options of a fit; after construction ``config``, ``model``, ``datamodule`` and ``trainer`` are ready."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.stop = Stop()
        super().__init__(
            SplatModule,
            SceneData,
            save_config_callback=None,  # the run folder keeps the configuration
            seed_everything_default=False,
            parser_class=FitParser,
            parser_kwargs={"prog": "recon3d fit", "description": fit.__doc__},
            trainer_defaults={
                "accelerator": "cuda" if torch.cuda.is_available() and find_spec("gsplat") else "cpu",
                "devices": 1,
                "max_steps": 1000,
                "max_epochs": -1,
                "limit_val_batches": 0,
                "num_sanity_val_steps": 0,
                "enable_progress_bar": False,  # ours shows PSNR and Gaussians
                "enable_model_summary": False,
                "enable_checkpointing": True,
                "callbacks": [self.stop, ProgressBar()],
            },
            args=list(argv),
            run=False,
            auto_configure_optimizers=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Our own ``--seed`` in place of Lightning's global one."""
        parser.add_argument("--seed", type=int, default=0, help="Seed of the start, the order of views and all noise.")
        parser.add_argument("--out", type=Path, required=True, help="Folder of the run; made if it does not exist.")
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
        """Nothing: every step seeds the global generator itself."""

    def before_instantiate_classes(self) -> None:
        """Make the scene's path independent of the current folder."""
        root = self.config.data.root
        if str(root) != "builtin":
            self.config.data.root = Path(root).resolve()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer, writing into the run folder."""
        from lightning.pytorch.loggers import TensorBoardLogger

        run = self.config.out
        trainer = self.config_init.trainer
        trainer.default_root_dir = run
        if trainer.logger in (None, True):
            trainer.logger = TensorBoardLogger(run, name="", version=run_folder.LOGS)
        plugins = trainer.plugins or []
        trainer.plugins = [
            *(plugins if isinstance(plugins, list) else [plugins]),
            AtomicCheckpointIO(("fit",), "recon3d fit"),
        ]
        return super().instantiate_trainer(**kwargs)

    def configuration(self) -> str:
        """The full configuration as YAML, to fit again from."""
        config = self.config.clone()
        config.resume = config.overwrite = False
        text: str = self.parser.dump(config, skip_none=False)
        return text


def fit(argv: Sequence[str]) -> None:
    """Fit Gaussians to the photos of a scene.

    Give a configuration and a scene:

      recon3d fit --config configs/recon3d/photos.yaml --data.root SCENE --out RUN

    RUN gets splat.safetensors, report.html, config.yaml, history.json, previews/, checkpoints/ and logs/ (TensorBoard).
    Every key of the YAML is an option too, and options after --config win.
    """
    began = time.perf_counter()
    with _quiet():
        _fit(FitCLI(argv), began)


def _fit(cli: FitCLI, began: float) -> None:
    config = cli.config
    run: Path = config.out
    if cli.trainer.max_steps < 1:
        raise InputError(f"trainer.max_steps is {cli.trainer.max_steps}, expected at least 1")
    if config.time_limit is not None:
        cli.stop.deadline = began + config.time_limit
    if torch.cuda.is_available() and not find_spec("gsplat"):
        print("fitting on the CPU: for CUDA, install the extra `cuda`, which brings gsplat", file=sys.stderr)
    _ = cli.datamodule.views  # a scene that cannot be used must not touch an earlier run
    checkpoint = run_folder.RUNS.prepare(run, cli.configuration(), resume=config.resume, overwrite=config.overwrite)
    history: History = cli.config_init.history
    history.start_clock(began)
    if checkpoint is None:
        cli.model.begin(cli.datamodule.views)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)

    step, steps = cli.trainer.global_step, cli.trainer.max_steps
    if cli.stop.signal is not None:
        print(f"stopped after step {step} of {steps}; the same command with --resume continues", file=sys.stderr)
        raise KeyboardInterrupt
    save_splat(run / run_folder.SPLAT, splat_of(cli.model, cli.datamodule))
    if cli.stop.out_of_time and step < steps:
        print(f"time is up after step {step} of {steps}; the same command with --resume continues", file=sys.stderr)
    print(f"{len(cli.model.gaussians)} Gaussians in {history.seconds:.1f} s: {run / run_folder.SPLAT}", file=sys.stderr)
    print(f"report: {write_report(run)}", file=sys.stderr)


def splat_of(module: SplatModule, data: SceneData) -> Splat:
    """What a fit has found, on the CPU."""
    background = module.background.cpu().tolist()
    return Splat(
        module.gaussians.detach().to("cpu"),
        (background[0], background[1], background[2]),
        module.antialiased,
        data.scene.scene_to_source,
    )


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
