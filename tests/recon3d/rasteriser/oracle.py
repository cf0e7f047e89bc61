"""What rendering means: every Gaussian against every pixel in double precision, for clarity only.

The semantics are gsplat's (Ye et al., 2024, after Kerbl et al., 2023), and the gradients are autograd's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.render import Render

BLUR = 0.3  # pixel², added to the screen covariance
ALPHA_MIN, ALPHA_MAX = 1 / 255, 0.999
TRANSMITTANCE_MIN = 1e-4


@dataclass(frozen=True)
class Margins:
    """How close each pixel [C, H, W] came to a decision that rounding could turn.

    Attributes:
        alpha: least |alpha / threshold - 1| over the Gaussians, for the thresholds 1/255 and 0.999.
        stop: least |transmittance / 1e-4 - 1| over the Gaussians.
        order: least relative difference in depth of two Gaussians drawn next to one another in this camera, [C].
    """

    alpha: Tensor
    stop: Tensor
    order: Tensor

    def decided(self, alpha: float = 1e-4, stop: float = 1e-3) -> Tensor:
        """[C, H, W] bool, True where single precision must decide the same."""
        return (self.alpha > alpha) & (self.stop > stop)


def render_oracle(gaussians: Gaussians, cameras: Cameras, **options: object) -> Render:
    """Same as :func:`recon3d.render.render` on the CPU, in float64."""
    return render_with_margins(gaussians, cameras, **options)[0]


def render_with_margins(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    sh_degree: int | None = None,
    background: Tensor | None = None,
    features: Tensor | None = None,
    opacity_factor: Tensor | None = None,
    mask: Tensor | None = None,
    antialiased: bool = False,
    absolute_gradients: bool = False,
    near: float = 0.01,
    far: float = 1e10,
) -> tuple[Render, Margins]:
    """As :func:`render_oracle`, with the margins of its decisions."""
    count, (width, height) = len(gaussians), cameras.size
    sh_degree = gaussians.sh_degree if sh_degree is None else sh_degree
    extra = torch.zeros(count, 0) if features is None else features
    factor = torch.ones(count) if opacity_factor is None else opacity_factor
    backdrop = (torch.zeros(3) if background is None else background).double().expand(len(cameras), 3)
    means2d = torch.zeros(len(cameras), count, 2, dtype=torch.float64, requires_grad=torch.is_grad_enabled())
    if absolute_gradients:
        means2d.absgrad = torch.zeros_like(means2d)

    inputs = {**gaussians.parameters(), "factor": factor}
    finite = torch.stack(
        [torch.isfinite(value.reshape(count, value[0].numel() if count else 0)).all(1) for value in inputs.values()]
    ).all(0)
    finite &= gaussians.quats.detach().norm(dim=1) > 0
    inputs = {name: value.double() for name, value in [*inputs.items(), ("extra", extra)]}

    images, radii, margins = [], [], []
    for camera in range(len(cameras)):
        pose, intrinsics = cameras.world_to_camera[camera].double(), cameras.intrinsics[camera].double()
        depths = (inputs["means"].detach() @ pose[2, :3].detach()) + pose[2, 3].detach()
        candidates = (finite & (depths >= near) & (depths <= far)).nonzero()[:, 0]
        # Sorted by single precision depth, ties by index: gsplat's and our order.
        candidates = candidates[depths[candidates].float().argsort(stable=True)]
        own = {name: value[candidates] for name, value in inputs.items()}

        xy, covariance, depth = project(own["means"], own["scales"], own["quats"], pose, intrinsics, width, height)
        opacity = own["opacities"].sigmoid() * own["factor"]
        blurred = covariance + BLUR * torch.eye(2, dtype=torch.float64)
        if antialiased:
            opacity = opacity * safe_sqrt(covariance.det() / blurred.det())
        centre = -pose[:3, :3].T @ pose[:3, 3]
        harmonics = torch.cat([own["sh0"], own["shN"]], 1)
        colour = evaluate_sh(sh_degree, own["means"] - centre, harmonics)

        pixels = pixel_centres(width, height)  # [P, 2]
        shift = means2d[camera, candidates][:, None, :].expand(len(candidates), len(pixels), 2)
        if absolute_gradients and shift.requires_grad:
            shift.register_hook(_gather_absolute(means2d, camera, candidates))
        delta = pixels - (xy[:, None, :] + shift)  # [M, P, 2]
        exponent = -0.5 * torch.einsum("mpi,mij,mpj->mp", delta, blurred.inverse(), delta)
        unclamped = opacity[:, None] * exponent.exp()
        alpha = unclamped.clamp(max=ALPHA_MAX)
        shown = torch.ones(len(pixels), dtype=torch.bool) if mask is None else mask[camera].reshape(-1)
        hit = (alpha >= ALPHA_MIN) & shown
        alpha = torch.where(hit, alpha, 0)
        unstopped = (1 - alpha).cumprod(0)  # transmittance behind each Gaussian if none were left out
        drawn = hit & (unstopped > TRANSMITTANCE_MIN)  # it never rises, so what follows a stop stays out
        alpha = torch.where(drawn, alpha, 0)
        after = (1 - alpha).cumprod(0)
        before = torch.cat([torch.ones(1, len(pixels), dtype=torch.float64), after])[:-1]
        weights = alpha * before
        left = after[-1] if len(after) else torch.ones(len(pixels), dtype=torch.float64)

        behind = torch.where(shown[:, None], backdrop[camera], backdrop[camera].detach())
        channels = torch.cat([colour, depth[:, None], own["extra"]], 1)
        image = weights.T @ channels + F.pad(left[:, None] * behind, (0, channels.shape[1] - 3))
        images.append(torch.cat([image, (1 - left)[:, None]], 1).reshape(height, width, -1))
        radii.append(_radii(count, candidates, xy, blurred, opacity, width, height))
        margins.append(_margins(unclamped, hit, unstopped, depth))

    stacked = torch.stack(images)
    render = Render(
        colour=stacked[..., :3],
        alpha=stacked[..., -1],
        depth_sum=stacked[..., 3],
        features=None if features is None else stacked[..., 4:-1],
        means2d=means2d,
        radii=torch.stack(radii),
    )
    alpha_margin, stop_margin, order = (torch.stack(each) for each in zip(*margins, strict=True))
    shape = (len(cameras), height, width)
    return render, Margins(alpha_margin.reshape(shape), stop_margin.reshape(shape), order)


def project(
    means: Tensor, scales: Tensor, quats: Tensor, pose: Tensor, intrinsics: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres [M, 2] in pixels, screen covariances [M, 2, 2] and z-depths [M] (Zwicker et al., EWA splatting, 2001)."""
    rotation = pose[:3, :3]
    x, y, z = (means @ rotation.T + pose[:3, 3]).unbind(1)
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    # Beside the image the Jacobian grows without bound; it is taken at most 0.3 half images outside.
    slack_x, slack_y = 0.3 * 0.5 * width / fx, 0.3 * 0.5 * height / fy
    slope_x = (x / z).clamp(-(cx / fx + slack_x), (width - cx) / fx + slack_x)
    slope_y = (y / z).clamp(-(cy / fy + slack_y), (height - cy) / fy + slack_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], 1).reshape(-1, 2, 3)
    axes = rotation_matrices(quats) * scales.exp()[:, None, :]
    spread = jacobian @ rotation @ axes
    return torch.stack([fx * x / z + cx, fy * y / z + cy], 1), spread @ spread.transpose(1, 2), z


def rotation_matrices(quats: Tensor) -> Tensor:
    """[M, 3, 3] from wxyz of any non-zero length."""
    w, x, y, z = F.normalize(quats, dim=1).unbind(1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def evaluate_sh(degree: int, towards: Tensor, harmonics: Tensor) -> Tensor:
    """[M, 3] colours seen along ``towards`` [M, 3], of which only the direction counts."""
    x, y, z = F.normalize(towards, dim=1).unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        basis += [0.4886025119029199 * each for each in (-y, z, -x)]
    if degree >= 2:
        basis += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * zz - xx - yy)]
        basis += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    if degree >= 3:
        basis += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
        basis += [-0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy)]
        basis += [-0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy)]
        basis += [-0.5900435899266435 * x * (xx - 3 * yy)]
    used = torch.stack(basis, 1)[:, :, None] * harmonics[:, : len(basis)]
    return (used.sum(1) + 0.5).clamp(min=0)


def pixel_centres(width: int, height: int) -> Tensor:
    """[height * width, 2] x and y, row by row."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    return torch.stack([x, y], 2).reshape(-1, 2)


def safe_sqrt(value: Tensor) -> Tensor:
    """Square root, 0 with gradient 0 where ``value`` is not positive."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1).sqrt(), 0)


def _gather_absolute(means2d: Tensor, camera: int, candidates: Tensor) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        means2d.absgrad[camera, candidates] = gradient.abs().sum(1)

    return hook


def _radii(
    count: int, candidates: Tensor, xy: Tensor, blurred: Tensor, opacity: Tensor, width: int, height: int
) -> Tensor:
    """[N, 2] int32: half sizes of the box around alpha >= 1/255, rounded up; 0 where the box misses the image."""
    reach = torch.sqrt(2 * torch.log(opacity * 255).clamp(min=0))
    half = torch.ceil(reach[:, None] * torch.stack([blurred[:, 0, 0], blurred[:, 1, 1]], 1).sqrt())
    inside = (xy + half > 0) & (xy - half < torch.tensor([width, height]))
    half = torch.where((inside.all(1) & (opacity >= ALPHA_MIN))[:, None], half, 0)
    radii = torch.zeros(count, 2, dtype=torch.int32)
    radii[candidates] = half.detach().clamp(max=2**30).to(torch.int32)
    return radii


def _margins(unclamped: Tensor, hit: Tensor, transmittance: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not len(unclamped):
        infinite = torch.full(unclamped.shape[1:], torch.inf, dtype=torch.float64)
        return infinite, infinite, torch.tensor(torch.inf, dtype=torch.float64)
    unclamped, transmittance, depth = unclamped.detach(), transmittance.detach(), depth.detach()
    alpha = torch.minimum((unclamped / ALPHA_MIN - 1).abs(), (unclamped / ALPHA_MAX - 1).abs())
    steps = (depth.diff() / depth[1:]).abs()
    order = steps.min() if len(steps) else torch.tensor(torch.inf, dtype=torch.float64)
    return alpha.amin(0), torch.where(hit, (transmittance / TRANSMITTANCE_MIN - 1).abs(), torch.inf).amin(0), order
