"""Each splat format against itself and, as an independent reader and writer, against Open3D."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
import scipy.special
import torch

from recon3d.gaussians import SH_C0, Gaussians
from recon3d.splats import SUFFIXES, Splat, SplatError, load_splat, save_splat


def make_splat(count: int = 50, degree: int = 3, seed: int = 0) -> Splat:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    gaussians = Gaussians(
        means=normal(count, 3) * 3,
        scales=normal(count, 3) * 0.7 - 3,
        quats=normal(count, 4),
        opacities=normal(count) * 2,
        sh0=normal(count, 1, 3) * 0.8,
        shN=normal(count, (degree + 1) ** 2 - 1, 3).clamp(-3, 3) * 0.3,
    )
    similarity = np.diag([2.0, 2.0, 2.0, 1.0])
    similarity[:3, 3] = 0.1, -1 / 3, 1e-12
    return Splat(gaussians, (0.1, 1.0, 1 / 3), True, similarity)


def same_rotation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Largest angle in radians between two sets of quaternions."""
    a, b = (torch.nn.functional.normalize(q.double(), dim=1) for q in (a, b))
    return 2 * torch.minimum((a - b).norm(dim=1), (a + b).norm(dim=1)).max()


def harmonics(directions: torch.Tensor, degree: int) -> torch.Tensor:
    """[N, K] real spherical harmonics as scipy defines them, in the order and with the signs of 3DGS."""
    x, y, z = directions.double().unbind(1)
    polar, azimuth = torch.arccos(z.clamp(-1, 1)).numpy(), torch.atan2(y, x).numpy()
    columns = []
    for order in range(degree + 1):
        for m in range(-order, order + 1):
            value = scipy.special.sph_harm_y(order, abs(m), polar, azimuth)
            part = value.imag if m < 0 else value.real
            columns.append(part * (np.sqrt(2) if m else 1))
    return torch.from_numpy(np.stack(columns, 1)).float()


def from_open3d(path: Path) -> dict[str, np.ndarray]:
    cloud = o3d.t.io.read_point_cloud(str(path))
    return {name: cloud.point[name].numpy() for name in cloud.point}


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", [".safetensors", ".ply"])
def test_lossless_formats_keep_every_bit(tmp_path: Path, suffix: str, degree: int) -> None:
    splat = make_splat(degree=degree)
    save_splat(tmp_path / f"a{suffix}", splat)
    loaded = load_splat(tmp_path / f"a{suffix}")
    for name, value in splat.gaussians.parameters().items():
        assert torch.equal(loaded.gaussians.parameters()[name], value), name
        assert loaded.gaussians.parameters()[name].is_contiguous()
    assert loaded.background == splat.background
    assert loaded.antialiased is True
    np.testing.assert_array_equal(loaded.scene_to_source, splat.scene_to_source)
    assert loaded.fields == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_fields_are_kept_where_nothing_is_lost(tmp_path: Path, suffix: str) -> None:
    splat = Splat.of_fields([make_splat(count=count).gaussians for count in (7, 0, 13)])
    save_splat(tmp_path / f"a{suffix}", splat)
    loaded = load_splat(tmp_path / f"a{suffix}")
    assert loaded.fields == ((7, 0, 13) if suffix in (".safetensors", ".ply") else ())
    assert [len(field) for field in loaded.apart] == ([7, 0, 13] if loaded.fields else [20])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_splat(tmp_path: Path, suffix: str) -> None:
    save_splat(tmp_path / f"a{suffix}", make_splat(0))
    assert len(load_splat(tmp_path / f"a{suffix}")) == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parameters_that_require_gradients_or_are_not_contiguous(tmp_path: Path, suffix: str) -> None:
    splat = make_splat(10)
    wide = {name: value.double().repeat_interleave(2, 0)[::2] for name, value in splat.gaussians.parameters().items()}
    odd = Splat(Gaussians(**{name: value.requires_grad_() for name, value in wide.items()}), splat.background)
    for name, each in (("odd", odd), ("plain", Splat(splat.gaussians, splat.background))):
        save_splat(tmp_path / f"{name}{suffix}", each)
    assert (tmp_path / f"odd{suffix}").read_bytes() == (tmp_path / f"plain{suffix}").read_bytes()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spz_keeps_to_its_quantisation(tmp_path: Path, degree: int) -> None:
    splat = make_splat(300, degree)
    save_splat(tmp_path / "a.spz", splat)
    loaded = load_splat(tmp_path / "a.spz")
    want, got = splat.gaussians, loaded.gaussians
    assert loaded.antialiased is True
    assert got.sh_degree == degree
    assert (got.means - want.means).abs().max() <= want.means.abs().max() / 2**22
    assert (got.scales - want.scales).abs().max() <= 1 / 32 + 1e-6
    assert same_rotation(got.quats, want.quats) < 0.006
    assert (got.opacities.sigmoid() - want.opacities.sigmoid()).abs().max() <= 0.5 / 255 + 1e-6
    assert (got.sh0 - want.sh0).abs().max() <= 0.5 / 255 / 0.15 + 1e-6
    if degree:
        error = (got.shN - want.shN.clamp(-1, 127 / 128)).abs().amax((0, 2))
        assert error[:3].max() <= 4.5 / 128
        assert degree == 1 or error[3:].max() <= 16 / 128


def test_spz_stores_far_positions_coarsely_but_rightly(tmp_path: Path) -> None:
    splat = make_splat(20)
    splat.gaussians.means[0] = torch.tensor([1e5, -1e5, 3.0])
    save_splat(tmp_path / "a.spz", splat)
    assert (load_splat(tmp_path / "a.spz").gaussians.means - splat.gaussians.means).abs().max() <= 1 / 64
    splat.gaussians.means[0, 0] = 1e7
    with pytest.raises(SplatError, match="8388607"):
        save_splat(tmp_path / "b.spz", splat)
    assert not (tmp_path / "b.spz").exists()


def test_opaque_and_transparent_stay_finite(tmp_path: Path) -> None:
    splat = make_splat(2)
    splat.gaussians.opacities[:] = torch.tensor([90.0, -90.0])
    for suffix in (".spz", ".splat"):
        save_splat(tmp_path / f"a{suffix}", splat)
        opacities = load_splat(tmp_path / f"a{suffix}").gaussians.opacities.sigmoid().sort().values
        torch.testing.assert_close(opacities, torch.tensor([0.5 / 255, 1 - 0.5 / 255]))


def test_splat_keeps_to_its_quantisation(tmp_path: Path) -> None:
    splat = make_splat(300)
    save_splat(tmp_path / "a.splat", splat)
    assert (tmp_path / "a.splat").stat().st_size == 300 * 32
    got, want = load_splat(tmp_path / "a.splat").gaussians, splat.gaussians
    assert got.sh_degree == 0
    order = (want.means[None] - got.means[:, None]).abs().sum(2).argmin(1)
    assert len(set(order.tolist())) == 300
    want = want[order]
    assert torch.equal(got.means, want.means)
    torch.testing.assert_close(got.scales, want.scales, atol=1e-6, rtol=1e-6)
    assert same_rotation(got.quats, want.quats) < 0.03
    assert (got.opacities.sigmoid() - want.opacities.sigmoid()).abs().max() <= 0.5 / 255 + 1e-6
    colour = (0.5 + SH_C0 * want.sh0).clamp(0, 1)
    assert (0.5 + SH_C0 * got.sh0 - colour).abs().max() <= 0.5 / 255 + 1e-6
    importance = want.scales.sum(1) + torch.nn.functional.logsigmoid(want.opacities)
    assert (importance.diff() <= 1e-5).all()


@pytest.mark.parametrize("degree", [0, 3])
def test_open3d_reads_our_ply(tmp_path: Path, degree: int) -> None:
    splat = make_splat(40, degree)
    save_splat(tmp_path / "a.ply", splat)
    cloud, gaussians = from_open3d(tmp_path / "a.ply"), splat.gaussians
    np.testing.assert_array_equal(cloud["positions"], gaussians.means)
    np.testing.assert_allclose(cloud["scale"], gaussians.scales.exp(), rtol=1e-6)
    np.testing.assert_array_equal(cloud["rot"], gaussians.quats)
    np.testing.assert_array_equal(cloud["opacity"][:, 0], gaussians.opacities)
    np.testing.assert_array_equal(cloud["f_dc"], gaussians.sh0[:, 0])
    if degree:
        np.testing.assert_array_equal(cloud["f_rest"], gaussians.shN)


def test_open3d_reads_our_splat_file(tmp_path: Path) -> None:
    splat = make_splat(40)
    save_splat(tmp_path / "a.splat", splat)
    cloud, gaussians = from_open3d(tmp_path / "a.splat"), load_splat(tmp_path / "a.splat").gaussians
    np.testing.assert_array_equal(cloud["positions"], gaussians.means)
    np.testing.assert_allclose(cloud["scale"], gaussians.scales.exp(), rtol=1e-6)
    np.testing.assert_allclose(cloud["f_dc"], gaussians.sh0[:, 0], atol=1e-5)
    assert same_rotation(torch.from_numpy(cloud["rot"]), gaussians.quats) < 1e-5
    inner = gaussians.opacities.abs() < 5
    np.testing.assert_allclose(cloud["opacity"][inner, 0], gaussians.opacities[inner], atol=1e-4)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_open3d_reads_our_spz(tmp_path: Path, degree: int) -> None:
    """Open3D holds Niantic's own reader, and leaves the axes as the file has them: right, up, back."""
    save_splat(tmp_path / "a.spz", make_splat(60, degree))
    cloud, gaussians = from_open3d(tmp_path / "a.spz"), load_splat(tmp_path / "a.spz").gaussians
    turn = torch.tensor([1.0, -1.0, -1.0])
    np.testing.assert_allclose(cloud["positions"] * turn.numpy(), gaussians.means, atol=1e-6)
    np.testing.assert_allclose(cloud["scale"], gaussians.scales.exp(), rtol=1e-5)
    rotations = torch.from_numpy(cloud["rot"]) * torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert same_rotation(rotations, gaussians.quats) < 1e-5
    directions = torch.nn.functional.normalize(torch.randn(60, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    stored = torch.from_numpy(
        np.concatenate([cloud["f_dc"][:, None], cloud.get("f_rest", np.zeros((60, 0, 3), np.float32))], 1)
    )
    ours = torch.cat([gaussians.sh0, gaussians.shN], 1)
    torch.testing.assert_close(
        (harmonics(directions * turn, degree)[:, :, None] * stored).sum(1),
        (harmonics(directions, degree)[:, :, None] * ours).sum(1),
        atol=1e-4,
        rtol=1e-4,
    )


def test_we_read_open3ds_ply(tmp_path: Path) -> None:
    splat = make_splat(30)
    save_splat(tmp_path / "a.ply", splat)
    for ascii in (False, True):
        o3d.t.io.write_point_cloud(
            str(tmp_path / "b.ply"), o3d.t.io.read_point_cloud(str(tmp_path / "a.ply")), write_ascii=ascii
        )
        loaded = load_splat(tmp_path / "b.ply")
        for name, value in splat.gaussians.parameters().items():
            torch.testing.assert_close(loaded.gaussians.parameters()[name], value, atol=1e-5, rtol=1e-5)
        assert loaded.background == (0, 0, 0)
        assert loaded.antialiased is False


def test_loads_in_another_order_endianness_and_type_with_further_elements(tmp_path: Path) -> None:
    splat = make_splat(7, 1)
    save_splat(tmp_path / "a.ply", splat)
    header, _, data = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[2].decode() for line in header.splitlines() if line.startswith(b"property")]
    table = np.frombuffer(data, "<f4").reshape(7, len(names))
    order = np.random.default_rng(0).permutation(len(names))
    fields = [(names[i], ">f8" if names[i] == "x" else ">f4") for i in order] + [("label", "u1")]
    rows = np.zeros(7, fields)
    for i in order:
        rows[names[i]] = table[:, i]
    lines = ["ply", "format binary_big_endian 1.0", "obj_info other", "element camera 2", "property double fov"]
    lines += ["element vertex 7"]
    types = {">f8": "double", ">f4": "float32", "u1": "uchar"}
    lines += [f"property {types[type_]} {name}" for name, type_ in fields]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    (tmp_path / "b.ply").write_bytes("\r\n".join(lines).encode() + np.zeros(2, ">f8").tobytes() + rows.tobytes())
    loaded = load_splat(tmp_path / "b.ply")
    for name, value in splat.gaussians.parameters().items():
        assert torch.equal(loaded.gaussians.parameters()[name], value), name


def test_spz_version_2(tmp_path: Path) -> None:
    """Version 2 written by hand: one Gaussian turned by 90 degrees about x, in right, up, back axes."""
    header = struct.pack("<IIIBBBB", 0x5053474E, 2, 1, 0, 12, 0, 0)
    position = b"".join((value & 0xFFFFFF).to_bytes(3, "little") for value in (4096, -8192, 12288))
    body = position + bytes([128]) + bytes([255, 128, 0]) + bytes([160, 144, 128]) + bytes([218, 128, 127])
    (tmp_path / "a.spz").write_bytes(gzip.compress(header + body))
    gaussians = load_splat(tmp_path / "a.spz").gaussians
    assert gaussians.means.tolist() == [[1, 2, -3]]
    assert gaussians.scales.tolist() == [[0, -1, -2]]
    expected = torch.tensor([[0.5**0.5, 0.5**0.5, 0, 0]])
    assert same_rotation(gaussians.quats, expected) < 0.02
    rotations = torch.from_numpy(from_open3d(tmp_path / "a.spz")["rot"]) * torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert same_rotation(rotations, gaussians.quats) < 1e-5
