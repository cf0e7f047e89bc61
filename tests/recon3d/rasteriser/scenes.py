"""Random Gaussians, cameras and cotangents for the rasteriser's tests, and how two renders are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.render import Render, render
from tests.recon3d.rasteriser.oracle import Margins, render_with_margins

Renderer = Callable[..., Render]


def random_gaussians(
    count: int, degree: int = 1, seed: int = 0, *, size: tuple[float, float] = (0.02, 0.2), logit: float = 0.0
) -> Gaussians:
    """Gaussians in a box of 3 x 2 x 2 around the origin, standard deviations between the two of ``size``."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    small, large = (torch.tensor(value).log() for value in size)
    return Gaussians(
        means=(torch.rand(count, 3, generator=generator) - 0.5) * torch.tensor([3.0, 2.0, 2.0]),
        scales=small + (large - small) * torch.rand(count, 3, generator=generator),
        quats=normal(count, 4),
        opacities=normal(count) * 1.5 + logit,
        sh0=normal(count, 1, 3) * 0.7,
        shN=normal(count, (degree + 1) ** 2 - 1, 3) * 0.3,
    )


def random_cameras(count: int = 1, width: int = 40, height: int = 28, seed: int = 0, distance: float = 2.5) -> Cameras:
    """Cameras at ``distance`` that look roughly at the origin, with off-centre principal points."""
    generator = torch.Generator().manual_seed(1000 + seed)
    poses = torch.eye(4).repeat(count, 1, 1)
    for pose in poses:
        turn = torch.randn(3, generator=generator) * 0.15
        pose[:3, :3] = torch.linalg.matrix_exp(cross_matrix(turn))
        pose[:3, 3] = torch.tensor([0.0, 0.0, distance]) + torch.randn(3, generator=generator) * 0.1
    intrinsics = torch.tensor([[0.9 * width, 0, width / 2 + 1.3], [0, 0.95 * width, height / 2 - 0.7], [0, 0, 1]])
    return Cameras(poses, intrinsics.repeat(count, 1, 1), torch.tensor([[width, height]]).repeat(count, 1))


def cross_matrix(vector: Tensor) -> Tensor:
    """[3, 3] matrix of the cross product with ``vector``."""
    x, y, z = vector
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)


@dataclass
class Result:
    """A render, and the gradients, by name, of the product of its images with fixed random cotangents."""

    render: Render
    leaves: dict[str, Tensor]
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def images(self) -> dict[str, Tensor]:
        """colour, alpha, depth_sum and, where asked for, features."""
        names = ("colour", "alpha", "depth_sum", "features")
        return {name: getattr(self.render, name) for name in names if getattr(self.render, name) is not None}

    def backward(
        self, where: Tensor | None = None, *, without: tuple[str, ...] = (), retain_graph: bool = False
    ) -> Result:
        """Fill ``gradients``; cotangents are 0 outside ``where`` [C, H, W] bool and for the images named."""
        loss = torch.zeros((), dtype=torch.float64)
        generator = torch.Generator().manual_seed(7)
        for name, image in self.images().items():
            weight = torch.randn(image.shape, generator=generator)
            if name in without:
                continue
            if where is not None:
                weight = weight * (where if weight.ndim == where.ndim else where[..., None])
            loss = loss + (image.cpu().double() * weight).sum()
        for leaf in self.leaves.values():
            leaf.grad = None
        loss.backward(retain_graph=retain_graph)
        for name, leaf in self.leaves.items():
            self.gradients[name] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.clone()
        if hasattr(self.render.means2d, "absgrad"):
            self.gradients["absgrad"] = self.render.means2d.absgrad.clone()
        return self


def forward(
    renderer: Renderer,
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    **options: object,
) -> Result:
    """Render copies of all inputs, real-valued ones as ``dtype`` with gradients (but for the intrinsics)."""

    def leaf(value: Tensor) -> Tensor:
        return value.detach().to(device, dtype, copy=True).requires_grad_()

    parameters = {name: leaf(value) for name, value in gaussians.parameters().items()}
    pose = leaf(cameras.world_to_camera)
    tensors = {name: value for name, value in options.items() if isinstance(value, Tensor)}
    extra = {name: leaf(value) if value.is_floating_point() else value.to(device) for name, value in tensors.items()}
    moved = Cameras(pose, cameras.intrinsics.to(device, dtype), cameras.sizes)
    render = renderer(Gaussians(**parameters), moved, **{**options, **extra})
    leaves = {**parameters, "world_to_camera": pose, **extra, "means2d": render.means2d}
    return Result(render, {name: value for name, value in leaves.items() if value.is_floating_point()})


def forward_oracle(gaussians: Gaussians, cameras: Cameras, **options: object) -> tuple[Result, Margins]:
    """:func:`forward` of the oracle, with the margins of its decisions."""
    found: list[Margins] = []

    def renderer(*args: object, **named: object) -> Render:
        shown, margins = render_with_margins(*args, **named)
        found.append(margins)
        return shown

    return forward(renderer, gaussians, cameras, dtype=torch.float64, **options), found[0]


def assert_close(name: str, got: Tensor, want: Tensor, tolerance: float, *, rows: int | None = None) -> None:
    """Fail unless each row of ``got`` is within ``tolerance`` of ``want``, relative to the larger of the row's norm and
    a hundredth of the largest row's; a row is what shares the first ``rows`` dimensions, all of it for None."""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    assert got.shape == want.shape, f"{name}: {tuple(got.shape)}, expected {tuple(want.shape)}"
    if not want.numel():
        return
    assert torch.isfinite(got).all(), f"{name} is not finite"
    head = want.shape[:rows] if rows is not None else (1,)
    error = (got - want).reshape(*head, -1).norm(dim=-1).flatten()
    size = want.reshape(*head, -1).norm(dim=-1).flatten()
    relative = error / size.clamp(min=max(float(size.max()) * 0.01, 1e-7))
    worst = int(relative.argmax())
    assert relative[worst] <= tolerance, f"{name}: relative error {relative[worst]:.2e} at row {worst} of {len(error)}"


def assert_matches_oracle(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    renderer: Renderer = render,
    device: str = "cpu",
    images: float = 2e-5,
    gradients: float = 3e-4,
    decided: float = 1e-4,
    without: tuple[str, ...] = (),
    **options: object,
) -> tuple[Result, Result]:
    """Compare images, gradients and radii of ``renderer`` with the oracle's; both results are returned.

    A pixel where the oracle came within ``decided`` of one of the thresholds (alpha 1/255 and 0.999, transmittance
    1e-4) may be decided differently in single precision: it is compared loosely and its cotangents are 0. There may be
    few of them, or the comparison would be empty.

    Args:
        images: tolerance of colour, alpha and features, and of depth_sum relative to the largest.
        gradients: relative tolerance of gradients, see :func:`assert_close`.
        without: images that have no part in the gradients.
    """
    want, margins = forward_oracle(gaussians, cameras, **options)
    where = margins.decided(decided, 10 * decided)
    assert where.double().mean() > 0.98, (
        f"only {where.double().mean():.1%} of the pixels are decided: choose another scene"
    )
    assert margins.order.min() > 2e-7, "two Gaussians are too close in depth to be sorted alike: choose another scene"
    want.backward(where, without=without)
    got = forward(renderer, gaussians, cameras, device=device, **options).backward(where, without=without)
    assert set(got.images()) == set(want.images())
    for name, expected in want.images().items():
        found = got.images()[name].detach().cpu().double()
        assert found.shape == expected.shape, name
        assert torch.isfinite(found).all(), f"{name} is not finite"
        error = (found - expected.detach()).abs() / expected.detach().abs().max().clamp(min=1)
        here = where.expand(error.shape) if error.ndim == where.ndim else where[..., None].expand(error.shape)
        if here.any():
            assert error[here].max() <= images, f"{name}: error {error[here].max():.2e}"
        if (~here).any():
            assert error[~here].max() <= 0.11, f"{name}: error {error[~here].max():.2e} at an undecided pixel"
    assert set(got.gradients) == set(want.gradients)
    for name, expected in want.gradients.items():
        rows = {"world_to_camera": 1, "background": None, "means2d": 2, "absgrad": 2}.get(name, 1)
        assert_close(f"gradient of {name}", got.gradients[name], expected, gradients, rows=rows)
    assert_radii_agree(got.render.radii, want.render.radii)
    drawn, wanted = ((one.render.radii.cpu() > 0).all(-1) for one in (got, want))
    if "means2d" in want.gradients:
        moved = want.gradients["means2d"].cpu().norm(dim=-1) > 0
        assert drawn[moved].all(), "what is seen has a radius"
    assert (drawn & ~wanted).double().mean() <= 0.02, "what is not drawn has none, but at the border"
    return got, want


def assert_radii_agree(got: Tensor, want: Tensor) -> None:
    """Half extents may be rounded to either side, and a Gaussian that ends within a pixel of the border may count."""
    got, want = got.cpu(), want.cpu()
    assert got.shape == want.shape
    assert got.dtype == torch.int32
    assert (got >= 0).all()
    both = (got > 0).all(-1) & (want > 0).all(-1)
    assert ((got - want).abs()[both] <= 1 + want[both] * 1e-3).all()
    assert ((got > 0).all(-1) | (got == 0).all(-1)).all(), "a radius of 0 in one direction only"


def tangent(pose: Tensor, gradient: Tensor) -> Tensor:
    """[C, 6] gradient with respect to a small turn and shift of the camera: what of [C, 4, 4] keeps a pose rigid."""
    pose, gradient = pose.detach().cpu().double(), gradient.detach().cpu().double()
    turns = []
    for axis in range(3):
        moved = cross_matrix(torch.eye(3, dtype=torch.float64)[axis]) @ pose[:, :3]
        turns.append((moved * gradient[:, :3]).sum((1, 2)))
    return torch.cat([torch.stack(turns, 1), gradient[:, :3, 3]], 1)
