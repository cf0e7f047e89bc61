"""The command ``recon3d fit``: a LightningCLI over SplatModule and SceneData."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from lightning.pytorch.cli import LightningArgumentParser

from datasets.errors import InputError
from datasets.programs.fit_command import RunFolderCLI, quiet
from recon3d.fitting import run_folder
from recon3d.fitting.callbacks import History, Previews, ProgressBar
from recon3d.fitting.data import SceneData
from recon3d.fitting.module import SplatModule
from recon3d.report import write_report
from recon3d.splats import Splat, save_splat


class FitCLI(RunFolderCLI):
    """Options of a fit of Gaussians.

    Args:
        argv: the command's arguments.
        program: how the command is called.
        description: what its help says; None is that of a fit.
    """

    def __init__(self, argv: Sequence[str], program: str = "recon3d fit", description: str | None = None) -> None:
        super().__init__(
            argv,
            program=program,
            description=description or fit.__doc__,
            module=SplatModule,
            data=SceneData,
            trainer={
                "accelerator": "cuda" if torch.cuda.is_available() and find_spec("gsplat") else "cpu",
                "max_steps": 1000,
                "max_epochs": -1,
            },
            progress=ProgressBar(),
            checkpoint_keys=("fit",),
            seeds="the start, the order of views and all noise",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Callbacks with settings."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(History, "history")
        parser.add_lightning_class_args(Previews, "previews")

    def _set_seed(self) -> None:
        """Nothing: every step seeds the global generator itself."""

    def before_instantiate_classes(self) -> None:
        """Make the scene's path independent of the current folder."""
        root = self.config.data.root
        if str(root) != "builtin":
            self.config.data.root = Path(root).resolve()


def fit(argv: Sequence[str]) -> None:
    """Fit Gaussians to the photos of a scene.

    Give a configuration and a scene:

      recon3d fit --config configs/recon3d/photos.yaml --data.root SCENE --out RUN

    RUN gets splat.safetensors, report.html, config.yaml, history.json, previews/, checkpoints/ and logs/ (TensorBoard).
    Every key of the YAML is an option too, and options after --config win.
    """
    began = time.perf_counter()
    with quiet():
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

    cli.tell_the_end()
    save_splat(run / run_folder.SPLAT, splat_of(cli.model, cli.datamodule))
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
