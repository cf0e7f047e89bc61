"""Times of the rasteriser and of a whole training step, beside a matrix product as the machine's yardstick.

    python benchmarks/rasteriser.py --garden test_garden.npz --json out.json [--pilot FOLDER] [--splat FILE]

Cases: Gaussians on the points of gsplat's test scene "garden" (random scales, rotations and opacities, SH degree 3),
20,000 of them and all 112,000, at 648x420; and a trained splat: the file given by ``--splat``, else one fitted to three
photos of the built-in scene. Every time is the median of interleaved repeats in one process. ``--pilot`` names a folder
with another implementation (``nbs.py`` with ``splat(means, quats, scales, opacities, sh, pose, intrinsics, width,
height)``), timed on the same case in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import SH_C0, Gaussians
from recon3d.rasteriser import thread_count, threads
from recon3d.render import render
from recon3d.ssim import l1_ssim

LEARNING_RATES = {"means": 1e-5, "scales": 5e-3, "quats": 1e-3, "opacities": 5e-2, "sh0": 2.5e-3, "shN": 1.25e-4}


def garden(path: Path, count: int | None) -> tuple[Gaussians, Cameras]:
    """gsplat's recipe for its test scene: scales U(0, .02), random rotations, U opacities, cropped to +-2."""
    generator = torch.Generator().manual_seed(42)
    data = np.load(path, allow_pickle=False)
    means = torch.from_numpy(data["means3d"]).float()
    colours = torch.from_numpy(data["colors"] / 255.0).float()
    near = (means.abs() <= 2).all(-1)
    means, colours = means[near], colours[near]
    if count is not None:
        chosen = torch.randperm(len(means), generator=generator)[:count].sort().values
        means, colours = means[chosen], colours[chosen]
    total = len(means)
    scales = torch.rand(total, 3, generator=generator) * 0.02
    quats = torch.nn.functional.normalize(torch.randn(total, 4, generator=generator), dim=-1)
    opacities = torch.rand(total, generator=generator)
    gaussians = Gaussians(
        means=means.contiguous(),
        scales=scales.log(),
        quats=quats,
        opacities=opacities.clamp(1e-4, 1 - 1e-5).logit(),
        sh0=((colours - 0.5) / SH_C0)[:, None].contiguous(),
        shN=torch.randn(total, 15, 3, generator=generator) * 0.05,
    )
    cameras = Cameras(
        torch.from_numpy(data["viewmats"][:1]).float(),
        torch.from_numpy(data["Ks"][:1]).float(),
        torch.tensor([[int(data["width"]), int(data["height"])]]),
    )
    return gaussians, cameras


def trained(splat: Path | None) -> tuple[Gaussians, Cameras]:
    """A splat file, seen from the built-in scene's first camera; fitted first where no file is given."""
    from datasets.scenes import open_scene
    from recon3d.splats import load_splat

    scene = open_scene(Path("builtin"))
    with tempfile.TemporaryDirectory() as folder:
        if splat is None:
            config = Path(__file__).parents[1] / "configs" / "recon3d" / "demo.yaml"
            command = [
                sys.executable,
                "-m",
                "recon3d",
                "fit",
                "--config",
                str(config),
                "--data.root",
                "builtin",
                "--out",
                folder,
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            splat = Path(folder) / "splat.safetensors"
        gaussians = load_splat(splat).gaussians
    return gaussians, scene.cameras[0]


def median_ms(runs: list[float]) -> float:
    return round(float(np.median(runs)) * 1e3, 3)


def clock(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def leaves(gaussians: Gaussians) -> dict[str, Tensor]:
    return {name: value.clone().requires_grad_() for name, value in gaussians.parameters().items()}


def cotangents(cameras: Cameras) -> list[Tensor]:
    """Random gradients of colour, alpha and depth."""
    width, height = cameras.size
    generator = torch.Generator().manual_seed(1)
    colour = torch.randn(1, height, width, 3, generator=generator)
    alpha = torch.randn(1, height, width, generator=generator)
    return [colour, alpha, 0.1 * torch.randn(1, height, width, generator=generator)]


def render_once(parameters: dict[str, Tensor], cameras: Cameras, v: list[Tensor]) -> tuple[float, float]:
    for value in parameters.values():
        value.grad = None
    forward, out = clock(lambda: render(Gaussians(**parameters), cameras))
    backward, _ = clock(lambda: torch.autograd.backward([out.colour, out.alpha, out.depth_sum], v))
    return forward, backward


def training_step(
    parameters: dict[str, Tensor], cameras: Cameras, target: Tensor, optimisers: list[torch.optim.Optimizer]
) -> dict[str, float]:
    """One step of a fit, in parts."""
    whole = time.perf_counter()
    forward, out = clock(lambda: render(Gaussians(**parameters), cameras))
    image = out.colour[0].detach().requires_grad_()
    loss_seconds, _ = clock(lambda: l1_ssim(image, target, 0.2).backward())
    backward, _ = clock(lambda: out.colour.backward(image.grad[None]))

    def update() -> None:
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    optimiser_seconds, _ = clock(update)
    return {
        "step_forward": forward,
        "loss": loss_seconds,
        "step_backward": backward,
        "optimiser": optimiser_seconds,
        "step": time.perf_counter() - whole,
    }


class Pilot:
    """The other implementation on the same case."""

    def __init__(self, folder: Path, gaussians: Gaussians, cameras: Cameras) -> None:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(thread_count()))
        sys.path.insert(0, str(folder))
        import nbs

        self.splat, self.cameras = nbs.splat, cameras
        g = gaussians
        sh = torch.cat([g.sh0, g.shN], 1)
        values = (g.means, g.quats, g.scales.exp(), g.opacities.sigmoid(), sh)
        self.leaves = [value.clone().contiguous().requires_grad_() for value in values]
        self.degree = g.sh_degree

    def once(self, v: list[Tensor]) -> tuple[float, float]:
        for value in self.leaves:
            value.grad = None
        pose, intrinsics = self.cameras.world_to_camera[0], self.cameras.intrinsics[0]
        forward, out = clock(lambda: self.splat(*self.leaves, pose, intrinsics, *self.cameras.size, deg=self.degree))
        backward, _ = clock(lambda: torch.autograd.backward(list(out), [t[0] for t in v]))
        return forward, backward


def measure(gaussians: Gaussians, cameras: Cameras, repeats: int, pilot_folder: Path | None) -> dict[str, float]:
    parameters, v = leaves(gaussians), cotangents(cameras)
    pilot = Pilot(pilot_folder, gaussians, cameras) if pilot_folder else None
    times: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        times.setdefault(name, []).append(seconds)

    for repeat in range(repeats + 3):
        record = note if repeat >= 3 else lambda name, seconds: None
        for name, seconds in zip(("forward", "backward"), render_once(parameters, cameras, v), strict=True):
            record(name, seconds)
        if pilot:
            for name, seconds in zip(("pilot_forward", "pilot_backward"), pilot.once(v), strict=True):
                record(name, seconds)
        with torch.no_grad():
            record("inference", clock(lambda: render(Gaussians(**parameters), cameras))[0])
    for count in range(1, thread_count() + 1):
        with threads(count):
            runs = [sum(render_once(parameters, cameras, v)) for _ in range(max(3, repeats // 3))]
        times[f"render_on_{count}_threads"] = runs

    with torch.no_grad():
        target = (render(gaussians, cameras).colour[0] * 0.9 + 0.05).clamp(0, 1)
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.Adam([parameters[name]], lr=rate, eps=1e-15, fused=True) for name, rate in LEARNING_RATES.items()
    ]
    for repeat in range(repeats + 3):
        for value in parameters.values():
            value.grad = None
        for name, seconds in training_step(parameters, cameras, target, optimisers).items():
            if repeat >= 3:
                note(name, seconds)
    result = {f"{name}_ms": median_ms(runs) for name, runs in times.items()}
    result["gaussians"] = len(gaussians)
    result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    result["step_over_render"] = round(result["step_ms"] / (result["forward_ms"] + result["backward_ms"]), 3)
    if pilot:
        ours, theirs = (sum(result[f"{p}{part}_ms"] for part in ("forward", "backward")) for p in ("", "pilot_"))
        result["times_faster_than_pilot"] = round(theirs / ours, 3)
    return result


def first_render_seconds(cache: str) -> float:
    """Seconds of the first forward and backward pass in a fresh process with numba's cache in ``cache``."""
    code = (
        "import time, torch\n"
        "from datasets.types import Cameras\nfrom recon3d.gaussians import Gaussians\n"
        "from recon3d.render import render\n"
        "n = 100\n"
        "g = Gaussians(torch.rand(n, 3), torch.full((n, 3), -3.), torch.rand(n, 4), torch.zeros(n),"
        " torch.rand(n, 1, 3), torch.rand(n, 15, 3))\n"
        "g.means.requires_grad_()\n"
        "c = Cameras(torch.eye(4)[None], torch.tensor([[[50., 0, 32], [0, 50., 32], [0, 0, 1]]]),"
        " torch.tensor([[64, 64]]))\n"
        "t = time.perf_counter()\nrender(g, c).colour.sum().backward()\nprint(time.perf_counter() - t)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, check=True, capture_output=True)
    return round(float(done.stdout), 3)


def matmul_ms(repeats: int) -> float:
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    a @ b
    return median_ms([clock(lambda: a @ b)[0] for _ in range(repeats)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--garden", type=Path, help="test_garden.npz of gsplat; without it the garden cases are left out"
    )
    parser.add_argument("--splat", type=Path, help="a trained splat of the built-in scene")
    parser.add_argument("--pilot", type=Path, help="folder of another implementation to time beside ours")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    garden_file = options.garden
    if garden_file is None:
        data = os.environ.get("SPARSE3D_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
        garden_file = Path(data) / "garden" / "test_garden.npz"
    torch.set_num_threads(thread_count())
    with tempfile.TemporaryDirectory() as cache:
        start = {"cold_seconds": first_render_seconds(cache), "cached_seconds": first_render_seconds(cache)}
    cases: dict[str, tuple[Gaussians, Cameras]] = {}
    if garden_file.is_file():
        cases["garden_20k"], cases["garden_112k"] = garden(garden_file, 20000), garden(garden_file, None)
    cases["trained"] = trained(options.splat)
    results: dict[str, Any] = {
        "threads": thread_count(),
        "matmul_2048_ms": matmul_ms(options.repeats),
        "start": start,
        "cases": {name: measure(*case, options.repeats, options.pilot) for name, case in cases.items()},
    }
    for name, case in results["cases"].items():
        print(name, *(f"{key} {value}" for key, value in case.items()), sep="\n  ")
    print({key: value for key, value in results.items() if key != "cases"})
    if options.json:
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(results, indent=1))
        temporary.replace(options.json)


if __name__ == "__main__":
    main()
