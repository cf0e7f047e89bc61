"""Sparse models of COLMAP (Schönberger and Frahm, Structure-from-Motion Revisited, 2016), binary or text."""

from __future__ import annotations

from pathlib import Path


def find_model(root: Path) -> Path | None:
    """The folder below ``root`` that holds a COLMAP model, or None."""
    for folder in (root / "sparse" / "0", root / "sparse", root / "colmap" / "sparse" / "0", root):
        if all((folder / f"{part}.bin").is_file() for part in ("cameras", "images")) or all(
            (folder / f"{part}.txt").is_file() for part in ("cameras", "images")
        ):
            return folder
    return None
