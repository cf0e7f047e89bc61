"""The command ``detect3d export``: a trained detector as one ONNX file, checked against torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from datasets.errors import InputError
from datasets.files import replacing
from detection.backbones import BEVNet
from detection.channels import divisors
from detection.detector import Detector
from detection.dsvt import DSVT
from detection.encoders import PointNetEncoder
from detection.heads import CenterHead
from detection.heads.coding import BevGrid
from detection.trained import Trained, load_model

TOLERANCE = 5e-3  # metres, radians and scores
COUNTS = (0, 1, 2, 17, 600, 5000)
MEND = "Install onnx and onnxruntime: `pip install onnx onnxruntime`"


def export(model: Path, *, onnx: Path, check: bool = True) -> None:
    """Write a trained detector as an ONNX graph, from the points of a cloud to boxes before suppression.

    Input: ``points`` [N, C] float32 for any N, 0 included, whose channels the file's metadata name (x, y, z, and others
    as the data's files have them; doppler_over_ground, made of a whole cloud, is the caller's to give). Points out of
    range or not finite are left out. Outputs: ``boxes`` [M, 7] (centre x, y, z, length, width, height, yaw),
    ``scores`` [M] and ``labels`` [M], and ``velocities`` [M, 2] where the network predicts them. Boxes of a class may
    overlap: suppress those that overlap more than the metadata say (rotated NMS).

    Works for pillars and voxels with PointNetEncoder, DSVT or no backbone, BEVNet and CenterHead. Sparse convolutions
    have no form in ONNX.

    Args:
        model: Run folder of a fit, or its detector.safetensors.
        onnx: File to write.
        check: Whether to compare with torch over clouds of various sizes, by onnxruntime.
    """
    trained = load_model(model)
    content = exported(trained)
    report = compare(trained, content) if check else "not compared with torch"
    onnx.parent.mkdir(parents=True, exist_ok=True)
    with replacing(onnx) as part:
        part.write_bytes(content)
    print(f"{report}\n{len(content) / 2**20:.1f} MiB: {onnx}")


def exported(trained: Trained) -> bytes:
    """The ONNX file of a detector.

    Raises:
        InputError: without onnx, and for a network with parts that have no form in ONNX.
    """
    try:
        from onnx import TensorProto
    except ImportError as error:
        raise InputError(f"the package onnx is missing. {MEND}") from error
    from detection.exporting.dense_layers import bev_net, center_head
    from detection.exporting.graph import Graph
    from detection.exporting.sparse_layers import bird_view, transformer, voxel_features

    detector = trained.detector
    encoder, backbone, neck, head = _parts(detector)
    graph = Graph()
    scale = divisors(trained.channels, trained.features)
    points = graph.op("Div", "points", torch.tensor(list(scale.values())))
    with torch.no_grad():
        voxels = voxel_features(graph, points, detector.grid, encoder)
        if backbone is not None:
            voxels = transformer(graph, backbone, voxels)
        channels = encoder.out_channels if backbone is None else backbone.out_channels
        _, height, width = voxels.shape
        value, (height, width) = bev_net(graph, bird_view(graph, voxels, channels), neck, (height, width))
        found = center_head(graph, value, head, BevGrid.of(detector.grid, height, width))
    shapes: dict[str, list[Any]] = {"boxes": ["M", 7], "scores": ["M"], "labels": ["M"], "velocities": ["M", 2]}
    kinds = {name: TensorProto.INT64 if name == "labels" else TensorProto.FLOAT for name in found}
    model = graph.model(
        {"points": ["N", len(scale)]}, {name: (value, kinds[name], shapes[name]) for name, value in found.items()}
    )
    about = {
        "channels": list(scale),
        "class_names": list(trained.class_names),
        "overlap": head.by_class("overlap"),
        "candidates": head.selection.candidates,
    }
    for key, what in about.items():
        model.metadata_props.add(key=key, value=json.dumps(what))
    content: bytes = model.SerializeToString()
    return content


def _parts(detector: Detector) -> tuple[PointNetEncoder, DSVT | None, BEVNet, CenterHead]:
    encoder, backbone, neck, head = detector.encoder, detector.backbone, detector.neck, detector.head
    if (
        isinstance(encoder, PointNetEncoder)
        and isinstance(backbone, DSVT | torch.nn.Identity)
        and isinstance(neck, BEVNet)
        and isinstance(head, CenterHead)
    ):
        return encoder, backbone if isinstance(backbone, DSVT) else None, neck, head
    names = ", ".join(type(part).__name__ for part in (encoder, backbone, neck, head))
    raise InputError(
        f"a detector of {names} cannot be exported: ONNX has no sparse convolutions. Use PointNetEncoder, DSVT or no "
        "backbone, BEVNet and CenterHead"
    )


def compare(trained: Trained, content: bytes, counts: Sequence[int] = COUNTS, seed: int = 0) -> str:
    """What a comparison of the ONNX graph with torch finds, over clouds of ``counts`` points drawn at random.

    Raises:
        InputError: without onnxruntime, and where they differ.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"the package onnxruntime is missing. {MEND}, or give --check false") from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scale = divisors(trained.channels, trained.features)
    random, worst, boxes = np.random.default_rng(seed), 0.0, 0
    low, high = (np.array(each, np.float32) for each in (trained.detector.grid.low, trained.detector.grid.high))
    for count in counts:
        points = random.uniform(-3, 3, (count, len(scale))).astype(np.float32) * np.array(list(scale.values()), "f4")
        centres = random.uniform(low, high, (4, 3))  # a cloud with some shape to it
        points[:, :3] = centres[random.integers(4, size=count)] + random.normal(size=(count, 3)) * (2, 2, 0.5)
        values = session.run(None, {"points": points})
        found = {each.name: value for each, value in zip(session.get_outputs(), values, strict=True)}
        expected = by_torch(trained, points)
        off = _difference(found, expected)
        if not off < TOLERANCE:
            raise InputError(
                f"over a cloud of {count} points the exported graph does not give what torch gives: "
                f"{len(found['scores'])} boxes against {len(expected['scores'])}, at most {off:.1e} off"
            )
        worst, boxes = max(worst, off), boxes + len(expected["scores"])
    sizes = ", ".join(map(str, counts))
    return f"the same as torch over clouds of {sizes} points ({boxes} boxes; at most {worst:.1e} off)"


def _difference(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Greatest difference of a number between boxes nearest to one another; their order says nothing.

    Of a thousand boxes, which only a network that has hardly learned gives, one may be without a counterpart: whether a
    cell is a peak among neighbours of the same heat is decided by rounding.
    """
    first, second = (
        np.concatenate([np.atleast_2d(each[name].T).T for name in expected], axis=1, dtype=np.float64)
        for each in (found, expected)
    )
    alone = max(len(first), len(second)) // 1000
    if abs(len(first) - len(second)) > alone or min(len(first), len(second)) == 0 < max(len(first), len(second)):
        return float("inf")
    worst = 0.0
    for rows, others in ((first, second), (second, first)):
        if len(rows) > alone:
            _, nearest = cKDTree(others).query(rows)
            off = np.abs(others[nearest] - rows).max(axis=1)
            worst = max(worst, float(np.sort(off)[len(off) - 1 - alone]))
    return worst


@torch.no_grad()
def by_torch(trained: Trained, points: np.ndarray) -> dict[str, np.ndarray]:
    """What the graph should give for ``points`` [N, C]."""
    scale = divisors(trained.channels, trained.features)
    scaled = torch.from_numpy(points) / torch.tensor(list(scale.values()))
    detector, whole = trained.detector, torch.zeros(len(points), dtype=torch.int64)
    (found,) = detector.head.candidates(detector(scaled, whole, 1), most=1 << 30)
    assert found.scores is not None
    result = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
    if found.velocities is not None:
        result["velocities"] = found.velocities
    return {name: value.numpy() for name, value in result.items() if value is not None}
