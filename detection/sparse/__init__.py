"""Sparse voxel grids: from points to voxels, and convolutions over them."""

from detection.sparse.layers import SparseConv3d, SparseInverseConv3d, SubMConv3d
from detection.sparse.tensor import SparseTensor
from detection.sparse.voxels import VoxelGrid, Voxels, voxelise

__all__ = ["SparseConv3d", "SparseInverseConv3d", "SparseTensor", "SubMConv3d", "VoxelGrid", "Voxels", "voxelise"]
