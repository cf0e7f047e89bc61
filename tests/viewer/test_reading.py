"""Clouds and boxes in every format, and files that are damaged or mean harm."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest

from datasets.errors import InputError, SceneError
from viewer.layers import BoxesLayer, CamerasLayer, PointsLayer
from viewer.reading import open_all
from viewer.reading.clouds import read_cloud

POINTS = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
COLOURS = np.random.default_rng(1).integers(0, 256, (300, 3), dtype=np.uint8)


def las(points: np.ndarray, kind: int = 2, **changed: int) -> bytes:
    """A LAS 1.2 file of points in millimetres."""
    size = {0: 20, 2: 26, 7: 36}[kind]
    header = bytearray(375 if kind == 7 else 227)
    header[:4] = b"LASF"
    header[24:26] = bytes((1, 4 if kind == 7 else 2))
    struct.pack_into("<H", header, 94, len(header))
    struct.pack_into("<I", header, 96, changed.get("start", len(header)))
    header[104] = changed.get("stated", kind)
    struct.pack_into("<H", header, 105, changed.get("size", size))
    count = changed.get("count", len(points))
    struct.pack_into("<I", header, 107, min(count, 2**32 - 1))
    struct.pack_into("<3d", header, 131, 0.001, 0.001, 0.001)
    struct.pack_into("<3d", header, 155, 10.0, 0.0, 0.0)
    if kind == 7:
        struct.pack_into("<Q", header, 247, count)
    rows = np.zeros((len(points), size), np.uint8)
    fixed = np.round((points.astype(np.float64) - [10, 0, 0]) * 1000).astype("<i4")
    rows[:, :12] = fixed.view(np.uint8).reshape(-1, 12)
    rows[:, 12:14] = np.arange(len(points)).astype("<u2").view(np.uint8).reshape(-1, 2)
    rows[:, 16 if kind == 7 else 15] = 2
    if kind in (2, 7):
        at = 20 if kind == 2 else 30
        rows[:, at : at + 6] = (COLOURS.astype("<u2") << 8).view(np.uint8).reshape(-1, 6)
    return bytes(header) + rows.tobytes()


@pytest.mark.parametrize("suffix", ["ply", "ply-ascii", "pcd", "pcd-ascii", "pcd-compressed"])
def test_against_open3d(tmp_path: Path, suffix: str) -> None:
    format_, _, way = suffix.partition("-")
    path = tmp_path / f"cloud.{format_}"
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(POINTS.astype(np.float64)))
    cloud.colors = o3d.utility.Vector3dVector(COLOURS / 255)
    o3d.io.write_point_cloud(str(path), cloud, write_ascii=way == "ascii", compressed=way == "compressed")
    read = read_cloud(path)
    assert np.allclose(read.xyz, POINTS, atol=1e-5)
    assert read.rgb is not None
    assert np.abs(read.rgb.astype(int) - COLOURS).max() <= 1


def test_pcd_of_intensities_compresses(tmp_path: Path) -> None:
    """Long runs make LZF copy from what it has just written."""
    table = {
        "positions": np.repeat(POINTS[:10], 200, axis=0),
        "intensity": np.repeat(np.float32([1, 2]), 1000)[:, None],
    }
    cloud = o3d.t.geometry.PointCloud({name: o3d.core.Tensor(value) for name, value in table.items()})
    path = tmp_path / "cloud.pcd"
    o3d.t.io.write_point_cloud(str(path), cloud, compressed=True)
    assert b"binary_compressed" in path.read_bytes()
    read = read_cloud(path)
    assert np.array_equal(read.xyz, table["positions"])
    assert np.array_equal(read.values["intensity"], table["intensity"][:, 0])


@pytest.mark.parametrize("kind", [0, 2, 7])
def test_las(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "cloud.las"
    path.write_bytes(las(POINTS, kind))
    read = read_cloud(path)
    assert np.allclose(read.xyz, POINTS, atol=6e-4)
    assert read.values["intensity"][5] == 5
    assert set(read.values["class"]) == {2}
    assert (read.rgb is None) == (kind == 0)
    if read.rgb is not None:
        assert np.array_equal(read.rgb, COLOURS)


def test_las_in_map_coordinates_is_moved_to_where_float32_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "map.las"
    path.write_bytes(las(POINTS + np.array([5e5, 3e5, 0])))
    read = read_cloud(path)
    assert np.abs(read.xyz).max() < 10
    assert np.allclose(np.diff(read.xyz, axis=0), np.diff(POINTS, axis=0), atol=3e-3)


def test_far_clouds_boxes_and_scenes_share_one_world(tmp_path: Path, scene_folder: Path) -> None:
    """Two tiles of a map, 100 m apart, in single and in double precision, and boxes on them."""
    far = np.array([5e5, 2e6, 300])
    (tmp_path / "a.las").write_bytes(las(POINTS + far))
    np.save(tmp_path / "b.npy", POINTS + far + np.array([100, 0, 0]))
    box = [*(far + np.arange(3)), 4, 2, 1.5, 0.3]
    aside = np.array([100, 0, 0])
    (tmp_path / "boxes.json").write_text(json.dumps({"boxes": [box]}))
    for order in (("a.las", "b.npy", "boxes.json"), ("boxes.json", "b.npy", "a.las")):
        contents = open_all([tmp_path / name for name in order], [])
        found = dict(zip(order, contents.layers, strict=True))
        offset = contents.scene_to_source[:3, 3]
        assert np.abs(offset - far).max() < 110
        one, other, boxes = found["a.las"], found["b.npy"], found["boxes.json"]
        assert isinstance(one, PointsLayer)
        assert isinstance(other, PointsLayer)
        assert isinstance(boxes, BoxesLayer)
        assert np.allclose(one.cloud(0).xyz + offset, POINTS + far, atol=2e-3)
        assert np.allclose(other.cloud(0).xyz, one.cloud(0).xyz + aside, atol=2e-3)
        assert np.allclose(boxes.shown(0).boxes[0, :3].numpy() + offset, box[:3], atol=1e-4)

    cameras = json.loads((scene_folder / "cameras.json").read_text())
    near = open_all([scene_folder], []).cameras
    assert near is not None
    for record in cameras["frames"]:
        pose = np.array(record["w2c"], np.float64)
        pose[:3, 3] -= pose[:3, :3] @ far
        record["w2c"] = pose.tolist()
    (scene_folder / "cameras.json").write_text(json.dumps(cameras))
    for order in ((tmp_path / "b.npy", scene_folder), (scene_folder, tmp_path / "b.npy")):
        contents = open_all(order, [])
        assert contents.cameras is not None
        offset = contents.scene_to_source[:3, 3]
        cloud = next(layer for layer in contents.layers if isinstance(layer, PointsLayer) and layer.name == "b.npy")
        centres = contents.cameras.cameras.centres.numpy() + offset
        assert np.allclose(centres, near.cameras.centres.numpy() + far, atol=2e-2)
        assert np.allclose(cloud.cloud(0).xyz + offset, POINTS + far + aside, atol=2e-2)


@pytest.mark.parametrize(
    ("columns", "values"), [(4, {"intensity"}), (5, {"intensity", "ring"}), (8, {"intensity", "doppler"})]
)
def test_bin(sweep: Callable[..., Path], columns: int, values: set[str]) -> None:
    points = np.concatenate([POINTS, np.ones((300, columns - 3))], axis=1)
    read = read_cloud(sweep(points), columns)
    assert np.array_equal(read.xyz, POINTS)
    assert set(read.values) == values
    assert len(read_cloud(sweep(np.ones((3, 5)), "odd.bin"))) == 3  # 60 bytes: no whole number of KITTI's points


def test_radar_is_known_by_the_range_that_it_repeats(sweep: Callable[..., Path]) -> None:
    points = np.concatenate([POINTS, np.ones((300, 5))], axis=1)
    points[:, 5] = np.linalg.norm(POINTS, axis=1)
    read = read_cloud(sweep(points))
    assert np.array_equal(read.xyz, POINTS)
    assert set(read.values) == {"intensity", "doppler"}
    assert len(read_cloud(sweep(points), 4)) == 600
    points[3] = np.nan
    points[100:] = 0  # padded
    assert len(read_cloud(sweep(points))) == 299
    assert set(read_cloud(sweep(points)).values) == {"intensity", "doppler"}
    padded = np.zeros((4000, 4))
    padded[:1000] = np.random.default_rng(3).normal(size=(1000, 4))
    assert len(read_cloud(sweep(padded))) == 4000


@pytest.mark.parametrize("kind", ["float", "uchar", "ushort"])
@pytest.mark.parametrize("text", [True, False])
def test_colours_of_ply(tmp_path: Path, kind: str, text: bool) -> None:
    colour = {"float": [1, 0.5, 0.25], "uchar": [255, 128, 64], "ushort": [65535, 32768, 16384]}[kind]
    style = "ascii" if text else "binary_little_endian"
    head = f"ply\nformat {style} 1.0\nelement vertex 2\n" + "".join(f"property float {a}\n" for a in "xyz")
    head += "".join(f"property {kind} {name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    numbers = " ".join(map(str, colour))
    row = struct.pack({"float": "<3f3f", "uchar": "<3f3B", "ushort": "<3f3H"}[kind], 1, 2, 3, *colour)
    body = f"1 2 3 {numbers}\n".encode() * 2 if text else row * 2
    (tmp_path / "a.ply").write_bytes(head.encode() + body)
    rgb = read_cloud(tmp_path / "a.ply").rgb
    assert rgb is not None
    assert np.abs(rgb[1].astype(int) - [255, 128, 64]).max() <= 1


def test_npy_and_points_that_returned_nothing(tmp_path: Path) -> None:
    points = POINTS.copy()
    points[3, 1], points[4, 0] = np.nan, np.inf
    np.save(tmp_path / "a.npy", points)
    assert len(read_cloud(tmp_path / "a.npy")) == 298
    np.save(tmp_path / "b.npy", np.full((4, 3), np.nan))
    with pytest.raises(SceneError, match="none of its 4 points is finite"):
        read_cloud(tmp_path / "b.npy")


PLY = "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
PCD = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nHEIGHT 1\nPOINTS {n}\nDATA {kind}\n"
HUGE = 10_000_000_000 // 12
HOSTILE = {
    "empty.ply": (b"", "is no PLY"),
    "endless.ply": (b"ply\n" + b"comment a\n" * 20_000, "does not end"),
    "claims.ply": (PLY.format("binary_little_endian", HUGE).encode() + bytes(1000), "claims 833333333 points"),
    "claims_ascii.ply": (PLY.format("ascii", HUGE).encode() + b"1 2 3\n", "claims 833333333 points"),
    "overflow.ply": (PLY.format("binary_little_endian", "9" * 30).encode(), "is not PLY's"),
    "words.ply": (PLY.format("ascii", 1).encode() + b"one two three\n", "cannot be read as numbers"),
    "few.ply": (PLY.format("ascii", 3).encode() + b"1 2 3\n1 2 3   \n       ", "its header says 3"),
    "truncated.ply": (PLY.format("binary_little_endian", 10).encode() + bytes(100), "but 100 are left"),
    "no_format.ply": (b"ply\nelement vertex 1\nproperty float x\nend_header\n1\n", "no known format"),
    "lists.ply": (
        b"ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int v\nelement vertex 1\nend_header\n",
        "lists",
    ),
    "twice.ply": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float x\nend_header\n1 1\n",
        "twice",
    ),
    "flat.ply": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nend_header\n1 1\n",
        "no z",
    ),
    "none.ply": (PLY.format("ascii", 0).encode(), "none of its 0 points"),
    "empty.pcd": (b"", "is no PCD"),
    "claims.pcd": (PCD.format(n=HUGE, kind="binary").encode() + bytes(1000), "claims 833333333 points"),
    "bomb.pcd": (
        PCD.format(n=HUGE, kind="binary_compressed").encode() + struct.pack("<II", 8, 12 * HUGE % 2**32) + bytes(8),
        "its points need 9999999996",
    ),
    "bomb2.pcd": (
        PCD.format(n=10**6, kind="binary_compressed").encode() + struct.pack("<II", 8, 12 * 10**6) + bytes(8),
        "8 bytes that become 12000000",
    ),
    "lzf.pcd": (
        PCD.format(n=1, kind="binary_compressed").encode() + struct.pack("<II", 4, 12) + b"\xff\xff\xff\xff",
        "compressed data is damaged",
    ),
    "minus.pcd": (PCD.format(n=-4, kind="binary").encode(), "POINTS '-4'"),
    "kind.pcd": (PCD.format(n=1, kind="zip").encode(), "DATA is 'zip'"),
    "type.pcd": (PCD.format(n=1, kind="ascii").replace("TYPE F", "TYPE X").encode(), "fields of type"),
    "fields.pcd": (PCD.format(n=1, kind="ascii").replace("SIZE 4 4 4", "SIZE 4").encode(), "do not fit together"),
    "counts.pcd": (PCD.format(n=1, kind="ascii").replace("COUNT 1", "COUNT 9999999").encode(), "count"),
    "empty.bin": (b"", "holds no points"),
    "odd.bin": (bytes(18), "no whole number of points"),
    "nan.bin": (np.full(8, np.nan, "<f4").tobytes(), "none of its 2 points"),
    "pickle.npy": (
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,)}".ljust(128),
        "pickled",
    ),
    "claims.npy": (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 3)}".ljust(118),
        "needs 11999999999988",
    ),
    "empty.las": (b"LASF", "is not a LAS file"),
    "claims.las": (las(POINTS, count=2**32 - 1), "claims 4294967295 points"),
    "claims14.las": (las(POINTS, 7, count=2**60), "claims 1152921504606846976 points"),
    "laz.las": (las(POINTS, 2)[:104] + b"\x82" + las(POINTS, 2)[105:], "compressed"),
    "narrow.las": (las(POINTS, size=4), "points of format 2 in 4 bytes"),
    "start.las": (las(POINTS, start=2**31), "but 0 are left"),
    "kind.las": (las(POINTS, 0, stated=8), "points of format 8"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_clouds_are_one_message(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SceneError, match=message) as error:
        read_cloud(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["cloud.las", "cloud.pcd", "cloud.ply"])
def test_random_damage_is_a_message_or_a_cloud(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("las"):
        path.write_bytes(las(POINTS))
    else:
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(POINTS.astype(np.float64)))
        o3d.io.write_point_cloud(str(path), cloud, compressed=name.endswith("pcd"))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)] if random.random() < 0.3 else whole)
        for at in random.integers(0, min(len(damaged), 400), 3):
            damaged[at] = random.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_cloud(path)
        except SceneError:
            refused += 1
    assert refused > 30


BOX = [1, 2, 3, 4, 2, 1.5, 0.3]


def test_our_boxes(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    document = {
        "class_names": ["Car"],
        "frames": [{"frame": "a", "boxes": [BOX], "labels": [0], "scores": [0.7]}, {"frame": "b", "boxes": []}],
    }
    path.write_text(json.dumps(document))
    contents = open_all([path], [])
    (layer,) = contents.layers
    assert isinstance(layer, BoxesLayer)
    assert layer.frames == 2
    assert contents.frame_names == ("a", "b")
    assert layer.shown(0).boxes[0].tolist() == pytest.approx(BOX)
    assert [s.name for s in layer.settings] == ["colour", "score", "width"]
    path.write_text(json.dumps({"boxes": [BOX]}))
    assert open_all([path], []).layers[0].frames == 1


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"boxes": [[1, 2, 3]]}, "boxes are no such numbers"),
        ({"boxes": "many"}, "boxes are no such numbers"),
        ({"boxes": [[*BOX[:6], 1e400]]}, "NaN, infinity"),
        ({"boxes": [[*BOX[:5], -1, 0]]}, "not positive"),
        ({"boxes": [[1e30, *BOX[1:]]]}, "absurd"),
        ({"boxes": [BOX], "labels": [0, 1]}, "labels are no such numbers"),
        ({"boxes": [BOX], "scores": ["high"]}, "scores are no such numbers"),
        ({"boxes": [BOX], "class_names": "Car"}, "class_names"),
        ({"frames": [{"boxes": []}, 3]}, "no list of objects"),
        ({"frames": []}, "holds no boxes"),
    ],
)
def test_bad_boxes(tmp_path: Path, document: dict, message: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SceneError, match=message):
        open_all([path], [])


def test_kitti_boxes_use_the_calibration_beside_them(tmp_path: Path) -> None:
    for name in ("label_2", "calib", "velodyne"):
        (tmp_path / name).mkdir()
    line = "Car 0 0 0 0 0 50 50 1.5 1.6 4.0 2.0 1.5 10.0 -1.57\n"
    (tmp_path / "label_2" / "000000.txt").write_text(line)
    contents = open_all([tmp_path / "label_2" / "000000.txt"], [])
    layer = contents.layers[0]
    assert isinstance(layer, BoxesLayer)
    assert layer.shown(0).boxes[0, :3].tolist() == pytest.approx([10, -2, -0.75], abs=1e-4)
    pose = "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 -0.27\n"
    (tmp_path / "calib" / "000000.txt").write_text(pose)
    layer = open_all([tmp_path / "label_2" / "000000.txt"], []).layers[0]
    assert isinstance(layer, BoxesLayer)
    assert layer.shown(0).boxes[0, :3].tolist() == pytest.approx([10.27, -2, -0.75], abs=1e-4)

    (tmp_path / "velodyne" / "000000.bin").write_bytes(np.ones((5, 4), "<f4").tobytes())
    contents = open_all([tmp_path], [])
    assert [type(layer) for layer in contents.layers] == [PointsLayer, BoxesLayer]
    assert contents.up.tolist() == [0, 0, 1]


def test_boxes_stand_beside_the_cloud_of_their_name(tmp_path: Path, sweep: Callable[..., Path]) -> None:
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    for i in range(3):
        np.save(clouds / f"{i:06d}.npy", POINTS)
    frames = [{"frame": name, "boxes": [[float(name), *BOX[1:]]]} for name in ("000002", "000000")]
    (tmp_path / "boxes.json").write_text(json.dumps({"frames": frames}))
    results = tmp_path / "results"
    results.mkdir()
    for i in (0, 2):
        (results / f"{i:06d}.txt").write_text(f"Car 0 0 0 0 0 50 50 1.5 1.6 4.0 {i} 1.5 10.0 -1.57\n")
    for order in ((0, 1, 2), (2, 1, 0)):
        paths = [[clouds, tmp_path / "boxes.json", results][i] for i in order]
        contents = open_all(paths, [])
        assert contents.frame_names == ("000000", "000001", "000002")
        ours, theirs = (next(x for x in contents.layers if x.name.startswith(n)) for n in ("boxes.json", "results"))
        assert isinstance(ours, BoxesLayer)
        assert isinstance(theirs, BoxesLayer)
        assert [ours.shown(i).boxes[:, 0].tolist() for i in range(3)] == [[0.0], [], [2.0]]
        assert [-theirs.shown(i).boxes[:, 1].numpy() for i in range(3)] == [
            pytest.approx([0.0], abs=1e-4),
            pytest.approx([]),
            pytest.approx([2.0], abs=1e-4),
        ]
    (only,) = (
        x
        for x in open_all([clouds / "000002.npy", tmp_path / "boxes.json"], []).layers
        if x.frames and isinstance(x, BoxesLayer)
    )
    assert only.frames == 1
    assert only.shown(0).boxes[0, 0] == 2


def test_scenes_folders_and_several_at_once(tmp_path: Path, scene_folder: Path, sweep: Callable[..., Path]) -> None:
    clouds = tmp_path / "clouds"
    clouds.mkdir()
    for i in range(3):
        np.save(clouds / f"{i}.npy", POINTS + i)
    contents = open_all([scene_folder, clouds, clouds / "0.npy", clouds / "0.npy"], [])
    assert [layer.name for layer in contents.layers] == ["scene cameras", "clouds", "0.npy", "0.npy 2"]
    assert contents.frames == 3
    assert contents.frame_names == ("0", "1", "2")
    assert contents.up == pytest.approx([0, -1, 0])
    assert isinstance(contents.cameras, CamerasLayer)
    assert open_all([scene_folder / "cameras.json"], []).layers[0].name == "scene cameras"


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "no such file"), ("a.docx", r"its suffix is \.docx"), ("a.spz", "No package that opens splats")],
)
def test_what_cannot_be_shown(tmp_path: Path, name: str, message: str) -> None:
    if "." in name:
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=message):
        open_all([tmp_path / name], [])


def test_a_folder_of_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"holds no cameras\.json"):
        open_all([tmp_path], [])
