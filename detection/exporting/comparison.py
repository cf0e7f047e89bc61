"""Whether an exported graph gives what torch gives, by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree

from datasets.errors import InputError
from detection.channels import divisors
from detection.trained import Trained

TOLERANCE = 5e-3  # metres, radians and scores
COUNTS = (0, 1, 2, 17, 600, 5000)
MEND = "Install onnx and onnxruntime: `pip install onnx onnxruntime`"


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
