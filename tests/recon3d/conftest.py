"""A small scene with a known answer, and a run folder as a fit of it leaves one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from datasets.pictures import save_picture, to_bytes
from datasets.types import Cameras
from recon3d import paths
from recon3d.gaussians import SH_C0, Gaussians
from recon3d.pictures import draw
from recon3d.splats import Splat, save_splat

WIDTH, HEIGHT = 72, 54


@dataclass(frozen=True)
class FittedRun:
    """``folder`` is the run, ``scene`` the folder of its photos, ``truth`` the splat that the photos were taken of."""

    folder: Path
    scene: Path
    truth: Splat
    cameras: Cameras


def coloured_blobs(count: int = 150, seed: int = 0) -> Gaussians:
    """Opaque blobs in a ball of radius 1 around the origin."""
    random = torch.Generator().manual_seed(seed)
    colours = torch.rand(count, 1, 3, generator=random)
    return Gaussians(
        means=0.6 * torch.randn(count, 3, generator=random).clamp(-1.6, 1.6),
        scales=torch.log(0.06 + 0.12 * torch.rand(count, 3, generator=random)),
        quats=torch.randn(count, 4, generator=random),
        opacities=torch.full((count,), 3.0),
        sh0=(colours - 0.5) / SH_C0,
        shN=torch.zeros(count, 0, 3),
    )


def cameras_around(count: int) -> Cameras:
    """On a quarter of a circle of radius 4 around the origin, a little from above (y is down)."""
    angles = np.radians(np.linspace(-45, 45, count))
    eyes = np.stack([4 * np.sin(angles), np.full(count, -1.2), -4 * np.cos(angles)], axis=1)
    poses = np.stack([paths.look_at(eye, np.zeros(3), np.array([0.0, -1, 0])) for eye in eyes])
    intrinsics = torch.tensor([[80.0, 0, WIDTH / 2], [0, 80, HEIGHT / 2], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(torch.from_numpy(poses).float(), intrinsics, torch.tensor([[WIDTH, HEIGHT]]).repeat(count, 1))


@pytest.fixture
def fitted_run(tmp_path: Path) -> FittedRun:
    """Five photos, of which the second and fourth test; the run's splat is the truth with colours a little off."""
    scene, run = tmp_path / "scene", tmp_path / "run"
    background = (0.2, 0.3, 0.4)
    truth = Splat(coloured_blobs(), background)
    cameras = cameras_around(5)
    frames = []
    for i in range(5):
        photo = draw(truth, cameras[i]).colour.numpy()
        save_picture(scene / f"photo_{i}.png", to_bytes(photo))
        k, part = cameras.intrinsics[i], "test" if i in (1, 3) else "train"
        frame = {"file": f"photo_{i}.png", "width": WIDTH, "height": HEIGHT, "split": part}
        frame |= {"fx": float(k[0, 0]), "fy": float(k[1, 1]), "cx": float(k[0, 2]), "cy": float(k[1, 2])}
        frames.append(frame | {"w2c": cameras.world_to_camera[i].tolist()})
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:40, 15:60] = 255
    cv2.imwrite(str(scene / "mask.png"), mask)
    frames[1]["mask"] = "mask.png"
    (scene / "cameras.json").write_text(json.dumps({"frames": frames}))

    run.mkdir()
    off = torch.randn(truth.gaussians.sh0.shape, generator=torch.Generator().manual_seed(1))
    fitted = Gaussians.from_parameters(truth.gaussians.parameters() | {"sh0": truth.gaussians.sh0 + 0.1 * off})
    save_splat(run / "splat.safetensors", Splat(fitted, background))
    config = {"seed": 0, "out": str(run), "data": {"root": str(scene), "seed": 0}, "model": {"sh_degree": 0}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    history = [
        {"step": step, "loss": 0.3 / step**0.5, "psnr": 12 + 4 * np.log10(step), "gaussians": 150, "seconds": step / 20}
        for step in range(10, 501, 10)
    ]
    (run / "history.json").write_text(json.dumps(history))
    return FittedRun(run, scene, truth, cameras)
