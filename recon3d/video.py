"""Video files that browsers play: H.264, yuv420p, index at the front."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from datasets.files import replacing


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int = 30, crf: int = 18) -> int:
    """Encode RGB frames (uint8 [H, W, 3], all of one size) as MP4; returns how many there were.

    Frames of odd width or height, which yuv420p cannot hold, get their last column or row twice. Colours are BT.709,
    and the file says so. A file already there is replaced at once or not at all.

    Args:
        path: ends in .mp4.
        frames: taken one at a time.
        fps: frames a second.
        crf: x264's constant rate factor, 0 to 51; less is better and larger, 18 looks like the original.

    Raises:
        ValueError: for no frames, frames that differ in size, or another suffix.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    if path.suffix != ".mp4":
        raise ValueError(f"{path}: a video is written as .mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    count, size = 0, (0, 0)
    with replacing(path) as temporary, av.open(str(temporary), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(crf), "preset": "medium"})
        context = stream.codec_context
        context.pix_fmt = "yuv420p"
        context.gop_size = fps  # a key frame a second, so that seeking is quick
        context.color_range, context.colorspace = int(ColorRange.MPEG), 1
        context.color_primaries = context.color_trc = 1  # BT.709
        for image in frames:
            if count == 0:
                size = image.shape[:2]
                context.height, context.width = size[0] + size[0] % 2, size[1] + size[1] % 2
            elif image.shape[:2] != size:
                raise ValueError(
                    f"frame {count} has size {image.shape[1]}x{image.shape[0]}, others {size[1]}x{size[0]}"
                )
            even = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame.pts = count
            frame.time_base = Fraction(1, fps)
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            container.mux(stream.encode(frame))
            count += 1
        if count == 0:
            raise ValueError(f"{path}: a video needs at least one frame")
        container.mux(stream.encode(None))
    return count


def read_video(path: Path) -> tuple[Iterator[np.ndarray], int]:
    """The frames of a video (uint8 [H, W, 3]), decoded one at a time, and its frames a second."""
    import av

    with av.open(str(path)) as container:
        fps = round(container.streams.video[0].average_rate or 30)

    def frames() -> Iterator[np.ndarray]:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")

    return frames(), fps
