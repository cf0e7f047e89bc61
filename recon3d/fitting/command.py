"""The command ``recon3d fit``: a LightningCLI over SplatModule and SceneData."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from jsonargparse.typing import NonNegativeInt
from lightning.pytorch.cli import LightningArgumentParser

from datasets.errors import InputError
from datasets.programs.fit_command import RunFolderCLI, quiet
from recon3d.fitting import run_folder
from recon3d.fitting.affordable_start import begin_within
from recon3d.fitting.budget import Budget, Clock, Pace, duration
from recon3d.fitting.callbacks import History, Previews, ProgressBar
from recon3d.fitting.data import SceneData
from recon3d.fitting.module import SplatModule
from recon3d.rendering_device import why_not_cuda
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
        parser.add_argument(
            "--budget",
            type=duration,
            help="Give the best result for this time (90, 90s, 2m, 1h), from reading the photos to the written splat.",
        )
        parser.add_argument(
            "--steps_per_view",
            type=NonNegativeInt,
            default=0,
            help="Take so many steps for each train photo where trainer.max_steps is fewer.",
        )

    def _set_seed(self) -> None:
        """Nothing: every step seeds the global generator itself."""

    def before_instantiate_classes(self) -> None:
        """Make the scene's path independent of the current folder."""
        root = self.config.data.root
        if str(root) != "builtin":
            self.config.data.root = Path(root).resolve()


def fit(argv: Sequence[str], clock: Clock = time.perf_counter) -> None:
    """Fit Gaussians to the photos of a scene.

    Give a configuration and a scene:

      recon3d fit --config configs/recon3d/photos.yaml --data.root SCENE --out RUN

    RUN gets splat.safetensors, report.html, config.yaml, history.json, fit.json, previews/, checkpoints/ and logs/
    (TensorBoard). Every key of the YAML is an option too, and options after --config win.

    With --budget 2m the fit takes that long, or less where more would not help: a short time reduces the photos for the
    depth prior and the number of steps. As many sets of Gaussians are fitted side by side as there is time for, one to
    four; the splat shows their mean picture.
    """
    began = clock()
    with quiet():
        _fit(FitCLI(argv), began, clock)


def _fit(cli: FitCLI, began: float, clock: Clock) -> None:
    config = cli.config
    run: Path = config.out
    if cli.trainer.max_steps < 1:
        raise InputError(f"trainer.max_steps is {cli.trainer.max_steps}, expected at least 1")
    if config.time_limit is not None:
        cli.stop.deadline = began + config.time_limit
    if cli.trainer.strategy.root_device.type == "cuda":
        if reason := why_not_cuda():
            raise InputError(f"{reason}. Or give --trainer.accelerator cpu")
    elif torch.cuda.is_available() and not find_spec("gsplat"):
        print("fitting on the CPU: for CUDA, install the extra `cuda`, which brings gsplat", file=sys.stderr)
    # Photos and start first: what cannot be fitted must not touch an earlier run.
    steps = max(cli.trainer.max_steps, config.steps_per_view * len(cli.datamodule.views))
    cli.trainer.fit_loop.epoch_loop.max_steps = steps
    runs, whole = run_folder.RUNS, cli.configuration()
    checkpoint = runs.checked(run, whole, resume=config.resume, overwrite=config.overwrite)
    history: History = cli.config_init.history
    history.start_clock(began, clock)
    budget = None if config.budget is None else Budget(config.budget, clock, began)
    start: dict[str, float] = {}
    if checkpoint is not None:
        cli.trainer.ckpt_path = checkpoint  # as an argument of fit() the module would not know, and begin anew before
    elif budget is None:
        cli.model.begin(cli.datamodule.views)
    else:
        start = begin_within(cli.model, cli.datamodule, budget, steps, cli.trainer.strategy.root_device)
    cli.model.initialiser.forget()
    runs.claim(run, whole, checkpoint)
    pace = None if budget is None else Pace(budget, start)
    if pace is not None:
        # First, before those that look whether a step was the last.
        cli.trainer.callbacks.insert(0, pace)  # type: ignore[attr-defined]
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)

    finished = cli.tell_the_end()
    save_splat(run / run_folder.SPLAT, splat := splat_of(cli.model, cli.datamodule))
    facts = {
        "seconds": round(history.seconds, 2),
        "steps": cli.trainer.global_step,
        "gaussians": len(splat),
        "budget": config.budget,
        "start": {} if pace is None else pace.start,
    }
    run_folder.write_text(run / run_folder.FIT, json.dumps(facts, indent=1) + "\n")
    if finished:
        runs.finish(run)
    print(f"{len(splat)} Gaussians in {history.seconds:.1f} s: {run / run_folder.SPLAT}", file=sys.stderr)
    print(f"report: {write_report(run)}", file=sys.stderr)


def splat_of(module: SplatModule, data: SceneData) -> Splat:
    """What a fit has found, on the CPU."""
    return replace(module.result.to("cpu"), scene_to_source=data.scene.scene_to_source)
