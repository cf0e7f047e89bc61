"""Reading what a fit left in its run folder, and data as configurations describe them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from datasets.errors import InputError, SceneError
from datasets.pointclouds.augmentation import Samples
from datasets.programs.run_folder import CONFIG
from detection.protocols import KittiProtocol, Protocol
from detection.trained import build

METRICS, PICTURES = "metrics.json", "pictures"
Device = Literal["auto", "cpu", "cuda"]


def with_root(node: Any, root: Path | None) -> Any:
    """Configured samples with ``root`` in the place of every ``root``, if it is given, and with absolute paths."""
    if not isinstance(node, dict):
        return node
    changed = {key: with_root(value, root) for key, value in node.items()}
    if changed.get("root") is not None:
        changed["root"] = str(Path(changed["root"] if root is None else root).resolve())
    return changed


def read_config(path: Path) -> dict[str, Any]:
    """A configuration, given as a YAML file or as the run folder that holds one.

    Raises:
        SceneError: where it is missing, not YAML, or has no section ``data``.
    """
    if path.is_dir():
        path = path / CONFIG
    mend = "Give a configuration, or the folder that `detect3d fit --out` wrote to"
    if not path.is_file():
        raise SceneError(path, "there is no such file", mend)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SceneError(path, f"is not readable YAML ({str(error).splitlines()[0]})", mend) from error
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise SceneError(path, "has no section `data`", mend)
    return config


def open_samples(config: Mapping[str, Any], which: Literal["train", "test"], root: Path | None, where: str) -> Samples:
    """The samples of data.train or data.test, without the other.

    Raises:
        InputError: where there are none, or they cannot be opened.
    """
    data = config["data"]
    if data.get(which) is None:
        raise InputError(f"{where}: its section `data` has no `{which}`")
    samples: Samples = build(Samples, with_root(data[which], root), f"{where}: data.{which}")
    return samples


def open_protocol(config: Mapping[str, Any], where: str) -> Protocol:
    """How data.test is to be scored."""
    described = config["data"].get("protocol")
    if described is None:
        return KittiProtocol()
    protocol: Protocol = build(Protocol, described, f"{where}: data.protocol")
    return protocol


def torch_device(device: Device) -> torch.device:
    """The device to work on; "auto" is CUDA where there is one.

    Raises:
        InputError: for "cuda" where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available: leave --device out, or give --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
