"""A small configuration on disk, and what its training needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))  # so that class_path finds toy.py

from toy import CONFIG


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network only waits for a second one
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration's file."""
    path = tmp_path / "toy.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def arguments(config: Path) -> Callable[..., list[str]]:
    """Makes the arguments of ``detect3d fit`` into a folder, with further options at the end."""

    def make(out: Path, *more: str) -> list[str]:
        return [f"--config={config}", f"--out={out}", *more]

    return make


@pytest.fixture(scope="package")
def fitted(tmp_path_factory: pytest.TempPathFactory, _one_thread: None) -> Path:
    """The folder of a finished run."""
    from detection.training.command import fit

    folder = tmp_path_factory.mktemp("fitted")
    (folder / "toy.yaml").write_text(CONFIG)
    fit([f"--config={folder / 'toy.yaml'}", f"--out={folder / 'run'}"])
    return folder / "run"
