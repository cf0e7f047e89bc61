"""The command ``recon3d export``, and moving a splat to another world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datasets.types import Cameras
from recon3d.__main__ import main
from recon3d.gaussians import Gaussians
from recon3d.render import render
from recon3d.splats import Splat, SplatError, load_splat, save_splat
from recon3d.splats.export import export_splat
from recon3d.splats.transform import transformed


def small_splat(degree: int = 3) -> Splat:
    generator = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        means=torch.randn(60, 3, generator=generator) * 0.5,
        scales=torch.randn(60, 3, generator=generator) * 0.5 - 2,
        quats=torch.randn(60, 4, generator=generator),
        opacities=torch.randn(60, generator=generator),
        sh0=torch.randn(60, 1, 3, generator=generator) * 0.5,
        shN=torch.randn(60, (degree + 1) ** 2 - 1, 3, generator=generator) * 0.2,
    )
    similarity = np.eye(4)
    similarity[:3, :3] = 2.5 * Rotation.from_rotvec([0.4, -1.1, 2.0]).as_matrix()
    similarity[:3, 3] = 3.0, -1.0, 0.5
    return Splat(gaussians, (0.1, 0.2, 0.3), True, similarity)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "garden"
    save_splat(folder / "splat.safetensors", small_splat())
    return folder


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_moved_splat_looks_the_same_from_moved_cameras(degree: int) -> None:
    splat = small_splat(degree)
    pose = torch.eye(4)[None].repeat(2, 1, 1)
    pose[:, 2, 3] = 3.0
    pose[1, :3, :3] = torch.from_numpy(Rotation.from_rotvec([0.1, 0.3, -0.2]).as_matrix())
    intrinsics = torch.tensor([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(pose, intrinsics, torch.tensor([[60, 40]] * 2))
    scale = np.cbrt(np.linalg.det(splat.scene_to_source[:3, :3]))
    unscaled = pose.double() @ torch.from_numpy(np.linalg.inv(splat.scene_to_source))
    unscaled[:, :3] *= scale
    moved = Cameras(unscaled.float(), intrinsics, cameras.sizes)
    before = render(splat.gaussians, cameras)
    after = render(transformed(splat.gaussians, splat.scene_to_source), moved)
    assert (before.alpha > 0.5).any()
    torch.testing.assert_close(after.colour, before.colour, atol=2e-4, rtol=0)
    torch.testing.assert_close(after.depth_sum, before.depth_sum * scale, atol=2e-3, rtol=1e-3)


def test_moving_there_and_back() -> None:
    splat = small_splat()
    back = transformed(transformed(splat.gaussians, splat.scene_to_source), np.linalg.inv(splat.scene_to_source))
    for name, value in splat.gaussians.parameters().items():
        again = back.parameters()[name]
        if name == "quats":  # q and -q are one rotation
            again = again * (again * value).sum(1, keepdim=True).sign()
        torch.testing.assert_close(again, value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.0, 1, -1, 1]),
        np.diag([1.0, 2, 1, 1]),
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.diag([1.0, 1, 1, 2]),
    ],
)
def test_what_is_no_similarity_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not a similarity"):
        transformed(small_splat().gaussians, matrix)


def test_exports_a_run_in_all_formats(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a" / "b"
    assert main(["export", str(run), "--to", "ply", "spz", "splat", "safetensors", "--out", str(out)]) == 0
    names = ["garden.ply", "garden.spz", "garden.splat", "garden.safetensors"]
    assert capsys.readouterr().out.splitlines() == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    for name in names:
        assert len(load_splat(out / name)) == 60
    assert torch.equal(load_splat(out / "garden.ply").gaussians.shN, small_splat().gaussians.shN)


def test_exports_a_file_beside_itself(run: Path) -> None:
    assert export_splat(run / "splat.safetensors") == [run / "splat.ply"]
    assert export_splat(run) == [run / "garden.ply"]
    assert export_splat(run / "splat.ply", formats=["spz"]) == [run / "splat.spz"]


def test_exports_in_the_frame_of_the_source(run: Path) -> None:
    [path] = export_splat(run, frame="source")
    splat, moved = small_splat(), load_splat(path)
    expected = splat.gaussians.means @ torch.from_numpy(splat.scene_to_source[:3, :3]).float().T + torch.tensor(
        [3.0, -1, 0.5]
    )
    torch.testing.assert_close(moved.gaussians.means, expected)
    np.testing.assert_array_equal(moved.scene_to_source, np.eye(4))
    assert moved.background == splat.background


def test_a_splat_never_replaces_itself(run: Path) -> None:
    with pytest.raises(SplatError, match="--out"):
        export_splat(run / "splat.safetensors", formats=["ply", "safetensors"])
    assert not (run / "splat.ply").exists()


def test_a_splat_that_cannot_be_moved(run: Path) -> None:
    save_splat(run / "flat.ply", replace(small_splat(), scene_to_source=np.diag([1.0, 1, 0, 1])))
    with pytest.raises(SplatError, match=r"flat\.ply.*--frame scene"):
        export_splat(run / "flat.ply", formats=["spz"], frame="source")


def test_errors_of_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path)]) == 1
    assert "splat.safetensors" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "absent.ply")]) == 1
    assert "absent.ply: no such file" in capsys.readouterr().err
    for arguments, words in (
        (["--to", "obj"], ["obj", "ply", "spz", "splat", "safetensors"]),
        (["--frame", "world"], ["world", "scene", "source"]),
        (["--form", "ply"], ["--form"]),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["export", str(run), *arguments])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words), said
