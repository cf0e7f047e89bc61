"""Walls, table, and what stands broad on it. Metres; x right, y away, z up."""

from __future__ import annotations

import math

import numpy as np

from datasets.scenes.builtin import textures as paint
from datasets.scenes.builtin.shapes import Count, ball, box, merged, rectangle, revolved, surface, tube
from datasets.scenes.builtin.tracer import Material, Part

GOLD = (0.86, 0.70, 0.36)


def walls(rng: np.random.Generator, n: Count) -> list[Part]:
    """The papered wall, its wainscot, and the floor."""
    paper = paint.botanical(
        rng,
        (1500, 680),
        (0.30, 0.40, 0.42),
        ((0.45, 0.58, 0.46), (0.56, 0.62, 0.42), (0.40, 0.52, 0.50)),
        ((0.86, 0.62, 0.50), (0.92, 0.84, 0.66), (0.74, 0.46, 0.46)),
        120,
        40,
    )
    panels = paint.wood(rng, (0.22, 0.15, 0.10), (0.42, 0.30, 0.20), (512, 512), 7)
    floor = paint.wood(rng, (0.26, 0.17, 0.10), (0.50, 0.36, 0.22), (512, 512), 9)
    wall = rectangle((-2.0, 0.95, -0.15), (4.0, 0, 0), (0, 0, 1.8), n(100), n(46))
    base = rectangle((-2.2, 0.93, -0.8), (4.4, 0, 0), (0, 0, 0.66), n(80), n(20))
    rail = rectangle((-2.2, 0.915, -0.14), (4.4, 0, 0), (0, 0.035, 0.0), n(80), 2)
    ground = rectangle((-2.2, -2.0, -0.8), (4.4, 0, 0), (0, 2.95, 0), n(60), n(40))
    wainscot = Material(np.ascontiguousarray(panels.transpose(1, 0, 2)), (4.4, 0.66))
    return [
        (wall, Material(paper, (4.0, 1.8))),
        (merged([base, rail]), wainscot),
        (ground, Material(floor, (4.4, 2.95))),
    ]


def table(rng: np.random.Generator, n: Count) -> list[Part]:
    """The table and the tartan cloth that hangs over its edge."""
    grain = paint.wood(rng, (0.33, 0.18, 0.09), (0.66, 0.43, 0.25), (1024, 512), 5)
    top = rectangle((-0.95, -0.48, 0), (1.9, 0, 0), (0, 0.98, 0), n(140), n(72))
    edge = rectangle((-0.95, -0.48, -0.04), (1.9, 0, 0), (0, 0, 0.04), n(120), 3)
    legs = [box((0.07, 0.07, 0.76), n(9, 3)) for _ in range(2)]
    feet = [merged(list(leg.values())).placed((x, -0.40, -0.8)) for leg, x in zip(legs, (-0.85, 0.85), strict=True)]
    cloth = paint.tartan(
        rng,
        1024,
        (0.86, 0.82, 0.72),
        ((0.62, 0.16, 0.15), (0.16, 0.26, 0.45), (0.78, 0.58, 0.24), (0.28, 0.40, 0.28)),
        (0.55, 0.13, 0.14),
    )
    side, hang = 0.86, -0.48

    def drape(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        a, b = (u - 0.5) * side, (v - 0.5) * side
        turn = math.radians(42)
        x = a * math.cos(turn) - b * math.sin(turn) + 0.03
        y = a * math.sin(turn) + b * math.cos(turn) - 0.06
        wrinkle = 0.0025 * np.sin(19 * x + 7 * y) * np.sin(13 * y - 5 * x) + 0.0045
        over = np.maximum(hang - 0.006 - y, 0)  # what lies beyond the edge hangs down
        folds = 0.016 * np.sin(34 * x) * np.minimum(1, over * 7)
        return np.stack([x, np.maximum(y, hang - 0.006) - folds - 0.05 * over, wrinkle - over], 1)

    wood = Material(grain, (1.9, 0.98), specular=0.10, gloss=60)
    return [
        (top, wood),
        (merged([edge, *feet]), Material(grain, (1.9, 0.4))),
        (surface(drape, n(140), n(140)), Material(cloth, (side, side))),
    ]


def books(rng: np.random.Generator, n: Count) -> list[Part]:
    """Three books and an apple on them."""
    shelf = (
        ((0.30, 0.21, 0.045), (-0.545, -0.04, 0.0), 12, (0.20, 0.29, 0.24), "Parallax"),
        ((0.27, 0.19, 0.035), (-0.55, -0.03, 0.045), -6, (0.50, 0.16, 0.14), "On Light"),
        ((0.22, 0.155, 0.040), (-0.535, -0.035, 0.080), 20, (0.20, 0.22, 0.38), "Views"),
    )
    parts: list[Part] = []
    edges = paint.pages(rng)
    for (wide, deep, thick), place, turn, colour, title in shelf:
        faces = {name: face.placed(place, turn) for name, face in box((wide, deep, thick), n(24, 6)).items()}
        front = paint.cover(rng, colour, GOLD, title)
        front = np.ascontiguousarray(front.transpose(1, 0, 2)[:, ::-1])
        parts += [
            (merged([faces["top"], faces["bottom"]]), Material(front, (wide, deep), specular=0.08, gloss=30)),
            (faces["front"], Material(paint.spine(rng, colour, GOLD, title), (wide, thick), specular=0.08)),
            (merged([faces["left"], faces["right"], faces["back"]]), Material(edges, (deep, thick))),
        ]
    apple = ball((0.042, 0.042, 0.038), n(48, 12), n(32, 8), 0.35).placed((-0.52, -0.03, 0.154), 30, 14)
    stalk = tube([(-0.52, -0.035, 0.172), (-0.522, -0.037, 0.19), (-0.515, -0.042, 0.206)], 0.0022, 6, 6)
    peel = paint.fruit(rng, (0.70, 0.12, 0.10), (0.78, 0.66, 0.22))
    parts += [
        (apple, Material(peel, (0.26, 0.12), specular=0.35, gloss=70, mirror=0.02)),
        (stalk, Material(paint.streaked(rng, (0.30, 0.2, 0.1), 0.3), (0.01, 0.03))),
    ]
    return parts


def teapot(rng: np.random.Generator, n: Count) -> list[Part]:
    """The glazed teapot, which mirrors the room."""
    profile = [
        (0.004, 0.0), (0.055, 0.0), (0.060, 0.008), (0.088, 0.035), (0.105, 0.075), (0.098, 0.112),
        (0.070, 0.142), (0.056, 0.150), (0.058, 0.154), (0.045, 0.166), (0.016, 0.174), (0.010, 0.178),
        (0.015, 0.190), (0.012, 0.199), (0.002, 0.202),
    ]  # fmt: skip
    body = revolved(profile, n(96, 24), n(72, 20))
    spout = tube(
        [(0.085, 0, 0.055), (0.125, 0, 0.070), (0.148, 0, 0.110), (0.178, 0, 0.146)],
        [0.026, 0.020, 0.014, 0.011],
        n(28, 8),
        n(20, 8),
    )
    handle = tube(
        [(-0.078, 0, 0.128), (-0.125, 0, 0.138), (-0.158, 0, 0.105), (-0.140, 0, 0.062), (-0.092, 0, 0.046)],
        [0.010, 0.009, 0.0085, 0.009, 0.010],
        n(32, 10),
        n(14, 6),
    )
    pot = merged([body, spout, handle]).placed((0.15, 0.02, 0.006), -28)
    glaze = paint.plain(rng, (0.07, 0.25, 0.24), (256, 128), 0.25)
    return [(pot, Material(glaze, (0.6, 0.3), specular=0.9, gloss=260, mirror=0.10))]


def cup(rng: np.random.Generator, n: Count) -> list[Part]:
    """A cup of tea on its saucer."""
    cup = [
        (0.004, 0.004), (0.022, 0.004), (0.024, 0.010), (0.037, 0.036), (0.042, 0.066), (0.040, 0.066),
        (0.035, 0.037), (0.024, 0.014), (0.002, 0.012),
    ]  # fmt: skip
    saucer = [(0.004, 0.002), (0.030, 0.002), (0.062, 0.012), (0.063, 0.015), (0.034, 0.006), (0.002, 0.006)]
    handle = tube(
        [(0.039, 0, 0.052), (0.058, 0, 0.056), (0.066, 0, 0.040), (0.052, 0, 0.025), (0.034, 0, 0.024)],
        0.0036,
        n(22, 8),
        8,
    )
    white, red, blue = (0.94, 0.92, 0.88), (0.72, 0.18, 0.14), (0.17, 0.30, 0.52)
    lines = paint.bands(
        rng,
        (256, 256),
        ((0.10, white), (0.34, white), (0.05, red), (0.05, white), (0.12, blue), (0.05, white), (0.05, red)),
    )
    at = (-0.05, -0.20, 0.006)
    body = revolved(cup, n(56, 16), n(44, 14)).placed(at)
    plate = revolved(saucer, n(64, 16), n(30, 10)).placed(at)
    tea = revolved([(0.038, 0.050), (0.001, 0.050)], n(32, 12), 4).placed(at)
    return [
        (merged([body, handle.placed(at, 215)]), Material(lines, (0.25, 0.20), 0.5, 120, 0.03)),
        (plate, Material(lines, (0.35, 0.14), 0.5, 120, 0.03)),
        (tea, Material(paint.plain(rng, (0.36, 0.15, 0.05), (32, 32), 0.05), (0.1, 0.1), mirror=0.04)),
    ]


def lamp(rng: np.random.Generator, n: Count) -> list[Part]:
    """A table lamp that is on."""
    at = (-0.66, 0.34, 0.0)
    foot = revolved(
        [(0.003, 0.0), (0.075, 0.0), (0.078, 0.010), (0.050, 0.024), (0.014, 0.034), (0.009, 0.060),
         (0.016, 0.080), (0.009, 0.100), (0.008, 0.330), (0.012, 0.340), (0.001, 0.350)],
        n(48, 14),
        n(60, 20),
    )  # fmt: skip
    shade = revolved([(0.175, 0.300), (0.135, 0.400), (0.095, 0.500)], n(96, 30), n(20, 8))
    brass = Material(paint.plain(rng, (0.66, 0.50, 0.24), (64, 64), 0.1), (0.3, 0.3), 0.6, 90, 0.2)
    cloth = Material(paint.pleats(rng, (0.95, 0.84, 0.62), 44), (0.85, 0.2), glow=0.55, thin=True)
    return [(foot.placed(at), brass), (shade.placed(at), cloth)]


def picture(rng: np.random.Generator, n: Count) -> list[Part]:
    """A landscape in a gilt frame."""
    wide, high, left, low, y = 0.54, 0.38, -0.03, 0.39, 0.935
    canvas = rectangle((left, y, low), (wide, 0, 0), (0, 0, high), n(40), n(30))
    bars = []
    for x0, z0, length, along in (
        (left - 0.04, low, wide + 0.08, 0), (left - 0.04, low + high, wide + 0.08, 0),
        (left, low - 0.04, high + 0.08, 2), (left + wide, low - 0.04, high + 0.08, 2),
    ):  # fmt: skip
        direction = np.array([1.0, 0, 0]) if along == 0 else np.array([0, 0, 1.0])
        start = np.array([x0, y, z0])
        path = [start + direction * length * t for t in np.linspace(0, 1, 4)]
        bars.append(tube(path, 0.024, n(60, 20), 12, False, (2, 14)))
    ornament = paint.fruit(rng, (0.80, 0.62, 0.28), (0.52, 0.36, 0.14))
    return [
        (canvas, Material(paint.landscape(rng, 560, 400), (wide, high), specular=0.06, gloss=30)),
        (merged(bars), Material(ornament, (0.08, 0.05), specular=0.35, gloss=30)),
    ]


def small_things(rng: np.random.Generator, n: Count) -> list[Part]:
    """A letter, a pencil, nuts, and a mirroring ball."""
    sheet = rectangle((0, 0, 0), (0.15, 0, 0), (0, 0.21, 0), n(16), n(20))
    paper = sheet.placed((0.19, -0.40, 0.0085), 17)
    pencil = tube([(0.20, -0.36, 0.0145), (0.30, -0.28, 0.0145), (0.36, -0.235, 0.0145)], 0.0042, 16, 6)
    point = tube([(0.20, -0.36, 0.0145), (0.187, -0.3705, 0.0145)], [0.0042, 0.0005], 4, 6)
    nuts = [
        ball((r, r, 0.9 * r), n(20, 8), n(14, 6)).placed((x, y, r))
        for x, y, r in ((-0.30, -0.28, 0.017), (-0.265, -0.25, 0.015), (-0.33, -0.235, 0.016))
    ]
    marble = ball((0.042, 0.042, 0.042), n(48, 16), n(32, 12)).placed((-0.25, -0.09, 0.047))
    shell = paint.fruit(rng, (0.55, 0.36, 0.18), (0.36, 0.22, 0.10))
    yellow = paint.streaked(rng, (0.90, 0.66, 0.10), 0.1)
    steel = paint.plain(rng, (0.30, 0.31, 0.33), (32, 32), 0.02)
    return [
        (paper, Material(paint.letter(rng), (0.15, 0.21))),
        (pencil, Material(yellow, (0.03, 0.2), specular=0.3, gloss=60)),
        (point, Material(paint.plain(rng, (0.80, 0.62, 0.42), (16, 16), 0.1), (0.02, 0.02))),
        (merged(nuts), Material(shell, (0.08, 0.04))),
        (marble, Material(steel, (0.2, 0.1), specular=0.5, gloss=400, mirror=0.62)),
    ]
