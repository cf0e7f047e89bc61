"""LPIPS: what must hold for any weights, files that are refused, and figures with the real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from recon3d.metrics.lpips import Lpips, LpipsWeightsError, find_lpips


def weights(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of the right shapes, positive where LPIPS has learnt positive ones."""
    generator = torch.Generator().manual_seed(seed)
    if name == "vgg":
        channels, kernels = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512], [3] * 13
        taps = [64, 128, 256, 512, 512]
    else:
        channels, kernels = [64, 192, 384, 256, 256], [11, 5, 3, 3, 3]
        taps = channels
    state, incoming = {}, 3
    for i, (outgoing, kernel) in enumerate(zip(channels, kernels, strict=True)):
        scale = (2 / (incoming * kernel**2)) ** 0.5
        state[f"conv{i}.weight"] = torch.randn(outgoing, incoming, kernel, kernel, generator=generator) * scale
        state[f"conv{i}.bias"] = torch.randn(outgoing, generator=generator) * 0.1
        incoming = outgoing
    for i, count in enumerate(taps):
        state[f"lin{i}.weight"] = torch.rand(1, count, 1, 1, generator=generator)
    return state


def images(size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    target = torch.rand(size, size + 5, 3, generator=generator)
    return (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_distance_properties(name: str) -> None:
    network = Lpips(weights(name), "random")
    image, target = images()
    assert network.name == name
    assert network(image, image) == 0
    assert network(image, target) == pytest.approx(network(target, image), rel=1e-5)
    assert network(image, target) > 0
    assert network(image, target, papers=True) != pytest.approx(network(image, target), rel=1e-3)
    far = (target + 3 * (image - target)).clamp(0, 1)
    assert network(far, target) > network(image, target)


def test_vgg_is_what_the_paper_says() -> None:
    """Spelt out once more with torch's modules, in double precision."""
    state = {key: value.double() for key, value in weights("vgg").items()}
    network = Lpips(state, "random")
    image, target = images(40)
    stack = torch.stack([image, target]).permute(0, 3, 1, 2).double() * 2 - 1
    x = (stack - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(
        1, 3, 1, 1
    )
    expected, index = 0.0, 0
    for block, count in enumerate([2, 2, 3, 3, 3]):
        x = F.max_pool2d(x, 2, 2) if block else x
        for _ in range(count):
            x = F.relu(F.conv2d(x, state[f"conv{index}.weight"], state[f"conv{index}.bias"], padding=1))
            index += 1
        unit = F.normalize(x, dim=1)
        expected += float(((unit[0] - unit[1]) ** 2 * state[f"lin{block}.weight"][0]).sum(0).mean())
    assert network(image, target) == pytest.approx(expected, rel=1e-4)


def test_names_of_the_lpips_package_are_understood() -> None:
    state = weights("vgg")
    positions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    theirs: dict[str, torch.Tensor] = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for i, position in enumerate(positions):
        for part in ("weight", "bias"):
            theirs[f"net.slice{1 + i // 3}.{position}.{part}"] = state[f"conv{i}.{part}"]
    for i in range(5):
        theirs[f"lin{i}.model.1.weight"] = theirs[f"lins.{i}.model.1.weight"] = state[f"lin{i}.weight"]
    image, target = images(32)
    assert Lpips(theirs, "theirs")(image, target) == Lpips(state, "ours")(image, target)


def test_images_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="needs images of 31 pixels"):
        Lpips(weights("alex"), "random")(torch.zeros(30, 64, 3), torch.zeros(30, 64, 3))


def save(tmp_path: Path, state: object) -> Path:
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    return path


def test_files_that_cannot_be_used_name_the_file_and_the_mend(tmp_path: Path) -> None:
    good = weights("alex")
    whole = save(tmp_path, good).read_bytes()
    path = tmp_path / "weights.pt"

    def expect(found: str) -> None:
        with pytest.raises(LpipsWeightsError, match=found) as caught:
            find_lpips(path)
        assert str(path) in str(caught.value)
        assert "LPIPS v0.1" in str(caught.value)

    for content in (b"", b"not weights", whole[: len(whole) // 2]):
        path.write_bytes(content)
        expect("cannot be read as weights")
    save(tmp_path, [1, 2])
    expect("holds list")
    save(tmp_path, {"conv0.weight": "text"})
    expect("not a state dict")
    save(tmp_path, {key: value for key, value in good.items() if key != "lin3.weight"})
    expect("lin3.weight is missing")
    save(tmp_path, good | {"conv2.bias": torch.zeros(3)})
    expect(r"conv2.bias has shape \(3,\), expected \(384,\)")
    save(tmp_path, good | {"conv1.weight": good["conv1.weight"] * math.nan})
    expect("conv1.weight holds values that are not finite")
    path.unlink()
    expect("no such file")


class Harmful:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (exec, ("raise SystemExit('code from the file was run')",))


def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    with pytest.raises(LpipsWeightsError, match="cannot be read as weights"):
        Lpips.load(save(tmp_path, {"conv0.weight": Harmful()}))


def test_order_of_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)
    torch.save(weights("vgg"), folder / "lpips_vgg_fp16.pt")
    named = save(tmp_path, weights("alex"))
    monkeypatch.setenv("SPARSE3D_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("SPARSE3D_LPIPS", raising=False)
    found = find_lpips()
    assert found is not None
    assert found.source == str(folder / "lpips_vgg_fp16.pt")
    monkeypatch.setenv("SPARSE3D_LPIPS", str(named))
    found = find_lpips()
    assert found is not None
    assert found.name == "alex"
    monkeypatch.delenv("SPARSE3D_LPIPS")
    monkeypatch.setenv("SPARSE3D_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    assert find_lpips() is None


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_torchvision_is_asked_for_where_it_is_missing() -> None:
    with pytest.raises(LpipsWeightsError, match="torchvision: is not installed"):
        find_lpips("torchvision")


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_linear_layers_are_those_of_torchmetrics(name: str, shared_data: Callable[[str], Path]) -> None:
    """The weights at hand are LPIPS v0.1's, to half precision."""
    ours = Lpips.load(shared_data(f"weights/lpips_{name}_fp16.pt"))
    spec = find_spec("torchmetrics")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "functional" / "image" / "lpips_models" / f"{name}.pth"
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    for i in range(5):
        torch.testing.assert_close(
            ours._weights[f"lin{i}.weight"], theirs[f"lin{i}.model.1.weight"], rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize(("name", "usual", "papers"), [("vgg", 0.200738, 0.170263), ("alex", 0.078470, 0.067472)])
def test_figures_of_the_lpips_package(
    name: str, usual: float, papers: float, shared_data: Callable[[str], Path]
) -> None:
    """Made with lpips 0.1.4 over torchvision 0.29's layers, given these very weights and this picture."""
    network = Lpips.load(shared_data(f"weights/lpips_{name}_fp16.pt"))
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    target = torch.stack([0.5 + 0.5 * torch.sin(x / 5), 0.5 + 0.5 * torch.sin(y / 7), ((x + y) % 32) / 32], dim=-1)
    blurred = F.avg_pool2d(target.permute(2, 0, 1)[None], 5, 1, 2)[0].permute(1, 2, 0).clamp(0, 1)
    assert network(blurred, target) == pytest.approx(usual, abs=2e-6)
    assert network(blurred, target, papers=True) == pytest.approx(papers, abs=2e-6)
