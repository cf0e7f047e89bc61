"""Where a detector's time goes: milliseconds a cloud by stage, clouds a second in training, memory, threads.

    python benchmarks/detector.py [--lidar CLOUD.bin] [--radar CLOUD.bin] [--threads 1 2] [--rounds 5] [--json FILE]
                                  [--networks NAME ...]

The LiDAR cloud (x, y, z, intensity; KITTI's .bin) is a simulated HDL-64 sweep where none is given; without a radar
cloud (x, y, z, power, doppler, range, azimuth, elevation) the radar is left out. Networks are those of
configs/detection with random weights: what they cost does not depend on them, but for the number of boxes.
published_dsvt is kitti_dsvt with the sizes that DSVT was published with. bfloat16 is measured as torch's autocast has
it, and is of use where the processor multiplies it natively. A product of two 2048 x 2048 matrices on the same threads
is the yardstick for other machines. Times are the least of several rounds. Every network has a process of its own,
whose peak memory includes Python and torch; with a CUDA device its figures stand beside the processor's, and the memory
is that of the device.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from datasets.pointclouds.clouds import read_bin
from datasets.pointclouds.simulator import SimulatedStreets
from datasets.pointclouds.types import Boxes3D, PointCloudBatch, PointCloudSample
from datasets.programs.devices import Precision, autocast
from datasets.programs.environment import machine, versions
from detection.detector import Detector
from detection.run import read_config
from detection.sparse import voxelise
from detection.trained import build
from detection.training.loader import collate

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "detection"
LIDAR = ("x", "y", "z", "intensity")
RADAR = ("x", "y", "z", "power", "doppler", "range", "azimuth", "elevation")
NATIVE = ("avx512_bf16", "amx_bf16")  # the processor's flags
LIDAR_NETWORKS = (
    *("streets_dsvt", "streets_dsvt_voxels", "streets_second", "streets_voxelnext"),
    *("kitti_dsvt", "published_dsvt"),
)
RADAR_NETWORKS = ("radar_pillars", "radar_second", "radar_dsvt")
# Sizes of DSVT's pillar variant for Waymo (Wang et al., CVPR 2023).
PUBLISHED: dict[str, dict[str, Any]] = {
    "encoder": {"channels": [96, 192]},
    "backbone": {"channels": 192, "heads": 8, "feedforward": 384, "blocks": [4]},
    "neck": {
        "in_channels": 192,
        "layers": [1, 2, 2],
        "strides": [1, 2, 2],
        "filters": [128, 128, 256],
        "upsampled": [128, 128, 128],
    },
    "head": {"in_channels": 384, "channels": 64},
}


def lidar_sample(path: Path | None) -> PointCloudSample:
    if path is None:
        return SimulatedStreets(1, ("Car",))[0]
    return PointCloudSample(path.stem, torch.from_numpy(read_bin(path, LIDAR)), LIDAR, ("Car",))


def radar_sample(path: Path) -> PointCloudSample:
    return PointCloudSample(path.stem, torch.from_numpy(read_bin(path, RADAR)), RADAR, ("Car",))


class Stages:
    """Runs a detector stage by stage, and keeps the least time of each in milliseconds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.least: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        self._wait()
        began = time.perf_counter()
        result = work()
        self._wait()
        took = 1000 * (time.perf_counter() - began)
        self.least[name] = min(self.least.get(name, took), took)
        return result

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@torch.no_grad()
def latency(
    detector: Detector, see: Callable[[], PointCloudBatch], rounds: int, precision: Precision
) -> dict[str, float]:
    """Milliseconds by stage, and in all, of one cloud, of which ``see`` makes what the network takes."""
    device = see().points.device
    stages = Stages(device)
    with autocast(device, precision):
        for _ in range(rounds + 1):  # the first makes kernels and memory ready
            stages("all", lambda: detector.detect(see()))
            batch = stages("channels", see)
            voxels = stages("voxels", lambda batch=batch: voxelise(batch.points, batch.batch_index, 1, detector.grid))
            encoded = stages("encoder", lambda voxels=voxels: detector.encoder(voxels))
            sparse = stages("backbone", lambda encoded=encoded: detector.backbone(encoded))
            dense = stages("BEV network", lambda sparse=sparse: detector.neck(sparse))
            found = stages("head", lambda dense=dense: detector.head(dense, detector.grid))
            stages("boxes", lambda found=found: detector.head.boxes(found))
    return stages.least


def training(detector: Detector, batch: PointCloudBatch, rounds: int, precision: Precision) -> float:
    """Clouds a second, from points to new weights."""
    optimiser = torch.optim.AdamW(detector.parameters(), 1e-5, fused=True)
    detector.train()

    def step() -> None:
        optimiser.zero_grad()
        with autocast(batch.points.device, precision):
            loss = detector.loss(batch)["loss"]
        loss.backward()
        optimiser.step()

    stages = Stages(batch.points.device)
    for _ in range(rounds + 1):
        stages("step", step)
    detector.eval()
    return len(batch) * 1000 / stages.least["step"]


def yardstick(device: torch.device, rounds: int = 5) -> float:
    """Milliseconds of a product of two 2048 x 2048 matrices."""
    first, second = (torch.randn(2048, 2048, device=device) for _ in range(2))
    stages = Stages(device)
    for _ in range(rounds):
        stages("product", lambda: first @ second)
    return stages.least["product"]


def peak_mb(device: torch.device) -> float:
    """The most memory so far, in MiB: of this process, or of its tensors on a CUDA device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # Linux's rusage counts the process that started this one, too
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        return int(kilobytes) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def described(network: str) -> dict[str, Any]:
    """The configuration of a network of configs/detection, or of kitti_dsvt with the published sizes."""
    config = read_config(CONFIGS / f"{'kitti_dsvt' if network == 'published_dsvt' else network}.yaml")
    if network == "published_dsvt":
        for part, sizes in PUBLISHED.items():
            config["model"]["detector"]["init_args"][part]["init_args"].update(sizes)
    return config


def measure(network: str, sample: PointCloudSample, where: str, threads: int, rounds: int) -> dict[str, Any]:
    """Figures of one network on the device ``where``."""
    torch.set_num_threads(threads)
    device, config = torch.device(where), described(network)
    product = yardstick(device)
    torch.manual_seed(0)
    detector: Detector = build(Detector, config["model"]["detector"], network).to(device).eval()
    # As after a training, hardly anything is found where nothing is.
    *_, bias = detector.head.get_submodule("heat").parameters()
    torch.nn.init.constant_(bias, -6.0)
    data = config["data"]
    box = Boxes3D(torch.tensor([[10.0, 0, -0.8, 4.2, 1.8, 1.6, 0.1]]), torch.tensor([0]))
    sample = replace(sample, boxes=box)

    def see() -> PointCloudBatch:
        return collate([sample], data["features"]).to(device)

    many = collate([sample] * data["batch_size"], data["features"]).to(device)
    figures: dict[str, Any] = {
        "network": network,
        "where": f"{threads} thread{'s' * (threads > 1)}"
        if device.type == "cpu"
        else torch.cuda.get_device_name(device),
        "yardstick_ms": product,
        "points": len(sample),
        "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        "fp32": latency(detector, see, rounds, "32-true"),
        "bf16": latency(detector, see, rounds, "bf16-mixed"),
        "peak_mb": peak_mb(device),
        "batch_size": len(many),
    }
    steps = max(rounds // 2, 1)
    figures["training_clouds_per_second"] = training(detector, many, steps, "32-true")
    figures["training_clouds_per_second_bf16"] = training(detector, many, steps, "bf16-mixed")
    figures["training_peak_mb"] = peak_mb(device)
    return figures


def native_bfloat16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(flag in cpuinfo.read_text(encoding="utf-8") for flag in NATIVE)


def text_table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    names = ("channels", "voxels", "encoder", "backbone", "BEV network", "head", "boxes", "all")
    last = "all, bf16 | MiB | training clouds/s | bf16 | MiB"
    lines = [f"| network | where | matrices ms | {' | '.join(names)} | {last} |"]
    lines.append("|---" * 2 + "|---:" * (len(names) + 6) + "|")
    for one in results:
        stages = " | ".join(f"{one['fp32'][name]:.1f}" for name in names)
        lines.append(
            f"| {one['network']} | {one['where']} | {one['yardstick_ms']:.0f} | {stages} | {one['bf16']['all']:.1f} | "
            f"{one['peak_mb']:.0f} | {one['training_clouds_per_second']:.1f} | "
            f"{one['training_clouds_per_second_bf16']:.1f} | {one['training_peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lidar", type=Path)
    parser.add_argument("--radar", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=[*LIDAR_NETWORKS, *RADAR_NETWORKS])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.radar is None and (without := set(options.networks or ()) & set(RADAR_NETWORKS)):
        parser.error(f"{min(without)} needs --radar CLOUD.bin")
    cases = dict.fromkeys(LIDAR_NETWORKS, lidar_sample(options.lidar))
    if options.radar is not None:
        cases |= dict.fromkeys(RADAR_NETWORKS, radar_sample(options.radar))
    chosen = [name for name in cases if options.networks is None or name in options.networks]
    places = [("cpu", threads) for threads in options.threads]
    if torch.cuda.is_available():
        places.append(("cuda", options.threads[-1]))
    results = []
    for where, threads in places:
        for name in chosen:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                figures = process.submit(measure, name, cases[name], where, threads, options.rounds).result()
            results.append(figures)
            print(f"{name}, {figures['where']}: {figures['fp32']['all']:.0f} ms a cloud", file=sys.stderr)
    print(text_table(results))
    print(f"\nbfloat16 is {'' if native_bfloat16() else 'not '}native here")
    if options.json is not None:
        document = {"results": results, "bfloat16_native": native_bfloat16()}
        options.json.write_text(json.dumps(document | {"versions": versions(), "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
