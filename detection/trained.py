"""A trained detector as one file: weights, the network's configuration, and what it expects and finds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from datasets.errors import InputError, SceneError
from datasets.files import replacing
from detection.detector import Detector

MODEL = "detector.safetensors"
_FORMAT = "detect3d-2"  # 1 had the cosine and sine of the yaw where 2 has those of twice the yaw, and the front
_MEND = "Give a run folder or file that detect3d fit wrote"


@dataclass(frozen=True)
class Trained:
    """A detector with what it takes to use it.

    Attributes:
        detector: the network.
        config: ``class_path`` and ``init_args`` from which the network is built.
        class_names: what its labels mean.
        channels: what a point of a cloud holds, as files have it.
        features: see :func:`detection.channels.select_channels`.
    """

    detector: Detector
    config: Mapping[str, Any]
    class_names: tuple[str, ...]
    channels: tuple[str, ...]
    features: Mapping[str, float] | None = None


def build(kind: Any, config: Any, what: str) -> Any:
    """An object of ``kind`` (a type hint) from a configuration with ``class_path`` and ``init_args``.

    Raises:
        InputError: naming ``what``, for a configuration that does not fit.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--built", type=kind)
    try:
        return parser.instantiate(parser.parse_object({"built": config})).built
    except InputError:
        raise
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(f"{what}: cannot be built ({error})") from error


def save_model(path: Path, trained: Trained) -> None:
    """Write ``trained`` as safetensors; the file is whole or absent."""
    about = {
        "detector": trained.config,
        "class_names": trained.class_names,
        "channels": trained.channels,
        "features": trained.features,
    }
    state = {name: value.detach().cpu().contiguous() for name, value in trained.detector.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        save_file(state, part, {"format": _FORMAT, "about": json.dumps(about)})


def load_model(path: Path, device: torch.device | str = "cpu") -> Trained:
    """Read what :func:`save_model` wrote, ready to detect.

    Args:
        path: the file, or the run folder that holds it. Classes that the file names are imported, as those of a
            configuration are; nothing else in it is executed.

    Raises:
        SceneError, InputError: for a file that is missing, damaged, or not a detector.
    """
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise SceneError(path, f"holds no {MODEL}", "Give the folder of a fit that has finished")
        path = path / MODEL
    if not path.is_file():
        raise SceneError(path, "there is no such file or folder", _MEND)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        written = metadata.get("format", "")
        if written != _FORMAT:
            if written.startswith("detect3d-"):
                raise SceneError(path, "was trained by another version of this program", "Train it again")
            raise SceneError(path, "is not a detector", _MEND)
        about = json.loads(metadata["about"])
        config, features = dict(about["detector"]), about["features"]
        class_names, channels = tuple(map(str, about["class_names"])), tuple(map(str, about["channels"]))
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise SceneError(path, f"cannot be read as a detector ({error!r})", _MEND) from error
    detector: Detector = build(Detector, config, str(path))
    try:
        detector.load_state_dict(state)
    except RuntimeError as error:
        raise SceneError(path, f"its weights do not fit its network ({str(error).splitlines()[0]})", _MEND) from error
    return Trained(detector.to(device).eval(), config, class_names, channels, features)
