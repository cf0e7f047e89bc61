"""Painted textures of the built-in scene: functions from a random generator to [h, w, 3] float32 sRGB in 0..1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from scipy.sparse import csr_array

Colour = tuple[float, float, float]


def noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int], octaves: int = 4) -> np.ndarray:
    """Smooth fractal noise [h, w], about -1..1, that repeats. ``size`` and ``cells`` are along x, y."""
    total = np.zeros(size[::-1], np.float32)
    for octave in range(octaves):
        columns, rows = (min(n << octave, limit) for n, limit in zip(cells, size, strict=True))
        grid = rng.standard_normal((rows, columns), np.float32)
        across = (_smooth(size[0], columns) @ (0.5**octave * grid).T).T
        total += _smooth(size[1], rows) @ np.ascontiguousarray(across)
    return total / 1.6


@lru_cache(maxsize=64)
def _smooth(length: int, cells: int) -> csr_array:
    """[length, cells] weights that spread the values of ``cells`` over ``length`` pixels: Catmull-Rom, repeating.

    Sparse, which is fast, and unlike a threaded dense product always sums in one order.
    """
    place = (np.arange(length) + 0.5) / length * cells - 0.5
    t = place - np.floor(place)
    weights = [-0.5 * t + t**2 - 0.5 * t**3, 1 - 2.5 * t**2 + 1.5 * t**3]
    weights += [0.5 * t + 2 * t**2 - 1.5 * t**3, -0.5 * t**2 + 0.5 * t**3]
    columns = (np.floor(place).astype(int)[:, None] + np.arange(-1, 3)) % cells
    rows = np.repeat(np.arange(length), 4)
    values = np.stack(weights, 1).astype(np.float32).ravel()
    return csr_array((values, (rows, columns.ravel())), shape=(length, cells))


def plain(rng: np.random.Generator, colour: Colour, size: tuple[int, int], mottle: float) -> np.ndarray:
    """One colour, mottled."""
    shade = 1 + mottle * noise(rng, size, (6, 6))[:, :, None]
    return (np.array(colour, np.float32) * shade).astype(np.float32)


def wood(rng: np.random.Generator, dark: Colour, light: Colour, size: tuple[int, int], planks: int) -> np.ndarray:
    """Planks along x with their grain."""
    height = size[1]
    y = np.arange(height, dtype=np.float32)[:, None]
    plank = np.minimum((y * planks / height).astype(int), planks - 1)
    warp = 1.2 * noise(rng, size, (2, 6), 3)
    rings = np.sin(2 * math.pi * (y / height * planks * 5 + warp + rng.uniform(0, 9, planks)[plank] * 2))
    fibre = noise(rng, size, (4, 128), 2)
    tone = np.clip(0.45 + 0.2 * rings + 0.22 * fibre + 0.18 * rng.standard_normal(planks)[plank], 0, 1)[:, :, None]
    image = np.array(dark) * (1 - tone) + np.array(light) * tone
    gap = np.abs(y * planks / height - np.round(y * planks / height)) < 0.02
    return np.where(gap[:, :, None], image * 0.35, image).astype(np.float32)


def tartan(rng: np.random.Generator, size: int, base: Colour, colours: Sequence[Colour], border: Colour) -> np.ndarray:
    """Woven stripes of irregular width, no two alike, with a plain border."""

    def stripes() -> np.ndarray:
        line = np.tile(np.array(base, np.float32), (size, 1))
        position = 0
        while position < size:
            wide = int(size * rng.uniform(0.008, 0.06))
            if rng.random() < 0.62:
                line[position : position + wide] = colours[int(rng.integers(len(colours)))]
            position += wide
        return line

    across, down = stripes()[None, :], stripes()[:, None]
    grid = np.arange(size)
    over = ((grid[None, :] // 2 + grid[:, None] // 2) % 2)[:, :, None]
    cloth = np.where(over, 0.72 * across + 0.28 * down, 0.28 * across + 0.72 * down)
    cloth = cloth * (1 + 0.10 * rng.standard_normal((size, size, 1)).astype(np.float32))
    edge = np.minimum(np.minimum(grid, size - 1 - grid)[None, :], np.minimum(grid, size - 1 - grid)[:, None])
    frame = (edge < 0.030 * size) & (edge > 0.012 * size)
    return np.where(frame[:, :, None], np.array(border, np.float32), cloth).astype(np.float32)


_ALONG = np.linspace(0, 1, 9)
_OUTLINE = np.concatenate([_ALONG + 1j * np.sin(math.pi * _ALONG), (_ALONG - 1j * np.sin(math.pi * _ALONG))[::-1]])


def _leaf(canvas: np.ndarray, at: np.ndarray, angle: float, length: float, width: float, colour: Colour) -> None:
    turn = complex(math.cos(angle), math.sin(angle))
    points = 8 * ((_OUTLINE.real * length + 1j * width * _OUTLINE.imag) * turn + complex(at[0], at[1]))
    fixed = points.view(np.float64).reshape(-1, 1, 2).round().astype(np.int32)  # with three binary places
    cv2.fillPoly(canvas, [fixed], colour, cv2.LINE_AA, 3)
    vein = (0.7 * colour[0], 0.7 * colour[1], 0.7 * colour[2])
    cv2.line(canvas, fixed[0, 0].tolist(), fixed[len(_ALONG) - 1, 0].tolist(), vein, 1, cv2.LINE_AA, 3)


def _blossom(canvas: np.ndarray, at: np.ndarray, radius: float, petals: int, colour: Colour, heart: Colour) -> None:
    for petal in range(petals):
        _leaf(canvas, at, 2 * math.pi * petal / petals, radius, radius * 0.42, colour)
    cv2.circle(canvas, at.round().astype(int).tolist(), max(1, round(radius * 0.3)), heart, -1, cv2.LINE_AA)


def botanical(
    rng: np.random.Generator,
    size: tuple[int, int],
    base: Colour,
    leaves: Sequence[Colour],
    blossoms: Sequence[Colour],
    stems: int,
    scale: float,
) -> np.ndarray:
    """Winding stems with leaves and blossoms, as on wallpaper and porcelain; nothing repeats."""
    width, height = size
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = base
    for _ in range(stems):
        at = rng.uniform(0, 1, 2) * size
        heading = rng.uniform(0, 2 * math.pi)
        bend = rng.normal(0, 0.12)
        green = leaves[int(rng.integers(len(leaves)))]
        for step in range(rng.integers(8, 18)):
            ahead = at + scale * 0.5 * np.array([math.cos(heading), math.sin(heading)])
            start, end = at.round().astype(int).tolist(), ahead.round().astype(int).tolist()
            cv2.line(canvas, start, end, green, max(1, round(scale / 12)), cv2.LINE_AA)
            at, heading, bend = ahead, heading + bend, bend + rng.normal(0, 0.05)
            side = heading + (0.9 if step % 2 else -0.9)
            _leaf(canvas, at, side, scale * rng.uniform(0.5, 0.9), scale * rng.uniform(0.13, 0.22), green)
        colour = blossoms[int(rng.integers(len(blossoms)))]
        _blossom(canvas, at, scale * rng.uniform(0.5, 0.85), int(rng.integers(5, 9)), colour, (0.85, 0.7, 0.3))
    return canvas * (1 + 0.05 * noise(rng, size, (16, 16), 5)[:, :, None])


def landscape(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A painting: evening sky, hills behind one another, a lake, trees, and brush strokes over all."""
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    sky = np.clip(y * 1.7, 0, 1)[:, :, None]
    image = np.array([0.33, 0.47, 0.66]) * (1 - sky) + np.array([0.97, 0.78, 0.52]) * sky
    cloud = np.clip(noise(rng, (width, height), (3, 6), 5) - 0.1, 0, 1)[:, :, None]
    image = image * (1 - 0.8 * cloud) + np.array([0.98, 0.90, 0.84]) * 0.8 * cloud
    sun = np.exp(-((x - 0.66) ** 2 * 1.8 + (y - 0.36) ** 2) / 0.0018)[:, :, None]
    image = image * (1 - sun) + np.array([1.0, 0.93, 0.72]) * sun
    tones = ((0.50, 0.52, 0.62), (0.36, 0.45, 0.47), (0.30, 0.42, 0.28), (0.22, 0.30, 0.16))
    for layer, tone in enumerate(tones):
        ridge = 0.42 + 0.12 * layer + 0.07 * noise(rng, (width, 1), (3 + layer, 1), 5)[0]
        hill = y > ridge[None, :]
        grain = 1 + 0.22 * noise(rng, (width, height), (24, 24), 4)[:, :, None]
        image = np.where(hill[:, :, None], np.array(tone) * grain, image)
        if layer == 1:
            lake = (y > 0.60) & (np.abs(x - 0.6) < 0.28)
            water = np.array([0.66, 0.68, 0.68]) * (1 + 0.2 * noise(rng, (width, height), (4, 48), 3)[:, :, None])
            image = np.where((hill & lake)[:, :, None], water, image)
    canvas = np.ascontiguousarray(image, np.float32)
    for _ in range(60):
        at = np.array([rng.uniform(0, 1) * width, rng.uniform(0.80, 1.0) * height])
        tall = height * rng.uniform(0.06, 0.14)
        green = tuple(float(v) for v in np.array([0.20, 0.27, 0.12]) * rng.uniform(0.6, 1.5))
        _leaf(canvas, at, -math.pi / 2 + rng.normal(0, 0.06), tall, tall * 0.2, (green[0], green[1], green[2]))
    strokes = noise(rng, (width, height), (width // 6, height // 3), 2)[:, :, None]
    return (canvas * (1 + 0.10 * strokes)).astype(np.float32)


def cover(rng: np.random.Generator, colour: Colour, gold: Colour, title: str) -> np.ndarray:
    """A book's cloth cover with a gilt frame, an ornament and its title."""
    width, height = 384, 512
    canvas = plain(rng, colour, (width, height), 0.10) * (
        1 + 0.06 * rng.standard_normal((height, width, 1)).astype(np.float32)
    )
    canvas = np.ascontiguousarray(canvas, np.float32)
    for inset, thick in ((22, 5), (36, 2)):
        cv2.rectangle(canvas, (inset, inset), (width - inset, height - inset), gold, thick, cv2.LINE_AA)
    for line, word in enumerate(title.split()):
        (wide, _), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_COMPLEX, 1.5, 3)
        at = ((width - wide) // 2, 120 + 58 * line)
        cv2.putText(canvas, word, at, cv2.FONT_HERSHEY_COMPLEX, 1.5, gold, 3, cv2.LINE_AA)
    _blossom(canvas, np.array([width / 2, height * 0.68]), 70, 8, gold, colour)
    return canvas


def spine(rng: np.random.Generator, colour: Colour, gold: Colour, title: str) -> np.ndarray:
    """A book's back: raised bands and its title along it."""
    canvas = np.ascontiguousarray(plain(rng, colour, (512, 72), 0.12), np.float32)
    for at in (40, 56, 456, 472):
        cv2.line(canvas, (at, 0), (at, 71), gold, 4, cv2.LINE_AA)
    (wide, _), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_COMPLEX, 1.2, 3)
    cv2.putText(canvas, title, ((512 - wide) // 2, 48), cv2.FONT_HERSHEY_COMPLEX, 1.2, gold, 3, cv2.LINE_AA)
    return canvas


def pages(rng: np.random.Generator) -> np.ndarray:
    """The cut edge of a book's pages."""
    lines = 0.80 + 0.16 * rng.standard_normal((64, 1, 1)) * np.ones((1, 256, 1))
    lines = lines + 0.03 * rng.standard_normal((64, 256, 1))
    return np.clip(lines * np.array([0.98, 0.92, 0.78]), 0, 1).astype(np.float32)


def letter(rng: np.random.Generator) -> np.ndarray:
    """A sheet of paper written by hand."""
    width, height = 360, 500
    canvas = np.ascontiguousarray(plain(rng, (0.95, 0.92, 0.83), (width, height), 0.02), np.float32)
    for row in range(70, 440, 26):
        at, end = 40, width - (40 if row < 400 else 180)
        while at < end:
            letters = int(rng.integers(3, 9))
            x = np.arange(0, letters * 9)
            y = row - 5 * np.sin(x * 0.75 + rng.uniform(0, 6)) * rng.uniform(0.5, 1.3) - 3 * rng.random()
            stroke = np.stack([at + x, y], 1)
            cv2.polylines(canvas, [np.round(stroke * 8).astype(np.int32)], False, (0.12, 0.13, 0.32), 2, cv2.LINE_AA, 3)
            at += letters * 9 + 12
    return canvas


def bands(rng: np.random.Generator, size: tuple[int, int], rows: Sequence[tuple[float, Colour]]) -> np.ndarray:
    """Horizontal bands from the top down, each as high as its share; slightly uneven, as if painted by hand."""
    width, height = size
    wobble = 0.006 * noise(rng, (width, 1), (8, 1), 3)
    y = (np.arange(height)[:, None] + 0.5) / height + wobble
    image = np.tile(np.array(rows[0][1], np.float32), (height, width, 1))
    start = rows[0][0]
    for share, colour in rows[1:]:
        image[y >= start] = colour
        start += share
    return image * (1 + 0.05 * noise(rng, size, (8, 8), 4)[:, :, None])


def fruit(rng: np.random.Generator, ripe: Colour, unripe: Colour) -> np.ndarray:
    """Peel: streaks between two colours, and pores."""
    size = (256, 128)
    mix = np.clip(0.5 + 0.7 * noise(rng, size, (5, 2), 4) + 0.25 * noise(rng, size, (48, 2), 1), 0, 1)[:, :, None]
    pores = 1 - 0.22 * (rng.random((128, 256, 1)) < 0.05)
    return ((np.array(ripe) * mix + np.array(unripe) * (1 - mix)) * pores).astype(np.float32)


def streaked(rng: np.random.Generator, colour: Colour, amount: float, size: tuple[int, int] = (64, 256)) -> np.ndarray:
    """One colour with streaks along v: leaves, petals, stems, cane."""
    lines = noise(rng, size, (16, 3), 3)[:, :, None]
    x = np.abs(np.linspace(-1, 1, size[0]))[None, :, None]
    return (np.array(colour) * (1 + amount * lines) * (1 - 0.25 * amount * x)).astype(np.float32)


def pleats(rng: np.random.Generator, colour: Colour, count: int) -> np.ndarray:
    """Folded cloth of a lampshade."""
    x = np.arange(1024)[None, :, None] / 1024 * count * 2 * math.pi
    fold = 0.86 + 0.14 * np.sin(x) * np.ones((128, 1, 1))
    hem = (np.abs(np.linspace(-1, 1, 128)) > 0.9)[:, None, None]
    image = np.array(colour) * fold * np.where(hem, 0.72, 1.0)
    return (image * (1 + 0.04 * noise(rng, (1024, 128), (64, 16), 3)[:, :, None])).astype(np.float32)
