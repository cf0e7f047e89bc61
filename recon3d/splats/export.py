"""The command ``recon3d export``: a fitted run, or a splat file, written in other formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.programs.command_line import Parser
from recon3d.splats.errors import SplatError
from recon3d.splats.files import SUFFIXES, load_splat, save_splat
from recon3d.splats.transform import transformed

FRAMES = ("scene", "source")
FORMATS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)


def export(arguments: Sequence[str]) -> None:
    """Run the command line ``recon3d export``."""
    parser = Parser(prog="recon3d export", description="Write the splat of a run, or a splat file, in other formats.")
    parser.add_argument("splat", type=Path, help="Folder of a run, or a splat file.")
    parser.add_argument("--to", nargs="+", choices=FORMATS, default=["ply"], help="Formats to write.")
    parser.add_argument("--out", type=Path, help="Folder to write to; by default that of the splat.")
    parser.add_argument(
        "--frame",
        choices=FRAMES,
        default="scene",
        help="World of the written splat: the scene's, as fitted, or that of the photos' source (COLMAP's, say).",
    )
    given = parser.parse_args(list(arguments))
    for path in export_splat(given.splat, formats=given.to, out=given.out, frame=given.frame):
        print(path)


def export_splat(
    source: Path, *, formats: Sequence[str] = ("ply",), out: Path | None = None, frame: str = "scene"
) -> list[Path]:
    """Write a splat as ``OUT/NAME.FORMAT`` for each format; NAME is that of the run's folder or of the file.

    Args:
        source: folder of a run, or a splat file.
        formats: some of ply, spz, splat, safetensors.
        out: folder to write to; None is the folder of the splat.
        frame: "scene" leaves the Gaussians where they are, "source" moves them by ``scene_to_source``.

    Returns:
        The files written.

    Raises:
        SplatError: for a splat that cannot be read, moved, or held by a format, or that would replace itself.
    """
    is_run = source.is_dir()
    path = source / "splat.safetensors" if is_run else source
    if is_run and not path.is_file():
        raise SplatError(
            source, f"holds no {path.name}", "Give the folder of a finished `recon3d fit`, or a splat file."
        )
    splat = load_splat(path)
    if frame == "source":
        try:
            moved = transformed(splat.gaussians, splat.scene_to_source)
        except ValueError as error:
            raise SplatError(path, f"its scene_to_source is {error}", "Export with --frame scene.") from error
        splat = replace(splat, gaussians=moved, scene_to_source=np.eye(4))
    folder = path.parent if out is None else out
    written = [folder / f"{source.resolve().name if is_run else path.stem}.{format_}" for format_ in formats]
    if path.resolve() in [target.resolve() for target in written]:
        raise SplatError(path, "would be replaced by its own export", "Give another folder with --out.")
    for target in written:
        save_splat(target, splat)
    return written
