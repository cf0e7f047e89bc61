"""The report's content and structure: complete, self-contained, safe against hostile names, small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml

from datasets.errors import SceneError
from datasets.pictures import save_picture
from recon3d.evaluate import evaluate_run
from recon3d.novel_views import render
from recon3d.report import media, report, write_report
from recon3d.report.chart import calibration_chart, chart, nice_ticks, number, running_mean
from recon3d.report.content import MOST_PHOTOS, MOST_PREVIEWS, MOST_VIEWS
from recon3d.report.page import PHOTO_SIDE, PREVIEW_SIDE, VIEW_SIDE, label
from recon3d.video import write_video

VOID = {"meta", "img", "input", "link", "br", "hr", "circle", "line", "path"}


class Page(HTMLParser):
    """Elements as (tag, attributes), their text, and whether tags are balanced."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.source = path.read_text()
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        """Attributes of the elements ``tag`` whose attributes contain ``wanted``; class_ is class."""
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in wanted.items()}
        return [
            a for t, a in self.elements if t == tag and all(v in (a.get(k) or "").split() for k, v in wanted.items())
        ]


@pytest.fixture
def tested_run(fitted_run: Any) -> Any:
    evaluate_run(fitted_run.folder, report=False)
    return fitted_run


def test_a_full_report(tested_run: Any) -> None:
    run = tested_run.folder
    (run / "previews").mkdir()
    for step in (1, 100, 500):
        save_picture(run / "previews" / f"step_{step:06d}.png", np.full((54, 216, 3), 90, np.uint8))
    render(run, frames=5)
    page = Page(run / "report.html")
    metrics = json.loads((run / "metrics.json").read_text())
    assert page.all("h1")
    assert "scene" in page.text
    assert len(page.all("video")) == 1
    assert len(page.all("img", class_="render")) == len(page.all("input", type="range")) == 2
    for kind in ("photo", "depth", "error", "predicted"):
        assert len(page.all("img", class_=kind)) == 2
    for text in (
        *("photo_0.png", "photo_2.png", "photo_4.png", "step 000100", "sh_degree: 0"),
        *(f"{metrics['mean'][key]:.4f}" for key in ("ssim", "ssim_masked")),
        *(f"{image['psnr']:.2f}" for image in metrics["images"]),
        *(
            "From outside",
            "Where the photos were taken",
            "Where it is guessed",
            f"mean error) is {metrics['uncertainty']['ause']:.2f}",
            f"mean predicted one is {metrics['uncertainty']['measured_over_predicted']:.2f}",
        ),
        *("torch 2", "recon3d fit --config RUN/config.yaml", "25.0 s", "LPIPS VGG (papers)"),
    ):
        assert text in page.text, text
    assert len(page.all("figure", class_="chart")) == 4


def test_metrics_without_the_ratio_have_it_by_their_curve(tested_run: Any) -> None:
    path = tested_run.folder / "metrics.json"
    metrics = json.loads(path.read_text())
    ratio = metrics["uncertainty"].pop("measured_over_predicted")
    path.write_text(json.dumps(metrics))
    assert f"mean predicted one is {ratio:.2f}" in Page(write_report(tested_run.folder)).text


def test_nothing_is_asked_for_from_elsewhere(tested_run: Any) -> None:
    render(tested_run.folder, frames=3)
    page = Page(tested_run.folder / "report.html")
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "poster", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, name)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    policy = page.all("meta", http_equiv="Content-Security-Policy")[0]["content"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_an_untested_run_has_a_report_that_says_what_to_do(fitted_run: Any) -> None:
    page = Page(write_report(fitted_run.folder))
    assert "recon3d test RUN" in page.text
    assert "recon3d render RUN" in page.text
    assert not page.all("table")
    assert not page.all("video")
    (fitted_run.folder / "history.json").unlink()
    assert not Page(write_report(fitted_run.folder)).all("figure", class_="chart")


def test_photos_that_are_gone_are_said_to_be(tested_run: Any, tmp_path: Path) -> None:
    tested_run.scene.rename(tmp_path / "elsewhere")
    page = Page(write_report(tested_run.folder))
    assert "The photos cannot be shown" in page.text
    assert len(page.all("img", class_="render")) == 2
    page = Page(write_report(tested_run.folder, root=tmp_path / "elsewhere"))
    assert "photo_0.png" in page.text


HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>&amp;"


def test_hostile_names_and_configuration_stay_text(tested_run: Any) -> None:
    run = tested_run.folder
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["note"] = HOSTILE + "</pre></section></main>"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = json.loads((run / "metrics.json").read_text())
    name = "".join(c for c in HOSTILE if c != "/")  # a file name on disk has no slash
    for kind in ("", "_photo", "_depth", "_error", "_predicted"):
        (run / "renders" / "test" / f"photo_1{kind}.png").rename(run / "renders" / "test" / f"{name}{kind}.png")
    metrics["images"][0]["name"] = name
    metrics["images"][0][HOSTILE] = metrics["mean"][HOSTILE] = 0.5
    metrics["notes"] = {HOSTILE: HOSTILE}
    metrics["lpips_weights"] = HOSTILE
    (run / "metrics.json").write_text(json.dumps(metrics))
    before = Page(write_report(run))
    assert len(before.all("script")) == 1
    assert not [attributes for _, attributes in before.elements if "onerror" in attributes]
    assert len(before.all("img", class_="render")) == 2
    assert before.text.count("alert(1)") >= 5


def test_names_cannot_reach_other_files(tested_run: Any, tmp_path: Path) -> None:
    save_picture(tmp_path / "secret.png", np.zeros((4, 4, 3), np.uint8))
    save_picture(tmp_path / "secret_photo.png", np.zeros((4, 4, 3), np.uint8))
    metrics = json.loads((tested_run.folder / "metrics.json").read_text())
    metrics["images"][0]["name"] = "../../../secret"
    (tested_run.folder / "metrics.json").write_text(json.dumps(metrics))
    assert len(Page(write_report(tested_run.folder)).all("img", class_="render")) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", "{", "not readable JSON"),
        ("metrics.json", "[]", "does not hold metrics"),
        ("metrics.json", '{"images": [{"psnr": 1}]}', "does not hold metrics"),
        ("metrics.json", '{"images": [], "mean": 3}', "does not hold metrics"),
        (
            "metrics.json",
            '{"images": [], "uncertainty": {"predicted": [1], "measured": ["<b>"]}}',
            "does not hold metrics",
        ),
        (
            "metrics.json",
            '{"images": [], "uncertainty": {"predicted": [1, 2], "measured": [1]}}',
            "does not hold metrics",
        ),
        (
            "metrics.json",
            '{"images": [], "uncertainty": {"predicted": [1], "measured": [NaN], "ause": 0, "ause_of_chance": 0}}',
            "does not hold metrics",
        ),
        ("history.json", "{}}", "not readable JSON"),
        ("history.json", '[{"step": "x"}]', "does not hold a history"),
        ("history.json", "3", "does not hold a history"),
        ("config.yaml", "[1", "not readable YAML"),
    ],
)
def test_files_of_a_run_that_cannot_be_read(fitted_run: Any, name: str, content: str, message: str) -> None:
    (fitted_run.folder / name).write_text(content)
    with pytest.raises(SceneError, match=message) as caught:
        write_report(fitted_run.folder)
    assert name in str(caught.value)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"config.yaml: there is no such file"):
        report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_large_pictures_and_videos_are_embedded_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 1200, 3), dtype=np.uint8)
    assert media.shrunk(noise, 300).shape == (150, 300, 3)
    assert media.shrunk(noise, 2000) is noise
    assert len(media.picture(noise, 300)) < len(media.picture(noise, 1200)) / 4
    monkeypatch.setattr(media, "LARGEST_VIDEO", 100_000)
    write_video(tmp_path / "video.mp4", (noise for _ in range(8)), crf=18)
    whole = (tmp_path / "video.mp4").stat().st_size
    embedded = media.video(tmp_path / "video.mp4")
    assert whole > 400_000
    assert embedded.startswith("data:video/mp4;base64,")
    assert len(embedded) < whole / 2


def test_of_many_views_eight_are_shown(tested_run: Any) -> None:
    run = tested_run.folder
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["images"] = [{"name": f"v{i:02d}", "psnr": 20.0} for i in range(40)]
    for i in range(40):
        for kind in ("", "_photo", "_depth", "_error", "_predicted"):
            picture = run / "renders" / "test" / f"photo_1{kind}.png"
            (run / "renders" / "test" / f"v{i:02d}{kind}.png").hardlink_to(picture)
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = Page(write_report(run))
    assert len(page.all("img", class_="render")) == 8
    assert "8 of 40 are shown" in page.text
    assert page.text.count("20.00") >= 40  # the table has them all


def test_the_largest_report_stays_below_15_mb() -> None:
    """By its parts, with pictures as noisy as photos of leaves get."""
    random = np.random.default_rng(0)
    smooth = cv2.resize(
        random.integers(0, 255, (90, 140, 3), dtype=np.uint8), (1400, 900), interpolation=cv2.INTER_CUBIC
    )
    leaves = (smooth + random.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
    view, photo = len(media.picture(leaves, VIEW_SIDE)), len(media.picture(leaves, PHOTO_SIDE))
    preview = len(media.picture(leaves, PREVIEW_SIDE, 75))
    assert MOST_VIEWS * 4 * view + MOST_PHOTOS * photo + MOST_PREVIEWS * preview + media.LARGEST_VIDEO * 4 / 3 < 15e6


# Charts


def test_ticks_are_round_and_enclose() -> None:
    for low, high in ((0, 1), (0.0134, 0.27), (15.8, 23.1), (0, 116000), (-3, 5), (1e-9, 2e-9)):
        ticks = nice_ticks(low, high, 4)
        assert ticks[0] <= low + 1e-12
        assert ticks[-1] >= high - 1e-12
        assert 2 <= len(ticks) <= 7
        assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
    for constant in (0, 5, -2, 150):
        ticks = nice_ticks(constant, constant, 4)
        assert ticks[0] < constant < ticks[-1]


def test_numbers_for_people() -> None:
    shown = [number(x) for x in (0, 22.345, 0.012345, 116512, 1000, 100, 0.5, -3.25)]
    assert shown == ["0", "22.34", "0.01235", "116,512", "1,000", "100", "0.5", "-3.25"]


def test_running_mean() -> None:
    assert running_mean([0, 3, 6, 9], 1) == [1.5, 3, 6, 7.5]
    assert running_mean([4.0], 5) == [4]


def test_a_chart_leaves_out_what_is_not_finite_and_thins_out() -> None:
    values = [float("nan"), float("inf"), *np.linspace(1, 2, 5000)]
    drawn = chart("title <b>", {"steps": range(5002), "seconds": range(5002)}, values, smooth=True)
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert "title &lt;b&gt;" in drawn
    assert len(drawn) < 60_000
    assert "No values" in chart("x", {"steps": [1]}, [float("nan")])
    assert chart("x", {"steps": [0], "seconds": [0]}, [3.0]).count("<path") == 2


def test_a_calibrated_curve_lies_on_the_diagonal() -> None:
    predicted = [0.01, 0.02, 0.05, 0.1]

    def above(measured: list[float]) -> np.ndarray:
        """[4] pixels by which the curve is above the diagonal."""
        figure = ElementTree.fromstring(calibration_chart(predicted, measured, 1.0))
        line, curve = figure.find(".//line[@class='diagonal']"), figure.find(".//path[@class='curve']")
        assert line is not None
        assert curve is not None
        x1, y1, x2, y2 = (float(line.get(key, "")) for key in ("x1", "y1", "x2", "y2"))
        x, y = np.array([point.split() for point in curve.get("d", "").lstrip("M").split("L")], float).T
        return y1 + (y2 - y1) * (x - x1) / (x2 - x1) - y

    np.testing.assert_allclose(above(predicted), 0, atol=0.11)
    assert (above([2 * error for error in predicted]) > 5).all()
    assert (above([error / 2 for error in predicted]) < -5).all()
    drawn = calibration_chart(predicted, predicted, 0.995)
    for text in (">Measured over predicted error<b>0.99<", ">calibrated<", ">measured error<", ">predicted error<"):
        assert text in drawn
    assert "nan" not in calibration_chart([0.0], [0.0], 0.0)


def test_labels() -> None:
    assert label("lpips_vgg_papers_masked") == "LPIPS VGG (papers), masked"
    assert label("psnr") == "PSNR"
    assert label("something") == "something"
