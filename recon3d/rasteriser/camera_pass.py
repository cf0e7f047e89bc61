"""One camera's way through the kernels, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon3d.rasteriser import pool
from recon3d.rasteriser.binning import bin_into_tiles
from recon3d.rasteriser.blend import TABLE, blend
from recon3d.rasteriser.blend_backward import blend_backward, blend_backward_absolute
from recon3d.rasteriser.layout import BLOCKS, CHUNK, MOMENTS, RECORD, TILE_HEIGHT, TILE_WIDTH
from recon3d.rasteriser.project import project
from recon3d.rasteriser.project_backward import POSE, project_backward
from recon3d.rasteriser.simd import LANES
from recon3d.rasteriser.sort import sort_by_depth
from recon3d.rasteriser.workspace import Workspace, borrow, give_back


@dataclass(frozen=True)
class Settings:
    """What a rendering is told beside tensors and the camera."""

    sh_degree: int
    antialiased: bool
    absolute_gradients: bool


class CameraPass:
    """The Gaussians as one camera sees them. Between forward and backward it holds scratch memory of its own.

    Args:
        parameters: means, scales, quats, opacities, sh0, shN as float32 arrays of at least LANES rows.
        factor: [N] opacity factor, or empty.
        camera: see pack_camera. size: width, height.
    """

    def __init__(
        self,
        parameters: list[np.ndarray],
        factor: np.ndarray,
        camera: np.ndarray,
        size: tuple[int, int],
        settings: Settings,
    ) -> None:
        self.parameters, self.factor, self.camera, self.size, self.settings = parameters, factor, camera, size, settings
        self.across, self.down = -(-size[0] // TILE_WIDTH), -(-size[1] // TILE_HEIGHT)
        self.workspace: Workspace | None = None

    def take(self, name: str, shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
        """Scratch memory that lives until :meth:`release`."""
        if self.workspace is None:
            self.workspace = borrow(self)
        return self.workspace.take(name, shape, dtype)

    def release(self) -> None:
        """Give the scratch memory back; forward must run again before another backward."""
        if self.workspace is not None:
            give_back(self.workspace)
            self.workspace = None

    def prepare(self, radii: np.ndarray) -> None:
        """Project, sort and bin; fills ``radii`` [N, 2]."""
        width, height = self.size
        count = len(radii)
        chunks = -(-count // CHUNK)
        self.records = self.take("records", (count, RECORD), np.float32)
        self.tile_counts = self.take("tile_counts", count, np.int32)
        self.first_slots = self.take("first_slots", count, np.int64)
        depths, visible = self.take("depths", count, np.float32), self.take("visible", count, np.int32)
        chunk_visible, chunk_slots = np.empty(chunks, np.int64), np.empty(chunks, np.int64)
        inputs = (*self.parameters[:4], self.factor, *self.parameters[4:], self.camera, width, height)
        outputs = (self.records, depths, radii, self.tile_counts, self.first_slots, visible, chunk_visible, chunk_slots)
        pool.run(project, chunks, *inputs, self.settings.sh_degree, self.settings.antialiased, *outputs)
        order = sort_by_depth(depths, visible, chunk_visible, chunk_slots, self.first_slots, self.take)
        self.pairs = int(chunk_slots.sum())
        placed = (order, self.records, self.first_slots, self.tile_counts, self.pairs, width, height)
        self.entries, self.starts = bin_into_tiles(*placed, self.take)
        self.tile_order = np.argsort(-np.diff(self.starts), kind="stable").astype(np.int32)
        tiles = self.across * self.down
        self.transmittance = self.take("transmittance", (tiles, BLOCKS, LANES), np.float32)
        self.closed = self.take("closed", tiles, np.uint64)
        self.stops = self.take("stops", (tiles * BLOCKS + 1, LANES), np.float32)

    def blend(
        self,
        records: np.ndarray,
        background: np.ndarray,
        mask: np.ndarray,
        colour: np.ndarray,
        alpha: np.ndarray,
        depth: np.ndarray,
    ) -> None:
        """Composite three channels and a fourth of ``records`` into images."""
        lists = (self.starts, self.tile_order, self.entries, *self.size, self.across)
        images = (colour, alpha, depth, self.transmittance, self.closed, self.stops)
        pool.run(blend, self.across * self.down, records, *lists, background, mask, TABLE, *images)

    def blend_backward(
        self,
        name: str,
        records: np.ndarray,
        background: np.ndarray,
        v_colour: np.ndarray,
        v_alpha: np.ndarray,
        v_depth: np.ndarray,
    ) -> np.ndarray:
        """Gradients of the images -> moments [pairs, 16], in the scratch array ``name``."""
        moments = self.take(name, (self.pairs, MOMENTS), np.float32)
        kernel = blend_backward_absolute if self.settings.absolute_gradients else blend_backward
        lists = (self.starts, self.tile_order, self.entries, *self.size, self.across)
        kept = (background, TABLE, self.transmittance, self.closed, self.stops)
        pool.run(kernel, self.across * self.down, records, *lists, *kept, v_colour, v_alpha, v_depth, moments)
        return moments

    def project_backward(
        self, moments: np.ndarray, v_screen: np.ndarray, v_absolute: np.ndarray, with_pose: bool
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Moments -> gradients of the six parameters and the factor, and the pose's sums; fills the screen's [N, 2]."""
        chunks = -(-len(self.tile_counts) // CHUNK)
        gradients = [np.empty_like(p) for p in self.parameters]
        v_factor = np.empty_like(self.factor)
        v_pose = np.empty((chunks if with_pose else 0, POSE), np.float32)
        inputs = (*self.parameters[:4], self.factor, *self.parameters[4:], self.camera)
        kept = (self.records, self.first_slots, self.tile_counts, moments)
        outputs = (*gradients[:4], v_factor, *gradients[4:], v_screen, v_absolute, v_pose)
        switches = (self.settings.sh_degree, self.settings.antialiased)
        pool.run(project_backward, chunks, *inputs, *switches, *kept, *outputs)
        return [*gradients, v_factor], v_pose.sum(0, dtype=np.float64)
