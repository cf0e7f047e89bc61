"""Depth from files, a network and a sensor, and bringing it to the scene's scale."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import InputError, SceneError
from datasets.geometry import unproject
from datasets.scenes import builtin
from datasets.types import Points
from recon3d.priors.alignment import Anchors, align, find_anchors, fit_line
from recon3d.priors.file_depth import FileDepth, read_map
from recon3d.priors.measured_depth import MeasuredDepth
from recon3d.priors.monocular import MonocularNetwork
from recon3d.priors.types import DepthEstimate
from recon3d.views import TrainingViews


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((240, 180), views=3))


def truth(views: TrainingViews, view: int) -> np.ndarray:
    depth = views.views[view].depth
    assert depth is not None
    return depth


def median_error(views: TrainingViews, estimates: list[DepthEstimate]) -> float:
    errors = []
    for i, estimate in enumerate(estimates):
        both = estimate.known & (truth(views, i) > 0)
        errors.append(np.abs(estimate.depth[both] / truth(views, i)[both] - 1))
    return float(np.median(np.concatenate(errors)))


def save_pfm(path: Path, values: np.ndarray, order: str = "<") -> None:
    height, width = values.shape
    header = f"Pf\n{width} {height}\n{-1.0 if order == '<' else 1.0}\n".encode()
    path.write_bytes(header + values[::-1].astype(f"{order}f4").tobytes())


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 50), st.floats(-0.3, 3), st.floats(0, 0.45), st.integers(0, 100))
def test_a_line_through_half_outliers(scale: float, shift: float, outliers: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.uniform(0.4, 3, 200) / scale
    target = scale * values + shift
    wrong = random.random(200) < outliers
    target = np.where(wrong, random.uniform(0.05, 6, 200), np.maximum(target, 0.01))
    line = fit_line(values, target)
    assert line is not None
    np.testing.assert_allclose(line.scale * values + line.shift, scale * values + shift, atol=0.04 * (3 + shift))


def test_points_that_say_nothing_give_no_line() -> None:
    random = np.random.default_rng(0)
    assert fit_line(np.arange(5.0), np.arange(5.0) + 1) is None
    assert fit_line(np.ones(50), np.ones(50)) is None
    assert fit_line(random.uniform(size=300), np.exp(random.uniform(-4, 4, 300))) is None
    assert fit_line(np.arange(50.0), 100 - np.arange(50.0)) is None, "what is nearer must stay nearer"


def test_a_view_without_points_takes_the_line_of_the_others() -> None:
    random = np.random.default_rng(0)
    maps = [random.uniform(1, 3, (20, 30)) for _ in range(2)]
    pixels = np.stack([random.integers(30, size=60), random.integers(20, size=60)], axis=1)
    points = Anchors(pixels, 2 * maps[0][pixels[:, 1], pixels[:, 0]] + 0.5)
    maps[1][3, 4] = np.nan
    first, second = align(maps, [points, Anchors(pixels[:0], np.zeros(0))], "depth")
    np.testing.assert_allclose(first, 2 * maps[0] + 0.5, rtol=1e-4)
    assert second[3, 4] == 0
    np.testing.assert_allclose(second[5:], (2 * maps[1] + 0.5)[5:], rtol=1e-4)
    assert not any(depth.any() for depth in align(maps, [Anchors(pixels[:0], np.zeros(0))] * 2, "depth"))


def test_anchors_are_on_the_surface(still_life: TrainingViews) -> None:
    for i, (pixels, depth) in enumerate(find_anchors(still_life)):
        assert len(depth) > 50
        assert np.median(np.abs(depth / truth(still_life, i)[pixels[:, 1], pixels[:, 0]] - 1)) < 0.01


def without_texture(views: TrainingViews) -> TrainingViews:
    """The views with grey photos, which nothing matches."""
    return replace(views, views=tuple(replace(view, image=np.full_like(view.image, 0.5)) for view in views.views))


def some_points(views: TrainingViews, view: int, count: int, farther: float = 1.0) -> np.ndarray:
    """[N, 3] float32 of the surfaces that a photo shows, or ``farther`` times as far from it."""
    xyz = unproject(torch.from_numpy(farther * truth(views, view)), views.cameras[view]).numpy().reshape(-1, 3)
    known = np.flatnonzero(truth(views, view) > 0)
    return xyz[np.random.default_rng(view).choice(known, count, replace=False)]


def with_points(views: TrainingViews, *xyz: np.ndarray) -> TrainingViews:
    every = np.concatenate(xyz)
    return replace(views, points=Points(every, np.full_like(every, 0.5)))


def test_points_of_the_scene_are_anchors(still_life: TrainingViews, tmp_path: Path) -> None:
    assert still_life.names is not None
    for i, name in enumerate(still_life.names):
        np.save(tmp_path / f"{name}.npy", 700 / np.maximum(truth(still_life, i), 0.1) + 40)
    prior, plain = FileDepth(tmp_path, "inverse_depth", aligned=False), without_texture(still_life)
    assert not any(one.known.any() for one in prior(plain))
    points = with_points(plain, *(some_points(still_life, view, 50) for view in range(3)))
    assert median_error(still_life, prior(points)) < 0.005


def test_points_that_others_hide_are_no_anchors(still_life: TrainingViews) -> None:
    points = some_points(still_life, 0, 1200), some_points(still_life, 0, 400, farther=2.0)
    pixels, depth = find_anchors(with_points(without_texture(still_life), *points))[0]
    right = np.abs(depth / truth(still_life, 0)[pixels[:, 1], pixels[:, 0]] - 1) < 0.01
    assert right.sum() > 1100
    assert (~right).sum() < 40


def test_points_are_anchors_beside_matches(still_life: TrainingViews) -> None:
    small = still_life.reduced(0.5)
    xyz = some_points(small, 0, 50)
    for matched, placed, both in zip(
        find_anchors(small),
        find_anchors(with_points(without_texture(small), xyz)),
        find_anchors(with_points(small, xyz)),
        strict=True,
    ):
        assert min(len(matched.depth), len(placed.depth)) > 10
        np.testing.assert_array_equal(both.pixels, np.concatenate([matched.pixels, placed.pixels]))
        np.testing.assert_array_equal(both.depth, np.concatenate([matched.depth, placed.depth]))


def test_a_sensor_of_another_unit(still_life: TrainingViews) -> None:
    seen = tuple(replace(view, depth=1.15 * truth(still_life, i)) for i, view in enumerate(still_life.views))
    far = replace(still_life, views=seen)
    assert median_error(still_life, MeasuredDepth()(far)) == pytest.approx(0.15, abs=1e-3)
    assert median_error(still_life, MeasuredDepth(aligned=False)(far)) < 0.005


def save_exr(path: Path, channels: dict[str, np.ndarray], header: dict[str, Any] | None = None) -> bytes:
    openexr = pytest.importorskip("OpenEXR")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage} | (header or {})
    openexr.File(header, channels).write(str(path))
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["npy", "png", "pfm", "big-endian pfm", "exr"])
def test_each_kind_of_file(still_life: TrainingViews, tmp_path: Path, kind: str) -> None:
    assert still_life.names is not None
    for i, name in enumerate(still_life.names[:2]):
        depth = truth(still_life, i)
        if kind == "npy":
            np.save(tmp_path / f"{name}.npy", np.where(depth > 2.7, np.nan, depth))
        elif kind == "png":
            cv2.imwrite(str(tmp_path / f"{name}.png"), np.rint(depth * 1000).astype(np.uint16))
        elif kind == "exr":
            save_exr(tmp_path / f"{name}.exr", {"Z": depth.astype(np.float16 if i else np.float32)})
        else:
            save_pfm(tmp_path / f"{name}.pfm", depth, ">" if kind.startswith("big") else "<")
    estimates = FileDepth(tmp_path, unit=0.001 if kind == "png" else 1.0)(still_life)
    assert median_error(still_life, estimates) < 1e-3
    assert not estimates[2].known.any(), "it has no file"
    assert (estimates[0].confidence == estimates[0].known).all()
    if kind == "npy":
        assert not estimates[0].known[truth(still_life, 0) > 2.7].any()


def test_files_of_unknown_scale_and_size(still_life: TrainingViews, tmp_path: Path) -> None:
    assert still_life.names is not None
    for i, name in enumerate(still_life.names):
        inverse = 1 / np.maximum(truth(still_life, i), 0.1)
        np.save(tmp_path / f"{name}.npy", cv2.resize((700 * inverse + 40).astype(np.float32), (120, 90)))
    assert median_error(still_life, FileDepth(tmp_path, "inverse_depth", aligned=False)(still_life)) < 0.01
    as_they_are = FileDepth(tmp_path, "inverse_depth", unit=1 / 700)(still_life)[0].depth
    expected = 1 / (1 / np.maximum(truth(still_life, 0), 0.1) + 40 / 700)
    assert np.median(np.abs(as_they_are / expected - 1)) < 0.01


def test_files_that_cannot_be_used(still_life: TrainingViews, tmp_path: Path) -> None:
    assert still_life.names is not None
    with pytest.raises(InputError, match="no depth for any train photo"):
        FileDepth(tmp_path)(still_life)
    with pytest.raises(InputError, match="names"):
        FileDepth(tmp_path)(replace(still_life, names=None))
    with pytest.raises(InputError, match="several are '0001'"):
        FileDepth(tmp_path)(replace(still_life, names=("0001", "0002", "0001")))
    with pytest.raises(ValueError, match="unit"):
        FileDepth(tmp_path, unit=-1)
    good = tmp_path / "good.pfm"
    save_pfm(good, np.ones((4, 5)))
    whole = good.read_bytes()
    hostile = {
        "a.npy": b"\x93NUMPY\x01\x00",
        "b.png": b"\x89PNG\r\n",
        "c.pfm": whole[:-1],
        "d.pfm": b"PF\n5 4\n-1\n" + whole[10:],
        "e.pfm": b"Pf\n-5 4\n-1.0\n",
        "f.pfm": b"Pf\n99999999 99999999\n-1.0\n",
        "g.pfm": b"",
        "h.pfm": b"Pf\nfive 4\n-1\n",
        "i.pfm": b"Pf\n5 4\n0\n" + whole[-80:],
    }
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SceneError, match=name):
            read_map(tmp_path / name)
    cv2.imwrite(str(tmp_path / "eight.png"), np.ones((4, 5), np.uint8))
    np.save(tmp_path / "three.npy", np.ones((4, 5, 3)))
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    for name in ("eight.png", "three.npy", "none.npy", "words.npy"):
        with pytest.raises(SceneError, match=name):
            read_map(tmp_path / name)
    np.save(tmp_path / f"{still_life.names[0]}.npy", np.full((180, 240), -np.inf))
    with pytest.raises(InputError, match="no depth for any train photo"):
        FileDepth(tmp_path)(still_life)


def test_channels_of_exr_files(tmp_path: Path) -> None:
    path = tmp_path / "depth.exr"
    random = np.random.default_rng(0)
    depth, other = random.uniform(1, 2, (2, 6, 7)).astype(np.float32)
    depth[2, 3], depth[1, 1], depth[0, 0] = np.nan, np.inf, 1e10
    unknown = ~(depth < 3)
    channels: list[dict[str, np.ndarray]] = [
        {"Y": depth},
        {"layer.Z": depth, "A": other, "B": other},
        {"R": depth, "G": depth, "B": depth},
        {"R": depth, "G": depth, "B": depth, "A": other},
    ]
    for chosen in channels:
        save_exr(path, chosen)
        np.testing.assert_array_equal(read_map(path), np.where(unknown, np.nan, depth))
    two_depths = {"left.Z": depth, "right.Z": depth}
    for ambiguous in ({"R": depth, "G": depth, "B": other}, {"U": depth, "V": depth}, two_depths):
        save_exr(path, ambiguous)
        with pytest.raises(SceneError, match="has the channels"):
            read_map(path)
    save_exr(path, {"Z": depth}, {"displayWindow": (np.zeros(2, np.int32), np.array([20, 20], np.int32))})
    with pytest.raises(SceneError, match="display window"):
        read_map(path)


def test_exr_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "depth.exr"
    whole = save_exr(path, {"Z": np.random.default_rng(0).random((30, 40)).astype(np.float32)})
    window = whole.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4

    def sized(*corners: int) -> bytes:
        return whole[:window] + struct.pack("<4i", *corners) + whole[window + 16 :]

    hostile = [whole[:length] for length in (0, 3, 10, 100, len(whole) // 2, len(whole) - 1)]
    hostile += [sized(0, 0, 2**31 - 2, 2**31 - 2), sized(0, 0, 199_999, 199_999), sized(0, 0, -5, 3)]
    hostile += [b"not an image at all" * 30, whole[:400] + bytes(len(whole) - 400)]
    for data in hostile:
        path.write_bytes(data)
        with pytest.raises(SceneError, match=r"depth\.exr"):
            read_map(path)
    with pytest.raises(SceneError, match="no such file"):
        read_map(tmp_path / "missing.exr")


def test_exr_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(InputError, match=r"sparse-vision-3d\[exr\]"):
        read_map(tmp_path / "depth.exr")


def red_network(path: Path, channels: int = 3, rank: int = 4, size: tuple[int | str, int | str] = ("h", "w")) -> Path:
    """A network whose result is the mean of its input's channels after a 1x1 convolution that takes the first."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.zeros((1, channels, 1, 1), np.float32)
    weight[0, 0] = 0.229
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight", "bias"], ["depth"])],
        "red",
        [helper.make_tensor_value_info("image", kind, [1, channels, *size][:rank])],
        [helper.make_tensor_value_info("depth", kind, [1, 1, *size])],
        [
            onnx.numpy_helper.from_array(weight, "weight"),
            onnx.numpy_helper.from_array(np.array([0.485], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def with_depth_in_red(views: TrainingViews) -> tuple[TrainingViews, list[np.ndarray]]:
    """Photos whose red channel says the inverse depth, up to scale and shift; alignment gets the real ones' matches."""
    seen, reds = [], []
    for i, view in enumerate(views.views):
        red = 0.1 + 0.8 * (1 / np.maximum(truth(views, i), 0.8)) / 1.25
        reds.append(red)
        seen.append(replace(view, image=np.stack([red, *np.moveaxis(view.image, -1, 0)[1:]], axis=-1)))
    return replace(views, views=tuple(seen)), reds


@pytest.mark.parametrize("size", [("h", "w"), (182, 238)])
def test_a_network(still_life: TrainingViews, tmp_path: Path, size: tuple[int | str, int | str]) -> None:
    pytest.importorskip("onnxruntime")
    views, _ = with_depth_in_red(still_life)
    estimates = MonocularNetwork(red_network(tmp_path / "red.onnx", size=size), side=180)(views)
    assert median_error(views, estimates) < 0.02
    assert np.mean([e.known.mean() for e in estimates]) > 0.9
    assert all((e.confidence[e.known] < 0.5).all() for e in estimates), "one photo alone proves nothing"


def test_the_networks_input_is_what_depth_anything_expects(tmp_path: Path) -> None:
    network = MonocularNetwork(tmp_path / "none.onnx")
    assert network._size(378, 504) == (518, 686)
    assert network._size(1920, 1080) == (924, 518)
    assert all(side % 14 == 0 and side >= 518 for side in network._size(1000, 999))


def test_networks_that_cannot_be_used(still_life: TrainingViews, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="no such file"):
        MonocularNetwork(tmp_path / "missing.onnx")(still_life)
    (tmp_path / "junk.onnx").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"junk\.onnx"):
        MonocularNetwork(tmp_path / "junk.onnx")(still_life)
    with pytest.raises(InputError, match="expected \\[1, 3"):
        MonocularNetwork(red_network(tmp_path / "four.onnx", channels=4))(still_life)
    with pytest.raises(ValueError, match="side"):
        MonocularNetwork(tmp_path / "x.onnx", side=0)
