"""Splat files that are damaged, lie about their size, or are something else: one SplatError, little memory."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from recon3d.gaussians import Gaussians
from recon3d.splats import SUFFIXES, Splat, SplatError, load_splat, save_splat


def plain_splat(count: int = 20) -> Splat:
    generator = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        means=torch.randn(count, 3, generator=generator),
        scales=torch.randn(count, 3, generator=generator) - 3,
        quats=torch.randn(count, 4, generator=generator),
        opacities=torch.randn(count, generator=generator),
        sh0=torch.randn(count, 1, 3, generator=generator),
        shN=torch.randn(count, 3, 3, generator=generator) * 0.2,
    )
    return Splat(gaussians)


def written(folder: Path, suffix: str) -> Path:
    save_splat(folder / f"good{suffix}", plain_splat())
    return folder / f"good{suffix}"


def refused(path: Path, words: str, largest: int = 30_000_000) -> None:
    """Loading fails with one SplatError that names the file and says ``words``, without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(SplatError) as caught:
            load_splat(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert re.search(words, f"{caught.value.found}. {caught.value.mend}"), str(caught.value)  # not in the path alone
    assert "\n" not in str(caught.value)
    assert peak < largest, f"{peak} bytes were allocated"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_off(tmp_path: Path, suffix: str, part: float) -> None:
    whole = written(tmp_path, suffix).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: int(len(whole) * part)])
    if suffix == ".splat" and part in (0.0, 0.1, 0.5, 0.9):  # whole records: nothing in the format tells how many
        assert len(load_splat(cut)) == int(20 * part)
    else:
        refused(cut, "cut")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_something_else_under_this_suffix(tmp_path: Path, suffix: str) -> None:
    for name, content in (("text", b"hello, world\n" * 5), ("zeros", bytes(999)), ("zip", b"PK\x03\x04" + bytes(77))):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        refused(path, "is no PLY|no safetensors file|SPZ|gzip|not a multiple|not positive|quats")


def test_missing_file_folder_and_suffix(tmp_path: Path) -> None:
    refused(tmp_path / "absent.ply", "no such file")
    (tmp_path / "folder.ply").mkdir()
    refused(tmp_path / "folder.ply", "no such file")
    refused(tmp_path / "splat.obj", r"\.safetensors, \.ply, \.spz, \.splat")
    refused(tmp_path / "splat", "no suffix")
    with pytest.raises(SplatError, match=r"'\.obj'"):
        save_splat(tmp_path / "a.obj", plain_splat())


def edited_ply(path: Path, edit: Callable[[bytes], bytes]) -> Path:
    header, end, data = path.read_bytes().partition(b"end_header\n")
    edited = path.with_name("edited.ply")
    edited.write_bytes(edit(header) + end + data)
    return edited


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"vertex 20", b"vertex 21", "claims 21"),
        (b"vertex 20", b"vertex 40000000000", "claims 40000000000"),
        (b"vertex 20", b"vertex 999999999999999999", "claims 9999"),
        (b"vertex 20", b"vertex 99999999999999999999999", "header line"),
        (b"vertex 20", b"vertex -1", "header line"),
        (b"vertex 20", b"vertex many", "header line"),
        (b"element vertex", b"element point", "no element vertex"),
        (b"property float opacity", b"property float opaqueness", "opacity"),
        (b"property float opacity", b"property float x", "twice"),
        (b"property float opacity", b"property quad opacity", "header line"),
        (b"property float opacity", b"property list uchar int opacity", "lists"),
        (b"property float f_rest_8\n", b"", "8 properties f_rest"),
        (b"binary_little_endian", b"binary_middle_endian", "header line"),
        (b"format binary_little_endian 1.0\n", b"", "no known format"),
        (b"binary_little_endian", b"ascii", "ASCII"),
        (b"element vertex 20", b"element void 5\nelement vertex 20", "no properties"),
        (b"antialiased false", b"antialiased 7", "antialiased"),
        (b"background [0.0, 0.0, 0.0]", b"background [0.0, 0.0]", "background"),
        (b"background [0.0, 0.0, 0.0]", b"background {", "comments"),
        (b"background [0.0, 0.0, 0.0]", b"background " + b"[" * 9000, "comments"),
        (b"ply\n", b"ply\n" + b"comment so long " * 9000 + b"\n", "header"),
        (b"ply\n", b"ply\n" + b"comment again\n" * 9000, "header"),
    ],
)
def test_ply_headers(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    path = written(tmp_path, ".ply")
    assert old in path.read_bytes()
    refused(edited_ply(path, lambda header: header.replace(old, new)), words)


def test_ply_that_is_a_point_cloud_or_compressed(tmp_path: Path) -> None:
    head = "ply\nformat ascii 1.0\nelement vertex 1\n"
    (tmp_path / "cloud.ply").write_text(
        f"{head}property float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n"
    )
    refused(tmp_path / "cloud.ply", "not a Gaussian splat")
    (tmp_path / "packed.ply").write_text(f"{head}property uint packed_position\nend_header\n7\n")
    refused(tmp_path / "packed.ply", "compressed PLY")


def test_ply_with_fewer_ascii_rows_or_words_among_them(tmp_path: Path) -> None:
    names = ["x", "y", "z", "opacity", *(f"f_dc_{i}" for i in range(3)), *(f"scale_{i}" for i in range(3))]
    names += [f"rot_{i}" for i in range(4)]
    head = "ply\nformat ascii 1.0\nelement vertex 3\n" + "".join(f"property float {name}\n" for name in names)
    row = " ".join(["0.5"] * len(names))
    path = tmp_path / "a.ply"
    for rows in ([row, row], [row, row, row.replace("0.5", "half", 1)], [row, row, row + " 1"], [row, row[:-4], row]):
        path.write_text(f"{head}end_header\n" + "\n".join(rows) + "\n" + " " * 99)
        refused(path, "rows|numbers")
    path.write_text(f"{head}end_header\n" + "\n".join([row] * 3))
    assert len(load_splat(path)) == 3


@pytest.mark.parametrize("suffix", [".safetensors", ".ply"])
@pytest.mark.parametrize("name", ["means", "scales", "quats", "opacities", "sh0", "shN"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_is_neither_saved_nor_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, name: str, value: float
) -> None:
    splat = plain_splat()
    getattr(splat.gaussians, name)[4:6].fill_(value)
    with pytest.raises(SplatError, match=f"{name} of 2 of 20"):
        save_splat(tmp_path / f"a{suffix}", splat)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("recon3d.splats.files.require_drawable", lambda *_: None)
    save_splat(tmp_path / f"a{suffix}", splat)
    monkeypatch.undo()
    refused(tmp_path / f"a{suffix}", f"{name} of 2 of 20")


def test_quaternions_of_no_length_and_odd_extras(tmp_path: Path) -> None:
    splat = plain_splat()
    splat.gaussians.quats[3] = 0.0
    with pytest.raises(SplatError, match="quats of 1 of 20"):
        save_splat(tmp_path / "a.spz", splat)
    with pytest.raises(SplatError, match="scene_to_source"):
        save_splat(tmp_path / "a.ply", replace(plain_splat(), scene_to_source=np.full((4, 4), np.nan)))
    with pytest.raises(ValueError, match="scene_to_source"):
        Splat(splat.gaussians, scene_to_source=np.eye(3))
    with pytest.raises(ValueError, match="background"):
        replace(plain_splat(), background=(0.0, 0.0))
    for fields in ((19,), (21,), (10, 11), (25, -5)):
        with pytest.raises(ValueError, match=r"fields .* do not share out 20 Gaussians"):
            replace(plain_splat(), fields=fields)


@pytest.mark.parametrize("suffix", [".safetensors", ".ply"])
@pytest.mark.parametrize("fields", ["[5, 14]", "[-7,27]", "[5.0,1]", "[true ]", "   {}  ", "     20"])
def test_fields_that_do_not_fit(tmp_path: Path, suffix: str, fields: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_splat(path, replace(plain_splat(), fields=(5, 15)))
    content = path.read_bytes()
    assert content.count(b"[5, 15]") == 1
    path.write_bytes(content.replace(b"[5, 15]", fields.encode()))
    refused(path, "fields")


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = written(tmp_path, ".spz")
    before = path.read_bytes()
    far = plain_splat()
    far.gaussians.means[0] = 1e9
    with pytest.raises(SplatError, match=r"good\.spz: positions reach"):
        save_splat(path, far)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def spz(path: Path, header: tuple[int, ...], body: bytes) -> Path:
    path.write_bytes(gzip.compress(struct.pack("<IIIBBBB", *header) + body))
    return path


MAGIC = 0x5053474E


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ((MAGIC + 1, 3, 1, 0, 12, 0, 0), "SPZ inside"),
        ((MAGIC, 1, 1, 0, 12, 0, 0), "version 1"),
        ((MAGIC, 9, 1, 0, 12, 0, 0), "version 9"),
        ((MAGIC, 3, 1, 4, 12, 0, 0), "degree 4"),
        ((MAGIC, 3, 1, 0, 31, 0, 0), "31 fractional"),
        ((MAGIC, 3, 2, 0, 12, 0, 0), "fewer than"),
        ((MAGIC, 3, 2**32 - 1, 3, 12, 0, 0), "claims 4294967295"),
        ((MAGIC, 3, 2_000_000, 3, 12, 0, 0), "claims 2000000"),
        ((MAGIC, 3, 1_000_000, 3, 12, 0, 0), "fewer than"),
    ],
)
def test_spz_headers(tmp_path: Path, header: tuple[int, ...], words: str) -> None:
    refused(spz(tmp_path / "a.spz", header, bytes(20)), words)


def test_spz_version_4_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.spz").write_bytes(struct.pack("<IIIBBBB", MAGIC, 4, 1, 0, 12, 0, 6) + bytes(99))
    refused(tmp_path / "a.spz", "version 4")


def test_spz_gzip_bomb(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte, behind an honest header."""
    count = 2**30 // 20
    path = tmp_path / "bomb.spz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack("<IIIBBBB", MAGIC, 3, count, 0, 12, 0, 0))
        for _ in range(8):
            file.write(bytes(2**20))
    refused(path, "claims")


def test_spz_bytes_after_the_gaussians_are_ignored(tmp_path: Path) -> None:
    """Extensions lie there. Even a bomb in their place is not inflated."""
    whole = gzip.decompress(written(tmp_path, ".spz").read_bytes())
    (tmp_path / "more.spz").write_bytes(gzip.compress(whole + bytes(2**26), compresslevel=1))
    tracemalloc.start()
    loaded = load_splat(tmp_path / "more.spz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(loaded.gaussians.means, load_splat(tmp_path / "good.spz").gaussians.means)
    assert peak < 30_000_000


def test_splat_with_scales_that_no_gaussian_has(tmp_path: Path) -> None:
    record = struct.pack("<6f8B", 0, 0, 0, 1, -1, 1, *([128] * 8))
    (tmp_path / "a.splat").write_bytes(record)
    refused(tmp_path / "a.splat", "not positive")
    (tmp_path / "b.splat").write_bytes(struct.pack("<6f8B", 0, 0, 0, 1, 1, 1, *([128] * 8)))
    refused(tmp_path / "b.splat", "quats")
    (tmp_path / "c.splat").write_bytes(struct.pack("<6f8B", np.nan, 0, 0, 1, 1, 1, *([200] * 8)))
    refused(tmp_path / "c.splat", "means")


def test_safetensors_that_are_not_a_splat(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {name: value.contiguous() for name, value in plain_splat().gaussians.parameters().items()}
    save_file({"weight": torch.zeros(3)}, path)
    refused(path, "means.*missing")
    save_file(tensors, path)
    refused(path, "metadata")
    key = {"sparse-vision-3d splat 1": "{}"}
    for name, value, words in (
        ("means", tensors["means"].double(), "means is torch.float64"),
        ("means", tensors["means"][:-1].clone(), "has shape"),
        ("shN", torch.zeros(20, 4, 3), "4 harmonics"),
        ("quats", torch.zeros(20, 3), "quats"),
    ):
        save_file({**tensors, name: value}, path, metadata=key)
        refused(path, words)
    for text in ("", "[]", "{", '{"background": 1}', '{"antialiased": 1}', '{"scene_to_source": [[1]]}', "[" * 9000):
        save_file(tensors, path, metadata={"sparse-vision-3d splat 1": text})
        refused(path, "metadata or tensors do not fit")


def test_safetensors_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    entry = {"dtype": "F32", "shape": [10**9, 3], "data_offsets": [0, 12 * 10**9]}
    header = json.dumps({"means": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(100))
    refused(path, "safetensors")
    path.write_bytes(struct.pack("<Q", 10**15) + bytes(100))
    refused(path, "safetensors")


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_bytes_changed_at_random(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    """Whatever is changed, the file loads or fails with a SplatError."""
    content = bytearray(written(tmp_path, suffix).read_bytes())
    if suffix == ".spz":
        content = bytearray(gzip.decompress(bytes(content)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"changed{suffix}"
    path.write_bytes(gzip.compress(bytes(content)) if suffix == ".spz" else bytes(content))
    with contextlib.suppress(SplatError):
        loaded = load_splat(path)
        assert all(torch.isfinite(value).all() for value in loaded.gaussians.parameters().values())
