"""The benchmark of depth priors, the whole script on small photos."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from recon3d.pictures import draw
from tests.recon3d.conftest import FittedRun

Run = Callable[..., tuple[list[str], list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("priors")


@pytest.fixture
def run(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the script, without compiling first, which only times need: the lines and the rows that it leaves."""
    monkeypatch.setattr(script, "compile_kernels", lambda: None)

    def call(*options: str) -> tuple[list[str], list[dict[str, Any]]]:
        out = tmp_path / "out.json"
        monkeypatch.setattr(sys, "argv", ["priors.py", *options, "--json", str(out)])
        script.main()
        return capsys.readouterr().out.splitlines(), json.loads(out.read_text())["rows"]

    return call


@pytest.fixture
def scene(fitted_run: FittedRun) -> Path:
    """A folder of five photos, of which three may train, with their depth."""
    path = fitted_run.scene / "cameras.json"
    description = json.loads(path.read_text())
    for i, frame in enumerate(description["frames"]):
        frame["depth"] = f"depth_{i}.npy"
        np.save(fitted_run.scene / frame["depth"], draw(fitted_run.truth, fitted_run.cameras[i]).depth)
    path.write_text(json.dumps(description))
    return fitted_run.scene


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_accuracy_where_the_depth_is_known(run: Run, scene: Path) -> None:
    lines, rows = run("--rgbd", str(scene), "--views", "2", "--only", "photos")
    head = ["abs_rel", "within_1", "within_3", "within_10", "coverage", "all_within_3"]
    assert cells(lines[0]) == ["scene", "prior", "pixels", *head, "CPU s", "wall s"]
    assert all(len(cells(line)) == len(cells(lines[0])) for line in lines)
    priors = {"flow, last target", "EpipolarFlow", "PlaneSweep", "MultiViewStereo", "ProjectedCloud"}
    assert {row["prior"] for row in rows} == priors | {"Fusion", "as configured"}
    assert [cells(line)[1:3] for line in lines[2:]] == [[row["prior"], row["pixels"]] for row in rows]
    for row in rows:
        assert row["scene"].startswith("scene, photos ")
        assert 0 <= row["all_within_3"] <= row["coverage"] <= 1
        if row["pixels"] == "known":
            assert row["coverage"] > 0
            assert all(math.isfinite(row[key]) for key in (*head, "cpu_seconds", "wall_seconds"))


def test_the_built_in_scene_comes_at_two_three_and_six_views(script: ModuleType) -> None:
    assert {title: len(scene.train) for title, scene in script.scenes(None, 6).items()} == {
        f"built-in, {count} views": count for count in (2, 3, 6)
    }


def test_the_time_of_stereo_on_photos(run: Run, scene: Path) -> None:
    lines, rows = run("--photos", str(scene), "--downscale", "2")
    assert cells(lines[0]) == ["scene", "photos", "size", "prior", "known", "CPU s", "wall s"]
    assert [cells(line)[:4] for line in lines[2:]] == [
        ["scene", "3", "36x27", prior] for prior in ("MultiViewStereo", "PlaneSweep")
    ]
    for row in rows:
        assert 0 < row["known"] <= 1
        assert row["cpu_seconds"] >= 0
        assert row["wall_seconds"] >= 0
