"""The benchmark of a detector on simulated sweeps: what counts, and the whole script on a small network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from datasets.pointclouds.boxes import points_in_boxes
from datasets.pointclouds.simulator import SimulatedStreets
from detection.detector import Detector
from detection.run import CONFIG
from detection.trained import MODEL, Trained, build, save_model

RANGE = (0.0, -12.8, -3.0, 25.6, 12.8, 1.0)
DETECTOR = {
    "class_path": "detection.detector.Detector",
    "init_args": {
        "point_range": list(RANGE),
        "voxel_size": [0.8, 0.8, 4],
        "encoder": {
            "class_path": "detection.encoders.PointNetEncoder",
            "init_args": {"point_channels": 3, "channels": [8]},
        },
        "neck": {
            "class_path": "detection.backbones.BEVNet",
            "init_args": {"in_channels": 8, "layers": [1], "strides": [1], "filters": [8], "upsampled": [8]},
        },
        "head": {
            "class_path": "detection.heads.CenterHead",
            "init_args": {"in_channels": 8, "classes": 2, "channels": 8},
        },
    },
}
PROTOCOL = {
    "class_path": "detection.protocols.KittiProtocol",
    "init_args": {"difficulties": "kitti", "overlaps": [{"Car": 0.5, "Pedestrian": 0.25}]},
}


@pytest.fixture(scope="module")
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("simulated_streets")


def test_only_what_is_ahead_and_in_range_counts(script: ModuleType) -> None:
    streets = SimulatedStreets(3, ["Car", "Pedestrian"], beams="vlp16", seed=5)
    limited = script.Within(streets, 60.0, RANGE)
    assert len(limited) == 3
    kept = 0
    for i in range(3):
        whole, part = streets[i].boxes, limited[i]
        assert (torch.atan2(part.points[:, 1], part.points[:, 0]).abs() <= torch.pi / 6 + 1e-6).all()
        ahead = points_in_boxes(part.points, whole.boxes).sum(dim=1) >= 5
        x, y = whole.boxes[:, 0], whole.boxes[:, 1]
        wanted = ahead & (x >= 0) & (x < 25.6) & (y >= -12.8) & (y < 12.8)
        assert torch.equal(part.boxes.boxes, whole.boxes[wanted])
        kept += len(part.boxes)
    assert 0 < kept < sum(len(streets[i].boxes) for i in range(3))


def test_the_script_scores_a_run_by_its_protocol_without_kitti_s_difficulties(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    detector = build(Detector, DETECTOR, "toy")
    channels = ("x", "y", "z", "intensity")
    save_model(tmp_path / MODEL, Trained(detector, DETECTOR, ("Car", "Pedestrian"), channels, {}))
    (tmp_path / CONFIG).write_text(yaml.safe_dump({"data": {"protocol": PROTOCOL}}))
    out = tmp_path / "scores.json"
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path), "--count=2", "--beams=vlp16", f"--json={out}", "--angle=120"])
    script.main()
    assert "| Car bev | 0.5 |" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["count"] == 2
    assert {"Car bev 0.5 all", "Pedestrian 3d 0.25 all"} <= set(found["values"])
