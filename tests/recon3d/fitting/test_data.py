"""Which photo each step sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datasets.errors import InputError
from recon3d.fitting.data import SceneData, StepLoader, view_at


def test_every_epoch_sees_every_view_once_in_an_order_of_its_own() -> None:
    epochs = [[view_at(step, 5, 7) for step in range(start, start + 5)] for start in range(0, 100, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10
    assert epochs != [[view_at(step, 5, 8) for step in range(start, start + 5)] for start in range(0, 100, 5)]


def test_loader_goes_on_from_its_state() -> None:
    whole = list(StepLoader(3, 20, 1))
    assert whole == [view_at(step, 3, 1) for step in range(20)]
    loader = StepLoader(3, 20, 1)
    begun = iter(loader)
    first = [next(begun) for _ in range(8)]
    other = StepLoader(3, 20, 1)
    other.load_state_dict(loader.state_dict())
    assert first + list(other) == whole


def test_only_train_photos_are_opened(wall: Path, tmp_path: Path) -> None:
    for path in wall.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in ("3.png", "4.png"):
        (tmp_path / name).write_bytes(b"a test photo that nobody may open")
    data = SceneData(tmp_path)
    data.setup("fit")
    assert len(data.views) == 3
    (tmp_path / "1.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"1\.png"):
        SceneData(tmp_path).setup("fit")


def test_batches_hold_the_photos(wall: Path) -> None:
    data = SceneData(wall)
    data.setup("fit")
    batch = data.transfer_batch_to_device(1, torch.device("cpu"), 0)
    assert batch is data.batch(1, torch.device("cpu")), "made once"
    assert batch.index == 1
    assert batch.camera.size == (40, 30)
    assert batch.camera.intrinsics.dtype == torch.float32
    torch.testing.assert_close(batch.camera.centres, torch.tensor([[0.4, 0.1, -2.0]]))
    assert torch.equal(batch.target.image, torch.from_numpy(data.views.views[1].image))
    assert batch.target.mask is None
