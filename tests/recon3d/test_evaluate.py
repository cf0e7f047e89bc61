"""``recon3d test``: what it measures, writes and refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.errors import SceneError
from datasets.pictures import read_picture
from datasets.types import Cameras, Photo, Scene, View
from recon3d.evaluate import compare, evaluate, evaluate_run, means, names, table
from recon3d.metrics import avge, composite, psnr, ssim
from recon3d.metrics.lpips import Lpips, LpipsWeightsError
from recon3d.pictures import draw
from recon3d.splats import load_splat


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSE3D_LPIPS", raising=False)
    monkeypatch.setenv("SPARSE3D_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


def alex() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
    state = {}
    for i, (out, into, kernel) in enumerate(shapes):
        state[f"conv{i}.weight"] = 0.05 * torch.randn(out, into, kernel, kernel, generator=generator)
        state[f"conv{i}.bias"] = torch.zeros(out)
        state[f"lin{i}.weight"] = torch.rand(1, out, 1, 1, generator=generator)
    return state


def metrics_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


@pytest.mark.usefixtures("no_weights")
def test_without_weights_the_rest_is_measured_and_the_reason_stated(
    fitted_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_run(fitted_run.folder, report=False)
    metrics = metrics_of(fitted_run.folder)
    assert [image["name"] for image in metrics["images"]] == ["photo_1", "photo_3"]
    assert metrics["train"] == ["photo_0.png", "photo_2.png", "photo_4.png"]
    assert metrics["gaussians"] == 150
    assert metrics["mean"]["lpips_vgg"] is None
    assert metrics["mean"]["avge"] is None
    assert "--lpips PATH" in metrics["notes"]["lpips_vgg"]
    printed = capsys.readouterr().out
    assert "no weights found" in printed
    assert f"{metrics['mean']['psnr']:.2f}" in printed
    summary = metrics["uncertainty"]
    assert (
        f"AUSE {summary['ause']:.3f} (of a prediction that says nothing: {summary['ause_of_chance']:.3f}), "
        f"measured over predicted {summary['measured_over_predicted']:.2f}\n"
    ) in printed

    splat = load_splat(fitted_run.folder / "splat.safetensors")
    for image, index in zip(metrics["images"], (1, 3), strict=True):
        colour = draw(splat, fitted_run.cameras[index]).colour
        pixels = read_picture(fitted_run.scene / f"photo_{index}.png")
        assert pixels is not None
        photo = torch.from_numpy(pixels.astype(np.float32) / 255)
        assert image["psnr"] == pytest.approx(psnr(colour, photo), abs=1e-5)  # real numbers, not the 8 bit picture
        assert image["ssim"] == pytest.approx(ssim(colour, photo), abs=1e-6)
    assert metrics["mean"]["psnr"] == pytest.approx(np.mean([image["psnr"] for image in metrics["images"]]))


@pytest.mark.usefixtures("no_weights")
def test_masked_measures_where_a_view_has_a_mask(fitted_run: Any) -> None:
    evaluate_run(fitted_run.folder, report=False)
    masked, plain = metrics_of(fitted_run.folder)["images"]
    assert masked["psnr_masked"] != masked["psnr"]
    assert "psnr_masked" not in plain
    assert metrics_of(fitted_run.folder)["mean"]["psnr_masked"] == masked["psnr_masked"]


@pytest.mark.usefixtures("no_weights")
def test_pictures_of_every_test_view(fitted_run: Any) -> None:
    evaluate_run(fitted_run.folder, report=False)
    folder = fitted_run.folder / "renders" / "test"
    expected = {f"photo_{i}{kind}.png" for i in (1, 3) for kind in ("", "_photo", "_depth", "_error", "_predicted")}
    assert {path.name for path in folder.iterdir()} == expected
    for name in expected:
        picture = read_picture(folder / name)
        assert picture is not None
        assert picture.shape == (54, 72, 3)
        assert picture.std() > 3  # not empty
    np.testing.assert_array_equal(
        read_picture(folder / "photo_1_photo.png"), read_picture(fitted_run.scene / "photo_1.png")
    )


def test_both_conventions_of_lpips_and_avge(fitted_run: Any, tmp_path: Path) -> None:
    torch.save(alex(), tmp_path / "alex.pt")
    evaluate_run(fitted_run.folder, lpips=str(tmp_path / "alex.pt"), report=False)
    metrics = metrics_of(fitted_run.folder)
    image = metrics["images"][0]
    assert 0 < image["lpips_alex"] != image["lpips_alex_papers"]
    assert image["avge"] == pytest.approx(avge(image["psnr"], image["ssim"], image["lpips_alex_papers"]))
    assert metrics["lpips_weights"] == str(tmp_path / "alex.pt")
    assert metrics["notes"] == {}


@pytest.mark.usefixtures("no_weights")
def test_a_moved_scene_is_found_by_root(fitted_run: Any, tmp_path: Path) -> None:
    fitted_run.scene.rename(tmp_path / "elsewhere")
    with pytest.raises(SceneError, match="there is no such folder"):
        evaluate_run(fitted_run.folder, report=False)
    evaluate_run(fitted_run.folder, root=tmp_path / "elsewhere", report=False)
    assert len(metrics_of(fitted_run.folder)["images"]) == 2


@pytest.mark.usefixtures("no_weights")
def test_runs_that_cannot_be_tested(fitted_run: Any, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no such folder"):
        evaluate_run(tmp_path / "nothing")
    with pytest.raises(SceneError, match=r"holds no splat.safetensors"):
        evaluate_run(fitted_run.scene)
    (tmp_path / "bad.pt").write_bytes(b"bad")
    with pytest.raises(LpipsWeightsError, match=r"bad.pt"):
        evaluate_run(fitted_run.folder, lpips=str(tmp_path / "bad.pt"))
    config = fitted_run.folder / "config.yaml"
    for content, message in (
        ("data: [", "not readable YAML"),
        ("model: {}", "no section `data`"),
        ("data: {}", "does not open a scene"),
        (f"data: {{root: {fitted_run.scene}, nonsense: 1}}", "nonsense"),
        (f"data: {{root: {fitted_run.scene}, train: [0, 1], test: []}}", "has no test views"),
    ):
        config.write_text(content)
        with pytest.raises(SceneError, match=message):
            evaluate_run(fitted_run.folder)
    config.unlink()
    with pytest.raises(SceneError, match=r"config.yaml: there is no such file"):
        evaluate_run(fitted_run.folder)
    assert not (fitted_run.folder / "metrics.json").exists()


def scene_of(views: list[View], stems: list[str]) -> Scene:
    count = len(views)
    height, width = views[0].image.shape[:2]
    poses = torch.eye(4).repeat(count, 1, 1)
    poses[:, 0, 3] = torch.arange(count)
    cameras = Cameras(poses, torch.eye(3).repeat(count, 1, 1), torch.tensor([[width, height]]).repeat(count, 1))
    photos = tuple(
        Photo(Path(f"{i}/{stem}.png"), lambda v=v: v) for i, (v, stem) in enumerate(zip(views, stems, strict=True))
    )
    return Scene("scene", cameras, photos, (), tuple(range(count)))


def test_names_are_unique() -> None:
    view = View(np.zeros((4, 4, 3), np.float32))
    assert names(scene_of([view] * 3, ["a", "b", "a"])) == ["a_0000", "b", "a_0002"]


def test_masked_comparison_composites_on_white() -> None:
    random = torch.Generator().manual_seed(0)
    image, target = torch.rand(40, 50, 3, generator=random), torch.rand(40, 50, 3, generator=random)
    mask = torch.rand(40, 50, generator=random) > 0.4
    network = Lpips(alex(), "random")
    measured = compare(image, target, network, mask)
    white = composite(image, mask), composite(target, mask)
    assert measured["psnr"] == psnr(image, target, mask)
    assert measured["ssim"] == ssim(*white)
    assert measured["lpips_alex"] == network(*white)
    assert compare(image[:20], target[:20], network)["lpips_alex"] is None  # too small for the network


def test_an_empty_mask_has_no_masked_measures(fitted_run: Any) -> None:
    splat = load_splat(fitted_run.folder / "splat.safetensors")
    view = View(np.zeros((8, 8, 3), np.float32), mask=np.zeros((8, 8), bool))
    (measured,) = evaluate(splat, scene_of([view], ["a"]))
    assert "psnr_masked" not in measured
    assert measured["psnr"] is not None


def test_means_and_table() -> None:
    images = [
        {"name": "a", "photo": "a.png", "psnr": 20.0, "lpips_vgg": None, "psnr_masked": 30.0},
        {"name": "longer", "photo": "b.png", "psnr": 24.0, "lpips_vgg": None},
    ]
    assert means(images) == {"psnr": 22.0, "lpips_vgg": None, "psnr_masked": 30.0}
    lines = table(images).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["a", "20.00", "-", "30.00"]
    assert lines[2].split() == ["longer", "24.00", "-", "-"]
    assert lines[3].split() == ["mean", "22.00", "-", "30.00"]
    assert math.isclose(means(images[1:])["psnr"] or 0, 24)
