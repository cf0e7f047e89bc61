"""Depth from a network that looks at one photo, brought to the scene's scale by sparse points and matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from datasets.errors import InputError
from recon3d.priors.alignment import Quantity, align, find_anchors
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
CONFIDENCE = 0.3  # a guess that no other view has confirmed


class MonocularNetwork(DepthPrior):
    """An ONNX network for the depth of single photos, with the pre- and post-processing of Depth Anything V2 (Yang et
    al., 2024). Needs the extra ``onnx``.

    The photo is resized so that its shorter side has ``side`` pixels and both are multiples of ``multiple``, normalised
    by ImageNet's mean and deviation, and given as [1, 3, H, W]; the result [1, H, W] or [1, 1, H, W] is resized back. A
    network of fixed size gets that size. Scale and shift come from the scene's points and from sparse matches between
    the views, robustly; a view without has no depth.

    Args:
        model: the ``.onnx`` file.
        quantity: what it predicts up to scale and shift; Depth Anything's relative models predict inverse depth.
        side: pixels of the shorter side.
        multiple: of which both sides are.

    Raises:
        ValueError: for sizes below 1.
    """

    def __init__(self, model: Path, quantity: Quantity = "inverse_depth", side: int = 518, multiple: int = 14) -> None:
        if side < 1 or multiple < 1:
            raise ValueError(f"MonocularNetwork: side is {side} and multiple {multiple}, expected at least 1")
        self.model, self.quantity, self.side, self.multiple = Path(model), quantity, side, multiple

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """Depth of each view.

        Raises:
            InputError: where the file is no network of this kind, or onnxruntime is not installed.
        """
        session = _open(self.model)
        maps = [self.predict(session, view.image) for view in tqdm(views.views, desc="network", unit="photo")]
        depths = align(maps, find_anchors(views), self.quantity)
        return [DepthEstimate(depth, np.where(depth > 0, np.float32(CONFIDENCE), np.float32(0))) for depth in depths]

    def predict(self, session: Any, image: np.ndarray) -> np.ndarray:
        """[H, W] what the network says of a photo [H, W, 3] in 0..1, NaN where that is not finite."""
        height, width = image.shape[:2]
        wanted = session.get_inputs()[0]
        fixed = [size for size in wanted.shape[2:] if isinstance(size, int)]
        rows, columns = fixed if len(fixed) == 2 else self._size(height, width)
        small = cv2.resize(np.clip(image, 0, 1).astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
        tensor = ((small - MEAN) / DEVIATION).transpose(2, 0, 1)[None].astype(np.float32)
        values = np.asarray(session.run(None, {wanted.name: tensor})[0], np.float32).squeeze()
        if values.ndim != 2:
            raise InputError(f"{self.model}: gives a result of shape {values.shape}, expected one map of depth")
        values = np.where(np.isfinite(values), values, np.nan)
        return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        zoom = self.side / min(height, width)

        def fitting(size: int) -> int:
            rounded = round(size * zoom / self.multiple) * self.multiple
            return max(rounded, -(-self.side // self.multiple) * self.multiple)

        return fitting(height), fitting(width)


def _open(model: Path) -> Any:
    """An onnxruntime session."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as states
    except ImportError as error:
        raise InputError("MonocularNetwork needs onnxruntime: pip install 'sparse-vision-3d[onnx]'") from error
    if not model.is_file():
        raise InputError(f"{model}: there is no such file. Give the path of an ONNX network")
    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    except (states.InvalidProtobuf, states.InvalidGraph, states.Fail, states.InvalidArgument) as error:
        raise InputError(f"{model}: is no ONNX network that can be run ({str(error).splitlines()[0]})") from error
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise InputError(f"{model}: takes an input of shape {shape}, expected [1, 3, height, width]")
    return session
