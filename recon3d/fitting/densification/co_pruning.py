"""Removing what only one of several fields believes in (after Zhang et al., CoR-GS, 2024)."""

from __future__ import annotations

from typing import Any

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from datasets.geometry import project
from datasets.types import Cameras
from recon3d.fitting.densification.base import DensificationStrategy, Optimizers, Parameters
from recon3d.fitting.densification.edits import keep
from recon3d.fitting.densification.rounds import Rounds


class CoPruning(DensificationStrategy):
    """Removes Gaussians that have no neighbour in another field, now and then.

    Fields that are fitted to the same photos from other seeds are alike where the photos tell, and guess differently
    elsewhere. Distances are in pixels of the camera that sees a place best, so that scenes of all sizes are alike;
    the source has one distance in the scene's units. Needs ``state["field"]``, [N] whose each Gaussian is, which a fit
    of several fields brings.

    Args:
        every: steps between two rounds.
        begin, end: steps between which rounds take place, ``end`` excluded; None goes on to the end.
        apart: pixels to the next Gaussian of another field from which on one is removed.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, every: int = 250, begin: int = 250, end: int | None = None, apart: float = 5.0) -> None:
        self.rounds = Rounds("CoPruning", every, begin, end)
        if not 0 < apart < float("inf"):
            raise ValueError(f"CoPruning: apart is {apart}, expected a positive number of pixels")
        self.apart = apart

    def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
        return {}

    def step_post_backward(
        self,
        params: Parameters,
        optimizers: Optimizers,
        state: dict[str, Any],
        step: int,
        info: dict[str, Any],
        *,
        lr: float,
    ) -> None:
        if not self.rounds.due(step):
            return
        lonely = without_counterpart(params["means"].detach(), state["field"], info["cameras"], self.apart)
        kept = torch.bincount(state["field"][~lonely], minlength=int(state["field"].max()) + 1)
        if bool(lonely.any()) and bool((kept > 0).all()):
            keep(params, optimizers, state, ~lonely)


def without_counterpart(means: Tensor, field: Tensor, cameras: Cameras, apart: float) -> Tensor:
    """[N] bool, which of ``means`` [N, 3] are farther than ``apart`` pixels from all of other fields (``field`` [N]);
    none of those that lie behind all ``cameras``, nor where there is one field."""
    _, depth = project(means, cameras)
    focal = cameras.intrinsics[:, 0, 0, None].to(depth)
    pixel = torch.where(depth > 0, depth / focal, torch.inf).amin(0)
    places, distance = means.cpu().double().numpy(), torch.zeros(len(means), dtype=torch.float64)
    own = field.cpu()
    for one in own.unique():
        mine, others = own == one, own != one
        if others.any():
            nearest, _ = cKDTree(places[others.numpy()]).query(places[mine.numpy()])
            distance[mine] = torch.from_numpy(nearest)
    return distance.to(pixel) > apart * pixel
