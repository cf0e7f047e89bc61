"""The window on a display of its own (Xvfb), with mouse and keys as a person gives them (xdotool).

What is compared is the display's picture, read from Xvfb's memory.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recon3d.viewing import open_for_viewing
from tests.recon3d.conftest import FittedRun, fitted_run
from viewer.drawing import draw
from viewer.reading import open_all
from viewer.splats import installed_openers
from viewer.views import first_view

__all__ = ["fitted_run"]
PATIENCE = 150.0
SCREEN = (900, 600)
SIZE = (700, 400)


class Display:
    """A screen nobody sees."""

    def __init__(self, folder: Path) -> None:
        read_end, write_end = os.pipe()
        screen = f"{SCREEN[0]}x{SCREEN[1]}x24"
        command = [
            "Xvfb",
            "-displayfd",
            str(write_end),
            "-screen",
            "0",
            screen,
            "-fbdir",
            str(folder),
            "-nolisten",
            "tcp",
        ]
        self.process = subprocess.Popen(command, pass_fds=[write_end], stderr=subprocess.DEVNULL)
        os.close(write_end)
        with os.fdopen(read_end) as told:
            number = told.readline().strip()
        assert number, "Xvfb does not start"
        self.environment = {**os.environ, "DISPLAY": f":{number}"}
        self._memory = folder / "Xvfb_screen0"

    def picture(self) -> np.ndarray:
        """RGB uint8 [H, W, 3] of the whole screen (the memory is an XWD file)."""
        data = self._memory.read_bytes()
        header = struct.unpack(">25I", data[:100])
        start, width, height, row, colours = header[0], header[4], header[5], header[12], header[19]
        bgrx = np.frombuffer(data, np.uint8, row * height, start + 12 * colours).reshape(height, row // 4, 4)
        return bgrx[:, :width, 2::-1].astype(int)

    def do(self, *words: object) -> str:
        """Mouse and keys."""
        command = ["xdotool", *map(str, words)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def settled(self, region: tuple[slice, slice]) -> np.ndarray:
        """The picture of a region once it has stayed the same for a second: what changes later is an answer."""
        deadline, before = time.monotonic() + PATIENCE, self.picture()[region]
        while True:
            time.sleep(1)
            after = self.picture()[region]
            if not np.any(after != before):
                return after
            assert time.monotonic() < deadline, "the window does not come to rest"
            before = after

    def wait(self, condition: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
        """The picture once ``condition`` holds for it."""
        deadline = time.monotonic() + PATIENCE
        while not condition(picture := self.picture()):
            assert time.monotonic() < deadline, f"the window does not show {what}"
            time.sleep(0.1)
        return picture


@pytest.fixture
def display(tmp_path: Path) -> Iterator[Display]:
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: no window is opened")
    (tmp_path / "screen").mkdir()
    made = Display(tmp_path / "screen")
    try:
        yield made
    finally:
        made.process.terminate()
        made.process.wait(30)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def _differs(before: np.ndarray, region: tuple[slice, slice], picture: np.ndarray) -> bool:
    return bool(np.any(picture[region] != before))


def test_a_person_uses_the_window(display: Display, fitted_run: FittedRun, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "viewer", str(fitted_run.folder), "--size", f"{SIZE[0]}x{SIZE[1]}"]
    root = Path(__file__).resolve().parents[2]
    environment = {**display.environment, "PYTHONPATH": str(root)}
    log = tmp_path / "log.txt"
    with log.open("w") as out:
        window = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=out, stderr=out)
    try:
        contents = open_all([fitted_run.folder], installed_openers())
        view = first_view(contents)

        display.wait(lambda p: p.max() > 0 or window.poll() is not None, "anything")
        assert window.poll() is None, log.read_text()
        found = display.do("search", "--sync", "--onlyvisible", "--name", "view3d").split()[0]
        place = dict(
            line.split("=") for line in display.do("getwindowgeometry", "--shell", found).split() if "=" in line
        )
        left, top = int(place["X"]), int(place["Y"])
        assert (int(place["WIDTH"]), int(place["HEIGHT"])) == SIZE

        width = SIZE[0] - 17 * 16  # beside the panel of 17 letters, each 16 pixels on a screen of 96 dots an inch

        def shown(picture: np.ndarray) -> np.ndarray:
            return picture[top : top + SIZE[1], left : left + width]

        expected = draw(contents.layers, view.camera(width, SIZE[1]))
        start = display.wait(lambda p: psnr(shown(p), expected) > 35, "what a shot shows")
        splat = open_for_viewing(fitted_run.folder)
        assert splat is not None
        alone = splat.render(view.camera(width, SIZE[1]), width, SIZE[1]).image * 255
        assert psnr(shown(start), alone) > 20  # with frusta before it

        middle = (left + width // 2, top + SIZE[1] // 2)
        window.send_signal(signal.SIGSTOP)  # a busy program takes a drag in when it is over
        display.do("mousemove", *middle, "mousedown", 1)
        display.do("mousemove", middle[0] + 40, middle[1] + 10)
        display.do("mousemove", middle[0] + 80, middle[1] + 20, "mouseup", 1)
        window.send_signal(signal.SIGCONT)
        turned = view.turned(4 * 80 / SIZE[1], 4 * 20 / SIZE[1])
        expected = draw(contents.layers, turned.camera(width, SIZE[1]))
        display.wait(lambda p: psnr(shown(p), expected) > 30, "the orbit of a drag")

        display.do("click", 4, "click", 4)
        nearer = draw(contents.layers, turned.nearer(np.exp(-0.3)).camera(width, SIZE[1]))
        display.wait(lambda p: psnr(shown(p), nearer) > 30, "what is nearer after the wheel")

        display.do("key", "r")
        display.wait(lambda p: psnr(shown(p), shown(start)) > 35, "the start again")

        contents.layers[0].visible = False
        without = draw(contents.layers, view.camera(width, SIZE[1]))
        tick = (left + width + 27, top + 45)  # of the first layer
        around = np.s_[top + 35 : top + 55, tick[0] - 10 : tick[0] + 10]
        for step in (("mousemove", *tick), ("mousedown", 1)):  # the toolkit looks once a frame, and colours what it saw
            before = display.settled(around)
            display.do(*step)
            display.wait(partial(_differs, before, around), step[0])
        display.do("mouseup", 1)
        display.wait(lambda p: psnr(shown(p), without) > 30, "the cameras without the splat")
        display.do("mousemove", *middle, "key", "Escape")
        assert window.wait(PATIENCE) == 0
    finally:
        window.kill()
        window.wait()
    assert "Traceback" not in log.read_text()


def test_without_a_display_the_mend_is_named(scene_folder: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "viewer", str(scene_folder)], env=environment, cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "view3d: there is no display for a window: use --shot OUT.png, --html OUT.html or --web\n"
