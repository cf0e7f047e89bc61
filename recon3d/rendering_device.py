"""On which device Gaussians can be drawn: CUDA needs gsplat and its kernels besides."""

from __future__ import annotations

from functools import cache

import torch

from datasets.errors import InputError
from datasets.programs.devices import Device, torch_device


def rendering_device(device: Device) -> torch.device:
    """The device to render on; "auto" is CUDA where there is one and gsplat can use it.

    Raises:
        InputError: for "cuda" where there is none, or gsplat or its kernels are missing.
    """
    chosen = torch_device(device)
    if chosen.type != "cuda" or not (reason := why_not_cuda()):
        return chosen
    if device == "cuda":
        raise InputError(f"{reason}. Or give --device cpu")
    return torch.device("cpu")


@cache
def why_not_cuda() -> str:
    """Why nothing can be rendered on CUDA, or "" where it can."""
    if not torch.cuda.is_available():
        return "no CUDA device is available"
    from recon3d.rasteriser.gsplat_backend import load_gsplat

    try:
        load_gsplat()
    except (ImportError, OSError, RuntimeError) as error:  # missing, not to be loaded, not to be compiled
        return " ".join(str(error).split())
    return ""
