"""Fitting never opens a test photo: Python's audit hook watches every file that is opened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datasets.scenes import open_scene
from datasets.types import Scene
from recon3d.views import TrainingViews

_watchers: list[list[str]] = []


def _note(event: str, arguments: tuple) -> None:
    if _watchers and event == "open":
        _watchers[-1].append(str(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_note)  # stays for the life of the process, and notes nothing unless watched


@contextmanager
def watched() -> Iterator[list[str]]:
    opened: list[str] = []
    _watchers.append(opened)
    try:
        yield opened
    finally:
        _watchers.pop()


def expect_no_test_photo_opened(open_it: Callable[[], Scene]) -> None:
    with watched() as opened:
        scene = open_it()
        TrainingViews.load(scene)
    files = {str(Path(name).resolve()) for name in opened}
    train, test = ({str(scene.photos[i].path.resolve()) for i in part} for part in (scene.train, scene.test))
    assert train <= files, "the hook sees what is opened"
    assert test
    assert not test & files


@pytest.mark.parametrize("kind", ["cameras_json", "transforms", "llff"])
@pytest.mark.parametrize("downscale", [1, 2])
def test_opening_and_loading_for_training_opens_no_test_photo(truth, tmp_path: Path, kind: str, downscale: int) -> None:
    getattr(truth, f"write_{kind}")(tmp_path)
    expect_no_test_photo_opened(lambda: open_scene(tmp_path, split="llff", views=3, downscale=downscale))


REAL = {
    "llff_fern": {"split": "llff", "views": 3, "downscale": 8},
    "strecha_fountain-P11": {"split": "llff", "views": 3},
    "fox": {"split": "llff", "views": 6, "downscale": 4},
    "blender_lego": {"split": "blender8", "views": 8, "downscale": 2},
    "rgbd_hololens000": {"split": "llff", "views": 6},
}


@pytest.mark.parametrize("name", REAL)
def test_real_scenes_too(shared_data, name: str) -> None:
    root = shared_data(f"scenes/{name}")
    expect_no_test_photo_opened(lambda: open_scene(root, **REAL[name]))


def test_a_test_photo_may_even_be_unreadable(truth, tmp_path: Path) -> None:
    truth.write_llff(tmp_path)
    for index in (0, 8):
        (tmp_path / "images" / f"view_{index}.png").write_bytes(b"not an image")
    scene = open_scene(tmp_path, split="llff", views=3)
    assert len(TrainingViews.load(scene)) == 3
    with pytest.raises(ValueError, match="view_8"):
        scene.photos[8].load()
