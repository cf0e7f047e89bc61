"""Where Gaussians are drawn on machines with and without CUDA, gsplat and its kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from datasets.errors import InputError
from recon3d.rendering_device import rendering_device, why_not_cuda


@pytest.fixture(autouse=True)
def _looked_at_anew() -> Iterator[None]:
    why_not_cuda.cache_clear()
    yield
    why_not_cuda.cache_clear()


def test_cuda_without_gsplat_is_left_alone_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("backend 'gsplat' needs the package gsplat; install it")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("recon3d.rasteriser.gsplat_backend.load_gsplat", fail)
    assert rendering_device("auto").type == "cpu"
    assert rendering_device("cpu").type == "cpu"
    with pytest.raises(InputError, match=r"needs the package gsplat; install it\. Or give --device cpu"):
        rendering_device("cuda")


def test_cuda_with_gsplat_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("recon3d.rasteriser.gsplat_backend.load_gsplat", lambda: None)
    assert rendering_device("auto").type == rendering_device("cuda").type == "cuda"
    assert rendering_device("cpu").type == "cpu"
    assert why_not_cuda() == ""


def test_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert rendering_device("auto").type == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        rendering_device("cuda")
