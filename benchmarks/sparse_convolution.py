"""Sparse convolutions on the CPU: ours on one and more threads against spconv's on one, its most that is correct.

    python benchmarks/sparse_convolution.py [--voxels 20000] [--threads 2] [--json FILE]

Needs spconv (`pip install spconv`). Each figure is the best of several passes, taken in turns, over a rulebook that is
already there; what making it costs stands in a column of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from detection.sparse import SparseTensor, SubMConv3d

SHAPE = (41, 400, 352)


def surface(count: int) -> torch.Tensor:
    """[N, 4] about ``count`` voxels of a rolling ground with walls on it, as a LiDAR sees the world."""
    generator = torch.Generator().manual_seed(0)
    y, x = (torch.randint(0, size, (2 * count,), generator=generator) for size in SHAPE[1:])
    seen = torch.rand(50, 44, generator=generator)[y // 8, x // 8] > 0.7
    y, x = y[seen], x[seen]
    ground = 8 + 3 * torch.sin(x / 40) + 2 * torch.cos(y / 30)
    wall = (torch.rand(len(x), generator=generator) * 15) * ((x % 32 < 2) | (y % 48 < 2))
    indices = torch.stack([torch.zeros_like(x), (ground + wall).long(), y, x], dim=1)
    return indices.unique(dim=0)[:count].int()


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(indices: torch.Tensor, channels: int, threads: int, rounds: int) -> dict[str, float]:
    """Milliseconds by name."""
    features = torch.randn(len(indices), channels, generator=torch.Generator().manual_seed(0))
    fresh = SparseTensor(features, indices, SHAPE, 1)
    layer = SubMConv3d(channels, channels, indice_key="own")
    theirs = SubMConv3d(channels, channels, indice_key="spconv", backend="spconv")
    theirs.load_state_dict(layer.state_dict())
    best: dict[str, float] = {}

    def note(name: str, work: Callable[[], object]) -> None:
        best[name] = min(best.get(name, float("inf")), 1e3 * seconds(work))

    with torch.no_grad():
        torch.set_num_threads(1)
        own, other = layer(fresh), theirs(fresh)
        torch.testing.assert_close(own.features, other.features, atol=1e-3, rtol=1e-3)
        own, other = own.with_features(features), other.with_features(features)
        for _ in range(rounds):
            torch.set_num_threads(1)
            note("spconv, 1 thread", lambda: theirs(other))
            note("ours, 1 thread", lambda: layer(own))
            note("spconv's rulebook", lambda: theirs(SparseTensor(features[:, :channels], indices, SHAPE, 1)))
            note("our rulebook", lambda: layer(fresh))
            torch.set_num_threads(threads)
            note(f"ours, {threads} threads", lambda: layer(own))
    best["spconv's rulebook"] -= best["spconv, 1 thread"]
    best["our rulebook"] -= best["ours, 1 thread"]
    tracked = own.with_features(features.clone().requires_grad_())
    for _ in range(rounds):
        output = layer(tracked).features
        note(f"our backward, {threads} threads", lambda output=output: output.backward(output.detach()))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=20000)
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    indices = surface(options.voxels)
    rows = []
    for channels in options.channels:
        row = measure(indices, channels, options.threads, options.rounds)
        times = row["spconv, 1 thread"] / row[f"ours, {options.threads} threads"]
        rows.append({"channels": float(channels), **row, f"times as fast, {options.threads} threads to 1": times})
    print(f"Submanifold 3x3x3 convolution of {len(indices)} voxels, milliseconds\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " ---: |" * len(rows[0]))
    for row in rows:
        print(
            "| "
            + " | ".join(f"{value:.0f}" if name == "channels" else f"{value:.2f}" for name, value in row.items())
            + " |"
        )
    if options.json:
        options.json.write_text(json.dumps({"voxels": len(indices), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
