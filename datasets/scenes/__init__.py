"""Scenes of posed photos: one file per on-disk format, one call that opens any of them."""

from datasets.scenes.opening import Kind, open_scene
from datasets.scenes.splits import SplitName

__all__ = ["Kind", "SplitName", "open_scene"]
