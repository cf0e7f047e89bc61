"""Rendering inside DataLoader workers, after and before the parent has rendered itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from recon3d.render import render
from tests.recon3d.rasteriser.scenes import forward, random_cameras, random_gaussians


class RenderedViews(Dataset):
    """Six images with the gradient of the means, each rendered where it is asked for."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        result = forward(render, random_gaussians(300, 1, index), random_cameras(1, 80, 60, index)).backward()
        return result.render.colour.detach(), result.gradients["means"]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_dataloader_workers(context: str) -> None:
    expected = [RenderedViews()[index] for index in range(6)]  # so that the parent's threads and caches are there
    loader = DataLoader(RenderedViews(), batch_size=None, num_workers=2, multiprocessing_context=context, timeout=240)
    for (image, gradient), (want_image, want_gradient) in zip(loader, expected, strict=True):
        assert torch.equal(image, want_image)
        assert torch.equal(gradient, want_gradient)
    assert torch.equal(RenderedViews()[0][0], expected[0][0])


def test_a_process_that_ends_with_idle_threads_ends() -> None:
    program = (
        "from tests.recon3d.rasteriser.scenes import *\n"
        "shown = forward(render, random_gaussians(50), random_cameras(1)).backward()\n"
        "print('rendered', shown.render.alpha.sum().item() > 0)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "rendered True\n"
    assert not done.stderr
