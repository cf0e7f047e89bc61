"""LPIPS: distance of two images in the features of a network trained to see (Zhang et al., 2018), version 0.1.

The network expects images in -1..1. Many sparse-view papers feed 0..1 by mistake, which gives smaller numbers; both
conventions are offered so that results can be compared with either.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.errors import InputError
from recon3d.metrics.images import check_images

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# Channels of the convolutions; a feature map is taken after the last of each group.
VGG = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
ALEX = ((64,), (192,), (384,), (256,), (256,))
ALEX_KERNELS, ALEX_STRIDES, ALEX_PADDING = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
ALEX_POOLED = (1, 2)  # groups that begin with a 3x3 pooling of stride 2
SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

Features = list[Tensor]


class LpipsWeightsError(InputError):
    """Weights that cannot be used. The message names where they come from, what was found, and the mend."""

    def __init__(self, source: Path | str, found: str) -> None:
        super().__init__(
            f"{source}: {found}. Give the LPIPS v0.1 weights of VGG16 or AlexNet, network and linear layers together, "
            "as a .pt state dict"
        )


def _canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names conv0.weight .. lin4.weight from those, or from the names of the ``lpips`` package."""
    named: dict[str, Tensor] = {}
    layers = {key: re.fullmatch(r"net\.slice\d+\.(\d+)\.(weight|bias)", key) for key in state}
    positions = sorted({int(match[1]) for match in layers.values() if match})
    for key, value in state.items():
        if match := layers[key]:
            named[f"conv{positions.index(int(match[1]))}.{match[2]}"] = value
        elif match := re.fullmatch(r"(lin\d)\.(?:model\.1\.)?weight", key):
            named[f"{match[1]}.weight"] = value
        elif re.fullmatch(r"conv\d+\.(weight|bias)", key):
            named[key] = value
    return named


def _expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of network ``name``."""
    groups = VGG if name == "vgg" else ALEX
    shapes: dict[str, tuple[int, ...]] = {}
    incoming, index = 3, 0
    for group, channels in enumerate(groups):
        for outgoing in channels:
            kernel = 3 if name == "vgg" else ALEX_KERNELS[index]
            shapes[f"conv{index}.weight"] = (outgoing, incoming, kernel, kernel)
            shapes[f"conv{index}.bias"] = (outgoing,)
            incoming, index = outgoing, index + 1
        shapes[f"lin{group}.weight"] = (1, incoming, 1, 1)
    return shapes


class Lpips:
    """The network with its weights.

    Attributes:
        name: "vgg" or "alex", recognised from the weights.
        source: where the weights come from.
        smallest: fewest pixels an image may measure on a side.
    """

    def __init__(self, state: Mapping[str, Tensor], source: Path | str) -> None:
        """Take over ``state``, any floating point type.

        Raises:
            LpipsWeightsError: for tensors that are missing, of another shape, or not finite.
        """
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise LpipsWeightsError(source, f"holds {type(state).__name__}, not a state dict of tensors")
        named = _canonical(state)
        first = named.get("conv0.weight")
        self.name = "alex" if first is not None and first.shape[-1] == ALEX_KERNELS[0] else "vgg"
        self.source = str(source)
        self.smallest = 16 if self.name == "vgg" else 31
        self._weights: dict[str, Tensor] = {}
        for key, shape in _expected_shapes(self.name).items():
            if key not in named:
                raise LpipsWeightsError(source, f"the tensor {key} is missing")
            if tuple(named[key].shape) != shape:
                raise LpipsWeightsError(source, f"{key} has shape {tuple(named[key].shape)}, expected {shape}")
            weight = named[key].detach().float()
            if not bool(weight.isfinite().all()):
                raise LpipsWeightsError(source, f"{key} holds values that are not finite")
            # Channels last, as the images lie in memory: a fifth quicker on a CPU.
            self._weights[key] = weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight

    @staticmethod
    def load(path: Path) -> Lpips:
        """Read a state dict from ``path``; nothing in the file is executed.

        Raises:
            LpipsWeightsError: where the file is missing, truncated, not a state dict, or of another network.
        """
        try:
            return Lpips(torch.load(path, map_location="cpu", weights_only=True), path)
        except LpipsWeightsError:
            raise
        except FileNotFoundError:
            raise LpipsWeightsError(path, "there is no such file") from None
        except _READ_ERRORS as error:
            raise LpipsWeightsError(path, f"cannot be read as weights ({type(error).__name__})") from None

    def to(self, device: torch.device | str) -> Lpips:
        """The same network on ``device``."""
        return Lpips({key: value.to(device) for key, value in self._weights.items()}, self.source)

    @torch.inference_mode()
    def features(self, image: Tensor, papers: bool = False) -> Features:
        """Five feature maps [1, C, h, w] of unit length over channels, of one image [H, W, 3] in 0..1.

        Args:
            image: on the network's device.
            papers: feed 0..1 as many sparse-view papers do, instead of -1..1.
        """
        if min(image.shape[:2]) < self.smallest:
            raise ValueError(
                f"LPIPS ({self.name}) needs images of {self.smallest} pixels a side, got {tuple(image.shape)}"
            )
        shift, scale = (image.new_tensor(value, dtype=torch.float32) for value in (SHIFT, SCALE))
        x = image.float() if papers else image.float() * 2 - 1
        x = ((x - shift) / scale).permute(2, 0, 1)[None]
        features, index = [], 0
        for group, channels in enumerate(VGG if self.name == "vgg" else ALEX):
            if self.name == "vgg" and group > 0:
                x = F.max_pool2d(x, 2)
            elif self.name == "alex" and group in ALEX_POOLED:
                x = F.max_pool2d(x, 3, 2)
            for _ in channels:
                weight, bias = self._weights[f"conv{index}.weight"], self._weights[f"conv{index}.bias"]
                if self.name == "vgg":
                    x = F.conv2d(x, weight, bias, padding=1).relu_()
                else:
                    x = F.conv2d(x, weight, bias, ALEX_STRIDES[index], ALEX_PADDING[index]).relu_()
                index += 1
            features.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return features

    @torch.inference_mode()
    def distance(self, one: Features, other: Features) -> float:
        """LPIPS of two images from their :meth:`features`; keep a photo's features to compare it with many renders."""
        total = 0.0
        for group, (a, b) in enumerate(zip(one, other, strict=True)):
            total += float(F.conv2d((a - b) ** 2, self._weights[f"lin{group}.weight"]).mean())
        return total

    def __call__(self, image: Tensor, target: Tensor, papers: bool = False) -> float:
        """LPIPS of two images [H, W, 3] in 0..1; lower is better, 0 for equal images.

        Raises:
            ValueError: for images that cannot be compared or are too small for the network.
        """
        check_images(image, target)
        return self.distance(self.features(image, papers), self.features(target, papers))


_READ_ERRORS = (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, IndexError, pickle.UnpicklingError)


NO_WEIGHTS = (
    "no weights found: give --lpips PATH or set SPARSE3D_LPIPS to a file of them, or install torchvision and give "
    "--lpips torchvision"
)


def find_lpips(choice: Path | str | None = None) -> Lpips | None:
    """The network whose weights are at hand, or None (the reason is :data:`NO_WEIGHTS`).

    Args:
        choice: a file of weights; or "torchvision", for torchvision's VGG16 (which it downloads once, 528 MB) with the
            linear layers that torchmetrics brings; or None, for the first there is of $SPARSE3D_LPIPS,
            weights/lpips_vgg_fp16.pt in $SPARSE3D_DATA or beside the project in ../shared/data, and torchvision's
            where that has been downloaded already.

    Raises:
        LpipsWeightsError: for weights that were chosen or found and cannot be used.
    """
    chosen = choice or os.environ.get("SPARSE3D_LPIPS")
    if chosen == "torchvision":
        return from_torchvision()
    if chosen:
        return Lpips.load(Path(chosen))
    shared = Path(os.environ.get("SPARSE3D_DATA") or SHARED_DATA) / "weights" / "lpips_vgg_fp16.pt"
    if shared.exists():
        return Lpips.load(shared)
    downloaded = any((Path(torch.hub.get_dir()) / "checkpoints").glob("vgg16-*.pth"))
    return from_torchvision() if downloaded and find_spec("torchvision") is not None else None


def from_torchvision() -> Lpips:
    """VGG16 of torchvision, downloaded to torch's hub folder if it is not there, with torchmetrics' linear layers.

    Raises:
        LpipsWeightsError: where torchvision is not installed or the download fails.
    """
    torchmetrics = find_spec("torchmetrics")  # comes with Lightning; found rather than imported, which is slow
    if torchmetrics is None or torchmetrics.origin is None:
        raise LpipsWeightsError("torchvision", "its linear layers come from torchmetrics, which is not installed")
    try:
        from torchvision.models import VGG16_Weights, vgg16

        trunk = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features.state_dict()
    except ImportError as error:
        raise LpipsWeightsError("torchvision", f"is not installed or does not fit torch ({error})") from error
    except (OSError, RuntimeError) as error:
        raise LpipsWeightsError("torchvision", f"its VGG16 could not be had ({error})") from error
    linear = Path(torchmetrics.origin).parent / "functional" / "image" / "lpips_models" / "vgg.pth"
    state = {f"net.slice1.{key}": value for key, value in trunk.items()}
    state.update(torch.load(linear, map_location="cpu", weights_only=True))
    return Lpips(state, "torchvision's VGG16 with torchmetrics' linear layers")
