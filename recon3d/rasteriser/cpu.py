"""The CPU backend of render(): the kernels in order, for each camera, as one differentiable function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.rasteriser import pool
from recon3d.rasteriser.binning import bin_into_tiles
from recon3d.rasteriser.blend import TABLE, blend
from recon3d.rasteriser.blend_backward import blend_backward, blend_backward_absolute
from recon3d.rasteriser.features import gather_features, paint_features
from recon3d.rasteriser.geometry import pack_camera
from recon3d.rasteriser.layout import BLOCKS, CHUNK, MOMENTS, RECORD, TILE_HEIGHT, TILE_WIDTH
from recon3d.rasteriser.project import project
from recon3d.rasteriser.project_backward import POSE, project_backward
from recon3d.rasteriser.simd import LANES
from recon3d.rasteriser.sort import sort_by_depth
from recon3d.rasteriser.workspace import borrow

_NOTHING = np.empty(0, np.float32)
_NO_MASK = np.empty((0, 0), np.bool_)


@dataclass(frozen=True)
class _Settings:
    """What a rendering is told beside tensors."""

    sh_degree: int
    antialiased: bool
    absolute_gradients: bool
    near: float
    far: float


class _Pass:
    """One camera's forward pass, and what its backward pass needs of it."""

    def __init__(
        self,
        parameters: list[np.ndarray],
        factor: np.ndarray,
        camera: np.ndarray,
        size: tuple[int, int],
        settings: _Settings,
    ) -> None:
        self.parameters, self.factor, self.camera, self.size, self.settings = parameters, factor, camera, size, settings
        self.take = borrow(self).take
        width, height = size
        self.across, self.down = -(-width // TILE_WIDTH), -(-height // TILE_HEIGHT)

    def prepare(self, radii: np.ndarray) -> None:
        """Project, sort and bin; fills ``radii`` [N, 2]."""
        take, (width, height), settings = self.take, self.size, self.settings
        count = len(radii)
        chunks = -(-count // CHUNK)
        self.records = take("records", (count, RECORD), np.float32)
        self.tile_counts, self.first_slots = take("tile_counts", count, np.int32), take("first_slots", count, np.int64)
        depths, visible = take("depths", count, np.float32), take("visible", count, np.int32)
        chunk_visible, chunk_slots = np.empty(chunks, np.int64), np.empty(chunks, np.int64)
        inputs = (*self.parameters[:4], self.factor, *self.parameters[4:], self.camera, width, height)
        outputs = (self.records, depths, radii, self.tile_counts, self.first_slots, visible, chunk_visible, chunk_slots)
        pool.run(project, chunks, *inputs, settings.sh_degree, settings.antialiased, *outputs)
        order = sort_by_depth(depths, visible, chunk_visible, chunk_slots, self.first_slots, take)
        pairs = int(chunk_slots.sum())
        placed = (order, self.records, self.first_slots, self.tile_counts, pairs, width, height)
        self.entries, self.starts = bin_into_tiles(*placed, take)
        self.tile_order = np.argsort(-np.diff(self.starts), kind="stable").astype(np.int32)
        self.pairs = pairs
        tiles = self.across * self.down
        self.transmittance = take("transmittance", (tiles, BLOCKS, LANES), np.float32)
        self.closed, self.stops = (
            take("closed", tiles, np.uint64),
            take("stops", (tiles * BLOCKS + 1, LANES), np.float32),
        )

    def blend(self, records, background, mask, colour, alpha, depth) -> None:
        """Composite three channels and a fourth of ``records`` into images."""
        lists = (self.starts, self.tile_order, self.entries, *self.size, self.across)
        images = (colour, alpha, depth, self.transmittance, self.closed, self.stops)
        pool.run(blend, self.across * self.down, records, *lists, background, mask, TABLE, *images)

    def blend_backward(self, name, records, background, v_colour, v_alpha, v_depth) -> np.ndarray:
        """Gradients of the images -> moments [pairs, 16], in the scratch array ``name``."""
        moments = self.take(name, (self.pairs, MOMENTS), np.float32)
        kernel = blend_backward_absolute if self.settings.absolute_gradients else blend_backward
        lists = (self.starts, self.tile_order, self.entries, *self.size, self.across)
        kept = (background, TABLE, self.transmittance, self.closed, self.stops)
        tiles = self.across * self.down
        pool.run(kernel, tiles, records, *lists, *kept, v_colour, v_alpha, v_depth, moments)
        return moments

    def project_backward(
        self, moments: np.ndarray, v_screen: np.ndarray, v_absolute: np.ndarray, with_pose: bool
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Moments -> gradients of the six parameters and the factor, and the pose's sums; fills the screen's [N, 2]."""
        settings, count = self.settings, len(self.tile_counts)
        chunks = -(-count // CHUNK)
        gradients = [np.empty_like(p) for p in self.parameters]
        v_factor = np.empty_like(self.factor)
        v_pose = np.empty((chunks if with_pose else 0, POSE), np.float32)
        inputs = (*self.parameters[:4], self.factor, *self.parameters[4:], self.camera)
        kept = (self.records, self.first_slots, self.tile_counts, moments)
        outputs = (*gradients[:4], v_factor, *gradients[4:], v_screen, v_absolute, v_pose)
        pool.run(project_backward, chunks, *inputs, settings.sh_degree, settings.antialiased, *kept, *outputs)
        return [*gradients, v_factor], v_pose.sum(0, dtype=np.float64)


def _empty(*shape: int) -> Tensor:
    return torch.from_numpy(np.empty(shape, np.float32))


def _array(tensor: Tensor | None) -> np.ndarray:
    return _NOTHING if tensor is None else tensor.detach().contiguous().numpy()


def _gradient(tensor: Tensor | None, camera: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32) if tensor is None else tensor[camera].contiguous().numpy()


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, settings, size, intrinsics, mask, poses, background, factor, features, means2d, radii, *parameters
    ):
        ctx.set_materialize_grads(False)
        width, height = size
        cameras = len(poses)
        # Tensors are made by numpy: torch's own would wake its threads, which spin for a while beside ours.
        colour = _empty(cameras, height, width, 3)
        alpha, depth = _empty(cameras, height, width), _empty(cameras, height, width)
        painted = _empty(cameras, height, width, 0 if features is None else features.shape[1])
        arrays = [_array(p) for p in parameters]
        factors, backgrounds = _array(factor), _array(background)
        ctx.passes = []
        for c in range(cameras):
            camera = pack_camera(
                poses[c].double().numpy(), intrinsics[c].double().numpy(), width, height, settings.near, settings.far
            )
            one = _Pass(arrays, factors, camera, size, settings)
            one.prepare(radii[c].numpy())
            shown = _NO_MASK if mask is None else mask[c].numpy()
            one.blend(one.records, backgrounds[c], shown, colour[c].numpy(), alpha[c].numpy(), depth[c].numpy())
            if features is not None:
                paint_features(one, features.detach().numpy(), shown, painted[c].numpy())
            ctx.passes.append(one)
        ctx.settings, ctx.mask = settings, mask
        ctx.save_for_backward(poses, background, factor, features, means2d, alpha)
        ctx.mark_non_differentiable(radii)
        return colour, alpha, depth, painted

    @staticmethod
    def backward(ctx, v_colour, v_alpha, v_depth, v_painted):
        poses, background, factor, features, means2d, alpha = ctx.saved_tensors
        wants = ctx.needs_input_grad
        totals: list[np.ndarray] = []
        v_features = None if features is None else np.zeros(features.shape, np.float32)
        v_poses = torch.zeros(len(poses), 4, 4, dtype=torch.float64) if wants[4] else None
        v_means2d = np.empty(means2d.shape, np.float32)
        absolute = np.empty(means2d.shape, np.float32) if ctx.settings.absolute_gradients else None
        for c, one in enumerate(ctx.passes):
            width, height = one.size
            v_image = _gradient(v_colour, c, (height, width, 3))
            v_a, v_d = _gradient(v_alpha, c, (height, width)), _gradient(v_depth, c, (height, width))
            moments = one.blend_backward("moments", one.records, background[c].numpy(), v_image, v_a, v_d)
            if v_features is not None and v_painted is not None:
                gather_features(one, features.numpy(), v_painted[c].contiguous().numpy(), moments, v_features)
            v_absolute = np.empty((0, 2), np.float32) if absolute is None else absolute[c]
            gradients, pose = one.project_backward(moments, v_means2d[c], v_absolute, with_pose=v_poses is not None)
            for total, gradient in zip(totals, gradients, strict=False):
                total += gradient
            totals = totals or gradients
            if v_poses is not None:
                _add_pose_gradient(v_poses[c], poses[c].double(), torch.from_numpy(pose))
        *v_parameters, v_factor = [torch.from_numpy(total) for total in totals]
        if absolute is not None:
            means2d.absgrad = torch.from_numpy(absolute)
        v_background = None
        if wants[5] and v_colour is not None:
            behind = 1 - alpha if ctx.mask is None else (1 - alpha) * ctx.mask
            v_background = torch.einsum("chwk,chw->ck", v_colour, behind)
        return (
            *(None, None, None, None),
            None if v_poses is None else v_poses.to(poses.dtype),
            v_background,
            v_factor if factor is not None else None,
            None if v_features is None else torch.from_numpy(v_features),
            torch.from_numpy(v_means2d),
            None,
            *v_parameters,
        )


def _add_pose_gradient(total: Tensor, pose: Tensor, sums: Tensor) -> None:
    """Add the kernel's sums, and the part through the camera centre -R^T t, to a [4, 4] gradient."""
    rotation, translation, v_centre = pose[:3, :3], pose[:3, 3], sums[12:15]
    total[:3, :3] += sums[:9].reshape(3, 3) - translation[:, None] * v_centre[None, :]
    total[:3, 3] += sums[9:12] - rotation @ v_centre


def _padded(tensor: Tensor, rows: int, value: float = 0.0) -> Tensor:
    """The kernels work on whole vectors: fewer Gaussians than lanes are filled up with ones that are not drawn."""
    if len(tensor) >= rows:
        return tensor
    return torch.cat([tensor, tensor.new_full((rows - len(tensor), *tensor.shape[1:]), value)])


def render_cpu(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    sh_degree: int,
    background: Tensor,
    features: Tensor | None,
    opacity_factor: Tensor | None,
    mask: Tensor | None,
    antialiased: bool,
    absolute_gradients: bool,
    near: float,
    far: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """The CPU half of :func:`recon3d.render.render`, whose checked arguments it takes: background is [C, 3].

    Returns:
        colour, alpha, depth_sum, features, means2d, radii as in Render.
    """
    count = len(gaussians)
    rows = max(count, LANES)
    size = cameras.size
    means2d = torch.from_numpy(np.zeros((len(cameras), count, 2), np.float32))
    means2d.requires_grad_(torch.is_grad_enabled())
    screen = means2d if rows == count else torch.cat([means2d, torch.zeros(len(cameras), rows - count, 2)], 1)
    radii = torch.from_numpy(np.empty((len(cameras), rows, 2), np.int32))
    parameters = [
        _padded(gaussians.means, rows),
        _padded(gaussians.scales, rows),
        _padded(gaussians.quats, rows),
        _padded(gaussians.opacities, rows, -1e9),
        _padded(gaussians.sh0, rows),
        _padded(gaussians.shN, rows),
    ]
    colour, alpha, depth, painted = _Rasterise.apply(
        _Settings(sh_degree, antialiased, absolute_gradients, near, far),
        size,
        cameras.intrinsics.detach(),
        None if mask is None else mask.contiguous(),
        cameras.world_to_camera,
        background.contiguous(),
        None if opacity_factor is None else _padded(opacity_factor, rows, 1.0),
        None if features is None else _padded(features, rows).contiguous(),
        screen,
        radii,
        *parameters,
    )
    return colour, alpha, depth, painted if features is not None else None, means2d, radii[:, :count]
