"""What every test may ask for."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

# No deadline: a busy machine, and kernels that are compiled when they are first called, are no failures.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")

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


@pytest.fixture(scope="session")
def benchmark_script() -> Callable[[str], ModuleType]:
    """Imports a script of benchmarks/, which is no package, e.g. ``benchmark_script("sparse_view")``."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
