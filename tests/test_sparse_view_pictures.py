"""The pictures of the benchmark over scenes: which renders, how they lie on the sheet, what the curves show."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from datasets.pictures import read_picture, save_picture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("sparse_view_pictures")


def row(seconds: float, psnr: float | None, spread: float | None = None) -> dict[str, Any]:
    values = {"fit_seconds": seconds, "psnr": psnr, "lpips_vgg_papers": psnr}
    return {"mean": values, "std": dict.fromkeys(values, spread)}


def renders(script: ModuleType, folder: Path, names: list[str], shape: tuple[int, int] = (20, 30)) -> Path:
    for i, name in enumerate(names):
        for k, kind in enumerate(script.KINDS):
            save_picture(folder / f"{name}{kind}.png", np.full((*shape, 3), 10 * i + k, np.uint8))
    return folder


def test_the_middle_test_view_is_shown_with_all_its_maps(script: ModuleType, tmp_path: Path) -> None:
    folder = renders(script, tmp_path, ["c", "a", "b"])
    found = script.middle_view(folder)
    assert [int(picture[0, 0, 0]) for picture in found] == [20, 21, 22, 23]  # b, which was written third
    (folder / "b_predicted.png").unlink()
    assert script.middle_view(folder) is None
    assert script.middle_view(tmp_path / "nothing") is None


def test_pictures_of_other_shapes_share_columns(script: ModuleType) -> None:
    wide, tall = (np.full((*shape, 3), 0, np.uint8) for shape in ((100, 300), (300, 100)))
    result = script.sheet([[wide] * 4, [tall] * 4])
    width = 3 * script.HEIGHT
    assert result.shape == (script.HEAD + 2 * (script.HEIGHT + script.GAP), 4 * (width + script.GAP) + script.GAP, 3)
    first = result[script.HEAD + 1, script.GAP : script.GAP + width]
    second = result[script.HEAD + script.HEIGHT + script.GAP + 1, script.GAP : script.GAP + width]
    assert (first == 0).all()
    dark = np.flatnonzero((second == 0).all(-1))
    assert len(dark) == round(script.HEIGHT / 3)
    assert abs(dark.mean() - (width - 1) / 2) <= 1


def test_curves_are_of_rows_with_a_budget_by_time(script: ModuleType) -> None:
    rows = {
        "default": {"fern_3": row(200, 24.4)},
        "budget_60s": {"fern_3": row(59, 24.0, 0.1), "fox_6": row(59, 19.0)},
        "budget_30s": {"fern_3": row(29, 23.5, 0.2), "lego_8": row(29, None)},
    }
    found = script.over_time({"rows": rows}, "psnr")
    assert found == {"fern_3": [(29, 23.5, 0.2), (59, 24.0, 0.1)]}


def test_a_diagram_is_a_picture_whose_points_lie_as_the_values_do(script: ModuleType) -> None:
    lines = {"a < b": [script.Point(30, 1.0, 0.25), script.Point(60, 2.0, 0.0)]}
    root = ElementTree.fromstring(script.diagrams({"PSNR": lines, "LPIPS": lines}))
    assert "a < b" in [text.text for text in root.iter(f"{SVG}text")]
    first, second, *others = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter(f"{SVG}circle")]
    assert len(others) == 2
    assert first[0] < second[0]
    assert first[1] > second[1]
    curve = next(path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("stroke-width"))
    x, top, bottom = curve.split("M")[2].replace("V", " ").split()
    assert float(x) == first[0]
    assert float(top) < first[1] < float(bottom)


def test_the_command_draws_what_there_is(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sparse_view_pictures.py", str(tmp_path)])
    assert script.main() == 1
    assert "run benchmarks/sparse_view.py first" in capsys.readouterr().err

    table = tmp_path / "table.json"
    table.write_text(json.dumps({"rows": {"default": {"fern_3": row(200, 24.4)}}}))
    assert script.main() == 1
    assert "no renders" in capsys.readouterr().out

    renders(script, tmp_path / "fern_3" / "default" / "seed_0" / "renders" / "test", ["one"])
    rows = {f"budget_{n}s": {"fern_3": row(n, 24.0)} for n in (30, 60)}
    table.write_text(json.dumps({"rows": {"default": {"fern_3": row(200, 24.4)}, **rows}}))
    assert script.main() == 0
    picture = read_picture(tmp_path / "views.jpg")
    assert picture is not None
    assert picture.shape[0] == script.HEAD + script.HEIGHT + script.GAP
    assert len(list(ElementTree.parse(tmp_path / "time.svg").iter(f"{SVG}circle"))) == 4
