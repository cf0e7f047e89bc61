"""Scenes and clouds that are small enough to know what a picture of them must show."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datasets.types import Cameras
from tests.recon3d.report.conftest import FLAGS, PATIENCE, Browser
from viewer.viewpoint import Viewpoint

WIDTH, HEIGHT = 64, 48


@pytest.fixture
def ahead() -> Cameras:
    """At the origin, looking along z."""
    return Viewpoint(np.zeros(3), np.array([0.0, 0, 1]), np.array([0.0, -1, 0]), 60.0).camera(WIDTH, HEIGHT)


@pytest.fixture
def scene_folder(tmp_path: Path) -> Path:
    """Three photos in a row, each of one colour, that look along z."""
    folder = tmp_path / "scene"
    folder.mkdir()
    frames = []
    for i, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255))):
        cv2.imwrite(str(folder / f"photo_{i}.png"), np.full((HEIGHT, WIDTH, 3), colour[::-1], np.uint8))
        pose = np.eye(4)
        pose[0, 3] = 1.0 - i
        focal = {"fx": 50, "fy": 50, "cx": WIDTH / 2, "cy": HEIGHT / 2}
        frames.append({"file": f"photo_{i}.png", "width": WIDTH, "height": HEIGHT, **focal, "w2c": pose.tolist()})
    (folder / "cameras.json").write_text(json.dumps({"frames": frames}))
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Path]:
    """Writes a cloud of points [N, C] as .bin and gives its path."""

    def write(points: np.ndarray, name: str = "sweep.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(np.asarray(points, "<f4").tobytes())
        return path

    return write


SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
SETTLED = """view3d.then((v) => new Promise((done) => {
  const look = () => {
    const splats = v.layers.filter((layer) => layer.splats && layer.visible);
    const still = !v.wished && v.coarse === 1 && v.pictures > 0;
    if (still && splats.every((layer) => layer.splats.settled)) done(true); else setTimeout(look, 20);
  };
  setTimeout(look, 20);
}))"""
PIXELS = """view3d.then((v) => {
  v.draw();
  const { width, height } = v.canvas, bytes = new Uint8Array(4 * width * height);
  v.gl.readPixels(0, 0, width, height, v.gl.RGBA, v.gl.UNSIGNED_BYTE, bytes);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text) + " " + width + " " + height;
})"""


class Tab(Browser):
    """A page of the viewer in Chromium, which draws WebGL on the CPU."""

    def visit(self, address: str, width: int, height: int) -> None:
        """Open a page, and wait until it has drawn what it shows."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=address)
        deadline = time.monotonic() + PATIENCE
        while not self.value("document.readyState === 'complete' && typeof view3d === 'object'"):
            assert time.monotonic() < deadline, "the page does not finish loading"
            time.sleep(0.05)
        self.settle()

    def settle(self) -> None:
        """Wait until splats are sorted and drawn for where one looks from."""
        assert self.value(SETTLED)

    def pixels(self) -> np.ndarray:
        """What is drawn, uint8 [H, W, 3], without the panel."""
        self.settle()
        text, width, height = self.value(PIXELS).split()
        rgba = np.frombuffer(base64.b64decode(text), np.uint8).reshape(int(height), int(width), 4)
        return rgba[::-1, :, :3].copy()


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Any]:
    """A browser with an empty profile; skips where none is installed."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed: the page is not opened in a browser")
    flags = tuple(flag for flag in FLAGS if flag != "--disable-gpu")
    opened = Tab(program, tmp_path / "profile", (*flags, *SOFTWARE_GL))
    try:
        yield opened
        opened.close()
    finally:
        opened.process.kill()
        opened.process.wait()
