"""Simulated sweeps that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datasets.errors import SceneError
from datasets.pointclouds.simulator import SimulatedStreets, StoredStreets


def test_a_stored_sweep_is_the_simulated_one_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = StoredStreets(tmp_path, 2, ("Car",), beams="vlp16", seed=3)
    wanted = SimulatedStreets(2, ("Car",), beams="vlp16", seed=3)[1]
    for _ in range(2):
        sample = stored[1]
        assert (sample.frame, sample.channels, sample.class_names) == (
            wanted.frame,
            wanted.channels,
            wanted.class_names,
        )
        assert torch.equal(sample.points, wanted.points)
        assert sample.boxes is not None
        assert wanted.boxes is not None
        for name in ("boxes", "labels", "point_counts"):
            assert torch.equal(getattr(sample.boxes, name), getattr(wanted.boxes, name))
        monkeypatch.setattr(SimulatedStreets, "__getitem__", None)  # the second time nothing is made
    files = list(tmp_path.rglob("*.safetensors"))
    assert len(files) == 1
    files[0].write_bytes(files[0].read_bytes()[:-10])
    with pytest.raises(SceneError, match="Delete it"):
        stored[1]


def test_other_settings_are_kept_apart(tmp_path: Path) -> None:
    folders = {
        StoredStreets(tmp_path, 2, names, beams=beams, seed=seed).folder
        for names in (("Car",), ("Car", "Van"))
        for beams in ("hdl64", "vlp16")
        for seed in (0, 1)
    }
    assert len(folders) == 8


@pytest.mark.parametrize("index", [-1, 2])
def test_no_sweep_beyond_the_count(tmp_path: Path, index: int) -> None:
    with pytest.raises(IndexError):
        StoredStreets(tmp_path, 2, ("Car",), beams="vlp16")[index]
