"""A map from above: the splat, where its photos were taken, and where others could be."""

from __future__ import annotations

import cv2
import numpy as np

from datasets.geometry import up_direction
from datasets.types import Cameras
from recon3d.gaussians import SH_C0
from recon3d.splats import Splat

SIDE = 720
USED, CANDIDATE, SUGGESTED = (90, 170, 255), (110, 110, 110), (255, 90, 60)


def camera_map(splat: Splat, used: Cameras, candidates: Cameras, suggested: list[int]) -> np.ndarray:
    """[720, 720, 3] uint8 RGB: from above, the photos used in blue, other candidates grey, suggested ones red, by rank.

    Args:
        splat: what the photos show.
        used: cameras of the photos used.
        candidates: C cameras.
        suggested: indices of candidates, best first.
    """
    up = up_direction(used)
    east = np.cross(up, _centres_and_axes(used)[1].mean(axis=0))
    east = east / max(float(np.linalg.norm(east)), 1e-9)
    plane = np.stack([east, np.cross(up, east)])
    centres, forward = (np.concatenate(pair) for pair in zip(*map(_centres_and_axes, (used, candidates)), strict=True))
    gaussians = splat.gaussians.detach().to("cpu")
    solid = gaussians.opacities.numpy() > 0
    places = gaussians.means.double().numpy()[solid]
    flat = places @ plane.T
    shown = np.concatenate([centres @ plane.T, *([np.percentile(flat, [25, 75], axis=0)] if len(flat) else [])])
    low, high = shown.min(axis=0), shown.max(axis=0)
    scale = 0.8 * SIDE / max(float((high - low).max()), 1e-9)

    def on_map(points: np.ndarray) -> np.ndarray:
        across = (points @ plane.T - (low + high) / 2) * scale
        return np.stack([SIDE / 2 + across[:, 0], SIDE / 2 - across[:, 1]], axis=1)

    picture = np.full((SIDE, SIDE, 3), 24, np.uint8)
    order = np.argsort(places @ up)  # what is higher is drawn over what is lower
    pixels = np.rint(on_map(places[order])).astype(int)
    inside = ((pixels >= 0) & (pixels < SIDE)).all(axis=1)
    colours = np.clip(0.5 + SH_C0 * gaussians.sh0.numpy()[solid, 0][order], 0, 1) * 255
    picture[pixels[inside, 1], pixels[inside, 0]] = (0.8 * colours[inside]).astype(np.uint8)

    rank = {len(used) + index: place for place, index in enumerate(suggested, 1)}
    ahead = on_map(centres + forward * (26 / scale))
    for i, (foot, tip) in enumerate(zip(on_map(centres), ahead, strict=True)):
        colour = USED if i < len(used) else SUGGESTED if i in rank else CANDIDATE
        _draw_camera(picture, foot, tip, colour, str(rank.get(i, "")))
    return picture


def _draw_camera(
    picture: np.ndarray, foot: np.ndarray, tip: np.ndarray, colour: tuple[int, int, int], text: str
) -> None:
    side = np.array([tip[1] - foot[1], foot[0] - tip[0]]) / 2.2
    corners = np.rint(np.stack([foot, tip + side, tip - side])).astype(np.int32)
    cv2.polylines(picture, [corners], True, colour, 2 if text or colour == USED else 1, cv2.LINE_AA)
    if text:
        place = (round(float(foot[0])) + 8, round(float(foot[1])) - 8)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, colour, 2, cv2.LINE_AA)


def _centres_and_axes(cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """[C, 3] centres and [C, 3] viewing directions."""
    poses = cameras.world_to_camera.detach().cpu().double().numpy()
    return -np.einsum("cji,cj->ci", poses[:, :3, :3], poses[:, :3, 3]), poses[:, 2, :3]
