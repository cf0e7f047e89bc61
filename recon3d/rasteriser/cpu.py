"""The CPU backend of render(): the kernels in order, for each camera, as one differentiable function."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.rasteriser.camera_pass import CameraPass, Settings
from recon3d.rasteriser.features import gather_features, paint_features
from recon3d.rasteriser.geometry import pack_camera
from recon3d.rasteriser.simd import LANES

_NOTHING = np.empty(0, np.float32)
_NO_MASK = np.empty((0, 0), np.bool_)


def _empty(*shape: int) -> Tensor:
    return torch.from_numpy(np.empty(shape, np.float32))


def _array(tensor: Tensor | None) -> np.ndarray:
    return _NOTHING if tensor is None else tensor.detach().contiguous().numpy()


def _gradient(tensor: Tensor | None, camera: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32) if tensor is None else tensor[camera].contiguous().numpy()


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        settings,
        size,
        clip,
        intrinsics,
        mask,
        poses,
        background,
        factor,
        features,
        means2d,
        radii,
        *parameters,
    ):
        ctx.set_materialize_grads(False)
        arrays, factors = [_array(p) for p in parameters], _array(factor)
        ctx.passes = []
        for pose, intrinsic in zip(poses.double().numpy(), intrinsics.double().numpy(), strict=True):
            camera = pack_camera(pose, intrinsic, *size, *clip)
            ctx.passes.append(CameraPass(arrays, factors, camera, size, settings))
        ctx.settings, ctx.mask = settings, mask
        images = _paint(ctx.passes, background, mask, features, radii)
        # The parameters are saved for autograd's check that nobody has changed them since.
        ctx.save_for_backward(poses, background, features, means2d, images[1], factor, *parameters)
        ctx.mark_non_differentiable(radii)
        return images

    @staticmethod
    def backward(ctx, v_colour, v_alpha, v_depth, v_painted):
        poses, background, features, means2d, alpha, factor, *_ = ctx.saved_tensors
        _, _, _, _, _, wants_poses, wants_background, *_ = ctx.needs_input_grad
        if any(one.workspace is None for one in ctx.passes):  # a second backward through a retained graph
            radii = torch.empty(len(poses), len(ctx.passes[0].parameters[0]), 2, dtype=torch.int32)
            _paint(ctx.passes, background, ctx.mask, features, radii)
        totals: list[np.ndarray] = []
        v_features = None if features is None else np.zeros(features.shape, np.float32)
        v_poses = torch.zeros(len(poses), 4, 4, dtype=torch.float64) if wants_poses else None
        count, rows = means2d.shape[1], len(ctx.passes[0].parameters[0])  # rows: filled up by _padded
        v_means2d = np.empty((len(poses), rows, 2), np.float32)
        absolute = np.empty_like(v_means2d) if ctx.settings.absolute_gradients else None
        for c, one in enumerate(ctx.passes):
            width, height = one.size
            v_image = _gradient(v_colour, c, (height, width, 3))
            v_a, v_d = _gradient(v_alpha, c, (height, width)), _gradient(v_depth, c, (height, width))
            moments = one.blend_backward("moments", one.records, background[c].numpy(), v_image, v_a, v_d)
            if v_features is not None and v_painted is not None:
                gather_features(one, features.numpy(), v_painted[c].contiguous().numpy(), moments, v_features)
            v_absolute = np.empty((0, 2), np.float32) if absolute is None else absolute[c]
            gradients, pose = one.project_backward(moments, v_means2d[c], v_absolute, with_pose=wants_poses)
            one.release()
            for total, gradient in zip(totals, gradients, strict=False):
                total += gradient
            totals = totals or gradients
            if v_poses is not None:
                _add_pose_gradient(v_poses[c], poses[c].double(), torch.from_numpy(pose))
        *v_parameters, v_factor = [torch.from_numpy(total) for total in totals]
        if absolute is not None:
            means2d.absgrad = torch.from_numpy(absolute[:, :count])
        v_background = None
        if wants_background and v_colour is not None:
            behind = 1 - alpha if ctx.mask is None else (1 - alpha) * ctx.mask
            v_background = torch.einsum("chwk,chw->ck", v_colour, behind)
        return (
            *(None, None, None, None, None),
            None if v_poses is None else v_poses.to(poses.dtype),
            v_background,
            None if factor is None else v_factor,
            None if v_features is None else torch.from_numpy(v_features),
            torch.from_numpy(v_means2d[:, :count]),
            None,
            *v_parameters,
        )


def _paint(passes, background, mask, features, radii) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Forward passes of all cameras: colour, alpha, depth, features; fills radii."""
    width, height = passes[0].size
    # Tensors are made by numpy: torch's own would wake its threads, which spin for a while beside ours.
    colour = _empty(len(passes), height, width, 3)
    alpha, depth = _empty(len(passes), height, width), _empty(len(passes), height, width)
    painted = _empty(len(passes), height, width, 0 if features is None else features.shape[1])
    for c, one in enumerate(passes):
        one.prepare(radii[c].numpy())
        shown = _NO_MASK if mask is None else mask[c].numpy()
        images = (colour[c].numpy(), alpha[c].numpy(), depth[c].numpy())
        one.blend(one.records, background[c].detach().numpy(), shown, *images)
        if features is not None:
            paint_features(one, features.detach().numpy(), shown, painted[c].numpy())
    return colour, alpha, depth, painted


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
        Settings(sh_degree, antialiased, absolute_gradients),
        size,
        (near, far),
        cameras.intrinsics.detach(),
        None if mask is None else mask.contiguous(),
        cameras.world_to_camera,
        background.contiguous(),
        None if opacity_factor is None else _padded(opacity_factor, rows, 1.0),
        None if features is None else _padded(features, rows).contiguous(),
        means2d,
        radii,
        *parameters,
    )
    return colour, alpha, depth, painted if features is not None else None, means2d, radii[:, :count]
