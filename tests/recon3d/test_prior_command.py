"""``recon3d prior`` end to end, and the files it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.geometry import project
from datasets.pictures import read_picture
from datasets.scenes import builtin
from recon3d.__main__ import main
from recon3d.prior_command import names_of, write
from recon3d.priors.epipolar_flow import EpipolarFlow
from recon3d.priors.file_depth import FileDepth
from recon3d.priors.fusion import Fusion
from recon3d.priors.measured_depth import MeasuredDepth
from recon3d.priors.multi_view_stereo import MultiViewStereo
from recon3d.priors.plane_sweep import PlaneSweep
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "recon3d" / "demo.yaml"
MEASURED = ("--model.initialiser.prior", "recon3d.priors.measured_depth.MeasuredDepth")


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((120, 90), views=3))


def run(out: Path, *more: str) -> int:
    options = ["--config", str(CONFIG), "--data.root", "builtin", "--data.views", "3", "--data.downscale", "4"]
    return main(["prior", *options, "--out", str(out), *more])


def test_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prior"
    assert run(out, *MEASURED) == 0
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["prior"] == "MeasuredDepth"
    assert len(summary["views"]) == 3
    for row in summary["views"]:
        assert row["name"] in printed
        depth = np.load(out / "depth" / f"{row['name']}.npy")
        assert depth.dtype == np.float32
        assert (depth > 0).mean() == pytest.approx(row["known"])
        picture = read_picture(out / "pictures" / f"{row['name']}.png")
        assert picture is not None
        assert picture.shape == (depth.shape[0], 3 * depth.shape[1], 3)
        assert read_picture(out / "confidence" / f"{row['name']}.png") is not None
    assert run(out, *MEASURED) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(out, *MEASURED, "--overwrite") == 0
    assert run(out, *MEASURED, "--overwrite", "--data.root", str(tmp_path / "nowhere")) == 1
    assert len(list((out / "depth").iterdir())) == 3
    assert run(tmp_path / "none", "--model.initialiser", "recon3d.initialise.SparseInitialiser") == 1
    assert "has no prior" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("prior", "bars"),
    [
        (EpipolarFlow(), ["flow"]),
        (MultiViewStereo(), ["stereo"]),
        (Fusion([EpipolarFlow(), PlaneSweep()]), ["flow", "plane sweep"]),
    ],
)
def test_progress_is_shown_to_its_end(
    still_life: TrainingViews, capsys: pytest.CaptureFixture[str], prior: DepthPrior, bars: list[str]
) -> None:
    prior(still_life)
    shown = capsys.readouterr().err
    for name in bars:
        assert f"{name}:   0%" in shown
        assert f"{name}: 100%" in shown


def test_what_is_written_reads_back(still_life: TrainingViews, tmp_path: Path) -> None:
    to_source = np.diag([2.0, 2, 2, 1])
    to_source[:3, 3] = 1, -2, 3
    estimates = MeasuredDepth()(still_life)
    holed = estimates[0].depth.copy()
    holed[:20] = 0
    estimates[0] = DepthEstimate(holed, np.where(holed > 0, np.float32(0.5), np.float32(0)))
    write(tmp_path, still_life, estimates, to_source)
    for before, after in zip(estimates, FileDepth(tmp_path / "depth")(still_life), strict=True):
        np.testing.assert_array_equal(before.depth, after.depth)
    points = (tmp_path / "points.ply").read_bytes()
    header, _, body = points.partition(b"end_header\n")
    count = int(header.split(b"element vertex ")[1].split()[0])
    assert count == sum(int(e.known.sum()) for e in estimates)
    assert len(body) == count * 19
    vertices = np.frombuffer(body, [("position", "<f4", 3), ("colour", "u1", 3), ("confidence", "<f4")])
    y, x = np.nonzero(holed)
    world = (vertices["position"][: len(x)].astype(np.float64) - to_source[:3, 3]) / 2
    pixels, depth = project(torch.from_numpy(world), still_life.cameras[0].to(dtype=torch.float64))
    np.testing.assert_allclose(pixels[0].numpy(), np.stack([x, y], 1) + 0.5, atol=1e-3)
    np.testing.assert_allclose(depth[0].numpy(), holed[y, x], rtol=1e-4)
    np.testing.assert_array_equal(
        vertices["colour"][: len(x)], np.rint(255 * np.clip(still_life.views[0].image[y, x], 0, 1)).astype(np.uint8)
    )
    assert vertices["confidence"].min() == 0.5


def test_names_that_repeat_are_numbered(still_life: TrainingViews) -> None:
    assert names_of(replace(still_life, names=("a", "a", "b"))) == ("000", "001", "002")
    assert names_of(replace(still_life, names=None)) == ("000", "001", "002")
    assert names_of(still_life) == still_life.names
