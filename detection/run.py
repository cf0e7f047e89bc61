"""Reading what a fit left in its run folder, and data as configurations describe them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from datasets.errors import InputError
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.clouds import Policy
from datasets.pointclouds.types import PointCloudSample
from datasets.programs import run_folder
from datasets.programs.run_folder import CONFIG
from detection.protocols import KittiProtocol, Protocol
from detection.trained import Trained, build

METRICS, PICTURES = "metrics.json", "pictures"


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
    return run_folder.read_config(path, "Give a configuration, or the folder that `detect3d fit --out` wrote to")


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


def test_samples(run: Path, config: Mapping[str, Any], root: Path | None, trained: Trained, on_bad: Policy) -> Samples:
    """The test data of a run, which its detector must fit.

    Args:
        run: folder of the run, for messages.
        config: its configuration.
        root: where the data's folder is now, if it was moved since the fit.
        trained: the run's detector.
        on_bad: "skip" leaves out frames that cannot be opened, whatever the configuration says.

    Raises:
        InputError: where there are none, they cannot be opened, or they lack its classes or channels.
    """
    if on_bad == "skip" and "on_bad_frame" in (options := (config["data"].get("test") or {}).get("init_args") or {}):
        test = {**config["data"]["test"], "init_args": {**options, "on_bad_frame": on_bad}}
        config = {**config, "data": {**config["data"], "test": test}}
    samples = open_samples(config, "test", root, str(run))
    first = _first(samples, on_bad)
    if first.class_names != trained.class_names:
        raise InputError(f"{run}: finds {trained.class_names}, but the test data have {first.class_names}")
    if trained.features is None and first.channels != trained.channels:  # else they are picked by name
        raise InputError(f"{run}: was trained on points of {trained.channels}, but the test data have {first.channels}")
    return samples


def _first(samples: Samples, on_bad: Policy) -> PointCloudSample:
    """The first sample, or the first that can be read."""
    for i in range(len(samples) - 1 if on_bad == "skip" else 0):
        with suppress(InputError):
            return samples[i]
    return samples[len(samples) - 1 if on_bad == "skip" else 0]


def open_protocol(config: Mapping[str, Any], where: str) -> Protocol:
    """How data.test is to be scored."""
    described = config["data"].get("protocol")
    if described is None:
        return KittiProtocol()
    protocol: Protocol = build(Protocol, described, f"{where}: data.protocol")
    return protocol
