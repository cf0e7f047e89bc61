"""A whole detector as ONNX nodes."""

from __future__ import annotations

from torch import nn

from datasets.errors import InputError
from detection.backbones import BEVNet, SparseEncoder, SparsePyramid
from detection.detector import Detector
from detection.dsvt import DSVT
from detection.encoders import MeanEncoder, PointNetEncoder
from detection.exporting.dense_layers import bev_net
from detection.exporting.graph import Graph, Value
from detection.exporting.heads import center_head, sparse_head
from detection.exporting.sparse_convolutions import sparse_encoder, sparse_pyramid
from detection.exporting.transformer import transformer
from detection.exporting.voxels import GraphVoxels, bird_view, voxelised
from detection.heads import CenterHead, SparseHead
from detection.heads.coding import BevGrid


def boxes(graph: Graph, points: Value, detector: Detector) -> dict[str, Value]:
    """Boxes before suppression in points as the network sees them, by the name of the output.

    Raises:
        InputError: for a part that has no form in ONNX.
    """
    encoder, neck, head = detector.encoder, detector.neck, detector.head
    if not isinstance(encoder, MeanEncoder | PointNetEncoder):
        raise _unknown(type(encoder).__name__)
    voxels = voxelised(graph, points, detector.grid, encoder)
    voxels = _backbone(graph, voxels, detector.backbone)
    depth, height, width = voxels.shape
    if isinstance(neck, BEVNet) and isinstance(head, CenterHead):
        value = bird_view(graph, voxels, neck.in_channels // depth)
        value, (height, width) = bev_net(graph, value, neck, (height, width))
        return center_head(graph, value, head, BevGrid.of(detector.grid, height, width))
    if isinstance(neck, nn.Identity) and isinstance(head, SparseHead):
        return sparse_head(graph, voxels, head, BevGrid.of(detector.grid, height, width))
    raise _unknown(f"{type(neck).__name__} before {type(head).__name__}")


def _backbone(graph: Graph, voxels: GraphVoxels, backbone: nn.Module) -> GraphVoxels:
    if isinstance(backbone, nn.Identity):
        return voxels
    if isinstance(backbone, nn.Sequential):
        for each in backbone:
            voxels = _backbone(graph, voxels, each)
        return voxels
    if isinstance(backbone, SparseEncoder):
        return sparse_encoder(graph, voxels, backbone)
    if isinstance(backbone, SparsePyramid):
        return sparse_pyramid(graph, voxels, backbone)
    if isinstance(backbone, DSVT):
        return transformer(graph, voxels, backbone)
    raise _unknown(type(backbone).__name__)


def _unknown(part: str) -> InputError:
    return InputError(
        f"a detector with {part} cannot be exported. Use MeanEncoder or PointNetEncoder; SparseEncoder, DSVT, both in "
        "turn or no backbone, with BEVNet and CenterHead; or SparsePyramid with SparseHead"
    )
