"""What a fit minimises. A configuration names losses by ``class_path``; a new one is a class here or anywhere else."""

from recon3d.losses.base import Loss, PriorDepth, Step, Target
from recon3d.losses.measured_depth import MeasuredDepth
from recon3d.losses.penalties import NeedlePenalty, OpacityPenalty, ScalePenalty
from recon3d.losses.photometric import Photometric

__all__ = [
    "Loss",
    "MeasuredDepth",
    "NeedlePenalty",
    "OpacityPenalty",
    "Photometric",
    "PriorDepth",
    "ScalePenalty",
    "Step",
    "Target",
]
