"""Detectors as ONNX graphs give what torch gives, whatever the cloud."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from datasets.errors import InputError
from detection.__main__ import main
from detection.backbones import BEVNet, InTurn, SparseEncoder, SparsePyramid
from detection.backbones.second import SparseStep
from detection.detector import Detector
from detection.dsvt import DSVT
from detection.encoders import MeanEncoder, PointNetEncoder
from detection.exporting.command import exported
from detection.exporting.comparison import _difference, by_torch, compare
from detection.heads import CenterHead, Selection, SparseHead
from detection.sparse import SparseConv3d, SparseTensor, SubMConv3d, VoxelGrid, voxelise
from detection.trained import Trained, save_model

RANGE = (0.0, -6.0, -2.0, 10.0, 6.0, 2.0)
FEATURES = {"power": 10.0}


def detector(variant: str) -> Detector:
    """A network whose numbers are far from those of its start; "odd" has a map whose halves are rounded up."""
    torch.manual_seed(0)
    selection = Selection(score=0.1, quality=(0.3, 0.5, 0.7))
    size, encoder, backbone, channels = (0.5, 0.5, 4.0), PointNetEncoder(4, (16, 16)), None, 16
    if variant == "odd":
        size = (2.0, 2.0, 4.0)  # 6 x 5 cells
    elif variant == "dsvt":
        backbone = DSVT(16, heads=2, feedforward=32, blocks=(3,), set_size=5, window=(6, 6))
    elif variant == "voxels":
        size = (0.5, 0.5, 1.0)
        backbone = DSVT(16, height=4, heads=2, feedforward=32, blocks=(1, 2), pooling=((4, 2, 2),), window=(6, 6))
    elif variant == "second":
        size, encoder = (0.25, 0.25, 0.1), MeanEncoder(4)
        backbone = SparseEncoder(4, (8, 8, 8, 8), (1, 1, 1, 1), 16)
    elif variant == "residual":
        size, backbone = (0.5, 0.5, 0.5), SparseEncoder(16, (8, 16), (1, 1), 16, residual=True)
    elif variant == "in turn":
        size, encoder, channels = (0.25, 0.25, 0.25), MeanEncoder(4), 48
        transformer = DSVT(16, height=3, heads=2, feedforward=32, blocks=(1,), set_size=5, window=(6, 6))
        backbone = InTurn([SparseEncoder(4, (8, 8), (1, 1), 16), transformer])
    head: CenterHead | SparseHead = CenterHead(24, 3, 16, velocity=variant == "odd", selection=selection)
    neck = BEVNet(channels, (1, 1, 1), (1, 2, 2), (16, 16, 16), (8, 8, 8), residual=variant != "voxels")
    if variant == "pyramid":
        size, encoder, neck = (0.25, 0.25, 0.25), MeanEncoder(4), None
        backbone = SparsePyramid(4, (8, 16, 16), (1, 0, 1), merged=1)
        head = SparseHead(16, 3, 16, velocity=True, selection=selection)
    model = with_random_norms(Detector(RANGE, size, encoder, head, backbone, neck))
    nn.init.normal_(head.heat.weight if isinstance(head, SparseHead) else head.heat[3].weight, 0, 0.15)
    return model


def with_random_norms(model: nn.Module) -> nn.Module:
    """The same, evaluated, with statistics as after a training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def trained(variant: str) -> Trained:
    return Trained(detector(variant), {}, ("a", "b", "c"), ("x", "y", "z", "time", "power"), FEATURES)


@pytest.mark.parametrize("variant", ["pillars", "odd", "dsvt", "voxels", "second", "residual", "in turn", "pyramid"])
def test_the_graph_gives_what_torch_gives(variant: str) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = trained(variant)
    report = compare(model, exported(model), counts=(0, 1, 2, 30, 700))
    assert int(report.split("(")[1].split()[0]) > 10, "there should be boxes to compare"


@pytest.mark.parametrize(
    "convolution",
    [
        partial(SubMConv3d, kernel_size=3, bias=True),
        partial(SubMConv3d, kernel_size=(1, 3, 5)),
        partial(SubMConv3d, kernel_size=1),
        partial(SparseConv3d, kernel_size=3, stride=2, padding=1, bias=True),
        partial(SparseConv3d, kernel_size=2, stride=2),
        partial(SparseConv3d, kernel_size=(3, 1, 1), stride=(2, 1, 1)),
        partial(SparseConv3d, kernel_size=3, stride=(1, 3, 2), padding=(0, 2, 1)),
    ],
    ids=lambda each: f"{each.func.__name__} {each.keywords}",
)
def test_a_sparse_convolution_has_the_voxels_and_features_of_torch(convolution: partial) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from onnx import TensorProto

    from detection.exporting.graph import Graph
    from detection.exporting.sparse_convolutions import step
    from detection.exporting.voxels import voxelised

    torch.manual_seed(0)
    grid, encoder = VoxelGrid((0, 0, 0, 7, 6, 5), (1, 1, 1)), MeanEncoder(3)
    layer, graph = with_random_norms(SparseStep(convolution(3, 5))), Graph()
    found = step(graph, voxelised(graph, "points", grid, encoder), layer)
    zyx = {name: (value, TensorProto.INT64, ["N"]) for name, value in zip("zyx", found.zyx, strict=True)}
    outputs = {"features": (found.features, TensorProto.FLOAT, ["N", 5]), **zyx}
    session = runtime.InferenceSession(graph.model({"points": ["P", 3]}, outputs).SerializeToString())
    for count in (0, 1, 9, 70, 1000):
        points = torch.rand(count, 3) * torch.tensor([7.0, 6.0, 5.0])
        with torch.no_grad():
            expected: SparseTensor = layer(encoder(voxelise(points, torch.zeros(count, dtype=torch.int64), 1, grid)))
        features, *places = session.run(None, {"points": points.numpy()})
        np.testing.assert_array_equal(np.stack(places, axis=1), expected.indices[:, 1:])
        np.testing.assert_allclose(features, expected.features, rtol=1e-5, atol=1e-6)
        assert found.shape == expected.spatial_shape


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


def test_the_file_says_what_each_column_is() -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    channels, features = ("x", "y", "z", "power", "doppler"), {"power": 10.0, "doppler_over_ground": 5.0}
    model = Detector(RANGE, (0.5, 0.5, 4), MeanEncoder(5), CenterHead(8, 1), None, BEVNet(5, [1], [1], [8], [8]))
    content = exported(Trained(model.eval(), {}, ("Car",), channels, features))
    about = {each.key: json.loads(each.value) for each in onnx.load_from_string(content).metadata_props}
    columns = about["points"]
    assert [each["channel"] for each in columns] == about["channels"] == ["x", "y", "z", "power", "doppler_over_ground"]
    assert [each["divided_in_the_graph_by"] for each in columns] == [1, 1, 1, 10, 5]
    assert columns[0]["meaning"] == "metres, forward"
    assert "doppler + (x * vx + y * vy) / sqrt(x^2 + y^2 + z^2)" in columns[4]["meaning"]


def test_other_networks_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    model = detector("second")
    assert isinstance(model.backbone, SparseEncoder)
    model.backbone = InTurn([model.backbone, nn.Dropout()])
    other = Trained(model, {}, ("Car",), ("x", "y", "z", "i"))
    with pytest.raises(InputError, match="a detector with Dropout cannot be exported"):
        exported(other)
    model.backbone, model.neck = model.backbone[0], nn.Identity()
    with pytest.raises(InputError, match="a detector with Identity before CenterHead cannot be exported"):
        exported(other)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"the package onnx is missing\. Install onnx and onnxruntime"):
        exported(other)


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
