"""How well predicted errors fit the measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

BINS, STEPS, PIXELS_A_VIEW = 10, 20, 20_000


class Calibration:
    """Gathers predicted and measured errors of pixels of test views."""

    def __init__(self) -> None:
        self._predicted: list[np.ndarray] = []
        self._measured: list[np.ndarray] = []

    def add(self, predicted: np.ndarray, colour: np.ndarray, photo: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Take in one view: at most about 20,000 of its pixels, evenly spread.

        Args:
            predicted: [H, W] predicted mean absolute error.
            colour: [H, W, 3] render in 0..1.
            photo: [H, W, 3] truth in 0..1.
            mask: [H, W] bool, where the photo counts, or None.
        """
        measured = local_error(colour, photo)
        every = max(1, round((measured.size / PIXELS_A_VIEW) ** 0.5))
        chosen = np.zeros(measured.shape, bool)
        chosen[every // 2 :: every, every // 2 :: every] = True
        if mask is not None:
            chosen &= mask
        self._predicted.append(predicted[chosen].astype(np.float64))
        self._measured.append(measured[chosen].astype(np.float64))

    def summary(self) -> dict[str, Any] | None:
        """The curve of mean measured over mean predicted error of ten equal shares of the pixels, and AUSE.

        ``ause`` is the area between the mean error of what is left when the pixels predicted worst, and when those
        truly worst, are taken away (Ilg et al., 2018), over the mean error; ``ause_of_chance`` is that of a prediction
        that says nothing; ``measured_over_predicted`` is the ratio of the mean errors. None before any pixel was added.
        """
        if not self._predicted or not sum(map(len, self._predicted)):
            return None
        predicted, measured = np.concatenate(self._predicted), np.concatenate(self._measured)
        order = np.argsort(predicted, kind="stable")
        shares = np.array_split(order, min(BINS, len(order)))
        mean = float(measured.mean())
        best = _left(np.sort(measured))
        scale = max(mean, 1e-12)
        return {
            "predicted": [round(float(predicted[share].mean()), 5) for share in shares],
            "measured": [round(float(measured[share].mean()), 5) for share in shares],
            "ause": round(float(np.mean(_left(measured[order]) - best)) / scale, 4),
            "ause_of_chance": round(float(np.mean(mean - best)) / scale, 4),
            "measured_over_predicted": round(mean / max(float(predicted.mean()), 1e-12), 4),
        }


def measured_over_predicted(summary: Mapping[str, Any]) -> float:
    """The ratio of the mean errors; of a :meth:`Calibration.summary` that lacks it, from its curve."""
    if "measured_over_predicted" in summary:
        return float(summary["measured_over_predicted"])
    return sum(summary["measured"]) / max(sum(summary["predicted"]), 1e-12)


def local_error(colour: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """[H, W] mean absolute difference of two images [H, W, 3], averaged over about five pixels around each."""
    return cv2.GaussianBlur(np.abs(colour - photo).mean(axis=-1).astype(np.float32), (0, 0), 2)


def _left(errors: np.ndarray) -> np.ndarray:
    """[STEPS] mean of ``errors`` without their last k/STEPS."""
    sums = np.cumsum(errors)
    ends = len(errors) - np.arange(STEPS) * len(errors) // STEPS
    return sums[ends - 1] / ends
