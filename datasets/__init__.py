"""Scenes and point clouds shared by both halves: cameras, images, depth, points, boxes, and their on-disk formats."""

from pathlib import Path


def _refuse_shadowed() -> None:
    """Raise ImportError when another distribution's ``datasets`` would be, or was, found in our place."""
    here = Path(__file__).resolve().parent
    if not (here / "types.py").is_file():
        raise ImportError(
            f"'datasets' was found at {here}, which is not sparse-vision-3d's package. Another distribution of "
            "that name is installed: use a fresh virtual environment, then `pip install -e .` in the project's folder."
        )


_refuse_shadowed()
