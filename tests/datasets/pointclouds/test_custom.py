"""Clouds of every format, folders of one's own, and what is wrong with damaged ones."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import cv2
import numpy as np
import open3d as o3d
import pytest
import torch

from datasets.errors import SceneError
from datasets.geometry import project
from datasets.pointclouds.custom import CustomDataset, read_boxes
from datasets.pointclouds.formats import read_cloud, read_coordinates
from datasets.pointclouds.types import PointCloudBatch

CHANNELS = ("x", "y", "z", "intensity")
POINTS = np.random.default_rng(0).uniform(0, 1, (50, 4)).astype(np.float32) * (40, 30, 3, 1)
POINTS = POINTS.astype(np.float32)
BOX = {"class": "Car", "centre": [10, -2, 0.5], "size": [4, 1.8, 1.5], "yaw": 4.0}


def write(path: Path, points: np.ndarray = POINTS, style: str = "") -> Path:
    """``points`` [N, 4] in the format of the suffix."""
    if path.suffix == ".bin":
        path.write_bytes(points.astype("<f4").tobytes())
    elif path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".las":
        path.write_bytes(las(points))
    else:
        cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor.from_numpy(np.ascontiguousarray(points[:, :3])))
        cloud.point["intensity"] = o3d.core.Tensor.from_numpy(np.ascontiguousarray(points[:, 3:]))
        options = {"ascii": {"write_ascii": True}, "compressed": {"compressed": True}}.get(style, {})
        assert o3d.t.io.write_point_cloud(str(path), cloud, **options)
    return path


def las(points: np.ndarray, version: int = 2, offset: float = 0.0, kind: int = 0) -> bytes:
    size = 375 if version == 4 else 227
    head = bytearray(size)
    head[:4], head[24], head[25] = b"LASF", 1, version
    struct.pack_into("<HI", head, 94, size, size)
    struct.pack_into("<BHI", head, 104, kind, 20, 0 if version == 4 else len(points))
    struct.pack_into("<6d", head, 131, 1e-4, 1e-4, 1e-4, offset, 0, 0)
    if version == 4:
        struct.pack_into("<Q", head, 247, len(points))
    rows = b"".join(
        struct.pack("<3iH6x", *(round(value * 1e4) for value in row[:3]), round(row[3] * 65535))
        for row in points.tolist()
    )
    return bytes(head) + rows


FORMATS = [
    (".bin", ""),
    (".npy", ""),
    (".las", ""),
    *((suffix, style) for suffix in (".ply", ".pcd") for style in ("", "ascii", "compressed")),
]


@pytest.mark.parametrize(("suffix", "style"), FORMATS)
def test_every_format_gives_the_same_points_and_truncation_is_noticed(tmp_path, suffix, style) -> None:
    path = write(tmp_path / f"cloud{suffix}", style=style)
    np.testing.assert_allclose(read_cloud(path, CHANNELS), POINTS, atol=1e-3 if style == "ascii" else 1e-4)
    data = path.read_bytes()
    path.write_bytes(data[:-41])
    with pytest.raises(SceneError, match=r"cut off|whole number|holds .* where"):
        read_cloud(path, CHANNELS)
    path.write_bytes(data[:30])
    with pytest.raises(SceneError):
        read_cloud(path, CHANNELS)
    path.write_bytes(b"")
    with pytest.raises(SceneError):
        read_cloud(path, CHANNELS)


def test_big_endian_ply_with_other_properties(tmp_path) -> None:
    head = "ply\nformat binary_big_endian 1.0\ncomment hello\nelement vertex 2\nproperty double x\nproperty double y\n"
    head += "property double z\nproperty uchar ring\nproperty ushort intensity\nelement face 1\n"
    head += "property list uchar int vertex_index\nend_header\n"
    body = struct.pack(">dddBHdddBH", 1, 2, 3, 7, 500, 4, 5, 6, 8, 600) + b"\0"
    (tmp_path / "a.ply").write_bytes(head.encode() + body)
    found = read_cloud(tmp_path / "a.ply", ("x", "y", "z", "intensity", "ring"))
    assert found.tolist() == [[1, 2, 3, 500, 7], [4, 5, 6, 600, 8]]


@pytest.mark.parametrize(("suffix", "style"), FORMATS)
def test_clouds_longer_than_what_is_read_of_them_at_opening(tmp_path, suffix, style) -> None:
    (tmp_path / "clouds").mkdir()
    many = np.random.default_rng(0).uniform(0, 1, (9000, 4)).astype(np.float32)
    path = write(tmp_path / "clouds" / f"a{suffix}", many, style)
    assert path.stat().st_size > 1 << 16
    options = {"class_names": ["Car"], "channels": CHANNELS, "labelled": False}
    assert len(CustomDataset(tmp_path, **options)[0].points) == 9000
    if style == "ascii":
        path.write_bytes(path.read_bytes()[: 1 << 15])
    else:
        path.write_bytes(path.read_bytes()[:-41])
    with pytest.raises(SceneError, match=r"cut off|whole number|holds .* where"):
        CustomDataset(tmp_path, **options)


def test_headers_with_letters_and_digits_of_other_alphabets(tmp_path) -> None:
    head = "ply\nformat ascii 1.0\ncomment made by Åsa, х\nelement vertex 1\nproperty float x\nend_header\n3\n"
    (tmp_path / "a.ply").write_text(head, encoding="utf-8")
    assert read_cloud(tmp_path / "a.ply", ("x",)).tolist() == [[3]]
    head = "# Åsa, х\nVERSION 0.7\nFIELDS x\nSIZE 4\nTYPE F\nCOUNT {}\nPOINTS 1\nDATA ascii\n3\n"
    (tmp_path / "a.pcd").write_text(head.format("1"), encoding="utf-8")
    assert read_cloud(tmp_path / "a.pcd", ("x",)).tolist() == [[3]]
    for count in ("²", "9" * 5000):
        (tmp_path / "a.pcd").write_text(head.format(count), encoding="latin-1", errors="replace")
        with pytest.raises(SceneError, match="count"):
            read_cloud(tmp_path / "a.pcd", ("x",))


@pytest.mark.parametrize("kind", ["ascii", "binary"])
def test_pcd_with_small_letters_several_numbers_and_none(tmp_path, kind) -> None:
    head = "VERSION 0.7\nFIELDS x y z normal empty intensity\nSIZE 4 4 4 4 4 4\nTYPE f F F F F U\nCOUNT 1 1 1 3 0 1\n"
    head += f"POINTS 2\nDATA {kind}\n"
    rows = struct.pack("<6fI6fI", 1, 2, 3, 7, 8, 9, 500, 4, 5, 6, 10, 11, 12, 600)
    text = b"1 2 3 7 8 9 500\n4 5 6 10 11 12 600\n"
    (tmp_path / "a.pcd").write_bytes(head.encode() + (text if kind == "ascii" else rows))
    found = read_cloud(tmp_path / "a.pcd", ("x", "y", "z", "normal", "intensity"))
    assert found.tolist() == [[1, 2, 3, 7, 500], [4, 5, 6, 10, 600]]


def test_ascii_ply_whose_rows_wrap(tmp_path) -> None:
    head = "ply\nformat ascii 1.0\nelement vertex 2\n" + "".join(f"property float {a}\n" for a in "xyz")
    (tmp_path / "a.ply").write_text(head + "end_header\n1 2\n3 4\n5 6\n")
    assert read_cloud(tmp_path / "a.ply", ("x", "y", "z")).tolist() == [[1, 2, 3], [4, 5, 6]]
    (tmp_path / "a.ply").write_text(head + "end_header\n1 2\n3 4\nfive 6\n")
    with pytest.raises(SceneError, match="cannot be read as numbers"):
        read_cloud(tmp_path / "a.ply", ("x", "y", "z"))


def test_a_compressed_pcd_without_points(tmp_path) -> None:
    head = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 0\nDATA binary_compressed\n"
    (tmp_path / "a.pcd").write_bytes(head.encode() + bytes(8))
    with pytest.raises(SceneError, match="none of its 0 points is finite"):
        read_coordinates(tmp_path / "a.pcd")


def test_las_of_a_later_point_format(tmp_path) -> None:
    path = tmp_path / "a.las"
    path.write_bytes(las(POINTS, kind=11))
    np.testing.assert_allclose(read_cloud(path, CHANNELS), POINTS, atol=1e-4)
    with pytest.raises(SceneError, match="has no channel 'class'"):
        read_cloud(path, (*CHANNELS, "class"))


def test_las_1_4_and_offsets(tmp_path) -> None:
    path = tmp_path / "a.las"
    path.write_bytes(las(POINTS, version=4, offset=100))
    np.testing.assert_allclose(read_cloud(path, CHANNELS), POINTS + np.array([100, 0, 0, 0]), atol=1e-4)
    path.write_bytes(las(POINTS, offset=4.5e6))
    with pytest.raises(SceneError, match=r"coordinates of 45000\d\d m"):
        read_cloud(path, CHANNELS)
    whole = las(POINTS)
    path.write_bytes(whole[:96] + struct.pack("<I", 100) + whole[100:])
    with pytest.raises(SceneError, match="in its header of 227 bytes"):
        read_cloud(path, CHANNELS)
    path.write_bytes(las(POINTS, kind=0x80))
    with pytest.raises(SceneError, match="save LAZ as LAS"):
        read_cloud(path, CHANNELS)


def test_foreign_and_incomplete_clouds(tmp_path) -> None:
    with pytest.raises(SceneError, match=r"has no channel 'ring', only x, y, z, intensity"):
        read_cloud(write(tmp_path / "a.ply"), (*CHANNELS, "ring"))
    with pytest.raises(SceneError, match=r"shape \(50, 4\). It must be \[N, 5\]"):
        read_cloud(write(tmp_path / "a.npy"), (*CHANNELS, "ring"))
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(SceneError, match="no cloud of a known format"):
        read_cloud(tmp_path / "a.txt", CHANNELS)
    for text in (
        "ply\nformat text 1\nelement vertex 1\nend_header\n",
        "ply\nformat ascii 1.0\nelement face 1\nproperty float x\nend_header\n1\n",
        "ply\nformat ascii 1.0\nend_header\n1\n",
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\nabc\n",
    ):
        (tmp_path / "a.ply").write_text(text)
        with pytest.raises(SceneError, match=r"a\.ply"):
            read_cloud(tmp_path / "a.ply", ("x",))
    for text in ("FIELDS x\nPOINTS 1\nDATA text\n1\n", "FIELDS x\nSIZE 4\nPOINTS 1\nDATA ascii\n1\n"):
        (tmp_path / "a.pcd").write_text("VERSION 0.7\n" + text)
        with pytest.raises(SceneError, match=r"a\.pcd"):
            read_cloud(tmp_path / "a.pcd", ("x",))


@pytest.fixture
def folder(tmp_path) -> Path:
    for part in ("clouds", "labels", "splits"):
        (tmp_path / part).mkdir()
    for name, suffix in (("a", ".bin"), ("b", ".ply"), ("c", ".pcd")):
        write(tmp_path / "clouds" / f"{name}{suffix}")
        (tmp_path / "labels" / f"{name}.json").write_text(json.dumps({"boxes": [BOX]}))
    (tmp_path / "splits" / "val.txt").write_text("c\na\n")
    return tmp_path


def test_a_folder_of_ones_own(folder) -> None:
    data = CustomDataset(folder, ["Car", "Cyclist"])
    assert [frame.name for frame in data.frames] == ["a", "b", "c"]
    sample = data[1]
    np.testing.assert_allclose(sample.points.numpy(), POINTS, atol=1e-5)
    torch.testing.assert_close(sample.boxes.boxes, torch.tensor([[10, -2, 0.5, 4, 1.8, 1.5, 4.0 - 2 * math.pi]]))
    assert sample.boxes.velocities is None
    assert [frame.name for frame in CustomDataset(folder, ["Car"], split="val").frames] == ["c", "a"]
    with pytest.raises(SceneError, match="Choose one of val"):
        CustomDataset(folder, ["Car"], split="test")


def test_velocities_and_other_classes(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"boxes": [BOX, {**BOX, "velocity": [1, 2]}, {**BOX, "class": "Tree"}]}))
    boxes = read_boxes(path, ["Van", "Car"], ["Tree"])
    assert boxes.labels.tolist() == [1, 1]
    assert boxes.velocities[1].tolist() == [1, 2]
    assert boxes.velocities[0].isnan().all()
    path.write_text(json.dumps({"boxes": []}))
    assert len(read_boxes(path, ["Car"])) == 0


DAMAGE = {
    "class": ({**BOX, "class": "Lorry"}, "box 1 has the unknown class 'Lorry'"),
    "negative": ({**BOX, "size": [4, -1, 2]}, r"box 1 has size \[4.0, -1.0, 2.0\]"),
    "short": ({**BOX, "centre": [1, 2]}, r"box 1 has centre \[1, 2\]"),
    "nan": ({**BOX, "centre": [1, 2, math.nan]}, "box 1 has centre"),
    "text": ({**BOX, "yaw": "left"}, r"box 1 has yaw \['left'\]"),
    "no yaw": ({"class": "Car", "centre": [1, 2, 3], "size": [1, 1, 1]}, "box 1 has yaw"),
    "no object": ([1, 2, 3], r"box 1 is \[1, 2, 3\]"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_labels_are_one_clear_error_or_skipped_and_counted(folder, kind) -> None:
    record, message = DAMAGE[kind]
    (folder / "labels" / "b.json").write_text(json.dumps({"boxes": [record]}))
    with pytest.raises(SceneError, match=message):
        CustomDataset(folder, ["Car"])
    with pytest.warns(UserWarning, match="1 of 3 frames are left out"):
        data = CustomDataset(folder, ["Car"], on_bad_frame="skip")
    assert len(data) == 2
    assert "b.json" in str(data.skipped[0])


SPOILT_CLOUDS = {
    **{f"truncated{suffix}": (suffix, "", slice(-41)) for suffix in (".bin", ".npy", ".las", ".ply", ".pcd")},
    "truncated compressed": (".pcd", "compressed", slice(-41)),
    **{f"header of {suffix}": (suffix, "ascii", slice(90)) for suffix in (".npy", ".las", ".ply", ".pcd")},
    **{f"nothing{suffix}": (suffix, "", slice(0)) for suffix in (".bin", ".npy", ".las", ".ply", ".pcd")},
}


@pytest.mark.parametrize("kind", SPOILT_CLOUDS)
def test_spoilt_clouds_are_found_at_opening(folder, kind) -> None:
    suffix, style, kept = SPOILT_CLOUDS[kind]
    (folder / "clouds" / "b.ply").unlink()
    path = write(folder / "clouds" / f"b{suffix}", style=style)
    path.write_bytes(path.read_bytes()[kept])
    with pytest.raises(SceneError, match=rf"b\{suffix}"):
        CustomDataset(folder, ["Car"])
    with pytest.warns(UserWarning, match="1 of 3 frames are left out"):
        data = CustomDataset(folder, ["Car"], on_bad_frame="skip")
    assert [len(data[i]) for i in range(2)] == [50, 50]


def test_clouds_that_lack_a_channel_or_points_are_found_at_opening(folder) -> None:
    (folder / "splits" / "b.txt").write_text("b")
    with pytest.raises(SceneError, match=r"b\.ply: has no channel 'ring', only x, y, z, intensity"):
        CustomDataset(folder, ["Car"], channels=(*CHANNELS, "ring"), split="b")
    np.save(folder / "clouds" / "b.npy", POINTS[:0])
    (folder / "clouds" / "b.ply").unlink()
    with pytest.raises(SceneError, match=r"b\.npy: holds no points"):
        CustomDataset(folder, ["Car"])
    np.save(folder / "clouds" / "b.npy", POINTS.ravel())
    with pytest.raises(SceneError, match=r"shape \(200,\)\. It must be \[N, 4\]"):
        CustomDataset(folder, ["Car"])
    (folder / "clouds" / "b.npy").unlink()
    (folder / "clouds" / "b.bin").symlink_to(folder / "nowhere.bin")
    with pytest.raises(SceneError, match=r"b\.bin: there is no such file"):
        CustomDataset(folder, ["Car"])


@pytest.mark.parametrize("style", ["ascii", ""])
def test_packed_colours_are_channels(folder, style) -> None:
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor.from_numpy(POINTS[:, :3].copy()))
    cloud.point["colors"] = o3d.core.Tensor.from_numpy(np.tile(np.uint8([10, 20, 30]), (50, 1)))
    assert o3d.t.io.write_point_cloud(str(folder / "clouds" / "c.pcd"), cloud, write_ascii=style == "ascii")
    (folder / "splits" / "colour.txt").write_text("c")
    data = CustomDataset(folder, ["Car"], split="colour", channels=("x", "y", "z", "red", "blue"))
    assert data[0].points[:, 3:].unique(dim=0).tolist() == [[10, 30]]


def test_a_cloud_without_a_finite_point_is_an_error_or_empty(folder) -> None:
    write(folder / "clouds" / "a.bin", np.full((20, 4), np.nan, np.float32))
    with pytest.raises(SceneError, match=r"a\.bin: 20 of 20 points hold NaN"):
        CustomDataset(folder, ["Car"])[0]
    data = CustomDataset(folder, ["Car"], invalid_points="skip")
    with pytest.warns(UserWarning, match=r"a\.bin: 20 of 20 points hold NaN or infinity; they are left out"):
        sample = data[0]
    assert sample.points.shape == (0, 4)
    assert len(sample.boxes) == 1
    batch = PointCloudBatch.collate([sample, data[1]])
    assert batch.batch_index.tolist() == [1] * 50


W2C = [[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]]
CAMERA = {"image": "images/b.png", "width": 160, "height": 90, "fx": 100, "fy": 110, "cx": 80, "cy": 45, "w2c": W2C}


def write_cameras(folder: Path, *records) -> Path:
    (folder / "cameras").mkdir(exist_ok=True)
    path = folder / "cameras" / "b.json"
    path.write_text(json.dumps({"cameras": records}))
    return path


def test_cameras_and_photos_of_a_cloud(folder) -> None:
    write_cameras(folder, CAMERA, {**CAMERA, "image": "images/left.png", "width": 320})
    bare, sample, _ = CustomDataset(folder, ["Car"])
    assert (bare.cameras, bare.photos) == (None, ())
    assert sample.cameras.sizes.tolist() == [[160, 90], [320, 90]]
    pixels, depth = project(torch.tensor([[10.3, 1.0, 0.8]]), sample.cameras)
    assert depth[0, 0] == pytest.approx(10)
    torch.testing.assert_close(pixels[0, 0], torch.tensor([80 - 100 * 0.9 / 10, 45 - 110 * 1.0 / 10]))
    assert [photo.path for photo in sample.photos] == [folder / "images" / f"{name}.png" for name in ("b", "left")]
    with pytest.raises(SceneError, match=r"b\.png: there is no such file"):
        sample.photos[0].load()
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "b.png"), np.full((90, 160, 3), 51, np.uint8))
    np.testing.assert_allclose(sample.photos[0].load().image, np.full((90, 160, 3), 0.2))
    cv2.imwrite(str(folder / "images" / "b.png"), np.zeros((45, 80, 3), np.uint8))
    with pytest.raises(SceneError, match="measures 80x45 where its camera says 160x90"):
        sample.photos[0].load()
    write_cameras(folder, {key: value for key, value in CAMERA.items() if key != "image"})
    sample = CustomDataset(folder, ["Car"])[1]
    assert len(sample.cameras) == 1
    assert sample.photos == ()


BAD_CAMERAS = {
    "none": ([], "has no list of cameras"),
    "no object": ([3], "has no list of cameras"),
    "size": ([{**CAMERA, "width": 0}], r"camera 1 has size \(0, 90\)"),
    "no focal length": ([{**CAMERA, "fx": None}], "fx is None"),
    "focal length": ([CAMERA, {**CAMERA, "fy": -1}], r"camera 2 has focal lengths \(100.0, -1.0\)"),
    "principal point": ([{**CAMERA, "cx": 1e4}], "camera 1 has its principal point at"),
    "pose": ([{**CAMERA, "w2c": [1, 2]}], "w2c is not a 4x4 matrix"),
    "mirrored": ([{**CAMERA, "w2c": np.diag([1, 1, -1, 1]).tolist()}], "the pose of camera 1 is not rigid"),
    "elsewhere": ([{**CAMERA, "image": "../a.png"}], "leads out of"),
    "some photos": ([CAMERA, {**CAMERA, "image": None}], "names an image for 1 of 2 cameras"),
}


@pytest.mark.parametrize("kind", BAD_CAMERAS)
def test_bad_cameras_are_one_clear_error_or_skipped_and_counted(folder, kind) -> None:
    records, message = BAD_CAMERAS[kind]
    write_cameras(folder, *records)
    with pytest.raises(SceneError, match=rf"cameras/b\.json: .*{message}"):
        CustomDataset(folder, ["Car"])
    with pytest.warns(UserWarning, match="1 of 3 frames are left out"):
        assert len(CustomDataset(folder, ["Car"], on_bad_frame="skip")) == 2


def test_missing_parts(folder) -> None:
    (folder / "labels" / "d.json").write_text(json.dumps({"boxes": []}))
    with pytest.raises(SceneError, match=r"clouds/d: there is no such cloud"):
        CustomDataset(folder, ["Car"])
    (folder / "labels" / "d.json").unlink()
    (folder / "labels" / "b.json").write_text("[]")
    with pytest.raises(SceneError, match="holds a JSON list"):
        CustomDataset(folder, ["Car"])
    (folder / "labels" / "b.json").write_text("{}")
    with pytest.raises(SceneError, match="has no list of boxes"):
        CustomDataset(folder, ["Car"])
    (folder / "labels" / "b.json").unlink()
    with pytest.raises(SceneError, match="there is no such file"):
        CustomDataset(folder, ["Car"])
    assert CustomDataset(folder, ["Car"], labelled=False)[1].boxes is None
    with pytest.raises(SceneError, match="holds no clouds"):
        CustomDataset(folder / "labels", ["Car"])
