"""The benchmark of a detector's speed: what it measures, and its table."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from datasets.pointclouds.types import PointCloudSample
from detection.detector import Detector
from detection.dsvt import DSVT
from detection.trained import build


@pytest.fixture
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    """The benchmark."""
    return benchmark_script("detector")


def test_figures_of_a_network_and_their_table(script: ModuleType) -> None:
    threads = torch.get_num_threads()
    points = torch.rand(200, 8, generator=torch.Generator().manual_seed(0)) * 10
    sample = PointCloudSample("0", points, script.RADAR, ("Car",))
    try:
        figures = script.measure("radar_pillars", sample, "cpu", 1, 1)
    finally:
        torch.set_num_threads(threads)
    assert figures["where"] == "1 thread"
    assert figures["points"] == 200
    stages = dict(figures["fp32"])
    whole = stages.pop("all")
    assert 0 < sum(stages.values()) < 20 * whole
    for name in ("training_clouds_per_second", "training_clouds_per_second_bf16", "yardstick_ms"):
        assert 0 < figures[name] < math.inf
    assert 50 < figures["peak_mb"] <= figures["training_peak_mb"]  # torch alone takes more
    header, rule, row = script.text_table([figures]).splitlines()
    assert header.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| radar_pillars | 1 thread | ")


def test_published_sizes_fit_together(script: ModuleType) -> None:
    detector = build(Detector, script.described("published_dsvt")["model"]["detector"], "published")
    assert isinstance(detector.backbone, DSVT)
    assert sum(len(list(stage.children())) for stage in detector.backbone.stages) == 4
    assert {parameter.shape[-1] for parameter in detector.backbone.stages[0][0].layers[0].norm.parameters()} == {192}
    assert detector.neck.out_channels == 384
