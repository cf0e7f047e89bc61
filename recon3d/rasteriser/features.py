"""Further channels (normals, uncertainty ...): composited four at a time by the same kernels with other colours."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser import pool
from recon3d.rasteriser.camera_pass import CameraPass
from recon3d.rasteriser.layout import CHANNELS, CHUNK, G_DD, V_CHANNELS
from recon3d.rasteriser.simd import kernel
from recon3d.rasteriser.simd_memory import take_ticket

GROUP = 4
_BLACK = np.zeros(3, np.float32)


@kernel
def _add_slots(tickets, first_slots, tile_counts, extra, moments, totals):
    """Add ``extra``'s gradients of the channels to totals [N, channels], and its other moments to ``moments``."""
    count = totals.shape[0]
    while True:
        chunk = take_ticket(tickets)
        if chunk * CHUNK >= count:
            break
        for n in range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)):
            for k in range(tile_counts[n]):
                slot = first_slots[n] + k
                for c in range(totals.shape[1]):
                    totals[n, c] += extra[slot, V_CHANNELS + c]
                for c in range(G_DD + 1):
                    moments[slot, c] += extra[slot, c]


def _recoloured(one: CameraPass, features: np.ndarray) -> np.ndarray:
    records = one.take("feature_records", one.records.shape, np.float32)
    records[:] = one.records
    records[:, CHANNELS : CHANNELS + GROUP] = 0
    records[:, CHANNELS : CHANNELS + features.shape[1]] = features
    return records


def paint_features(one: CameraPass, features: np.ndarray, mask: np.ndarray, painted: np.ndarray) -> None:
    """Composite features [N, E] into painted [H, W, E]."""
    height, width, channels = painted.shape
    three, alpha = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32)
    fourth = np.empty((height, width), np.float32)
    for first in range(0, channels, GROUP):
        group = slice(first, min(first + GROUP, channels))
        one.blend(_recoloured(one, features[:, group]), _BLACK, mask, three, alpha, fourth)
        four = np.concatenate([three, fourth[:, :, None]], axis=2)
        painted[:, :, group] = four[:, :, : group.stop - first]


def gather_features(
    one: CameraPass, features: np.ndarray, v_painted: np.ndarray, moments: np.ndarray, v_features: np.ndarray
) -> None:
    """Add the gradient of the features to v_features [N, E], and that of everything else to ``moments``.

    The absolute screen gradients stay those of colour and depth.
    """
    height, width, channels = v_painted.shape
    v_alpha = np.zeros((height, width), np.float32)
    for first in range(0, channels, GROUP):
        group = slice(first, min(first + GROUP, channels))
        v_four = np.zeros((height, width, GROUP), np.float32)
        v_four[:, :, : group.stop - first] = v_painted[:, :, group]
        v_three, v_fourth = np.ascontiguousarray(v_four[:, :, :3]), np.ascontiguousarray(v_four[:, :, 3])
        records = _recoloured(one, features[:, group])
        extra = one.blend_backward("feature_moments", records, _BLACK, v_three, v_alpha, v_fourth)
        totals = np.zeros((len(features), group.stop - first), np.float32)
        chunks = -(-len(features) // CHUNK)
        pool.run(_add_slots, chunks, one.first_slots, one.tile_counts, extra, moments, totals)
        v_features[:, group] += totals
