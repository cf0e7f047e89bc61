"""What turns voxel features into better ones: sparse backbones, and the network over the map seen from above.

A sparse backbone maps a :class:`detection.sparse.SparseTensor` to another, as :class:`detection.dsvt.DSVT` does.
"""

from detection.backbones.bev import BEVNet
from detection.backbones.second import InTurn, SparseEncoder
from detection.backbones.voxelnext import SparsePyramid

__all__ = ["BEVNet", "InTurn", "SparseEncoder", "SparsePyramid"]
