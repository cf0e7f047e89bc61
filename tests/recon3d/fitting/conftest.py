"""A tiny scene on disk: a painted wall seen by five cameras, three of which train."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from recon3d.fitting.data import SceneData
from recon3d.fitting.module import SplatModule
from recon3d.initialise import Initialiser
from recon3d.splats import load_splat
from tests.equality import assert_same

sys.path.append(str(Path(__file__).parent))  # so that class_path finds plugins.py

WIDTH, HEIGHT, FOCAL = 40, 30, 36.0


def wall_colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[..., 3] in 0..1: the paint at the points (x, y, 0)."""
    waves = [np.sin(3 * x + 1) * np.cos(2 * y), np.sin(2 * x - 3 * y), np.cos(4 * y + x)]
    return 0.5 + 0.4 * np.stack(waves, -1)


@pytest.fixture(scope="session")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene's folder."""
    root = tmp_path_factory.mktemp("wall")
    frames: list[dict[str, Any]] = []
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    for i, (x, y) in enumerate([(-0.4, 0.0), (0.4, 0.1), (0.0, -0.3), (0.1, 0.2), (-0.2, -0.1)]):
        # The camera at (x, y, -2) looks along +z.
        points = (columns - WIDTH / 2) / FOCAL * 2 + x, (rows - HEIGHT / 2) / FOCAL * 2 + y
        image = (wall_colour(*points) * 255).round().astype(np.uint8)
        cv2.imwrite(str(root / f"{i}.png"), image[..., ::-1])
        camera = [[1, 0, 0, -x], [0, 1, 0, -y], [0, 0, 1, 2], [0, 0, 0, 1]]
        size = {"width": WIDTH, "height": HEIGHT, "fx": FOCAL, "fy": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
        frames.append({"file": f"{i}.png", "w2c": camera, "split": "train" if i < 3 else "test", **size})
    (root / "cameras.json").write_text(json.dumps({"frames": frames}))
    return root


@pytest.fixture
def arguments(wall: Path) -> Callable[..., list[str]]:
    """Makes the arguments of ``recon3d fit`` into a folder, with further options at the end."""

    def make(out: Path, *more: str) -> list[str]:
        return [
            *(f"--data.root={wall}", f"--out={out}", "--model.initialiser=plugins.WallStart", "--trainer.max_steps=24"),
            *("--checkpoint.every=7", "--previews.every=1000", "--trainer.logger=false", "--trainer.accelerator=cpu"),
            *more,
        ]

    return make


@pytest.fixture
def same_fit() -> Callable[[Path, Path], None]:
    """Asserts that two runs ended with the same parameters, moments and progress."""

    def check(one: Path, other: Path) -> None:
        first, second = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other))
        for key in ("state_dict", "optimizer_states", "fit", "global_step"):
            assert_same(first[key], second[key], key)
        splats = [load_splat(run / "splat.safetensors").gaussians.parameters() for run in (one, other)]
        assert_same(*splats, "splat")

    return check


@pytest.fixture
def fitted(wall: Path, tmp_path: Path) -> Callable[..., SplatModule]:
    """Fits a module for a few steps with a bare trainer."""
    from plugins import WallStart

    def run(steps: int, initialiser: Initialiser | None = None, **options: Any) -> SplatModule:
        module = SplatModule(initialiser or WallStart(), **options)
        trainer = Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, datamodule=SceneData(wall))
        return module

    return run
