"""The .splat file of antimatter15's web viewer: 32 bytes a Gaussian, without view-dependent colour.

Little endian: position 3 float32, scale 3 float32 (linear), colour and opacity 4 uint8, quaternion wxyz 4 uint8
(128 + 128 q). Gaussians that show most come first, as the viewer draws while it loads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from recon3d.gaussians import SH_C0, Gaussians
from recon3d.splats.errors import SplatError
from recon3d.splats.splat import Splat

_RECORD = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])


def write(path: Path, splat: Splat) -> None:
    """Write the records, ordered by volume times opacity."""
    gaussians = splat.gaussians.detach().to("cpu", torch.float32)
    importance = gaussians.scales.double().sum(1) + torch.nn.functional.logsigmoid(gaussians.opacities.double())
    gaussians = gaussians[torch.argsort(importance, descending=True, stable=True)]
    records = np.zeros(len(gaussians), _RECORD)
    records["position"] = gaussians.means.numpy()
    records["scale"] = gaussians.scales.exp().numpy()
    colour = 0.5 + SH_C0 * gaussians.sh0[:, 0]
    rgba = torch.cat([colour, gaussians.opacities.sigmoid()[:, None]], 1)
    records["rgba"] = (rgba * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    rotation = torch.nn.functional.normalize(gaussians.quats.double(), dim=1) * 128 + 128
    records["rotation"] = rotation.round().clamp(0, 255).to(torch.uint8).numpy()
    records.tofile(path)


def read(path: Path) -> Splat:
    """Read the records; opacities are kept half a step away from 0 and 1, where a logit would be infinite."""
    size = path.stat().st_size
    if size % _RECORD.itemsize:
        mend = "The file is cut off or is no .splat: copy or export it again."
        raise SplatError(path, f"{size} bytes, not a multiple of {_RECORD.itemsize}", mend)
    records = np.fromfile(path, _RECORD)
    if not (records["scale"] > 0).all():
        raise SplatError(path, "scales that are not positive", "Export it again: .splat keeps scales as they are.")
    rgba = torch.from_numpy(records["rgba"].astype(np.float32)) / 255
    return Splat(
        Gaussians(
            means=torch.from_numpy(records["position"].astype(np.float32)),
            scales=torch.from_numpy(records["scale"].astype(np.float32)).log(),
            quats=(torch.from_numpy(records["rotation"].astype(np.float32)) - 128) / 128,
            opacities=rgba[:, 3].clamp(0.5 / 255, 1 - 0.5 / 255).logit(),
            sh0=((rgba[:, :3] - 0.5) / SH_C0)[:, None],
            shN=torch.zeros(len(records), 0, 3),
        )
    )
