"""The report in Chromium: it shows without complaints or requests, and what can be moved moves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from recon3d.evaluate import evaluate_run
from recon3d.novel_views import render


@pytest.fixture
def page(fitted_run: Any) -> Path:
    evaluate_run(fitted_run.folder, report=False)
    render(fitted_run.folder, frames=5)
    return fitted_run.folder / "report.html"


FRAME = "document.querySelector('.stage:not([hidden]) .frame')"


def boxes(browser: Any, selector: str) -> list[list[float]]:
    """x, y, width, height of the elements that are shown."""
    found = browser.value(
        f"JSON.stringify([...document.querySelectorAll({json.dumps(selector)})].map(e => e.getBoundingClientRect())"
        ".filter(b => b.width > 0).map(b => [b.x, b.y, b.width, b.height]))"
    )
    return json.loads(found)


def test_slider_tabs_and_axes(browser: Any, page: Path) -> None:
    browser.open(page)
    browser.value("document.querySelector('.viewer').scrollIntoView()")
    ((x, y, width, height),) = boxes(browser, ".stage .frame")
    handle = boxes(browser, ".handle")[0]
    assert handle[0] + handle[2] / 2 == pytest.approx(x + width / 2, abs=2)

    browser.drag((x + width / 2, y + height / 2), (x + 0.2 * width, y + height / 2))
    handle = boxes(browser, ".handle")[0]
    assert handle[0] + handle[2] / 2 == pytest.approx(x + 0.2 * width, abs=0.03 * width)
    clip = browser.value(f"getComputedStyle({FRAME}.querySelector('.render')).clipPath")
    cut = re.fullmatch(r"inset\(0px ([\d.]+)% 0px 0px\)", clip)
    assert cut is not None, clip
    assert float(cut[1]) == pytest.approx(80, abs=3)

    assert browser.value(f"{FRAME}.querySelector('.beside.photo').hidden") is False
    browser.value("document.querySelector('[data-kind=depth]').click()")
    assert browser.value(f"{FRAME}.querySelector('.beside.photo').hidden") is True
    assert browser.value(f"{FRAME}.querySelector('.beside.depth').hidden") is False
    assert "Depth" in browser.value(f"{FRAME}.querySelector('.label.right').textContent")

    browser.value("document.querySelectorAll('[data-view]')[1].click()")
    assert "photo_3" in browser.value("document.querySelector('.stage:not([hidden]) .measures').textContent")
    assert browser.value(f"{FRAME}.querySelector('.beside.depth').hidden") is False  # the choice stays

    assert len(boxes(browser, ".by-steps .curve")) == 3
    assert boxes(browser, ".by-seconds .curve") == []
    browser.value("document.querySelector('[data-axis=seconds]').click()")
    assert len(boxes(browser, ".by-seconds .curve")) == 3
    assert boxes(browser, ".by-steps .curve") == []

    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.resolve().as_uri()]


def test_the_render_is_left_of_the_handle(browser: Any, page: Path, tmp_path: Path) -> None:
    """Seen in a screenshot: with the handle at either end, the frame shows the one picture or the other."""
    browser.open(page)
    shots = {}
    for kind, share in (("render", 100), ("photo", 0)):
        browser.value(
            f"(() => {{ const s = {FRAME}.querySelector('input'); s.value = {share}; "
            f"s.dispatchEvent(new Event('input')); {FRAME}.scrollIntoView(); }})()"
        )
        ((x, y, width, height),) = boxes(browser, ".stage .frame")
        browser.screenshot(tmp_path / "shot.png", whole=False)
        pixels = cv2.imread(str(tmp_path / "shot.png"))
        assert pixels is not None
        # without the lower part, where the labels are, and the ends, where the handle is
        shown = pixels[round(y) : round(y + 0.8 * height), round(x + 0.05 * width) : round(x + 0.95 * width)]
        suffix = "" if kind == "render" else "_photo"
        picture = cv2.imread(str(page.parent / "renders" / "test" / f"photo_1{suffix}.png"))
        assert picture is not None
        large = cv2.resize(picture, (round(width), round(height)), interpolation=cv2.INTER_LINEAR)
        expected = large[: shown.shape[0], round(0.05 * width) : round(0.05 * width) + shown.shape[1]]
        shots[kind] = shown.astype(int)
        assert np.abs(shown.astype(int) - expected).mean() < 6, kind
    assert np.abs(shots["render"] - shots["photo"]).mean() > 0.5


def test_the_video_plays(browser: Any, page: Path) -> None:
    browser.open(page)
    told = browser.value(
        "new Promise(done => { const v = document.querySelector('video'); "
        "const tell = () => done(JSON.stringify([v.videoWidth, v.videoHeight, v.duration, v.error?.message ?? null])); "
        "if (v.readyState > 1 || v.error) tell(); else { v.onloadeddata = tell; v.onerror = tell; } })"
    )
    width, height, duration, error = json.loads(told)
    assert error is None
    assert (width, height) == (72, 54)
    assert duration == pytest.approx(5 / 30, abs=0.02)


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_of_it(browser: Any, page: Path, dark: bool) -> None:
    browser.open(page, 390, 844, dark=dark, touch=True)
    assert browser.value("document.documentElement.scrollWidth") == 390
    ((_, _, width, _),) = boxes(browser, ".stage .frame")
    assert width > 330
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background[4:-1].split(","))
    assert brightness < 150 if dark else brightness > 600


def test_hostile_configuration_runs_nothing(browser: Any, fitted_run: Any) -> None:
    from recon3d.report import write_report

    path = fitted_run.folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["note"] = "</pre><script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    path.write_text(yaml.safe_dump(config))
    browser.open(write_report(fitted_run.folder))
    assert browser.value("document.title") == "scene · recon3d"
    assert browser.complaints == []
