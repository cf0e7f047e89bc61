"""What finds boxes in a map or in sparse voxels seen from above: targets, losses, decoding."""

from detection.heads.center import CenterHead
from detection.heads.head import Head, LossWeights, Predictions, Selection
from detection.heads.sparse import SparseHead

__all__ = ["CenterHead", "Head", "LossWeights", "Predictions", "Selection", "SparseHead"]
