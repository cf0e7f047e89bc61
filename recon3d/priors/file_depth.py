"""Depth that some other program wrote beside the photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from datasets.errors import InputError, SceneError
from datasets.scenes.files import read_bytes, read_npy
from datasets.scenes.images import read_pixels
from recon3d.priors.alignment import Quantity, fully_trusted
from recon3d.priors.exr import read_exr
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews

SUFFIXES = (".npy", ".png", ".pfm", ".exr")
LARGEST = 1 << 28  # pixels of a file that is opened
FARTHEST = 1e9  # renderers write 1e10 where a ray meets nothing


class FileDepth(DepthPrior):
    """One file per photo, with the photo's name: ``.npy`` (floats), ``.png`` (16 bits), ``.pfm``, or ``.exr`` (needs
    the extra ``exr``).

    Files of another size are resized. Values that are not positive or not finite count as unknown. Confidence is 1;
    inside :class:`~recon3d.priors.fusion.Fusion` it is measured instead.

    Args:
        folder: where the files are.
        quantity: whether they hold z-depth or its inverse.
        unit: what a value of 1 means, in the scene's units (or their inverse): .001 for PNG in millimetres.
        aligned: whether the values are right as they are; else scale and shift are found from the scene's points and
            from sparse matches.

    Raises:
        ValueError: for a ``unit`` that is not positive.
    """

    def __init__(self, folder: Path, quantity: Quantity = "depth", unit: float = 1.0, aligned: bool = True) -> None:
        if not 0 < unit < float("inf"):
            raise ValueError(f"FileDepth: unit is {unit}, expected a positive number")
        self.folder, self.quantity, self.unit, self.aligned = Path(folder), quantity, unit, aligned

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """Depth of each view; unknown for a view without a file.

        Raises:
            SceneError: for a file that cannot be used.
            InputError: where no view has a file, and where two photos have the same name.
        """
        if views.names is None:
            raise InputError("FileDepth finds files by the names of the photos, which this scene does not have")
        if double := [name for name in views.names if views.names.count(name) > 1]:
            raise InputError(
                f"FileDepth finds files by the names of the photos, of which several are {double[0]!r}: name them apart"
            )
        maps = []
        for name, view in zip(views.names, views.views, strict=True):
            height, width = view.image.shape[:2]
            path = next((p for s in SUFFIXES if (p := self.folder / f"{name}{s}").is_file()), None)
            values = np.full((height, width), np.nan) if path is None else read_map(path) * self.unit
            maps.append(cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
        if all(np.isnan(values).all() for values in maps):
            raise InputError(
                f"{self.folder}: no depth for any train photo. Expected files like {views.names[0]}{SUFFIXES[0]} "
                f"(or {', '.join(SUFFIXES[1:])}) with positive values"
            )
        return fully_trusted(maps, views, self.quantity, self.aligned)


def read_map(path: Path) -> np.ndarray:
    """[H, W] float64 values of a ``.npy``, 16-bit ``.png``, ``.pfm`` or ``.exr`` file; NaN where there is no depth.

    Raises:
        InputError: for ``.exr`` where OpenEXR is not installed.
        SceneError: where it is missing, truncated or something else.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        values = read_npy(path)
        if values.ndim == 3 and 1 in values.shape:
            values = values.squeeze()
        if values.ndim != 2 or values.dtype.kind not in "fu":
            raise SceneError(path, f"holds {values.dtype} of shape {values.shape}", "Save depth as [H, W] floats")
    elif suffix == ".png":
        values = read_pixels(path)
        if values.ndim != 2 or values.dtype != np.uint16:
            raise SceneError(
                path, f"holds {values.dtype} of shape {values.shape}", "Save depth as one channel of 16 bits"
            )
    elif suffix == ".exr":
        values = read_exr(path, LARGEST)
    else:
        values = _read_pfm(path)
    values = values.astype(np.float64)
    if not values.size:
        raise SceneError(path, f"has no pixels (shape {values.shape})", "Save depth as [H, W] floats")
    return np.where(np.isfinite(values) & (values > 0) & (values < FARTHEST), values, np.nan)


def _read_pfm(path: Path) -> np.ndarray:
    """[H, W] of a portable float map of one channel; its rows go from the bottom up."""
    data = read_bytes(path)
    mend = "Write a portable float map of one channel (Pf)"
    lines = data[:200].split(b"\n", 3)
    try:
        kind, size, scale = lines[0].strip(), lines[1].split(), float(lines[2])
        width, height = int(size[0]), int(size[1])
        start = sum(len(line) + 1 for line in lines[:3])
    except (IndexError, ValueError) as error:
        raise SceneError(path, "is no portable float map: its header cannot be read", mend) from error
    if kind != b"Pf" or min(width, height) < 1 or width * height > LARGEST or scale == 0:
        raise SceneError(path, f"has the header {kind!r} {width}x{height}, scale {scale}", mend)
    if len(data) - start != 4 * width * height:
        raise SceneError(path, f"has {len(data) - start} bytes of values, {width}x{height} need other", mend)
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4", offset=start).reshape(height, width)
    return values[::-1].astype(np.float32)
