"""Densification against slow literal versions, one Gaussian at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from recon3d.fitting.densification import DefaultStrategy, MCMCStrategy
from recon3d.fitting.densification.edits import rotation_matrices
from recon3d.fitting.densification.mcmc import relocated
from recon3d.fitting.optimisers import LearningRates, make_optimisers

COUNT, WIDTH, HEIGHT = 60, 80, 50


class Screen:
    """Stands for ``means2d`` after a backward pass."""

    def __init__(self, grad: Tensor) -> None:
        self.grad = grad
        self.absgrad = grad.abs() * 2
        self.is_leaf = True


def scene(seed: int = 0) -> tuple[dict[str, Parameter], dict[str, Any]]:
    """Parameters, and optimisers that have taken two steps."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3), "shN": (3, 3)}
    params = {name: Parameter(torch.randn(COUNT, *shape, generator=draw)) for name, shape in shapes.items()}
    with torch.no_grad():
        params["scales"].mul_(1.5).sub_(4)
        params["opacities"].mul_(3)
    optimisers = make_optimisers(params, LearningRates(), 1.0)
    for _ in range(2):
        for name, param in params.items():
            param.grad = torch.randn(param.shape, generator=draw)
            optimisers[name].step()
            param.grad = None
    return params, dict(optimisers)


def info(seed: int, scale: float = 1e-5) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    radii = torch.randint(0, 12, (1, COUNT, 2), generator=draw, dtype=torch.int32)
    radii[torch.rand(1, COUNT, generator=draw) < 0.3] = 0
    grad = torch.randn(1, COUNT, 2, generator=draw) * scale * (radii > 0).all(-1)[..., None]
    return {"means2d": Screen(grad), "radii": radii, "width": WIDTH, "height": HEIGHT, "n_cameras": 1}


def copy_of(params: dict[str, Parameter], optimisers: dict[str, Any]) -> list[dict[str, Tensor]]:
    """One dict per Gaussian: its parameters, and its moments as ``name.exp_avg`` and so on."""
    rows: list[dict[str, Tensor]] = []
    for i in range(len(params["means"])):
        row = {name: param.detach()[i].clone() for name, param in params.items()}
        for name, param in params.items():
            state = optimisers[name].state[param]
            row |= {f"{name}.{key}": state[key][i].clone() for key in ("exp_avg", "exp_avg_sq")}
        rows.append(row)
    return rows


def forgotten(row: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same Gaussian with zero moments."""
    return {name: torch.zeros_like(value) if "." in name else value.clone() for name, value in row.items()}


def values(rows: list[dict[str, Tensor]], name: str) -> Tensor:
    return torch.stack([row[name] for row in rows])


def assert_rows(params: dict[str, Parameter], optimisers: dict[str, Any], want: list[dict[str, Tensor]]) -> None:
    got = copy_of(params, optimisers)
    assert len(got) == len(want)
    for name in want[0]:
        torch.testing.assert_close(values(got, name), values(want, name))
    for name, optimiser in optimisers.items():
        assert optimiser.param_groups[0]["params"][0] is params[name]
        assert len(optimiser.state) == 1, "nothing is left of the old tensor"
        assert float(optimiser.state[params[name]]["step"]) == 2
        assert params[name].requires_grad


@pytest.mark.parametrize("absgrad", [False, True])
@pytest.mark.parametrize("revised", [False, True])
@pytest.mark.parametrize("screen", [0, 1000])
def test_default_strategy_does_what_the_paper_says(absgrad: bool, revised: bool, screen: int) -> None:
    strategy = DefaultStrategy(
        refine_start_iter=50,
        refine_every=100,
        reset_every=90,
        absgrad=absgrad,
        revised_opacity=revised,
        refine_scale2d_stop_iter=screen,
        prune_scale3d=0.4,
        prune_opa=0.05,
    )
    params, optimisers = scene()
    state = strategy.initialize_state(scene_scale=2.0)
    observed = [info(1), info(2)]
    for step, seen in zip((99, 100), observed, strict=True):
        before = copy_of(params, optimisers)
        torch.manual_seed(5)
        strategy.step_pre_backward(params, optimisers, state, step, seen)
        strategy.step_post_backward(params, optimisers, state, step, seen, lr=0.1)
        if step == 99:
            assert_rows(params, optimisers, before)

    # Gather.
    mean_norm, extent = [0.0] * COUNT, [0.0] * COUNT
    for i in range(COUNT):
        drawn = [seen for seen in observed if bool((seen["radii"][0, i] > 0).all())]
        for seen in drawn:
            x, y = (seen["means2d"].absgrad if absgrad else seen["means2d"].grad)[0, i].tolist()
            mean_norm[i] += math.hypot(x * WIDTH / 2, y * HEIGHT / 2) / len(drawn)
            extent[i] = max(extent[i], int(seen["radii"][0, i].max()) / WIDTH)
    # Grow.
    copied, split, kept, extents = [], [], [], []
    for i, row in enumerate(before):
        large = float(row["scales"].exp().max()) > 0.01 * 2.0
        if mean_norm[i] > 0.0002 and (large or (screen and extent[i] > 0.05)):
            split.append(i)
        if mean_norm[i] > 0.0002 and not large:
            copied.append(i)
    # A small one that is large on the screen is copied, and the original is split as well.
    assert bool(set(copied) & set(split)) == bool(screen)
    assert len(copied) > 2
    assert len(split) > 2
    for i, row in enumerate(before):
        if i not in split:
            kept.append(row)
            extents.append(extent[i])
    for i in copied:
        kept.append(forgotten(before[i]))
        extents.append(extent[i])
    torch.manual_seed(5)
    noise = torch.randn(2 * len(split), 3)
    for half in range(2):
        for j, i in enumerate(split):
            row = forgotten(before[i])
            axes = rotation_matrices(row["quats"][None])[0]
            row["means"] += axes @ (noise[half * len(split) + j] * row["scales"].exp())
            row["scales"] -= math.log(1.6)
            if revised:
                row["opacities"] = torch.logit(1 - torch.sqrt(1 - torch.sigmoid(row["opacities"])))
            kept.append(row)
            extents.append(extent[i])
    # Prune.
    want = []
    for row, size in zip(kept, extents, strict=True):
        huge = float(row["scales"].exp().max()) > 0.4 * 2.0 or bool(screen and size > 0.15)
        if float(torch.sigmoid(row["opacities"])) >= 0.05 and not huge:
            want.append(row)
    assert 0 < len(want) < len(kept)
    assert_rows(params, optimisers, want)
    assert len(state["grad2d"]) == len(want)
    assert not state["grad2d"].any()
    assert not state["count"].any()


def test_default_strategy_resets_opacities_and_their_moments() -> None:
    strategy = DefaultStrategy(reset_every=30, refine_start_iter=1000)
    params, optimisers = scene()
    state = strategy.initialize_state()
    for step in (0, 29):
        before = copy_of(params, optimisers)
        strategy.step_post_backward(params, optimisers, state, step, info(1), lr=0.1)
        assert_rows(params, optimisers, before)
    strategy.step_post_backward(params, optimisers, state, 30, info(1), lr=0.1)
    for row in before:
        row["opacities"] = row["opacities"].clamp(max=math.log(0.01 / 0.99))
        row["opacities.exp_avg"].zero_()
        row["opacities.exp_avg_sq"].zero_()
    assert_rows(params, optimisers, before)


def test_default_strategy_ends_and_has_a_cap() -> None:
    ended = DefaultStrategy(refine_start_iter=0, refine_stop_iter=100)
    params, optimisers = scene()
    before = copy_of(params, optimisers)
    ended.step_post_backward(params, optimisers, {}, 100, info(1), lr=0.1)
    assert_rows(params, optimisers, before)

    capped = DefaultStrategy(refine_start_iter=0, prune_opa=0.0, cap_max=COUNT + 4)
    capped.step_post_backward(params, optimisers, capped.initialize_state(), 100, info(1), lr=0.1)
    assert len(params["means"]) == COUNT + 4


def literal_relocation(opacity: float, copies: int) -> tuple[float, float]:
    """New opacity and factor on the scales, by the paper's equation 9 as printed."""
    new = 1 - (1 - opacity) ** (1 / copies)
    total = 0.0
    for i in range(1, copies + 1):
        for k in range(i):
            total += math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
    return new, opacity / total


@pytest.mark.parametrize("opacity", [0.006, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("copies", [1, 2, 5, 20])
def test_relocation_is_the_papers_equation(opacity: float, copies: int) -> None:
    new, scales = relocated(torch.tensor([opacity]), torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([copies]))
    want, factor = literal_relocation(opacity, copies)
    assert float(new) == pytest.approx(want, rel=1e-5)
    assert scales[0].tolist() == pytest.approx([factor, 2 * factor, 3 * factor], rel=1e-4)


def test_relocation_is_finite_for_many_copies() -> None:
    opacities = torch.tensor([1e-6, 0.5, 1 - 1e-6])
    new, scales = relocated(opacities, torch.ones(3, 3), torch.tensor([51, 51, 10_000]))
    assert bool(torch.isfinite(scales).all())
    assert bool((scales > 0).all())
    assert bool((new > 0).all())


def test_mcmc_moves_the_faded_adds_some_and_jitters() -> None:
    strategy = MCMCStrategy(refine_start_iter=0, refine_every=10, noise_lr=0.0, min_opacity=0.05, growth=0.2)
    params, optimisers = scene()
    before = copy_of(params, optimisers)
    torch.manual_seed(9)
    strategy.step_post_backward(params, optimisers, strategy.initialize_state(), 10, info(1), lr=0.1)

    torch.manual_seed(9)
    opacities = [float(torch.sigmoid(row["opacities"])) for row in before]
    dead = [i for i, opacity in enumerate(opacities) if opacity <= 0.05]
    alive = [i for i, opacity in enumerate(opacities) if opacity > 0.05]
    assert len(dead) > 5

    def share(rows: list[dict[str, Tensor]], chosen: list[int]) -> None:
        for i in set(chosen):
            new, factor = literal_relocation(float(torch.sigmoid(rows[i]["opacities"])), chosen.count(i) + 1)
            new = min(max(new, 0.05), 1 - torch.finfo(torch.float32).eps)
            rows[i]["opacities"] = torch.logit(torch.tensor(new))
            rows[i]["scales"] = rows[i]["scales"] + math.log(factor)

    rows = before
    places = torch.multinomial(torch.sigmoid(values(rows, "opacities"))[alive], len(dead), replacement=True)
    chosen = [alive[int(place)] for place in places]
    share(rows, chosen)
    for i in set(chosen):
        rows[i] = forgotten(rows[i])
    for target, source in zip(dead, chosen, strict=True):
        rows[target] = forgotten(rows[source])
    added = torch.multinomial(torch.sigmoid(values(rows, "opacities")), int(COUNT * 1.2) - COUNT, replacement=True)
    share(rows, added.tolist())
    rows += [forgotten(rows[int(i)]) for i in added]
    assert_rows(params, optimisers, rows)


def test_mcmc_jitter_follows_the_covariance_and_spares_the_opaque() -> None:
    strategy = MCMCStrategy(noise_lr=2.0)
    params, optimisers = scene()
    with torch.no_grad():
        params["opacities"][:30] = -6.0
        params["opacities"][30:] = 2.0
    before = params["means"].detach().clone()
    torch.manual_seed(3)
    strategy.step_post_backward(params, optimisers, {}, 7, info(1), lr=0.5)
    torch.manual_seed(3)
    noise = torch.randn(COUNT, 3)
    for i, row in enumerate(copy_of(params, optimisers)):
        axes = rotation_matrices(row["quats"][None])[0] @ torch.diag(row["scales"].exp())
        fade = 1 / (1 + math.exp(100 * (float(torch.sigmoid(row["opacities"])) - 0.005)))
        moved = row["means"] - before[i]
        torch.testing.assert_close(moved, axes @ axes.T @ noise[i] * fade, rtol=1e-3, atol=1e-6)
    assert not torch.equal(params["means"][:30], before[:30])


def test_mcmc_respects_its_cap_and_survives_all_faded() -> None:
    params, optimisers = scene()
    capped = MCMCStrategy(refine_start_iter=0, cap_max=COUNT, min_opacity=1e-9)
    capped.step_post_backward(params, optimisers, {}, 100, info(1), lr=0.0)
    assert len(params["means"]) == COUNT
    with torch.no_grad():
        params["opacities"].fill_(-20)
    MCMCStrategy(refine_start_iter=0, cap_max=COUNT).step_post_backward(params, optimisers, {}, 100, info(1), lr=0.0)
    assert len(params["means"]) == COUNT


def test_rotations_agree_with_quaternion_algebra() -> None:
    half = math.sqrt(0.5)
    turn = rotation_matrices(torch.tensor([[half, 0, 0, half], [3.0, 0, 0, 0]]))
    torch.testing.assert_close(turn[0] @ torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]))
    torch.testing.assert_close(turn[1], torch.eye(3))
