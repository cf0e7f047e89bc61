"""What a window shows and what one does to it, apart from any toolkit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datasets.errors import InputError
from datasets.files import replacing
from datasets.types import Cameras
from viewer.drawing import draw_with_depth
from viewer.layers import refresh_all
from viewer.reading import Contents
from viewer.viewpoint import Viewpoint, along, from_above
from viewer.views import bird_view, first_view, photo_camera, photo_viewpoint

PATIENCE = 0.08  # seconds a picture may take while one moves, before it is drawn smaller
REST = 0.25  # seconds without movement after which it is drawn in full
COARSEST = 4
MOST_DOTS = 400_000  # of a cloud while one moves and that takes long: divided by how much smaller the picture is
NEAR_PIXELS = 4  # a pick takes the nearest thing within so many pixels
FRAMES_BETWEEN = 30  # of a path, from one kept view to the next
STEP = 0.05  # of the distance to the target that a key flies
FLIGHT = {"w": (0, 0, 1), "s": (0, 0, -1), "a": (-1, 0, 0), "d": (1, 0, 0), "q": (0, 1, 0), "e": (0, -1, 0)}


class Stage:
    """The layers that are open, where one looks from, and what was picked and kept.

    Args:
        contents: what is open.
        frame: moment that comes first.
        start: where one looks from at first; None chooses.
        clock: seconds that only grow; a test passes its own.
    """

    def __init__(
        self,
        contents: Contents,
        frame: int = 0,
        start: Viewpoint | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.contents, self.frame = contents, frame
        self.view = self._start = start or first_view(contents)
        self.photo: int | None = None
        self.blend = 0.0
        self.compare = "blend"  # or "difference", of what is seen and the photo
        self.picks: list[np.ndarray] = []
        self.path: list[Viewpoint] = []
        self.coarse = 1
        self.stale = True
        self._clock, self._moved_at, self._took = clock, -math.inf, 0.0
        self._depth: tuple[Cameras, np.ndarray] | None = None

    def camera(self, width: int, height: int) -> Cameras:
        """What one looks through: a photo's own camera in the middle of the picture, or the viewpoint's."""
        if self.photo is None:
            return self.view.camera(width, height)
        own = photo_camera(self.contents, self.photo)
        scale = min(width / own.size[0], height / own.size[1])
        intrinsics = own.intrinsics.clone()
        intrinsics[0, :2] *= scale
        intrinsics[0, 0, 2] += (width - own.size[0] * scale) / 2
        intrinsics[0, 1, 2] += (height - own.size[1] * scale) / 2
        sized = self.view.camera(width, height)
        return Cameras(own.world_to_camera, intrinsics, sized.sizes)

    def picture(self, width: int, height: int) -> np.ndarray:
        """uint8 [height, width, 3]; with less detail while one moves and that takes long."""
        began = self._clock()
        size = (max(width // self.coarse, 1), max(height // self.coarse, 1))
        camera = self.camera(*size)
        smoothing = 2 if self.coarse == 1 and not self.moving else 1
        most = None if self.coarse == 1 else MOST_DOTS // self.coarse
        image, depth = draw_with_depth(self.contents.layers, camera, self.frame, smoothing=smoothing, most_dots=most)
        if self.photo is not None and (self.blend > 0 or self.compare == "difference"):
            image = self._compared(image)
        self._depth, self.stale = (camera, depth), False
        self._took = self._clock() - began
        if size != (width, height):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return image

    @property
    def moving(self) -> bool:
        """Whether one has moved a moment ago."""
        return self._clock() - self._moved_at < REST

    def settle(self) -> bool:
        """To be called now and then: True where the picture is to be drawn again."""
        if not self.moving and self._moved_at > -math.inf:
            self._moved_at, self.coarse, self.stale = -math.inf, 1, True
        return self.stale

    def move_to(self, view: Viewpoint) -> None:
        """Look from elsewhere."""
        self.view, self.photo = view, None
        self._touched()

    def drag(self, right: float, down: float, way: str) -> None:
        """The mouse went by these shares of the picture's height; ``way`` is orbit, move or look."""
        reach = 2 * math.tan(math.radians(self.view.fov) / 2)
        if way == "move":
            self.move_to(self.view.moved(-right * reach, -down * reach, 0))
        elif way == "look":
            angle = math.radians(self.view.fov)
            self.move_to(self.view.looked(-right * angle, -down * angle))
        else:
            self.move_to(self.view.upright(self.contents.up).turned(4 * right, 4 * down))

    def wheel(self, clicks: float) -> None:
        """Towards the target for positive ``clicks``."""
        self.move_to(self.view.nearer(math.exp(-0.15 * min(max(clicks, -10.0), 10.0))))

    def key(self, name: str) -> bool:
        """What a key does; False for one that does nothing."""
        if name in FLIGHT:
            right, down, forward = FLIGHT[name]
            self.move_to(self.view.moved(STEP * right, STEP * down, STEP * forward))
        elif name == "r":
            self.move_to(self._start)
        elif name == "t":
            self.move_to(from_above(self.contents.extent(), self.contents.up))
        elif name == "b":
            self.move_to(bird_view(self.contents, 1.0))
        elif name in ("[", "]") and self.contents.frames > 1:
            self.show_frame((self.frame + (1 if name == "]" else -1)) % self.contents.frames)
        else:
            return False
        return True

    def show_frame(self, frame: int) -> None:
        """Another moment."""
        self.frame, self.stale = frame, True

    def look_through(self, index: int) -> None:
        """Jump into the view of photo ``index``."""
        view = photo_viewpoint(self.contents, index)
        self.move_to(view)
        self.photo = index

    def pick(self, x: float, y: float) -> np.ndarray | None:
        """[3] the nearest point of the last picture about pixel (x, y) of its full size; None where there is none.

        The last two picks are kept to measure between.
        """
        if self._depth is None:
            return None
        camera, depth = self._depth
        height, width = depth.shape
        u, v = int(x / self.coarse), int(y / self.coarse)
        left, top = max(u - NEAR_PIXELS, 0), max(v - NEAR_PIXELS, 0)
        window = depth[top : min(v + NEAR_PIXELS + 1, height), left : min(u + NEAR_PIXELS + 1, width)]
        if window.size == 0 or not np.isfinite(window).any():
            return None
        row, column = np.unravel_index(np.argmin(window), window.shape)
        z = float(window[row, column])
        k, pose = camera.intrinsics[0].double().numpy(), camera.camera_to_world[0].double().numpy()
        ray = np.linalg.solve(k, [left + column + 0.5, top + row + 0.5, 1.0])
        point = pose[:3, :3] @ (z * ray) + pose[:3, 3]
        self.picks = [*self.picks[-1:], point]
        return point

    def measured(self) -> str:
        """What there is to say of the picks."""
        if len(self.picks) < 2:
            return f"at {', '.join(f'{x:.4g}' for x in self.picks[0])}" if self.picks else ""
        return f"{np.linalg.norm(self.picks[1] - self.picks[0]):.4g} between the two picks"

    def keep_view(self) -> int:
        """Add where one looks from to the path; returns how many it has."""
        self.path.append(self.view)
        return len(self.path)

    def save_path(self, path: Path, width: int, height: int) -> None:
        """Write cameras of width x height along the kept views, as `recon3d render --path FILE.json` takes them.

        Raises:
            InputError: where none was kept.
        """
        if not self.path:
            raise InputError("no view was kept yet: keep some first")
        to_source = self.contents.scene_to_source
        unit = np.cbrt(np.linalg.det(to_source[:3, :3]))
        frames: list[dict[str, Any]] = []
        for camera in (view.camera(width, height) for view in along(self.path, FRAMES_BETWEEN)):
            k, pose = camera.intrinsics[0].tolist(), camera.world_to_camera[0].double().numpy()
            pose[:3] *= unit
            focal = {"fx": k[0][0], "fy": k[1][1], "cx": k[0][2], "cy": k[1][2]}
            w2c = (pose @ np.linalg.inv(to_source)).tolist()
            frames.append({"width": width, "height": height, **focal, "w2c": w2c})
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"frames": frames}, indent=1), encoding="utf-8")

    def refresh(self) -> bool:
        """Read again what a running fit has written again; True where something is new.

        Raises:
            InputError: for a file that cannot be used any more; what was read before stays.
        """
        changed, failed = refresh_all(self.contents.layers)
        self.stale |= changed
        if failed is not None:
            raise failed
        return changed

    def _touched(self) -> None:
        if self._took > PATIENCE and self.coarse < COARSEST:
            self.coarse *= 2
        self._moved_at, self.stale = self._clock(), True

    def _compared(self, image: np.ndarray) -> np.ndarray:
        """The photo over the picture where the photo lies, or their absolute difference there."""
        layer = self.contents.cameras
        if layer is None or self.photo is None or not layer.files:
            return image
        photo = np.rint(layer.photo(self.photo) * 255).astype(np.uint8)
        height, width = image.shape[:2]
        scale = min(width / photo.shape[1], height / photo.shape[0])
        size = (min(round(photo.shape[1] * scale), width), min(round(photo.shape[0] * scale), height))
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        out, area = image.copy(), (slice(top, top + size[1]), slice(left, left + size[0]))
        small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        if self.compare == "difference":
            out[area] = cv2.absdiff(small, image[area])
        else:
            out[area] = cv2.addWeighted(small, self.blend, image[area], 1 - self.blend, 0)
        return out
