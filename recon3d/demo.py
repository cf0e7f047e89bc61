"""The command ``recon3d demo``: the other commands, one after another, on the scene that needs no files."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from datasets.errors import InputError
from recon3d.__main__ import main

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "recon3d" / "demo.yaml"
FORMATS = ("ply", "spz", "splat")


def demo(*, out: Path = Path("demo"), views: int = 3) -> None:
    """Fit the built-in scene from a few of its photos, show novel views, export the splat, and measure.

    Takes a few minutes on a laptop and downloads nothing. The commands are printed as they run: the same ones serve
    for other scenes. An earlier demo in the same folder is replaced.

    Args:
        out: Folder of the run.
        views: Number of photos to fit, 3 to 12.
    """
    if not CONFIG.is_file():
        raise InputError(f"{CONFIG}: there is no such file. Install the project with `pip install -e .` in its folder")
    began = time.perf_counter()
    for command in (
        ["fit", "--config", CONFIG, "--data.root", "builtin", "--data.views", views, "--out", out, "--overwrite"],
        ["render", out, "--path", "between"],
        ["export", out, "--to", *FORMATS],
        ["test", out],
    ):
        arguments = [str(word) for word in command]
        print(f"\n$ recon3d {shlex.join(arguments)}", flush=True)
        if code := main(arguments):
            raise InputError(f"the demo ended early: `recon3d {arguments[0]}` gave exit code {code}")
    print(f"\nThe demo took {time.perf_counter() - began:.0f} s. Open these:")
    splats = [out / f"{out.resolve().name}.{format_}" for format_ in FORMATS]
    for what, paths in (("report", [out / "report.html"]), ("video", [out / "video.mp4"]), ("splat", splats)):
        print(f"  {what:<7} {', '.join(map(str, paths))}")
