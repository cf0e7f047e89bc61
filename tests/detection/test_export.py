"""Detectors as ONNX graphs give what torch gives, whatever the cloud."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from datasets.errors import InputError
from detection.__main__ import main
from detection.backbones import BEVNet, SparseEncoder
from detection.detector import Detector
from detection.dsvt import DSVT
from detection.encoders import MeanEncoder, PointNetEncoder
from detection.exporting.command import exported
from detection.exporting.comparison import _difference, by_torch, compare
from detection.heads import CenterHead, Selection
from detection.trained import Trained, save_model

RANGE = (0.0, -6.0, -2.0, 10.0, 6.0, 2.0)
FEATURES = {"power": 10.0}


def detector(variant: str) -> Detector:
    """A network whose numbers are far from those of its start; "odd" has a map whose halves are rounded up."""
    torch.manual_seed(0)
    cell, height, backbone = 0.5, 1, None
    if variant == "odd":
        cell = 2.0  # 6 x 5 cells
    elif variant == "dsvt":
        backbone = DSVT(16, heads=2, feedforward=32, blocks=(3,), set_size=5, window=(6, 6))
    elif variant == "voxels":
        height = 4
        backbone = DSVT(16, height=4, heads=2, feedforward=32, blocks=(1, 2), pooling=((4, 2, 2),), window=(6, 6))
    head = CenterHead(24, 3, 16, velocity=variant == "odd", selection=Selection(score=0.1, quality=(0.3, 0.5, 0.7)))
    neck = BEVNet(16, (1, 1, 1), (1, 2, 2), (16, 16, 16), (8, 8, 8), residual=variant != "voxels")
    encoder = PointNetEncoder(4, (16, 16))
    model = Detector(RANGE, (cell, cell, 4 / height), encoder, head, backbone, neck).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    nn.init.normal_(head.heat[3].weight, 0, 0.15)
    return model


def trained(variant: str) -> Trained:
    return Trained(detector(variant), {}, ("a", "b", "c"), ("x", "y", "z", "time", "power"), FEATURES)


@pytest.mark.parametrize("variant", ["pillars", "odd", "dsvt", "voxels"])
def test_the_graph_gives_what_torch_gives(variant: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = trained(variant)
    report = compare(model, exported(model), counts=(0, 1, 2, 30, 700))
    assert int(report.split("(")[1].split()[0]) > 10, "there should be boxes to compare"


def test_points_that_are_no_use_are_left_out() -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = trained("dsvt")
    session = runtime.InferenceSession(exported(model), providers=["CPUExecutionProvider"])
    points = np.random.default_rng(0).uniform((0, -6, -2, 0), (10, 6, 2, 20), (200, 4)).astype(np.float32)
    expected = session.run(["scores"], {"points": points})[0]
    useless = np.tile(points[:5], (1, 1))
    useless[[0, 1, 2, 3, 4], [0, 1, 2, 3, 0]] = (np.nan, np.inf, -np.inf, np.nan, 10)
    found = session.run(["scores"], {"points": np.concatenate([points, useless])})[0]
    np.testing.assert_array_equal(found, expected)
    assert len(by_torch(model, points)["scores"]) == len(expected)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["channels"]) == ["x", "y", "z", "power"]
    assert json.loads(about["class_names"]) == ["a", "b", "c"]


def test_a_graph_of_another_network_is_noticed() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = trained("pillars")
    content = exported(model)
    with torch.no_grad():
        model.detector.encoder.linears[0].weight[0, 0] += 1
    with pytest.raises(InputError, match=r"over a cloud of 30 points the exported graph does not give what torch"):
        compare(model, content, counts=(30,))


def test_the_command_writes_a_checked_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    class_path = "detection.detector.Detector"
    part = {"class_path": "detection.encoders.PointNetEncoder", "init_args": {"point_channels": 4, "channels": [16]}}
    neck_args = {"in_channels": 16, "layers": [1], "strides": [2], "filters": [16], "upsampled": [16]}
    neck = {"class_path": "detection.backbones.BEVNet", "init_args": neck_args}
    head = {"class_path": "detection.heads.CenterHead", "init_args": {"in_channels": 16, "classes": 1, "channels": 16}}
    config = {
        "class_path": class_path,
        "init_args": {"point_range": RANGE, "voxel_size": [0.5, 0.5, 4], "encoder": part, "neck": neck, "head": head},
    }
    model = Detector(
        RANGE, (0.5, 0.5, 4), PointNetEncoder(4, (16,)), CenterHead(16, 1, 16), None, BEVNet(16, [1], [2], [16], [16])
    )
    nn.init.constant_(model.head.heat[3].bias, -6.0)  # as after a training, nothing is found where nothing is
    path = tmp_path / "detector.safetensors"
    save_model(path, Trained(model, config, ("Car",), ("x", "y", "z", "intensity"), None))
    assert main(["export", str(path), "--onnx", str(tmp_path / "sub" / "car.onnx")]) == 0
    assert "the same as torch over clouds of 0, 1, 2" in capsys.readouterr().out
    assert (tmp_path / "sub" / "car.onnx").stat().st_size > 1000


def test_sparse_convolutions_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SparseEncoder(4, (8, 8, 8), (1, 1, 1), 8)
    model = Detector(RANGE, (0.25, 0.25, 0.5), MeanEncoder(4), CenterHead(8, 1), encoder, BEVNet(8, [1], [1], [8], [8]))
    pytest.importorskip("onnx", reason="onnx is not installed")
    with pytest.raises(InputError, match="MeanEncoder, SparseEncoder, BEVNet, CenterHead cannot be exported"):
        exported(Trained(model, {}, ("Car",), ("x", "y", "z", "i")))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"the package onnx is missing\. Install onnx and onnxruntime"):
        exported(Trained(model, {}, ("Car",), ("x", "y", "z", "i")))


def test_boxes_are_compared_whatever_their_order_and_few_of_very_many_may_be_alone() -> None:
    random = np.random.default_rng(0)

    def boxes(count: int) -> dict[str, np.ndarray]:
        values = random.uniform(-20, 20, (count, 7))
        return {"boxes": values, "scores": random.random(count), "labels": np.arange(count) % 3}

    def some(of: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value[rows] for name, value in of.items()}

    few, many, none = boxes(5), boxes(2500), boxes(0)
    assert _difference(some(few, random.permutation(5)), few) == 0
    assert _difference(none, none) == 0
    moved = {**few, "boxes": few["boxes"] + 0.01}
    assert _difference(moved, few) == pytest.approx(0.01)
    for rows in (np.arange(4), np.array([0, 1, 2, 3, 3])):
        assert _difference(some(few, rows), few) > 0.1
    assert _difference(none, few) == _difference(few, none) == np.inf
    assert _difference(some(many, np.arange(2, 2500)), many) == 0
    assert _difference(some(many, np.arange(3, 2500)), many) == np.inf
