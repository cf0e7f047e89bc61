"""Camera paths for novel views: around the scene, a small spiral, between the cameras, or from a file.

Every path is F cameras (OpenCV axes, world units of the scene) that share the intrinsics and size of the first given
camera. Orbits and spirals are closed: after the last frame comes the first.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation, RotationSpline

from datasets.errors import InputError, SceneError
from datasets.geometry import is_rigid, up_direction
from datasets.scenes.files import matrix4, number, read_json
from datasets.types import Cameras

FULL_TURN_GAP = np.radians(150)  # an orbit goes all around where no wider gap is left between the cameras
LARGEST_SIDE = 16384


def look_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """[4, 4] world-to-camera of a camera at ``eye`` that has ``target`` in its centre and ``up`` upwards.

    Raises:
        InputError: where ``eye`` is ``target``, or ``up`` is along the view.
    """
    forward = _unit(target - eye, "the camera is at its target")
    right = _unit(np.cross(forward, up), "the camera looks along the up direction")
    rotation = np.stack([right, np.cross(forward, right), forward])
    return _pose(rotation, -rotation @ eye)


def focus_point(cameras: Cameras, depths: np.ndarray) -> np.ndarray:
    """[3] point that the cameras look at.

    The point nearest to all optical axes, held weakly to where each camera's axis meets the scene, which decides for
    cameras that look the same way.

    Args:
        cameras: C cameras.
        depths: [C] z-depth of the scene in the middle of each camera's image.
    """
    poses = _world_to_camera(cameras)
    centres, forward = _centres(poses), poses[:, 2, :3]
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    hits = centres + depths[:, None] * forward
    held = 0.02
    matrix = across.sum(axis=0) + held * len(poses) * np.eye(3)
    return np.linalg.solve(matrix, np.einsum("cij,cj->i", across, centres) + held * hits.sum(axis=0))


def orbit(cameras: Cameras, focus: np.ndarray, frames: int, sweep: float | None = None) -> Cameras:
    """Around the vertical through ``focus``, at the cameras' mean height and distance, looking at ``focus``.

    Args:
        cameras: whose surroundings are safe to look from.
        focus: [3] centre, see :func:`focus_point`.
        frames: number of cameras on the path.
        sweep: degrees; 360 goes around, less swings there and back. None takes what the cameras cover, and goes around
            where no gap between them is wider than 150 degrees.

    Raises:
        InputError: for no frames, a sweep outside 0..360, or cameras that are right above the focus.
    """
    _expect_frames(frames, 1)
    if sweep is not None and not 0 < sweep <= 360:
        raise InputError(f"the sweep is {sweep} degrees, expected more than 0 and at most 360")
    ring = _Ring.through(cameras, focus)
    if sweep is None:
        sweep = 360.0 if ring.closed else float(np.degrees(max(ring.covered, np.radians(10))))
    time = np.arange(frames) / frames
    turns = 2 * np.pi * time if sweep == 360 else np.radians(sweep) / 2 * np.sin(2 * np.pi * time)
    return _cameras(np.stack([ring.pose(turn) for turn in turns]), cameras)


def around(cameras: Cameras, focus: np.ndarray, columns: int = 9, rows: int = 3) -> Cameras:
    """Places about where the photos were taken and beyond, looking at ``focus``: rows at heights, columns at azimuths.

    Half as far again as the cameras reach to either side, at least 15 degrees, and all around where they do; up and
    down as far as they differ in height, at least a sixth of their distance.

    Args:
        cameras: whose surroundings are safe to look from.
        focus: [3] what they look at, see :func:`focus_point`.
        columns, rows: how many; C = columns * rows.

    Raises:
        InputError: for none, or cameras that are right above the focus.
    """
    _expect_frames(min(columns, rows), 1)
    ring = _Ring.through(cameras, focus)
    if ring.closed:
        turns = 2 * np.pi * np.arange(columns) / columns
    else:
        reach = min(max(0.75 * ring.covered, np.radians(15)), np.pi)
        turns = reach * np.linspace(-1, 1, columns) if columns > 1 else np.zeros(1)
    most = max(float(np.ptp(ring.heights)) / 2, ring.radius / 6)
    lifts = most * np.linspace(-1, 1, rows) if rows > 1 else np.zeros(1)
    return _cameras(np.stack([ring.pose(turn, lift) for lift in lifts for turn in turns]), cameras)


@dataclass(frozen=True)
class _Ring:
    """A circle about the vertical through a focus, at cameras' mean height and distance, from the middle of them."""

    focus: np.ndarray
    up: np.ndarray
    east: np.ndarray
    north: np.ndarray
    heights: np.ndarray
    radius: float
    middle: float
    covered: float
    closed: bool

    @staticmethod
    def through(cameras: Cameras, focus: np.ndarray) -> _Ring:
        up = up_direction(cameras)
        offsets = _centres(_world_to_camera(cameras)) - focus
        heights = offsets @ up
        level = offsets - heights[:, None] * up
        radius = float(np.linalg.norm(level, axis=1).mean())
        if radius < 1e-3 * float(np.linalg.norm(offsets, axis=1).mean()):
            raise InputError("the cameras look straight down at the scene: an orbit has no radius, take another path")
        east = _unit(level[np.linalg.norm(level, axis=1).argmax()], "")
        north = np.cross(up, east)
        angles = np.sort(np.arctan2(level @ north, level @ east) % (2 * np.pi))
        gaps = np.diff(angles, append=angles[0] + 2 * np.pi)
        widest = int(gaps.argmax())
        covered = 2 * np.pi - gaps[widest]
        middle = angles[(widest + 1) % len(angles)] + covered / 2
        return _Ring(focus, up, east, north, heights, radius, middle, covered, bool(gaps[widest] < FULL_TURN_GAP))

    def pose(self, turn: float, lift: float = 0.0) -> np.ndarray:
        """[4, 4] looking at the focus from ``turn`` radians beside the middle, ``lift`` above the mean height."""
        azimuth = self.middle + turn
        level = self.radius * (np.cos(azimuth) * self.east + np.sin(azimuth) * self.north)
        return look_at(self.focus + (self.heights.mean() + lift) * self.up + level, self.focus, self.up)


def spiral(cameras: Cameras, focus: np.ndarray, frames: int, turns: int = 2, extent: float = 1.0) -> Cameras:
    """Turns about the mean camera, wide as the cameras are apart (Mildenhall et al., LLFF, 2019).

    Args:
        cameras: that look about the same way.
        focus: [3] what they look at, see :func:`focus_point`.
        frames: number of cameras on the path.
        turns: how often it goes around.
        extent: factor on its width.

    Raises:
        InputError: for no frames or turns, or cameras that do not look the same way.
    """
    _expect_frames(frames, 1)
    if turns < 1 or not extent > 0:
        raise InputError(f"a spiral needs at least one turn and a positive extent, got {turns} and {extent}")
    poses = _world_to_camera(cameras)
    mean_forward = poses[:, 2, :3].mean(axis=0)
    centres = _centres(poses)
    centre = centres.mean(axis=0)
    if np.linalg.norm(mean_forward) < 0.5 or (focus - centre) @ mean_forward <= 0:
        raise InputError("the cameras do not look the same way, as a spiral needs: take an orbit")
    up = up_direction(cameras)
    forward = _unit(mean_forward, "")
    right = _unit(np.cross(forward, up), "the cameras look along the up direction: take another path")
    axes = np.stack([right, np.cross(forward, right), forward])
    radii = np.percentile(np.abs((centres - centre) @ axes.T), 90, axis=0)
    radii[:2] = np.maximum(radii[:2], radii[:2].max() / 4)  # cameras in a row still give a spiral
    distance = float((focus - centre) @ forward)
    if radii.max() == 0:
        radii[:2] = 0.05 * distance
    angle = 2 * np.pi * turns * np.arange(frames) / frames
    circle = np.stack([np.cos(angle), -np.sin(angle), -np.sin(angle / turns)], axis=1)
    eyes = centre + (extent * radii * circle) @ axes
    return _cameras(np.stack([look_at(eye, centre + distance * forward, up) for eye in eyes]), cameras)


def between(cameras: Cameras, focus: np.ndarray, frames: int) -> Cameras:
    """Smoothly through all cameras on a short way, which begins and ends at one and meets each exactly in some frame.

    Rotations follow a cubic spline of rotations. Where ``focus`` lies in front of every camera, it moves steadily in
    the image instead of the camera moving straight, so that the path bends around what is looked at.

    Raises:
        InputError: for fewer than two cameras, or fewer frames than cameras.
    """
    if len(cameras) < 2:
        raise InputError("a path between the cameras needs at least two of them")
    _expect_frames(frames, len(cameras))
    poses = _world_to_camera(cameras)
    distance = float(np.linalg.norm(_centres(poses) - focus, axis=1).mean())
    poses = poses[_short_way(_travel(poses, poses, distance))]
    steps = np.maximum(
        [_travel(poses[i : i + 1], poses[i + 1 : i + 2], distance)[0, 0] for i in range(len(poses) - 1)], 1e-9
    )
    keys = np.concatenate([[0], np.cumsum(steps)])
    seen = poses[:, :3, :3] @ focus + poses[:, :3, 3]
    bends = bool((seen[:, 2] > 0.1 * distance).all())
    knots = seen if bends else _centres(poses)
    tangents = (
        np.gradient(knots, keys, axis=0) if len(keys) > 2 else np.repeat(np.diff(knots, axis=0) / steps, 2, axis=0)
    )
    time = _frame_times(keys, frames)
    moved = CubicHermiteSpline(keys, knots, tangents)(time)
    rotation = RotationSpline(keys, Rotation.from_matrix(poses[:, :3, :3]))(time).as_matrix()
    translation = moved - rotation @ focus if bends else -np.einsum("fij,fj->fi", rotation, moved)
    return _cameras(np.stack([_pose(r, t) for r, t in zip(rotation, translation, strict=True)]), cameras)


def from_json(path: Path, scene_to_source: np.ndarray | None = None) -> Cameras:
    """Cameras of a file ``{"frames": [{"width", "height", "fx", "fy", "cx", "cy", "w2c"}, ...]}`` as in cameras.json.

    All frames have one size; whatever else a frame states is ignored.

    Args:
        path: the file; its w2c are in the world of the photos' source.
        scene_to_source: [4, 4] similarity from the splat's world into the source's; None where they are one.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    records = read_json(path).get("frames")
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise SceneError(path, "has no list of frames", 'Write {"frames": [{"w2c": ..., "width": ...}, ...]}')
    to_source = np.eye(4) if scene_to_source is None else scene_to_source
    unit = np.cbrt(np.linalg.det(to_source[:3, :3]))
    poses, intrinsics, sizes = [], [], []
    for index, record in enumerate(records):
        width, height, fx, fy, cx, cy = (number(path, record, k) for k in ("width", "height", "fx", "fy", "cx", "cy"))
        if not all(side == int(side) and 1 <= side <= LARGEST_SIDE for side in (width, height)):
            raise SceneError(path, f"frame {index} has size {width:g}x{height:g}", "Give width and height in pixels")
        if min(fx, fy) <= 0:
            raise SceneError(
                path, f"frame {index} has focal lengths {fx:g}, {fy:g}", "They must be positive, in pixels"
            )
        pose = matrix4(path, record, "w2c")
        if not is_rigid(pose):
            raise SceneError(path, f"the w2c of frame {index} is not rigid", "Give a rotation and a translation")
        moved = pose @ to_source
        moved[:3] /= unit
        poses.append(moved)
        intrinsics.append([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        sizes.append([int(width), int(height)])
    if len({tuple(size) for size in sizes}) > 1:
        raise SceneError(path, "its frames differ in size", "Give all frames one width and height")
    return Cameras(
        torch.from_numpy(np.stack(poses)).float(), torch.tensor(intrinsics, dtype=torch.float32), torch.tensor(sizes)
    )


def _unit(vector: np.ndarray, otherwise: str) -> np.ndarray:
    length = np.linalg.norm(vector)
    if length < 1e-12:
        raise InputError(otherwise)
    return vector / length


def _pose(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def _world_to_camera(cameras: Cameras) -> np.ndarray:
    return cameras.world_to_camera.detach().cpu().double().numpy()


def _centres(poses: np.ndarray) -> np.ndarray:
    return -np.einsum("cji,cj->ci", poses[:, :3, :3], poses[:, :3, 3])


def _cameras(poses: np.ndarray, like: Cameras) -> Cameras:
    count = len(poses)
    return Cameras(
        torch.from_numpy(poses).float(),
        like.intrinsics[:1].detach().cpu().float().expand(count, 3, 3).clone(),
        like.sizes[:1].cpu().expand(count, 2).clone(),
    )


def _expect_frames(frames: int, least: int) -> None:
    if frames < least:
        raise InputError(f"{frames} frames: this path needs at least {least}")


def _travel(some: np.ndarray, others: np.ndarray, distance: float) -> np.ndarray:
    """[A, B] how far poses are apart: the way between centres, and what is looked at moves by turning."""
    way = np.linalg.norm(_centres(some)[:, None] - _centres(others)[None], axis=-1)
    cosine = (np.einsum("aij,bij->ab", some[:, :3, :3], others[:, :3, :3]) - 1) / 2
    return way + 0.5 * distance * np.arccos(np.clip(cosine, -1, 1))


def _short_way(apart: np.ndarray) -> list[int]:
    """An order of all cameras with a short sum of ``apart`` [C, C] between neighbours: greedy, then 2-opt."""
    count = len(apart)

    def length(order: list[int]) -> float:
        return float(apart[order[:-1], order[1:]].sum())

    def greedy(first: int) -> list[int]:
        order, left = [first], set(range(count)) - {first}
        while left:
            order.append(min(left, key=lambda i: (apart[order[-1], i], i)))
            left.remove(order[-1])
        return order

    best = min((greedy(first) for first in range(count)), key=length)
    improved = True
    while improved:
        improved = False
        for i, j in itertools.combinations(range(count + 1), 2):
            turned = best[:i] + best[i:j][::-1] + best[j:]
            if length(turned) < length(best) * (1 - 1e-9):
                best, improved = turned, True
    return best if best[0] < best[-1] else best[::-1]


def _frame_times(keys: np.ndarray, frames: int) -> np.ndarray:
    """[F] times at about even speed that contain every key exactly."""
    share = np.diff(keys) / (keys[-1] - keys[0]) * (frames - len(keys))
    steps = 1 + np.floor(share).astype(int)
    short = frames - 1 - steps.sum()
    steps[np.argsort(np.floor(share) - share, kind="stable")[:short]] += 1
    parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(keys[:-1], keys[1:], steps, strict=True)]
    return np.concatenate([*parts, keys[-1:]])
