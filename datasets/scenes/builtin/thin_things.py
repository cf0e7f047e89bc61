"""What is thin, and so hard to reconstruct: flowers, wickerwork, wires. Metres; x right, y away, z up."""

from __future__ import annotations

import math

import numpy as np

from datasets.scenes.builtin import textures as paint
from datasets.scenes.builtin.shapes import Count, Mesh, ball, blade, merged, revolved, tube
from datasets.scenes.builtin.tracer import Material, Part


def vase(rng: np.random.Generator, n: Count) -> list[Part]:
    """Porcelain with nine flowers: thin stems, leaves and petals that light shines through."""
    profile = [
        (0.005, 0.0), (0.052, 0.0), (0.056, 0.012), (0.085, 0.085), (0.092, 0.125), (0.070, 0.185),
        (0.036, 0.225), (0.034, 0.245), (0.050, 0.268), (0.046, 0.268), (0.029, 0.240), (0.020, 0.190),
    ]  # fmt: skip
    blue = paint.botanical(
        rng, (640, 384), (0.93, 0.94, 0.95), ((0.16, 0.26, 0.58), (0.22, 0.34, 0.66)), ((0.12, 0.2, 0.5),), 34, 26
    )
    for row in (100, 112, 268, 280):
        blue[row : row + 5] = (0.14, 0.22, 0.52)
    foot = np.array([-0.17, 0.20, 0.0])
    body = revolved(profile, n(72, 20), n(56, 16)).placed(foot)
    parts: list[Part] = [(body, Material(blue, (0.5, 0.42), specular=0.45, gloss=120, mirror=0.03))]
    stems, leaves = [], []
    petals: dict[str, list[Mesh]] = {"daisy": [], "poppy": [], "cornflower": []}
    hearts: dict[str, list[Mesh]] = {"daisy": [], "poppy": [], "cornflower": []}
    kinds = ("daisy", "poppy", "cornflower", "daisy", "poppy", "daisy", "cornflower", "poppy", "daisy")
    for number, kind in enumerate(kinds):
        angle = 2 * math.pi * number / len(kinds) + rng.normal(0, 0.15)
        outward = np.array([math.cos(angle), 0.75 * math.sin(angle), 0])
        reach, height = rng.uniform(0.07, 0.21), rng.uniform(0.44, 0.64)
        root = foot + (0, 0, 0.20) + 0.012 * outward
        mouth = foot + (0, 0, 0.266) + 0.026 * outward
        middle = foot + (0, 0, 0.266 + 0.55 * (height - 0.266)) + (0.026 + 0.42 * reach) * outward
        head = foot + (0, 0, height) + (0.03 + reach) * outward
        stems.append(tube([root, mouth, middle, head], 0.0024, n(22, 8), 6))
        for k in range(2):
            at = mouth + (middle - mouth) * (0.5 + 0.6 * k)
            swing = angle + rng.normal(0, 0.9) + 2.2 * k
            aim = np.array([math.cos(swing), math.sin(swing), 0.7])
            leaves.append(blade(at, aim, (-aim[0], -aim[1], 1.5), rng.uniform(0.07, 0.11), 0.026, 0.5))
        axis = outward * 0.8 + (0, -0.45, 0.75)
        _flower(rng, n, kind, head, axis / np.linalg.norm(axis), petals[kind], hearts[kind])
    green = paint.streaked(rng, (0.27, 0.40, 0.17), 0.35)
    parts += [
        (merged(stems), Material(green, (0.015, 0.4))),
        (merged(leaves), Material(green, (0.03, 0.09), thin=True)),
    ]
    looks = {
        "daisy": ((0.95, 0.94, 0.88), (0.88, 0.66, 0.14)),
        "poppy": ((0.80, 0.16, 0.10), (0.10, 0.08, 0.08)),
        "cornflower": ((0.28, 0.34, 0.76), (0.24, 0.16, 0.44)),
    }
    for kind, (petal, heart) in looks.items():
        parts += [
            (merged(petals[kind]), Material(paint.streaked(rng, petal, 0.3), (0.02, 0.05), thin=True)),
            (merged(hearts[kind]), Material(paint.fruit(rng, heart, heart), (0.04, 0.02))),
        ]
    return parts


def _flower(
    rng: np.random.Generator,
    n: Count,
    kind: str,
    at: np.ndarray,
    axis: np.ndarray,
    petals: list[Mesh],
    hearts: list[Mesh],
) -> None:
    side = np.cross(axis, (0, 0, 1.0))
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    count, length, width, lift, droop = {
        "daisy": (15, 0.042, 0.011, 0.12, 0.15),
        "poppy": (6, 0.044, 0.046, 0.65, 0.10),
        "cornflower": (11, 0.034, 0.014, 0.8, 0.35),
    }[kind]
    for petal in range(count):
        angle = 2 * math.pi * petal / count + rng.normal(0, 0.06)
        aim = math.cos(angle) * side + math.sin(angle) * other + lift * axis
        petals.append(blade(at + 0.004 * axis, aim, axis, length, width, droop, n(8, 4)))
    radius = 0.012 if kind == "daisy" else 0.009
    hearts.append(ball((radius, radius, radius * 0.8), n(16, 8), n(10, 6)).placed(at + 0.004 * axis))


def basket(rng: np.random.Generator, n: Count) -> list[Part]:
    """A basket woven of round canes, full of fruit."""
    at, stakes, rows = (0.52, -0.03, 0.004), 26, 9
    woven = []
    angles = np.arange(stakes * 2) * math.pi / stakes
    for row in range(rows):
        height = 0.008 + 0.0125 * row
        radius = 0.105 + 0.22 * height
        wave = radius + 0.0055 * np.cos(angles * stakes + math.pi * row)
        path = np.stack([wave * np.cos(angles), wave * np.sin(angles), np.full_like(angles, height)], 1)
        woven.append(tube(path, 0.0052, n(stakes * 5, stakes * 3), n(6, 5), True, (1, 60)))
    upright = [
        tube([(r * math.cos(a), r * math.sin(a), z) for r, z in ((0.105, 0), (0.119, 0.062), (0.133, 0.126))],
             0.0034, 8, 6)
        for a in angles[::2]
    ]  # fmt: skip
    turns = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    rim = [
        tube(
            np.stack([
                (0.133 + 0.006 * np.cos(12 * turns + p)) * np.cos(turns),
                (0.133 + 0.006 * np.cos(12 * turns + p)) * np.sin(turns),
                0.122 + 0.006 * np.sin(12 * turns + p),
            ], 1),
            0.0055, n(160, 60), 6, True, (1, 60),
        )
        for p in (0, math.pi)
    ]  # fmt: skip
    arch = np.linspace(0, math.pi, 9)
    grips = [
        tube(
            np.stack([0.133 * np.cos(arch), p * np.cos(3 * arch), 0.12 + 0.17 * np.sin(arch)], 1),
            0.0042, n(40, 16), 6, False, (1, 20),
        )
        for p in (-0.006, 0.006)
    ]  # fmt: skip
    bottom = revolved([(0.001, 0.003), (0.107, 0.003)], n(32, 12), 6)
    cane = paint.streaked(rng, (0.66, 0.48, 0.27), 0.5)
    wicker = merged([*woven, *upright, *rim, *grips, bottom]).placed(at, 35)
    parts: list[Part] = [(wicker, Material(cane, (0.03, 0.04)))]
    orange = ((0.93, 0.52, 0.10), (0.88, 0.42, 0.07))
    apple = ((0.74, 0.16, 0.10), (0.72, 0.68, 0.24))
    pear = ((0.72, 0.72, 0.26), (0.80, 0.62, 0.22))
    fruits = (
        ((-0.055, -0.05, 0.092), 0.048, orange), ((0.05, -0.06, 0.088), 0.044, apple),
        ((0.0, 0.06, 0.095), 0.050, pear), ((0.075, 0.035, 0.09), 0.046, orange),
        ((-0.075, 0.045, 0.086), 0.045, apple), ((0.005, -0.005, 0.143), 0.047, apple),
        ((0.0, -0.02, 0.045), 0.05, orange), ((0.05, 0.06, 0.04), 0.045, pear),
    )  # fmt: skip
    for place, radius, (ripe, unripe) in fruits:
        whole = ball((radius, radius, 0.94 * radius), n(40, 12), n(26, 8), 0.2)
        centre = np.asarray(at) + place
        peel = paint.fruit(rng, ripe, unripe)
        gloss = Material(peel, (6 * radius, 3 * radius), specular=0.25, gloss=50, mirror=0.02)
        parts.append((whole.placed(centre, rng.uniform(0, 360), 18), gloss))
    return parts


def cage(rng: np.random.Generator, n: Count) -> list[Part]:
    """A cage of thin wires with a canary."""
    at, wires, radius, wall = (0.40, 0.34, 0.0), 22, 0.135, 0.28
    metal = []
    dome = [(math.cos(t) * radius, wall + math.sin(t) * 0.13) for t in np.linspace(0, math.pi / 2 - 0.06, 6)]
    for k in range(wires):
        angle = 2 * math.pi * k / wires
        path = [(radius, 0.02), (radius, 0.15), *dome]
        points = [(r * math.cos(angle), r * math.sin(angle), z) for r, z in path]
        metal.append(tube(points, 0.0021, n(26, 14), 5))
    turns = np.linspace(0, 2 * math.pi, 32, endpoint=False)
    for height, wide in ((0.022, radius), (0.15, radius), (wall, radius), (wall + 0.075, 0.112)):
        ring = np.stack([wide * np.cos(turns), wide * np.sin(turns), np.full_like(turns, height)], 1)
        metal.append(tube(ring, 0.0030, n(64, 32), 6, True))
    hook = np.stack([0.022 * np.cos(turns), 0 * turns, wall + 0.155 + 0.022 * np.sin(turns)], 1)
    metal += [tube(hook, 0.003, 24, 6, True), ball((0.012, 0.012, 0.012), 16, 10).placed((0, 0, wall + 0.131))]
    perch = tube([(-radius, 0, 0.12), (0, 0, 0.118), (radius, 0, 0.12)], 0.004, 8, 6)
    tray = revolved(
        [
            (0.003, 0.0),
            (0.142, 0.0),
            (0.148, 0.008),
            (0.148, 0.024),
            (0.143, 0.026),
            (0.139, 0.010),
            (0.002, 0.010),
        ],
        n(72, 24),
        n(24, 10),
    )
    body = ball((0.030, 0.048, 0.030), n(30, 10), n(20, 8)).placed((0.01, 0, 0.155), 70, 32)
    head = ball((0.021, 0.021, 0.021), n(24, 10), n(16, 8)).placed((-0.028, -0.008, 0.190))
    tail = blade((0.045, 0.015, 0.138), (0.8, 0.25, -0.55), (0.3, 0, 1), 0.065, 0.020, 0.1)
    beak = tube([(-0.046, -0.016, 0.190), (-0.060, -0.021, 0.186)], [0.005, 0.0008], 4, 6)
    eye = ball((0.0036, 0.0036, 0.0036), 10, 8).placed((-0.037, -0.025, 0.197))
    brass = Material(paint.plain(rng, (0.70, 0.55, 0.26), (64, 64), 0.1), (0.2, 0.2), 0.5, 60, 0.15)
    plumage = Material(paint.streaked(rng, (0.93, 0.78, 0.16), 0.35), (0.08, 0.08))
    dark = Material(paint.plain(rng, (0.30, 0.18, 0.10), (32, 32), 0.2), (0.05, 0.05), 0.3, 60)

    def moved(*meshes: Mesh) -> Mesh:
        return merged(meshes).placed(at)

    return [(moved(*metal, tray), brass), (moved(body, head, tail), plumage), (moved(perch, beak, eye), dark)]
