"""Where a command computes."""

from __future__ import annotations

from typing import Literal

import torch

from datasets.errors import InputError

Device = Literal["auto", "cpu", "cuda"]


def torch_device(device: Device) -> torch.device:
    """The device to work on; "auto" is CUDA where there is one.

    Raises:
        InputError: for "cuda" where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available: leave --device out, or give --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
