"""Moving Gaussians from one world to another by a similarity: centres, sizes, rotations and harmonics."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from recon3d.gaussians import Gaussians


def transformed(gaussians: Gaussians, similarity: np.ndarray) -> Gaussians:
    """``gaussians`` as seen in the world that ``similarity`` leads to; renders of moved cameras stay the same.

    Args:
        gaussians: N Gaussians.
        similarity: [4, 4] rotation times one scale, and translation, from the old world to the new one.

    Returns:
        N Gaussians on the CPU, float32.

    Raises:
        ValueError: where ``similarity`` shears, mirrors or is not finite.
    """
    scale, rotation = split_similarity(similarity)
    moved = {name: value.detach().cpu().double() for name, value in gaussians.parameters().items()}
    moved["means"] = moved["means"] @ torch.from_numpy(scale * rotation).T + torch.from_numpy(similarity[:3, 3].copy())
    moved["scales"] = moved["scales"] + np.log(scale)
    turn = torch.from_numpy(Rotation.from_matrix(rotation).as_quat()[[3, 0, 1, 2]])
    moved["quats"] = _multiplied(turn, moved["quats"])
    moved["shN"] = _turned_harmonics(moved["shN"], rotation)
    return Gaussians(**{name: value.float() for name, value in moved.items()})


def split_similarity(similarity: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and [3, 3] rotation of a [4, 4] similarity; ValueError where it is none."""
    linear = np.asarray(similarity, np.float64)[:3, :3]
    determinant = np.linalg.det(linear) if np.isfinite(similarity).all() else np.nan
    if not (determinant > 0 and np.allclose(similarity[3], [0, 0, 0, 1])):
        raise ValueError(f"not a similarity (determinant {determinant:g}, last row {similarity[3].tolist()})")
    scale = float(np.cbrt(determinant))
    rotation = linear / scale
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4):
        raise ValueError("not a similarity: its axes are not orthogonal and of one length")
    return scale, rotation


def _multiplied(turn: Tensor, quats: Tensor) -> Tensor:
    """wxyz product turn * quats, [N, 4]."""
    w, x, y, z = turn.tolist()
    left = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], dtype=quats.dtype)
    return quats @ left.T


def _turned_harmonics(shN: Tensor, rotation: np.ndarray) -> Tensor:
    """[N, K, 3] harmonics of the function that has at rotation @ d the value that the old one has at d."""
    directions = np.random.default_rng(0).normal(size=(64, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    before, after = _harmonics(directions), _harmonics(directions @ rotation.T)
    turned = shN.clone()
    for first, end in ((0, 3), (3, 8), (8, 15)):  # degrees do not mix
        if end <= shN.shape[1]:
            band = np.linalg.lstsq(after[:, first:end], before[:, first:end], rcond=None)[0]
            turned[:, first:end] = torch.einsum("kl,nlc->nkc", torch.from_numpy(band), shN[:, first:end])
    return turned


def _harmonics(directions: np.ndarray) -> np.ndarray:
    """[S, 15] values of degrees 1 to 3 at unit directions [S, 3], each up to a constant that its degree shares."""
    x, y, z = directions.T
    degree_1 = (-y, z, -x)
    degree_2 = (2 * x * y, -2 * y * z, (3 * z * z - 1) / np.sqrt(3), -2 * x * z, x * x - y * y)
    degree_3 = (
        -np.sqrt(5 / 8) * y * (3 * x * x - y * y),
        np.sqrt(15) * x * y * z,
        -np.sqrt(3 / 8) * y * (5 * z * z - 1),
        0.5 * z * (5 * z * z - 3),
        -np.sqrt(3 / 8) * x * (5 * z * z - 1),
        np.sqrt(15) / 2 * z * (x * x - y * y),
        -np.sqrt(5 / 8) * x * (x * x - 3 * y * y),
    )
    return np.stack([*degree_1, *degree_2, *degree_3], 1)
