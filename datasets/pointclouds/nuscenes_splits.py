"""The nuScenes benchmark's splits: which of the annotated scenes are for validation (Caesar et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from datasets.errors import InputError

Split = Literal["train", "val"]

# First and last number of a run of scenes, none of which is one to train on; some numbers were never given.
VALIDATION = {
    "v1.0-trainval": (
        *((3, 3), (12, 18), (35, 39), (92, 110), (221, 221), (268, 278), (329, 332), (344, 346), (519, 524)),
        *((552, 565), (625, 638), (770, 784), (794, 802), (904, 931), (962, 972), (1059, 1073)),
    ),
    "v1.0-mini": ((103, 103), (916, 916)),
}


def scenes_of(split: Split, version: str, scenes: Iterable[str]) -> list[str]:
    """Those of ``scenes``, the names in the tables of a version ("scene-0001"), that belong to a split, sorted.

    Raises:
        InputError: for a version without such splits, a split that is none, and scenes named otherwise.
    """
    if version not in VALIDATION:
        known = " and ".join(VALIDATION)
        raise InputError(f"{version} has no splits, as {known} have: leave the split out, or name scenes instead")
    if split not in ("train", "val"):
        raise InputError(f"nuScenes has no split {split!r}: choose train or val")
    return [name for name in sorted(scenes) if _in_validation(name, version) == (split == "val")]


def _in_validation(name: str, version: str) -> bool:
    prefix, _, number = name.partition("-")
    if prefix != "scene" or not number.isdecimal():
        raise InputError(f"{version} has a scene {name!r}, which is no number of nuScenes: name scenes instead")
    return any(first <= int(number) <= last for first, last in VALIDATION[version])
