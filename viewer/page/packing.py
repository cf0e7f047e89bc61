"""What is open as compressed bytes; static/scene.js is the other end.

A chunk is a gzip stream of: the length of a JSON text (uint32, little endian), that text, and arrays, each at a
multiple of four bytes. The JSON names each array's type, place and length. Chunk 0 says what the layers are and holds
the splats; chunk 1 + N holds what there is to draw at moment N, without what stands still after the first.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datasets.pictures import encode
from viewer.layers import CamerasLayer, Choice, Layer, Slider, SplatLayer
from viewer.primitives import Dots, Primitive, Segments, Surroundings
from viewer.splats import ShownSplat

SH_C0 = 0.28209479177387814
_STEPS = (1 << 24) - 1
_HARMONICS = {0: 0, 3: 1, 8: 2, 15: 3}


@dataclass
class Arrays:
    """Arrays of a chunk; one that was added before is kept once."""

    _parts: list[bytes] = field(default_factory=list)
    _index: list[tuple[str, int, int]] = field(default_factory=list)
    _known: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)
    _end: int = 0

    def add(self, values: np.ndarray | bytes) -> int:
        """The number by which the JSON names ``values`` (uint8 or what becomes float32)."""
        if isinstance(values, np.ndarray):
            if id(values) in self._known:  # the array is kept, so that no other takes its id
                return self._known[id(values)][0]
            self._known[id(values)] = (len(self._index), values)
            kind = "u1" if values.dtype == np.uint8 else "f4"
            data, count = np.ascontiguousarray(values, f"<{kind}").tobytes(), values.size
        else:
            kind, data, count = "u1", values, len(values)
        self._index.append((kind, self._end, count))
        self._parts.append(data + bytes(-len(data) % 4))
        self._end += len(self._parts[-1])
        return len(self._index) - 1

    def chunk(self, layers: list[Any]) -> bytes:
        """The finished chunk with its JSON."""

        def text(start: int) -> bytes:
            index = [(kind, start + offset, count) for kind, offset, count in self._index]
            return json.dumps({"layers": layers, "arrays": index}, allow_nan=False).encode()

        # The JSON states places behind itself: room for it is left before its own length is known.
        room = (len(text(10**11)) + 7) // 4 * 4
        whole = text(4 + room).ljust(room)
        return gzip.compress(b"".join([room.to_bytes(4, "little"), whole, *self._parts]), compresslevel=6, mtime=0)


def first_chunk(layers: list[Layer]) -> bytes:
    """Names, settings and splats of all layers."""
    arrays = Arrays()
    described = []
    for layer in layers:
        settings = [_setting(one, isinstance(layer, SplatLayer)) for one in layer.settings]
        values = {one.name: getattr(layer, one.name) for one in layer.settings}
        splat = _splat(layer.splat, arrays) if isinstance(layer, SplatLayer) else None
        described.append({**values, "name": layer.name, "visible": layer.visible, "settings": settings, "splat": splat})
    return arrays.chunk(described)


def frame_chunk(layers: list[Layer], frame: int) -> bytes:
    """What there is to draw at moment ``frame``, for every option of a layer's colour."""
    arrays = Arrays()
    return arrays.chunk(
        [_variants(layer, frame, arrays) if not frame or layer.frames > 1 else None for layer in layers]
    )


def _setting(setting: Choice | Slider, splat: bool) -> dict[str, Any]:
    if isinstance(setting, Choice):
        # What is uncertain depends on where one looks from, and takes the splat's own package to tell.
        return {"name": setting.name, "options": [one for one in setting.options if one != "uncertainty" or not splat]}
    return {"name": setting.name, "low": setting.low, "high": setting.high}


def _variants(layer: Layer, frame: int, arrays: Arrays) -> dict[str, list[dict[str, Any]]]:
    """Primitives for each colour; the page hides what has too low a score by itself, so all of them."""
    if isinstance(layer, SplatLayer):
        return {}
    options = next((s.options for s in layer.settings if isinstance(s, Choice) and s.name == "colour"), ("",))
    changed = {name: getattr(layer, name) for name in ("colour", "score") if hasattr(layer, name)}
    try:
        if "score" in changed:
            vars(layer)["score"] = 0.0
        variants = {}
        for option in options:
            if option:
                vars(layer)["colour"] = option
            shapes = [_shape(one, arrays) for one in layer.primitives(frame)]
            if isinstance(layer, CamerasLayer):
                panels = [shape for shape in shapes if shape["kind"] == "panels"]
                for number, panel in enumerate(panels):
                    panel["photo"] = number
            variants[option] = shapes
    finally:
        vars(layer).update(changed)
    return variants


def _shape(primitive: Primitive, arrays: Arrays) -> dict[str, Any]:
    if isinstance(primitive, Dots):
        scores = None if primitive.scores is None else arrays.add(primitive.scores)
        xyz, rgb = arrays.add(primitive.xyz), arrays.add(primitive.rgb)
        return {"kind": "dots", "xyz": xyz, "rgb": rgb, "size": primitive.size, "scores": scores}
    around = {"around": _around(primitive.around)} if primitive.around else {}
    if isinstance(primitive, Segments):
        scores = None if primitive.scores is None else arrays.add(primitive.scores)
        ends, rgb = arrays.add(primitive.ends), arrays.add(primitive.rgb)
        return {"kind": "lines", "ends": ends, "rgb": rgb, "size": primitive.width, "scores": scores, **around}
    image = arrays.add(encode(primitive.image, ".jpg", 85))
    return {"kind": "panels", "corners": arrays.add(primitive.corners), "image": image, **around}


def _around(around: Surroundings) -> dict[str, Any]:
    return {"centre": around.centre.tolist(), "radius": around.radius}


def _splat(splat: ShownSplat, arrays: Arrays) -> dict[str, Any]:
    """A splat in 20 bytes a Gaussian and one for each number of its higher harmonics, in planes that compress well.

    Positions are 24 bits of asinh(x / unit): even steps near the middle, growing with the distance beyond, so that
    a far layer costs the detail nothing.
    """
    given = splat.parameters()
    means, opacity = given["means"].astype(np.float64), 1 / (1 + np.exp(-given["opacities"].astype(np.float64)))
    order = _along_curve(means)
    means = means[order]
    centre = np.median(means, axis=0) if len(means) else np.zeros(3)
    unit = max(float(np.median(np.abs(means - centre))) if len(means) else 1.0, 1e-9)
    bent = np.arcsinh((means - centre) / unit)
    reach = np.maximum(np.abs(bent).max(axis=0, initial=0), 1e-9)
    steps = np.rint((bent / reach + 1) / 2 * _STEPS).astype("<u4")
    planes = steps.view(np.uint8).reshape(-1, 3, 4)
    scales = given["scales"][order].astype(np.float64)
    low, high = (float(scales.min()), float(scales.max())) if len(scales) else (0.0, 1.0)
    quats = given["quats"][order].astype(np.float64)
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    colour = 0.5 + SH_C0 * given["sh0"][order, 0].astype(np.float64)
    darkest, brightest = (
        (float(np.clip(colour.min(), -1, 0)), float(np.clip(colour.max(), 1, 2))) if len(colour) else (0, 1)
    )
    share = (colour - darkest) / (brightest - darkest)
    rgba = np.concatenate([share, opacity[order, None]], axis=1)
    higher = given["shN"][order].astype(np.float64)
    peak = np.maximum(np.abs(higher).max(axis=(0, 2), initial=0), 1e-9)
    return {
        "count": len(means),
        "antialiased": splat.antialiased,
        "background": list(splat.background),
        "centre": centre.tolist(),
        "unit": unit,
        "reach": reach.tolist(),
        "means": [arrays.add(np.ascontiguousarray(planes[:, axis, :3].T)) for axis in range(3)],
        "scaleRange": [low, max(high, low + 1e-6)],
        "scales": arrays.add(_bytes((scales - low) / max(high - low, 1e-6) * 255)),
        "quats": arrays.add(_bytes(quats * 127 + 127)),
        "colourRange": [darkest, brightest],
        "rgba": arrays.add(_bytes(rgba * 255)),
        "degree": _HARMONICS[higher.shape[1]],
        "harmonicScales": peak.tolist(),
        "harmonics": arrays.add(_bytes((higher / peak[:, None] * 127 + 127).reshape(len(higher), 3 * higher.shape[1]))),
    }


def _bytes(values: np.ndarray) -> np.ndarray:
    """Columns one after another, rounded to uint8."""
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8).T)


def _along_curve(points: np.ndarray) -> np.ndarray:
    """Order of points along a Z-order curve: neighbours are alike, and alike compresses."""
    if len(points) == 0:
        return np.zeros(0, np.int64)
    ranks = (
        np.argsort(np.argsort(points, axis=0, kind="stable"), axis=0, kind="stable") * 1023 // max(len(points) - 1, 1)
    )
    code = np.zeros(len(points), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (ranks[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")
