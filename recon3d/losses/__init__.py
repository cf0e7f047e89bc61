"""What a fit minimises. A configuration names losses by ``class_path``; a new one is a class here or anywhere else."""

from recon3d.losses.base import Loss, PriorDepth, Step, Target
from recon3d.losses.depth_correlation import DepthCorrelation
from recon3d.losses.depth_order import DepthContinuity, DepthRanking
from recon3d.losses.disparity_variation import DisparityVariation
from recon3d.losses.estimated_depth import EstimatedDepth
from recon3d.losses.field_agreement import FieldAgreement
from recon3d.losses.measured_depth import MeasuredDepth
from recon3d.losses.normalised_depth import NormalisedDepth
from recon3d.losses.penalties import NeedlePenalty, OpacityPenalty, ScalePenalty
from recon3d.losses.photometric import Photometric
from recon3d.losses.scheduled import Scheduled
from recon3d.losses.uncertain_colour import UncertainColour
from recon3d.losses.warped_view import WarpedView

__all__ = [
    "DepthContinuity",
    "DepthCorrelation",
    "DepthRanking",
    "DisparityVariation",
    "EstimatedDepth",
    "FieldAgreement",
    "Loss",
    "MeasuredDepth",
    "NeedlePenalty",
    "NormalisedDepth",
    "OpacityPenalty",
    "Photometric",
    "PriorDepth",
    "ScalePenalty",
    "Scheduled",
    "Step",
    "Target",
    "UncertainColour",
    "WarpedView",
]
