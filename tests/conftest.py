"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Finds real data, e.g. ``shared_data("scenes/llff_fern")``; skips, saying so, where it is absent."""
    base = Path(os.environ.get("SPARSE3D_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = base / name
        if not path.exists():
            pytest.skip(f"no real data at {path}: put it there or set SPARSE3D_DATA")
        return path

    return find
