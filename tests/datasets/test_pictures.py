"""Pictures come back as they were written, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.pictures import encode, read_picture, save_picture, to_bytes


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
def test_images_come_back(tmp_path: Path, kind: str) -> None:
    y, x = np.mgrid[:40, :60]
    image = np.stack([4 * x, 6 * y, np.full_like(x, 30)], axis=2).astype(np.uint8)
    path = tmp_path / "new" / f"image{kind}"
    save_picture(path, image)
    got = read_picture(path)
    assert got is not None
    assert np.abs(got.astype(int) - image).mean() < (0.01 if kind == ".png" else 4)
    assert len(list(path.parent.iterdir())) == 1


def test_what_is_no_image_reads_as_none(tmp_path: Path) -> None:
    assert read_picture(tmp_path / "nothing.png") is None
    for content in (b"", b"not an image", encode(np.zeros((9, 9, 3), np.uint8), ".png")[:30]):
        (tmp_path / "bad.png").write_bytes(content)
        assert read_picture(tmp_path / "bad.png") is None


def test_to_bytes_rounds_and_clamps() -> None:
    np.testing.assert_array_equal(to_bytes(np.array([-1, 0, 0.5 / 255 + 1e-6, 1 / 255, 1, 2])), [0, 0, 1, 1, 255, 255])
