"""What can be shown, one class a file. A further one has the attributes of :class:`Layer`, and that is all."""

from viewer.layers.base import Choice, Layer, Setting, Slider
from viewer.layers.boxes import BoxesLayer
from viewer.layers.cameras import CamerasLayer
from viewer.layers.points import Cloud, PointsLayer
from viewer.layers.splat import SplatLayer, refresh_all

__all__ = [
    "BoxesLayer",
    "CamerasLayer",
    "Choice",
    "Cloud",
    "Layer",
    "PointsLayer",
    "Setting",
    "Slider",
    "SplatLayer",
    "refresh_all",
]
