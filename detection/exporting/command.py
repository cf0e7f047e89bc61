"""The command ``detect3d export``: a trained detector as one ONNX file, checked against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from datasets.errors import InputError
from datasets.files import replacing
from detection.channels import GROUND, divisors
from detection.exporting.comparison import MEND, compare
from detection.trained import Trained, load_model

MEANINGS = {
    "x": "metres, forward",
    "y": "metres, to the left",
    "z": "metres, upwards",
    "doppler": "range rate in m/s as measured, positive away from the sensor",
    GROUND: "range rate in m/s without the sensor's own motion, positive away from the sensor and 0 for what stands "
    "still: doppler + (x * vx + y * vy) / sqrt(x^2 + y^2 + z^2), where (vx, vy) is the sensor's velocity, which "
    "datasets.pointclouds.ego_motion.ego_velocity finds in x, y, z and doppler of the whole cloud",
}
AS_READ = "as the reader of the training data gives it"


def export(model: Path, *, onnx: Path, check: bool = True) -> None:
    """Write a trained detector as an ONNX graph, from the points of a cloud to boxes before suppression.

    Input: ``points`` [N, C] float32 for any N, 0 included. The file's metadata ``points`` say what each column is and
    by what the graph itself divides it; doppler_over_ground, made of a whole cloud, is the caller's to give. Points out
    of range or not finite are left out. Outputs: ``boxes`` [M, 7] (centre x, y, z, length, width, height, yaw),
    ``scores`` [M] and ``labels`` [M], and ``velocities`` [M, 2] where the network predicts them. Boxes of a class may
    overlap: suppress those that overlap more than the metadata say (rotated NMS).

    Works for all encoders, backbones and heads of this package, with no operator but ONNX's own. Sparse convolutions
    look voxels up in a table of all cells, which takes 4 bytes a cell.

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
    from detection.exporting.graph import Graph
    from detection.exporting.network import boxes

    head = trained.detector.head
    graph = Graph()
    scale = divisors(trained.channels, trained.features)
    points = graph.op("Div", "points", torch.tensor(list(scale.values())))
    with torch.no_grad():
        found = boxes(graph, points, trained.detector)
    shapes: dict[str, list[Any]] = {"boxes": ["M", 7], "scores": ["M"], "labels": ["M"], "velocities": ["M", 2]}
    kinds = {name: TensorProto.INT64 if name == "labels" else TensorProto.FLOAT for name in found}
    model = graph.model(
        {"points": ["N", len(scale)]}, {name: (value, kinds[name], shapes[name]) for name, value in found.items()}
    )
    about = {
        "channels": list(scale),
        "points": [
            {"channel": name, "meaning": MEANINGS.get(name, AS_READ), "divided_in_the_graph_by": divisor}
            for name, divisor in scale.items()
        ],
        "class_names": list(trained.class_names),
        "overlap": head.by_class("overlap"),
        "candidates": head.selection.candidates,
    }
    for key, what in about.items():
        model.metadata_props.add(key=key, value=json.dumps(what))
    content: bytes = model.SerializeToString()
    return content
