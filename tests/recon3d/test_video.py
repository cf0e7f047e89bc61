"""Videos: what a browser needs, right colours, and nothing half written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from recon3d.video import read_video, write_video


def frames(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Smooth colours that change from frame to frame."""
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        yield np.stack([255 * x / width, 255 * y / height, np.full_like(x, 10 * i % 256)], axis=2).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 64), (48, 63), (33, 35)])
def test_a_video_decodes_to_what_was_written(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "new" / "video.mp4"
    assert write_video(path, frames(20, height, width), fps=25) == 20
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (width + width % 2, height + height % 2)
        assert stream.average_rate == 25
        assert stream.frames == 20
    decoded, fps = read_video(path)
    assert fps == 25
    shown = list(decoded)
    assert len(shown) == 20
    for written, got in zip(frames(20, height, width), shown, strict=True):
        error = np.abs(got[:height, :width].astype(int) - written)
        assert error.mean() < 5  # also says that the colour matrix is the one stated in the file


def test_the_index_comes_first_so_that_a_browser_can_start(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", frames(5, 48, 64))
    content = (tmp_path / "video.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert write_video(tmp_path / "video.mp4", frames(1, 48, 64)) == 1
    assert len(list(read_video(tmp_path / "video.mp4")[0])) == 1


def broken() -> Iterator[np.ndarray]:
    yield from frames(3, 48, 64)
    raise KeyboardInterrupt


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"the old one")
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(path, [])
    with pytest.raises(ValueError, match="frame 1 has size 32x48, others 64x48"):
        write_video(path, [*frames(1, 48, 64), *frames(1, 48, 32)])
    with pytest.raises(KeyboardInterrupt):
        write_video(path, broken())
    with pytest.raises(ValueError, match="is written as"):
        write_video(tmp_path / "video.avi", frames(1, 48, 64))
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]
