"""Video files that browsers play: H.264, yuv420p, index at the front."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from datasets.files import replacing


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int = 30) -> None:
    """Encode uint8 [H, W, 3] frames of one even size; a file already there is replaced at once or not at all."""
    import av

    with replacing(path) as temporary, av.open(str(temporary), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "18", "preset": "medium"})
        context = stream.codec_context
        context.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            if number == 0:
                context.height, context.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
