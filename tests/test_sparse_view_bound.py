"""The benchmark of what photos show of test views: geometry that is known by construction."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from datasets.types import Cameras, View

WIDTH, HEIGHT, FOCAL = 40, 20, 40.0


@pytest.fixture(scope="module")
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("sparse_view_bound")


def cameras(*x: float) -> Cameras:
    """Cameras that look along z from places on the x axis."""
    intrinsics = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(len(x), 1, 1)
    poses[:, 0, 3] = -torch.tensor(x, dtype=torch.float64)
    return Cameras(poses, intrinsics.repeat(len(x), 1, 1), torch.tensor([[WIDTH, HEIGHT]]).repeat(len(x), 1))


def wall(depth: float | None, colour: float) -> View:
    known = None if depth is None else np.full((HEIGHT, WIDTH), depth, np.float32)
    return View(np.full((HEIGHT, WIDTH, 3), colour, np.float32), None, known)


def test_what_lies_beside_a_photo_is_not_shown(script: ModuleType) -> None:
    # A quarter of a photo's width to the right: 10 px of disparity at depth 4.
    there = cameras(0.0, 1.0)
    seen, colours = script.shown(wall(4.0, 0.5), there[1], [wall(4.0, 0.25)], there[:1])
    assert seen[:, :30].all()
    assert not seen[:, 30:].any()
    assert (colours[seen] == 0.25).all()
    assert (colours[~seen] == 0).all()


def test_what_lies_behind_a_photo_s_own_depth_is_hidden(script: ModuleType) -> None:
    there = cameras(0.0, 0.0, 0.0)
    for depth, visible in ((3.0, False), (4.1, True), (8.0, True), (0.0, True), (None, True)):
        seen, _ = script.shown(wall(4.0, 0.5), there[0], [wall(depth, 0.2)], there[1:2])
        assert seen.all() == seen.any() == visible, depth
    _, colours = script.shown(
        wall(4.0, 0.5), there[0], [wall(4.0, 0.2), wall(3.0, 0.9), wall(4.0, 0.4)], cameras(0, 0, 0)
    )
    assert colours == pytest.approx(0.3)


def test_pixels_without_depth_are_not_shown(script: ModuleType) -> None:
    view = wall(4.0, 0.5)
    assert view.depth is not None
    view.depth[:10] = 0
    seen, _ = script.shown(view, cameras(0.0)[0], [wall(4.0, 0.2)], cameras(0.0))
    assert not seen[:10].any()
    assert seen[10:].all()


def test_table_of_a_real_room(
    script: ModuleType, shared_data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", str(shared_data("scenes/rgbd_hololens000"))])
    script.main()
    *_, last = capsys.readouterr().out.strip().splitlines()
    _, known, seen, colour, _, most, unknown = (cell.strip() for cell in last.strip("|").split("|"))
    assert 0 < float(seen) < float(known) < 1
    assert float(colour) < float(most) < float(unknown)
