"""The command ``recon3d demo`` with its own configuration, made small."""

import json
import math

import pytest
import yaml

from datasets.errors import InputError
from recon3d import demo


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The demo's configuration with few steps and small photos."""
    config = yaml.safe_load(demo.CONFIG.read_text(encoding="utf-8"))
    config.setdefault("data", {})["downscale"] = 4
    config["trainer"]["max_steps"] = 3
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(demo, "CONFIG", path)
    return path


def test_demo_makes_everything_it_names_and_replaces_an_earlier_one(small, tmp_path, capsys):
    out = tmp_path / "demo"
    demo.demo(out=out)
    (out / "renders" / "of_before").mkdir(parents=True)
    demo.demo(out=out)
    assert not (out / "renders" / "of_before").exists()
    printed = capsys.readouterr().out
    for name in ("report.html", "video.mp4", "demo.ply", "demo.spz", "demo.splat"):
        assert (out / name).stat().st_size > 0
        assert str(out / name) in printed
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["images"]) == 8
    assert math.isfinite(metrics["mean"]["psnr"])
    assert metrics["train"] == ["train_00.png", "train_06.png", "train_11.png"]


def test_a_folder_of_something_else_is_left_alone(small, tmp_path, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="ended early"):
        demo.demo(out=tmp_path / "demo")
    assert str(tmp_path / "demo") in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["mine.txt"]


def test_without_the_projects_folder_the_mend_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "CONFIG", tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="pip install -e"):
        demo.demo(out=tmp_path / "demo")
