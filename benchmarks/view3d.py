"""How soon the viewer shows large scenes, how quick it is then, and what memory that takes.

    python benchmarks/view3d.py --json out.json [--cases splat-100000 cloud-2000000] [--no-page]

Cases: splats of 10,000, 100,000 and 1,000,000 Gaussians (a bumpy ground, SH degree 3, as .ply) and clouds of 100,000
and 2,000,000 points (as .bin), each in a process of its own. Of each: seconds from path to first picture, beyond
what starting the program and loading its packages takes; the process's peak memory; pictures a second at 640x360, in
full and while one orbits in the window (where what takes long is drawn with less detail). Splats in the window are what
``recon3d`` renders on the CPU: there is no other way of drawing them, so this is also the speed without a GPU.

The page is opened in headless Chromium, which draws WebGL on the CPU (SwiftShader): seconds until it shows the scene,
its size, and the frames that it draws while it orbits, counted by requestAnimationFrame. A laptop's own GPU is quicker.
A 2048^3 matrix product in each process is the machine's yardstick.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does, before torch is loaded

import numpy as np
import torch

from datasets.files import replacing
from recon3d.gaussians import Gaussians
from recon3d.rasteriser import thread_count
from recon3d.splats import Splat, save_splat
from viewer.page import write_html
from viewer.reading import Contents, open_all
from viewer.splats import installed_openers
from viewer.stage import Stage

CASES = ("splat-10000", "splat-100000", "splat-1000000", "cloud-100000", "cloud-2000000")
SIZE = (640, 360)
TURN = 0.01  # of the picture's height that the mouse goes from one frame to the next
ORBIT = """view3d.then((v) => new Promise((done) => {
  const began = performance.now(), before = v.pictures;
  const step = () => {
    v.camera.turn(0.04, 0);
    v.moved();
    const passed = (performance.now() - began) / 1000;
    if (passed < SECONDS || v.pictures < before + 3) requestAnimationFrame(step);
    else done((v.pictures - before) / passed);
  };
  requestAnimationFrame(step);
}))"""


def ground(count: int) -> np.ndarray:
    """[N, 3] points of a bumpy ground of 10 x 10; y is down."""
    random = np.random.default_rng(0)
    x, z = random.uniform(-5, 5, (2, count))
    y = 0.4 * np.sin(2 * x) * np.cos(1.5 * z) + 0.1 * np.sin(9 * x + 5 * z)
    return np.stack([x, y, z], axis=1).astype(np.float32)


def write_splat(path: Path, count: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    means = torch.from_numpy(ground(count))
    colour = torch.stack([torch.sin(3 * means[:, 0]), torch.sin(2 * means[:, 2]), 4 * means[:, 1]], dim=1)
    gaussians = Gaussians(
        means=means,
        scales=math.log(6 / math.sqrt(count)) + 0.4 * normal(count, 3),
        quats=normal(count, 4),
        opacities=1 + 1.5 * normal(count),
        sh0=colour[:, None],
        shN=0.05 * normal(count, 15, 3),
    )
    save_splat(path, Splat(gaussians))


def write_cloud(path: Path, count: int) -> None:
    points = ground(count)[:, [0, 2, 1]] * [8, 8, -2]
    np.concatenate([points, np.ones((count, 1))], axis=1).astype("<f4").tofile(path)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def matmul_ms() -> float:
    a = torch.randn(2048, 2048)
    a @ a
    return round(1e3 * float(np.median([seconds(lambda: a @ a) for _ in range(5)])), 1)


def in_window(path: Path, span: float) -> tuple[dict[str, Any], Contents]:
    """Seconds to the first picture, then pictures a second."""
    began = time.perf_counter()
    contents = open_all([path], installed_openers())
    stage = Stage(contents)
    stage.picture(*SIZE)
    result: dict[str, Any] = {"open_seconds": round(time.perf_counter() - began, 2)}

    def in_full() -> None:
        stage.view = stage.view.turned(4 * TURN, 0)
        stage.picture(*SIZE)

    def orbit() -> None:
        stage.drag(TURN, 0, "orbit")
        stage.picture(*SIZE)

    for name, step in (("in_full_fps", in_full), ("orbit_fps", orbit)):
        step()
        runs: list[float] = []
        while sum(runs) < span or len(runs) < 3:
            runs.append(seconds(step))
        result[name] = round(1 / float(np.median(runs)), 1)
    return result, contents


def in_page(contents: Contents, folder: Path, span: float) -> dict[str, Any]:
    """Size and speed of the self-contained page; nothing where no Chromium is installed."""
    from tests.recon3d.report.conftest import FLAGS
    from tests.viewer.conftest import SOFTWARE_GL, Tab

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if program is None:
        return {}
    page = folder / "page.html"
    result: dict[str, Any] = {"page_write_seconds": round(seconds(lambda: write_html(contents, page)), 2)}
    result["page_mb"] = round(page.stat().st_size / 2**20, 1)
    flags = tuple(flag for flag in FLAGS if flag != "--disable-gpu")
    tab = Tab(program, folder / "profile", (*flags, *SOFTWARE_GL))
    try:
        result["page_open_seconds"] = round(seconds(lambda: tab.visit(page.as_uri(), *SIZE)), 2)
        result["page_orbit_fps"] = round(tab.value(ORBIT.replace("SECONDS", str(span))), 1)
        tab.close()
    finally:
        tab.process.kill()
        tab.process.wait()
    return result


def measure(case: str, span: float, with_page: bool) -> dict[str, Any]:
    """All figures of one case, in this process."""
    write, suffix = (write_splat, ".ply") if case.startswith("splat") else (write_cloud, ".bin")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / f"small{suffix}", 1000)
        in_window(folder / f"small{suffix}", 0)  # loads packages and compiled kernels
        path = folder / f"{case}{suffix}"
        # Made elsewhere, so that its memory is not counted.
        subprocess.run([sys.executable, __file__, "--write", case, str(path)], check=True)
        result, contents = in_window(path, span)
        result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        result["file_mb"] = round(path.stat().st_size / 2**20, 1)
        if with_page:
            result |= in_page(contents, folder, span)
    return result | {"matmul_2048_ms": matmul_ms()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--span", type=float, default=3.0, help="seconds that each speed is measured for")
    parser.add_argument("--no-page", action="store_true", help="leave the browser out")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(thread_count())
    if options.write:
        case, path = options.write
        kind, _, count = case.partition("-")
        (write_splat if kind == "splat" else write_cloud)(Path(path), int(count))
        return
    if options.one:
        with contextlib.redirect_stdout(sys.stderr):
            result = measure(options.one, options.span, not options.no_page)
        print(json.dumps(result))
        return
    results: dict[str, Any] = {"threads": thread_count(), "size": SIZE, "cases": {}}
    for case in options.cases:
        command = [sys.executable, __file__, "--one", case, "--span", str(options.span)]
        command += ["--no-page"] if options.no_page else []
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results["cases"][case] = json.loads(done.stdout)
        print(case, *(f"{key} {value}" for key, value in results["cases"][case].items()), sep="\n  ", flush=True)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
