"""Bad input: one error that names the file, what was found, and the mend."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.errors import SceneError
from datasets.scenes import open_scene

Edit = Callable[[dict], object]


def edit(path: Path, change: Edit) -> None:
    """Apply ``change`` to the frame of view_3 (and its document as frame["_"])."""
    document = json.loads(path.read_text())
    key = "file" if "file" in document["frames"][0] else "file_path"
    frame = next(frame for frame in document["frames"] if frame[key].endswith("view_3.png"))
    frame["_"] = document
    change(frame)
    frame.pop("_")
    path.write_text(json.dumps(document))


def pose_with(row: int, column: int, value: float) -> Edit:
    def change(frame: dict) -> None:
        frame["w2c"][row][column] = value

    return change


def scaled(frame: dict) -> None:
    frame["w2c"] = (np.array(frame["w2c"]) * 1.01).tolist()


def mirrored(frame: dict) -> None:
    frame["w2c"] = (np.diag([-1.0, 1, 1, 1]) @ np.array(frame["w2c"])).tolist()


def at_the_place_of_another(frame: dict) -> None:
    other = np.array(frame["_"]["frames"][0]["w2c"])
    turn = np.eye(4)
    turn[:3, :3] = cv2.Rodrigues(np.array([0, 0.3, 0]))[0]
    frame["w2c"] = (turn @ other).tolist()


CAMERAS_JSON: dict[str, tuple[Edit, str]] = {
    "NaN pose": (pose_with(0, 0, math.nan), "holds NaN"),
    "infinite pose": (pose_with(1, 3, math.inf), "holds NaN, infinity"),
    "absurd pose": (pose_with(1, 3, 1e300), "absurdly large"),
    "wrong last row": (pose_with(3, 3, 2.0), "not rigid"),
    "scaled": (scaled, "not rigid"),
    "mirrored": (mirrored, "not rigid"),
    "one place": (at_the_place_of_another, "were taken from one place"),
    "3x3 pose": (lambda f: f.update(w2c=[[1, 0, 0], [0, 1, 0], [0, 0, 1]]), "not a 4x4 matrix"),
    "ragged pose": (lambda f: f.update(w2c=[[1, 0], [0]]), "not a 4x4 matrix"),
    "pose of words": (lambda f: f.update(w2c=[["a"] * 4] * 4), "not a 4x4 matrix"),
    "no pose": (lambda f: f.pop("w2c"), "w2c is missing"),
    "focal 0": (lambda f: f.update(fx=0), "focal lengths (0.0, 35.0)"),
    "focal negative": (lambda f: f.update(fy=-35), "focal lengths"),
    "focal NaN": (lambda f: f.update(fx=math.nan), "fx is nan"),
    "focal huge": (lambda f: f.update(fx=1e300), "focal lengths"),
    "focal a word": (lambda f: f.update(fx="35"), "fx is '35'"),
    "focal true": (lambda f: f.update(fx=True), "fx is True"),
    "focal beyond float": (lambda f: f.update(fx=10**400), "fx is 1000"),
    "no focal": (lambda f: f.pop("fx"), "fx is missing"),
    "centre far out": (lambda f: f.update(cx=20000), "principal point"),
    "size 0": (lambda f: f.update(width=0), "size (0, 30)"),
    "size huge": (lambda f: f.update(width=1e12), "size (1000000000000, 30)"),
    "area huge": (lambda f: f.update(width=30000, height=30000), "size (30000, 30000)"),
    "no file": (lambda f: f.pop("file"), "a file name is None"),
    "empty file": (lambda f: f.update(file=""), "a file name is ''"),
    "zero in file": (lambda f: f.update(file="a\0b"), "a file name is"),
    "number as file": (lambda f: f.update(file=3), "a file name is 3"),
    "parent folder": (lambda f: f.update(file="../view_3.png"), "leads out of the scene's folder"),
    "round about": (lambda f: f.update(file="images/../../x/view_3.png"), "leads out of the scene's folder"),
    "absolute": (lambda f: f.update(file="/etc/passwd"), "leads out of the scene's folder"),
    "the folder itself": (lambda f: f.update(file="images/.."), "leads out of the scene's folder"),
    "depth outside": (lambda f: f.update(depth="../d.png"), "leads out of the scene's folder"),
    "mask outside": (lambda f: f.update(mask="/m.png"), "leads out of the scene's folder"),
    "twice": (lambda f: f.update(file="images/view_4.png"), "view_4.png is listed twice"),
    "other split": (lambda f: f.update(split="val"), "split is 'val'"),
    "frames a dict": (lambda f: f["_"].update(frames={}), "has no list of frames"),
    "frame a list": (lambda f: f["_"]["frames"].__setitem__(0, []), "has no list of frames"),
    "no frames": (lambda f: f["_"].update(frames=[]), "0 views"),
    "one frame": (lambda f: f["_"].update(frames=f["_"]["frames"][:1]), "1 views"),
}


@pytest.mark.parametrize("case", CAMERAS_JSON)
def test_cameras_json_with(truth, tmp_path: Path, refused, case: str) -> None:
    change, found = CAMERAS_JSON[case]
    edit(truth.write_cameras_json(tmp_path), change)
    refused("cameras.json", found)


TRANSFORMS: dict[str, tuple[Edit, str]] = {
    "NaN pose": (lambda f: f["transform_matrix"][0].__setitem__(0, math.nan), "holds NaN"),
    "singular pose": (lambda f: f.update(transform_matrix=[[0] * 4] * 4), "singular"),
    "scaled pose": (lambda f: f.update(transform_matrix=np.diag([2, 2, 2, 1]).tolist()), "not rigid"),
    "unknown lens": (lambda f: f["_"].update(camera_model="EQUIRECTANGULAR"), "'EQUIRECTANGULAR'"),
    "k4 of a perspective lens": (lambda f: f["_"].update(k4=0.1), "k4 = 0.1"),
    "NaN lens": (lambda f: f["_"].update(k1=math.nan), "k1 is nan"),
    "no focal": (lambda f: f["_"].pop("fl_x"), "camera_angle_x is missing"),
    "angle 0": (lambda f: (f["_"].pop("fl_x"), f["_"].update(camera_angle_x=0)), "camera_angle_x is 0"),
    "absolute": (lambda f: f.update(file_path="/elsewhere/view_3.png"), "leads out of the scene's folder"),
}


@pytest.mark.parametrize("case", TRANSFORMS)
def test_transforms_json_with(truth, tmp_path: Path, refused, case: str) -> None:
    change, found = TRANSFORMS[case]
    edit(truth.write_transforms(tmp_path), change)
    refused("transforms.json", found)


def test_a_lens_that_leaves_nothing(truth, tmp_path: Path, refused) -> None:
    edit(truth.write_transforms(tmp_path), lambda frame: frame["_"].update(k1=1e9))
    refused("view_0.png", "of this photo its lens leaves")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe{}", b"[]", b"3", b'{"frames": ' + b"[" * 100_000, b'{"a": ' + b"9" * 5000]
)
@pytest.mark.parametrize("name", ["cameras.json", "transforms.json", "transforms_train.json"])
def test_json_that_is_none(tmp_path: Path, refused, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    refused(name, "has no list of frames" if data == b"{}" else "JSON")


def rows(change: Callable[[np.ndarray], object]) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        values = np.load(path)
        changed = change(values)
        np.save(path, values if changed is None else changed)

    return apply


def cell(row: int, column: int, value: float) -> Callable[[Path], object]:
    return rows(lambda values: values.__setitem__((row, column), value))


def header(text: bytes) -> Callable[[Path], object]:
    """A file of version 1 with this header and no data."""
    return lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


LLFF: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "is not a numpy array file"),
    "truncated header": (lambda p: p.write_bytes(p.read_bytes()[:40]), "is not a numpy array file"),
    "truncated data": (lambda p: p.write_bytes(p.read_bytes()[:-8]), "holds 1352 bytes of data where"),
    "trailing data": (lambda p: p.write_bytes(p.read_bytes() + b"12345678"), "holds 1368 bytes of data where"),
    "version 9": (lambda p: p.write_bytes(b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16), "is not a numpy array file"),
    "unclosed header": (header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (10,17),"), "its header is"),
    "nested header": (header(b"(" * 9000), "its header is"),
    "a call in the header": (header(b"{'descr': exit(), 'fortran_order': False, 'shape': (1,)}"), "its header is"),
    "negative shape": (header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 17)}"), "of shape (-1, 17)"),
    "no such type": (header(b"{'descr': '<f7', 'fortran_order': False, 'shape': (0, 17)}"), "holds '<f7'"),
    "records": (header(b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (0,)}"), "holds [('a', '<f8')]"),
    "beyond memory": (
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 17)}"),
        "holds 0 bytes",
    ),
    "pickle": (lambda p: p.write_bytes(pickle.dumps({"poses": 1})), "is not a numpy array file"),
    "object array": (lambda p: np.save(p, np.array([{}] * 10), allow_pickle=True), "pickled Python objects"),
    "an archive": (lambda p: np.savez(p.open("wb"), poses=np.zeros((10, 17))), "is not a numpy array file"),
    "15 columns": (rows(lambda v: v[:, :15]), "of shape (10, 15)"),
    "3 axes": (rows(lambda v: v[:, :15].reshape(10, 3, 5)), "of shape (10, 3, 5)"),
    "integers": (rows(lambda v: v.astype(np.int64)), "holds int64"),
    "complex": (rows(lambda v: v.astype(complex)), "holds complex128"),
    "too few rows": (rows(lambda v: v[:9]), "has 9 poses, but images holds 10 photos"),
    "NaN pose": (cell(2, 3, math.nan), "the pose of view_2.png holds NaN"),
    "scaled pose": (cell(2, 0, 3.0), "the pose of view_2.png is not rigid"),
    "NaN size": (cell(2, 4, math.nan), "view_2.png has height, width, focal"),
    "width 0": (cell(2, 9, 0), "view_2.png has height, width, focal"),
    "focal 0": (cell(2, 14, 0), "focal lengths (0.0, 0.0)"),
    "near 0": (cell(2, 15, 0), "depth bounds (0.0, 9.5)"),
    "far before near": (cell(2, 16, 1), "depth bounds (1.5, 1.0)"),
    "NaN bounds": (cell(2, 16, math.nan), "depth bounds (1.5, nan)"),
}


@pytest.mark.parametrize("case", LLFF)
def test_poses_bounds_with(truth, tmp_path: Path, refused, case: str) -> None:
    change, found = LLFF[case]
    change(truth.write_llff(tmp_path))
    refused("poses_bounds.npy", found)


def test_llff_without_the_folder_asked_for_lists_what_is_there(truth, tmp_path: Path, refused) -> None:
    truth.write_llff(tmp_path)
    (tmp_path / "images").rename(tmp_path / "images_4")
    refused(tmp_path.name, "there is no images_8: it holds images_4", downscale=8)
    (tmp_path / "images_4").rename(tmp_path / "pictures")
    refused(tmp_path.name, "it holds no folder of images")


def test_llff_size_that_disagrees_with_the_intrinsics(truth, tmp_path: Path, refused) -> None:
    cell(0, 9, 42.0)(truth.write_llff(tmp_path))
    refused("view_0.png", "measures 40x30 where its camera says 42x30")


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def jpg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def turned_tiff(pixels: np.ndarray, orientation: int) -> bytes:
    """A TIFF as OpenCV writes it, its tag of the resolution's unit made that of the orientation."""
    data = bytearray(cv2.imencode(".tiff", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())
    start = int.from_bytes(data[4:8], "little")
    for at in range(start + 2, start + 2 + 12 * int.from_bytes(data[start : start + 2], "little"), 12):
        if int.from_bytes(data[at : at + 2], "little") == 262:  # photometric interpretation: RGB for three channels
            entry = bytes(data[at : at + 12])
            count = int.from_bytes(data[start : start + 2], "little")
            rest = data[start + 2 : start + 2 + 12 * count]
            more = (274).to_bytes(2, "little") + entry[2:8] + orientation.to_bytes(4, "little")
            entries = sorted([bytes(rest[i : i + 12]) for i in range(0, len(rest), 12)] + [more])
            ordered = sorted(entries, key=lambda e: int.from_bytes(e[:2], "little"))
            end = len(data)
            data[4:8] = end.to_bytes(4, "little")
            data += (count + 1).to_bytes(2, "little") + b"".join(ordered) + bytes(4)
            return bytes(data)
    raise AssertionError("OpenCV writes TIFF in another way now")


NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
IMAGES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "there is no such file"),
    "empty": (b"", "is not a readable image (0 bytes)"),
    "no image": (b"hello", "is not a readable image"),
    "PNG cut in half": (png(NOISE)[: len(png(NOISE)) // 2], "truncated"),
    "PNG without its last byte": (png(NOISE)[:-14], "truncated"),
    "PNG header alone": (png(NOISE)[:30], "truncated"),
    "JPEG cut in half": (jpg(NOISE)[: len(jpg(NOISE)) // 2], "truncated"),
    "JPEG without its end": (jpg(NOISE)[:-2], "truncated"),
    "JPEG start alone": (jpg(NOISE)[:3], "truncated"),
    "PNG with damaged pixels": (png(NOISE)[:100] + b"\0" * 400 + png(NOISE)[500:], "readable image"),
    "TIFF on its head": (turned_tiff(NOISE, 3), "a TIFF with the orientation 3"),
    "TIFF on its side": (turned_tiff(NOISE, 6), "a TIFF with the orientation 6"),
    "another size": (png(NOISE[:, :39]), "measures 39x30 where its camera says 40x30"),
    "turned": (png(np.rot90(NOISE).copy()), "measures 30x40"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_image_that_is(truth, tmp_path: Path, refused, case: str) -> None:
    data, found = IMAGES[case]
    truth.write_cameras_json(tmp_path)
    path = tmp_path / "images" / "view_3.png"
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    refused("view_3.png", found)


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy(array: np.ndarray) -> Callable[[Path], object]:
    return lambda path: np.save(path, array)


DEPTH: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("d.npy", lambda p: None, "no such file"),
    "truncated": ("d.npy", lambda p: p.write_bytes(saved(np.zeros((30, 40)))[:-1]), "bytes of data"),
    "pickled": ("d.npy", lambda p: np.save(p, np.array([None]), allow_pickle=True), "pickled"),
    "integers": ("d.npy", npy(np.zeros((30, 40), int)), "holds int64 of shape (30, 40)"),
    "three axes": ("d.npy", npy(np.zeros((30, 40, 1))), "of shape (30, 40, 1)"),
    "NaN": ("d.npy", npy(np.full((30, 40), np.nan)), "NaN depth"),
    "negative": ("d.npy", npy(np.full((30, 40), -1.0)), "negative"),
    "beyond float32": ("d.npy", npy(np.full((30, 40), 1e300)), "infinite"),
    "another size": ("d.npy", npy(np.ones((15, 20))), "measures 20x15 where its camera says 40x30"),
    "8 bits": ("d.png", lambda p: p.write_bytes(png(NOISE[:, :, 0])), "holds uint8 of shape (30, 40)"),
    "a colour picture": ("d.png", lambda p: p.write_bytes(png(NOISE)), "holds uint8 of shape (30, 40, 3)"),
}  # fmt: skip


@pytest.mark.parametrize("case", DEPTH)
def test_depth_that_is(truth, tmp_path: Path, refused, case: str) -> None:
    name, write, found = DEPTH[case]
    edit(truth.write_cameras_json(tmp_path), lambda frame: frame.update(depth=name))
    write(tmp_path / name)
    refused(name, found)


def test_size_0_beside_shipped_smaller_photos(truth, tmp_path: Path, refused) -> None:
    edit(truth.write_cameras_json(tmp_path), lambda frame: frame.update(width=0))
    (tmp_path / "images_2").mkdir()
    refused("cameras.json", "size (0, 30)", downscale=2)


def test_mask_of_another_size(truth, tmp_path: Path, refused) -> None:
    edit(truth.write_cameras_json(tmp_path), lambda frame: frame.update(mask="m.png"))
    (tmp_path / "m.png").write_bytes(png(NOISE[:20]))
    refused("m.png", "measures 40x20")


@pytest.mark.parametrize("kind", ["cameras_json", "transforms", "llff"])
def test_links_out_of_the_folder_are_not_followed(truth, tmp_path: Path, kind: str) -> None:
    root, outside = tmp_path / "scene", tmp_path / "view_3.png"
    root.mkdir()
    getattr(truth, f"write_{kind}")(root)
    (root / "images" / "view_3.png").rename(outside)
    (root / "images" / "view_3.png").symlink_to(outside)
    with pytest.raises(SceneError, match="leads out of the scene's folder"):
        open_scene(root)
    (root / "images" / "view_3.png").unlink()
    (root / "images" / "view_3.png").symlink_to("view_3.png")
    with pytest.raises(SceneError, match=r"view_3\.png"):
        open_scene(root)


def test_a_linked_scene_folder_is_welcome(truth, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    truth.write_cameras_json(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert len(open_scene(tmp_path / "link")) == 10


def test_no_folder_and_no_format(tmp_path: Path, refused) -> None:
    refused("nowhere", "there is no such folder", root=tmp_path / "nowhere")
    refused(tmp_path.name, "holds no cameras.json, transforms.json")
    for kind, name in (("cameras_json", "cameras.json"), ("llff", "poses_bounds.npy"), ("colmap", tmp_path.name)):
        refused(name, "no", kind=kind)
    refused("transforms_train.json", "there is no such file", kind="transforms")


def test_splits_that_do_not_fit_name_the_scene(truth, tmp_path: Path, refused) -> None:
    truth.write_cameras_json(tmp_path)
    refused("cameras.json", "9 training views were asked for, of 8", split="llff", views=9)
    refused("cameras.json", "49 views of a scan", split="dtu", views=3)
    refused("cameras.json", "r_2, r_16", split="blender8")
    refused("cameras.json", "do not fit a scene of 10 views", train=[10, 0], test=[])
    refused("cameras.json", "do not fit a scene of 10 views", train=[0, 1], test=[-1])
    refused("cameras.json", "does not fit a scene of 10 views", train=[1, 1], test=[])
    refused("cameras.json", "the split leaves 1 training views", split="llff", views=1)
    refused("cameras.json", "both the train and the test split", train=[0, 1], test=[1])


def test_options_that_exclude_one_another(tmp_path: Path) -> None:
    for options, says in (
        ({"kind": "lff"}, "choose one of cameras_json, transforms, llff, colmap, builtin"),
        ({"split": "lff"}, "choose one of llff, dtu, blender8, every_nth"),
        ({"split": "llff", "train": [1], "test": [0]}, "not both"),
        ({"train": [1]}, "go together"),
        ({"downscale": 0}, "downscale is 0"),
    ):
        with pytest.raises(ValueError, match=says):
            open_scene(tmp_path, **options)  # type: ignore[arg-type]


def test_rotations_rounded_by_a_text_file_become_exact(truth, tmp_path: Path) -> None:
    path = truth.write_cameras_json(tmp_path)
    document = json.loads(path.read_text())
    for frame in document["frames"]:
        frame["w2c"] = np.round(frame["w2c"], 4).tolist()
    path.write_text(json.dumps(document))
    scene = open_scene(tmp_path)
    rotation = scene.cameras.world_to_camera[:, :3, :3].double().numpy()
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (10, 3, 3)), atol=1e-6
    )


def test_blender_names_the_file_of_the_two(truth, tmp_path: Path, refused) -> None:
    document = json.loads(truth.write_transforms(tmp_path).read_text())
    (tmp_path / "transforms.json").unlink()
    train, test = document | {"frames": document["frames"][:6]}, document | {"frames": document["frames"][6:]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(train))
    test["frames"][1]["transform_matrix"][0][0] = math.nan
    (tmp_path / "transforms_test.json").write_text(json.dumps(test))
    refused("transforms_test.json", "the pose of view_7.png holds NaN")


DAMAGE = (b"9", b"-", b"e9", b"}", b"[", b"\xff", b"\0", b'"')


@pytest.mark.parametrize("kind", ["cameras_json", "transforms", "llff"])
def test_random_damage_is_read_or_refused_but_never_worse(truth, tmp_path: Path, kind: str) -> None:
    path = getattr(truth, f"write_{kind}")(tmp_path)
    data = path.read_bytes()
    rng = np.random.default_rng(11)
    refusals = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            start = rng.integers(len(data))
            damaged[start : start + rng.integers(1, 5)] = rng.choice(
                [b"9", b"-", b"e9", b"}", b"[", b"\xff", b"\0", b'"']
            )
        path.write_bytes(damaged)
        try:
            open_scene(tmp_path)
        except SceneError:
            refusals += 1
    assert refusals > 50
