"""Where a command computes, and how precisely."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from datasets.errors import InputError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["32-true", "bf16-mixed"]  # as Lightning calls them


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


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Within it networks compute in ``precision``: bfloat16 is faster where the processor multiplies it natively."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
