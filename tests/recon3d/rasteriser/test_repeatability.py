"""The same bits each time, whatever else runs, and graphs that live side by side."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from recon3d.rasteriser.pool import set_threads, thread_count, threads
from recon3d.render import render
from tests.recon3d.rasteriser.scenes import Result, forward, random_cameras, random_gaussians

OPTIONS = {
    "background": torch.tensor([0.1, 0.6, 0.3]),
    "features": torch.randn(1500, 3, generator=torch.Generator().manual_seed(1)),
    "antialiased": True,
    "absolute_gradients": True,
}


def scene(seed: int = 0, **options: object) -> Result:
    """Many tiles, overlapping Gaussians, two cameras."""
    gaussians = random_gaussians(1500, 2, seed, size=(0.01, 0.15))
    return forward(render, gaussians, random_cameras(2, 150, 110, seed), **{**OPTIONS, **options})


def assert_same(got: Result, want: Result) -> None:
    """Every image and gradient bit for bit."""
    for name, image in want.images().items():
        assert torch.equal(got.images()[name], image), name
    assert torch.equal(got.render.radii, want.render.radii)
    assert got.gradients.keys() == want.gradients.keys()
    for name, gradient in want.gradients.items():
        assert torch.equal(got.gradients[name], gradient), f"gradient of {name}"


def test_repeats_are_identical() -> None:
    first = scene().backward()
    for _ in range(3):
        assert_same(scene().backward(), first)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_thread_counts_give_identical_results(count: int) -> None:
    expected = scene().backward()
    with threads(count):
        assert thread_count() == count
        assert_same(scene().backward(), expected)
    with threads(count):
        shown = scene()
    assert_same(shown.backward(), expected)  # forward and backward may differ in threads


def test_thread_count_is_restored_and_checked() -> None:
    before = thread_count()
    with pytest.raises(RuntimeError, match="inside"), threads(3):
        raise RuntimeError("inside")
    assert thread_count() == before
    with pytest.raises(ValueError, match="-1"):
        set_threads(-1)


def test_torch_keeps_its_threads_and_rounding() -> None:
    """Denormal numbers are flushed inside the kernels and nowhere else."""
    before = torch.get_num_threads()
    tiny = torch.tensor(1e-40)
    scene().backward()
    assert torch.get_num_threads() == before
    assert (tiny * 0.5).item() > 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_several_forwards_live_at_once(order: tuple[int, ...]) -> None:
    expected = [scene(seed).backward() for seed in range(3)]
    shown = [scene(seed) for seed in range(3)]
    for index in order:
        shown[index].backward()
    for got, want in zip(shown, expected, strict=True):
        assert_same(got, want)


def test_images_stay_as_they_are_when_more_is_rendered() -> None:
    shown = scene(0)
    before = {name: image.detach().clone() for name, image in shown.images().items()}
    for seed in range(1, 4):
        scene(seed).backward()
    for name, image in before.items():
        assert torch.equal(shown.images()[name], image), name


def test_backward_twice() -> None:
    shown = scene()
    first = dict(shown.backward(retain_graph=True).gradients)
    scene(1).backward()  # what the first graph holds must not be reused meanwhile
    second = shown.backward(retain_graph=True).gradients
    for name, gradient in first.items():
        assert torch.equal(second[name], gradient), name
    third = shown.backward().gradients
    assert torch.equal(third["means"], first["means"])
    with pytest.raises(RuntimeError, match="second time"):
        shown.backward()


def test_a_graph_that_is_never_used_goes_away() -> None:
    for _ in range(3):
        scene()
    gc.collect()
    expected = scene(2).backward()
    unused = [scene(seed) for seed in range(3)]
    del unused
    assert_same(scene(2).backward(), expected)
    shown = scene()
    kept = weakref.ref(shown.render.colour.grad_fn.passes[0])  # type: ignore[union-attr]
    assert kept() is not None
    del shown
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_image_is_the_same(mode: type) -> None:
    shown = scene()
    gaussians = random_gaussians(1500, 2, 0, size=(0.01, 0.15))
    cameras = random_cameras(2, 150, 110, 0)
    with mode():
        plain = render(gaussians, cameras, **OPTIONS)
    frozen = render(gaussians, cameras, **OPTIONS)  # nothing requires gradients, though they are enabled
    for name, image in shown.images().items():
        assert torch.equal(getattr(plain, name), image), name
        assert torch.equal(getattr(frozen, name), image), name
        assert not getattr(plain, name).requires_grad
    assert torch.equal(plain.radii, shown.render.radii)


@pytest.mark.parametrize("name", ["means", "scales", "quats", "opacities", "sh0", "shN", "features", "background"])
def test_one_input_alone_requires_gradients(name: str) -> None:
    expected = scene().backward().gradients[name]
    gaussians = random_gaussians(1500, 2, 0, size=(0.01, 0.15))
    options = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in OPTIONS.items()}
    leaf = options[name] if name in options else getattr(gaussians, name)
    leaf.requires_grad_()
    shown = render(gaussians, random_cameras(2, 150, 110, 0), **options)
    Result(shown, {name: leaf}).backward()
    torch.testing.assert_close(leaf.grad, expected, atol=1e-6, rtol=1e-4)


def test_concurrent_python_threads() -> None:
    expected = [scene(seed).backward() for seed in range(3)]
    barrier = threading.Barrier(3)

    def work(seed: int) -> list[Result]:
        barrier.wait(timeout=60)
        return [scene(seed).backward() for _ in range(4)]

    with ThreadPoolExecutor(3) as pool:
        for results, want in zip(pool.map(work, range(3)), expected, strict=True):
            for got in results:
                assert_same(got, want)
