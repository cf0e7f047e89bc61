"""Losses written pixel by pixel, for clarity: what the fast ones are held against."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses import Loss, PriorDepth, Target
from recon3d.render import Render

HEIGHT, WIDTH = 13, 17
NO_GAUSSIANS = Gaussians(
    *(torch.zeros(0, *shape) for shape in ((3,), (3,), (4,), (), (1, 3), (0, 3))),
)


def uniform(seed: int, low: float, high: float, *shape: int) -> Tensor:
    """float64 numbers."""
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rendered(seed: int = 0, features: bool = False) -> Render:
    """A picture with a step in depth and some pixels that show next to nothing, with gradients."""
    alpha = uniform(seed, 0.6, 1.0, 1, HEIGHT, WIDTH)
    alpha[0, uniform(seed + 1, 0, 1, HEIGHT, WIDTH) < 0.1] = 0.2
    depth = uniform(seed + 2, 2.0, 2.4, 1, HEIGHT, WIDTH)
    depth[..., WIDTH // 2 :] += 1.5
    extra = uniform(seed + 3, 0.05, 0.4, 1, HEIGHT, WIDTH, 1).requires_grad_() if features else None
    none = torch.zeros(1, 0, 2)
    colour = uniform(seed + 4, 0, 1, 1, HEIGHT, WIDTH, 3).requires_grad_()
    return Render(colour, alpha.requires_grad_(), (alpha * depth).detach().requires_grad_(), extra, none, none.int())


def target(seed: int = 20, masked: bool = True) -> Target:
    """A photo with a prior that has holes and is wrong in scale."""
    depth = 1.1 * uniform(seed, 2.0, 2.2, HEIGHT, WIDTH)
    depth[:, WIDTH // 2 + 1 :] += 1.5
    depth[uniform(seed + 1, 0, 1, HEIGHT, WIDTH) < 0.15] = 0
    confidence = torch.where(depth > 0, uniform(seed + 2, 0.1, 1.0, HEIGHT, WIDTH), 0)
    mask = uniform(seed + 3, 0, 1, HEIGHT, WIDTH) > 0.1 if masked else None
    return Target(uniform(seed + 4, 0, 1, HEIGHT, WIDTH, 3), mask, None, PriorDepth(depth, confidence))


def gradients(loss: Tensor, render: Render) -> list[Tensor]:
    """Of the colour, alpha and sum of depth, and the features where there are any."""
    inputs = [render.colour, render.alpha, render.depth_sum]
    inputs += [] if render.features is None else [render.features]
    return [
        torch.zeros_like(one) if gradient is None else gradient
        for one, gradient in zip(inputs, torch.autograd.grad(loss, inputs, allow_unused=True), strict=True)
    ]


def assert_alike(loss: Loss, slow: Tensor, render: Render, target: Target, seed: int) -> None:
    """The loss, drawing from ``seed``, has the value and the gradients of ``slow``."""
    torch.manual_seed(seed)
    fast = loss.value(render, target, NO_GAUSSIANS)
    assert float(slow.detach()) > 1e-6, "the case is to cost something"
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(gradients(fast, render), gradients(slow, render), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-11)


Pixel = tuple[int, int]


def shown(render: Render, target: Target) -> list[Pixel]:
    """Pixels that show a surface and count."""
    return [
        (y, x)
        for y in range(HEIGHT)
        for x in range(WIDTH)
        if float(render.alpha[0, y, x].detach()) > 0.5 and (target.mask is None or bool(target.mask[y, x]))
    ]


def pairs(render: Render, target: Target, inverse: bool = False) -> dict[Pixel, tuple[Tensor, Tensor, Tensor]]:
    """What render and prior say of each pixel where both say something, and the prior's confidence."""
    assert target.prior is not None
    found = {}
    for y, x in shown(render, target):
        prior = target.prior.depth[y, x]
        if prior > 0:
            depth = render.depth_sum[0, y, x] / render.alpha[0, y, x]
            found[y, x] = (
                1 / depth if inverse else depth,
                1 / prior if inverse else prior,
                target.prior.confidence[y, x],
            )
    return found


def estimated_depth(render: Render, target: Target, space: str) -> Tensor:
    known = list(pairs(render, target, space == "inverse").values())
    total = sum(c for _, _, c in known)
    mean = sum(c * p for _, p, c in known) / total
    errors = [c * (d - p).abs() / (mean if space == "inverse" else p) for d, p, c in known]
    return sum(errors) / (HEIGHT * WIDTH)


def correlation(known: list[tuple[Tensor, Tensor, Tensor]], flat: float) -> Tensor:
    """Pearson's, weighted."""
    total = sum(c for _, _, c in known)
    means = [sum(one[2] * one[k] for one in known) / total for k in (0, 1)]
    variances = [
        sum(one[2] * (one[k] - means[k]) ** 2 for one in known) / total + (flat * means[k].detach()) ** 2
        for k in (0, 1)
    ]
    together = sum(c * (d - means[0]) * (p - means[1]) for d, p, c in known) / total
    return together / (variances[0] * variances[1]).sqrt()


def patches(side: int, first: list[int]) -> list[list[Pixel]]:
    """Pixels of each patch of a grid that begins at ``first``, as far as the image has room for."""
    y0, x0 = min(first[0], HEIGHT - side), min(first[1], WIDTH - side)
    return [
        [(y + i, x + j) for i in range(side) for j in range(side)]
        for y in range(y0, HEIGHT - side + 1, side)
        for x in range(x0, WIDTH - side + 1, side)
    ]


def depth_correlation(render: Render, target: Target, patch: int | None, space: str, seed: int, flat: float) -> Tensor:
    known = pairs(render, target, space == "inverse")
    groups = [list(known)]
    if patch is not None:
        torch.manual_seed(seed)
        groups = patches(patch, torch.randint(patch, (2,)).tolist())
    cost, total = torch.zeros(()).double(), torch.zeros(()).double()
    for group in groups:
        inside = [known[pixel] for pixel in group if pixel in known]
        if inside:
            weight = sum(c for _, _, c in inside)
            cost = cost + weight * (1 - correlation(inside, flat))
            total = total + weight
    return cost / total


def normalised_depth(
    render: Render, target: Target, sides: tuple[int, int], whole: float, seed: int, flat: float
) -> Tensor:
    def mean_and_deviation(values: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        mean = sum(c * v for v, c in zip(values, weights, strict=True)) / sum(weights)
        return mean, (sum(c * (v - mean) ** 2 for v, c in zip(values, weights, strict=True)) / sum(weights)).sqrt()

    known = pairs(render, target)
    torch.manual_seed(seed)
    side = min(int(torch.randint(sides[0], sides[1] + 1, ())), HEIGHT, WIDTH)
    groups = patches(side, torch.randint(side, (2,)).tolist())
    everything = [
        mean_and_deviation([one[k] for one in known.values()], [one[2] for one in known.values()])[1] for k in (0, 1)
    ]
    cost, total = torch.zeros(()).double(), torch.zeros(()).double()
    for group in groups:
        inside = [known[pixel] for pixel in group if pixel in known]
        if not inside:
            continue
        weights = [c for _, _, c in inside]
        moments = [mean_and_deviation([one[k] for one in inside], weights) for k in (0, 1)]
        for one in inside:
            away = [one[k] - moments[k][0] for k in (0, 1)]
            local = [away[k] / (moments[k][1] + flat * everything[k]) for k in (0, 1)]
            wide = [away[k] / everything[k] for k in (0, 1)]
            cost = cost + one[2] * ((local[0] - local[1]) ** 2 + whole * (wide[0] - wide[1]) ** 2)
            total = total + one[2]
    return cost / total


def offset(reach: int, seed: int) -> Pixel:
    """The ``place``-th of all offsets that follow (0, 0) in reading order."""
    torch.manual_seed(seed)
    every = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    after = every[every.index((0, 0)) + 1 :]
    return after[int(torch.randint(len(after), ()))]


def depth_ranking(render: Render, target: Target, reach: int, least: float, margin: float, seed: int) -> Tensor:
    known, (dy, dx) = pairs(render, target), offset(reach, seed)
    total = torch.zeros(()).double()
    for (y, x), (depth, prior, belief) in known.items():
        if (y + dy, x + dx) in known:
            other, other_prior, other_belief = known[y + dy, x + dx]
            mean = (prior + other_prior) / 2
            if (prior - other_prior).abs() / mean > least:
                near, far = (depth, other) if prior < other_prior else (other, depth)
                cost = ((near - far) / mean + margin).clamp(min=0)
                total = total + torch.minimum(belief, other_belief) * cost
    return total / (HEIGHT * WIDTH)


def depth_continuity(render: Render, target: Target, reach: int, alike: float, slack: float, seed: int) -> Tensor:
    known, (dy, dx) = pairs(render, target), offset(reach, seed)
    total = torch.zeros(()).double()
    for (y, x), (depth, prior, belief) in known.items():
        if (y + dy, x + dx) in known:
            other, other_prior, other_belief = known[y + dy, x + dx]
            mean = (prior + other_prior) / 2
            if (prior - other_prior).abs() / mean <= alike:
                cost = ((depth - other).abs() / mean - slack).clamp(min=0)
                total = total + torch.minimum(belief, other_belief) * cost
    return total / (HEIGHT * WIDTH)


def disparity_variation(render: Render, target: Target, order: int, edge: float) -> Tensor:
    disparity = {(y, x): render.alpha[0, y, x] / render.depth_sum[0, y, x] for y, x in shown(render, target)}
    mean = sum(disparity.values()).detach() / len(disparity)
    total = torch.zeros(()).double()
    for y, x in disparity:
        for dy, dx in ((0, 1), (1, 0)):
            way = [(y + k * dy, x + k * dx) for k in range(order + 1)]
            if all(pixel in disparity for pixel in way):
                values = [disparity[pixel] for pixel in way]
                step = values[1] - values[0] if order == 1 else values[2] - 2 * values[1] + values[0]
                colours = [target.image[pixel] for pixel in way]
                contrast = max(float((b - a).abs().mean()) for a, b in itertools.pairwise(colours))
                total = total + step.abs() * math.exp(-edge * contrast)
    return total / mean / (HEIGHT * WIDTH)


def uncertain_colour(render: Render, target: Target, least: float, unknown: float, likelihood: float) -> Tensor:
    assert render.features is not None
    every = [(y, x) for y in range(HEIGHT) for x in range(WIDTH) if target.mask is None or bool(target.mask[y, x])]
    scales = {p: least + render.features[0][p][0] + unknown * (1 - render.alpha[0][p].detach()) for p in every}
    trust = {p: 1 / scale.detach() for p, scale in scales.items()}
    mean = sum(trust.values()) / len(every)
    total = torch.zeros(()).double()
    for p in every:
        error = (render.colour[0][p] - target.image[p]).abs().mean()
        total = total + trust[p] / mean * error + likelihood * (error.detach() / scales[p] + scales[p].log())
    return total / (HEIGHT * WIDTH)
