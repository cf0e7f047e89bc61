"""The furniture of the built-in scene: a set table before a papered wall. Metres; x right, y away, z up."""

from __future__ import annotations

import math

import numpy as np

from datasets.scenes.builtin import textures as paint
from datasets.scenes.builtin.shapes import Mesh, ball, blade, box, merged, rectangle, revolved, surface, tube
from datasets.scenes.builtin.tracer import Material

Part = tuple[Mesh, Material]
GOLD = (0.86, 0.70, 0.36)


def furnish(seed: int, detail: float) -> list[Part]:
    """Every mesh with its material.

    Args:
        seed: of the painted patterns and of the flowers' arrangement.
        detail: 1 for pictures 480 wide; fewer, larger triangles below.
    """
    rng = np.random.default_rng(seed)
    room = _Room(rng, detail)
    return [
        *room.walls(),
        *room.table(),
        *room.books(),
        *room.vase(),
        *room.teapot(),
        *room.cup(),
        *room.basket(),
        *room.cage(),
        *room.lamp(),
        *room.picture(),
        *room.small_things(),
    ]


class _Room:
    def __init__(self, rng: np.random.Generator, detail: float) -> None:
        self.rng, self.detail = rng, detail

    def n(self, count: int, least: int = 4) -> int:
        """A tessellation count at this level of detail."""
        return max(least, round(count * self.detail))

    def walls(self) -> list[Part]:
        paper = paint.botanical(
            self.rng,
            (1500, 680),
            (0.30, 0.40, 0.42),
            ((0.45, 0.58, 0.46), (0.56, 0.62, 0.42), (0.40, 0.52, 0.50)),
            ((0.86, 0.62, 0.50), (0.92, 0.84, 0.66), (0.74, 0.46, 0.46)),
            120,
            40,
        )
        panels = paint.wood(self.rng, (0.22, 0.15, 0.10), (0.42, 0.30, 0.20), (512, 512), 7)
        floor = paint.wood(self.rng, (0.26, 0.17, 0.10), (0.50, 0.36, 0.22), (512, 512), 9)
        wall = rectangle((-2.0, 0.95, -0.15), (4.0, 0, 0), (0, 0, 1.8), self.n(100), self.n(46))
        base = rectangle((-2.2, 0.93, -0.8), (4.4, 0, 0), (0, 0, 0.66), self.n(80), self.n(20))
        rail = rectangle((-2.2, 0.915, -0.14), (4.4, 0, 0), (0, 0.035, 0.0), self.n(80), 2)
        ground = rectangle((-2.2, -2.0, -0.8), (4.4, 0, 0), (0, 2.95, 0), self.n(60), self.n(40))
        wainscot = Material(np.ascontiguousarray(panels.transpose(1, 0, 2)), (4.4, 0.66))
        return [
            (wall, Material(paper, (4.0, 1.8))),
            (merged([base, rail]), wainscot),
            (ground, Material(floor, (4.4, 2.95))),
        ]

    def table(self) -> list[Part]:
        grain = paint.wood(self.rng, (0.33, 0.18, 0.09), (0.66, 0.43, 0.25), (1024, 512), 5)
        top = rectangle((-0.95, -0.48, 0), (1.9, 0, 0), (0, 0.98, 0), self.n(140), self.n(72))
        edge = rectangle((-0.95, -0.48, -0.04), (1.9, 0, 0), (0, 0, 0.04), self.n(120), 3)
        legs = [box((0.07, 0.07, 0.76), self.n(9, 3)) for _ in range(2)]
        feet = [merged(list(leg.values())).placed((x, -0.40, -0.8)) for leg, x in zip(legs, (-0.85, 0.85), strict=True)]
        cloth = paint.tartan(
            self.rng,
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
            (surface(drape, self.n(140), self.n(140)), Material(cloth, (side, side))),
        ]

    def books(self) -> list[Part]:
        shelf = (
            ((0.30, 0.21, 0.045), (-0.545, -0.04, 0.0), 12, (0.20, 0.29, 0.24), "Parallax"),
            ((0.27, 0.19, 0.035), (-0.55, -0.03, 0.045), -6, (0.50, 0.16, 0.14), "On Light"),
            ((0.22, 0.155, 0.040), (-0.535, -0.035, 0.080), 20, (0.20, 0.22, 0.38), "Views"),
        )
        parts: list[Part] = []
        edges = paint.pages(self.rng)
        for (wide, deep, thick), place, turn, colour, title in shelf:
            faces = {name: face.placed(place, turn) for name, face in box((wide, deep, thick), self.n(24, 6)).items()}
            front = paint.cover(self.rng, colour, GOLD, title)
            front = np.ascontiguousarray(front.transpose(1, 0, 2)[:, ::-1])
            parts += [
                (merged([faces["top"], faces["bottom"]]), Material(front, (wide, deep), specular=0.08, gloss=30)),
                (faces["front"], Material(paint.spine(self.rng, colour, GOLD, title), (wide, thick), specular=0.08)),
                (merged([faces["left"], faces["right"], faces["back"]]), Material(edges, (deep, thick))),
            ]
        apple = ball((0.042, 0.042, 0.038), self.n(48, 12), self.n(32, 8), 0.35).placed((-0.52, -0.03, 0.154), 30, 14)
        stalk = tube([(-0.52, -0.035, 0.172), (-0.522, -0.037, 0.19), (-0.515, -0.042, 0.206)], 0.0022, 6, 6)
        peel = paint.fruit(self.rng, (0.70, 0.12, 0.10), (0.78, 0.66, 0.22))
        parts += [
            (apple, Material(peel, (0.26, 0.12), specular=0.35, gloss=70, mirror=0.02)),
            (stalk, Material(paint.streaked(self.rng, (0.30, 0.2, 0.1), 0.3), (0.01, 0.03))),
        ]
        return parts

    def vase(self) -> list[Part]:
        rng = self.rng
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
        body = revolved(profile, self.n(72, 20), self.n(56, 16)).placed(foot)
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
            stems.append(tube([root, mouth, middle, head], 0.0024, self.n(22, 8), 6))
            for k in range(2):
                at = mouth + (middle - mouth) * (0.5 + 0.6 * k)
                swing = angle + rng.normal(0, 0.9) + 2.2 * k
                aim = np.array([math.cos(swing), math.sin(swing), 0.7])
                leaves.append(blade(at, aim, (-aim[0], -aim[1], 1.5), rng.uniform(0.07, 0.11), 0.026, 0.5))
            axis = outward * 0.8 + (0, -0.45, 0.75)
            self._flower(kind, head, axis / np.linalg.norm(axis), petals[kind], hearts[kind])
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

    def _flower(self, kind: str, at: np.ndarray, axis: np.ndarray, petals: list[Mesh], hearts: list[Mesh]) -> None:
        side = np.cross(axis, (0, 0, 1.0))
        side /= np.linalg.norm(side)
        other = np.cross(axis, side)
        count, length, width, lift, droop = {
            "daisy": (15, 0.042, 0.011, 0.12, 0.15),
            "poppy": (6, 0.044, 0.046, 0.65, 0.10),
            "cornflower": (11, 0.034, 0.014, 0.8, 0.35),
        }[kind]
        for petal in range(count):
            angle = 2 * math.pi * petal / count + self.rng.normal(0, 0.06)
            aim = math.cos(angle) * side + math.sin(angle) * other + lift * axis
            petals.append(blade(at + 0.004 * axis, aim, axis, length, width, droop, self.n(8, 4)))
        radius = 0.012 if kind == "daisy" else 0.009
        hearts.append(ball((radius, radius, radius * 0.8), self.n(16, 8), self.n(10, 6)).placed(at + 0.004 * axis))

    def teapot(self) -> list[Part]:
        profile = [
            (0.004, 0.0), (0.055, 0.0), (0.060, 0.008), (0.088, 0.035), (0.105, 0.075), (0.098, 0.112),
            (0.070, 0.142), (0.056, 0.150), (0.058, 0.154), (0.045, 0.166), (0.016, 0.174), (0.010, 0.178),
            (0.015, 0.190), (0.012, 0.199), (0.002, 0.202),
        ]  # fmt: skip
        body = revolved(profile, self.n(96, 24), self.n(72, 20))
        spout = tube(
            [(0.085, 0, 0.055), (0.125, 0, 0.070), (0.148, 0, 0.110), (0.178, 0, 0.146)],
            [0.026, 0.020, 0.014, 0.011],
            self.n(28, 8),
            self.n(20, 8),
        )
        handle = tube(
            [(-0.078, 0, 0.128), (-0.125, 0, 0.138), (-0.158, 0, 0.105), (-0.140, 0, 0.062), (-0.092, 0, 0.046)],
            [0.010, 0.009, 0.0085, 0.009, 0.010],
            self.n(32, 10),
            self.n(14, 6),
        )
        pot = merged([body, spout, handle]).placed((0.15, 0.02, 0.006), -28)
        glaze = paint.plain(self.rng, (0.07, 0.25, 0.24), (256, 128), 0.25)
        return [(pot, Material(glaze, (0.6, 0.3), specular=0.9, gloss=260, mirror=0.10))]

    def cup(self) -> list[Part]:
        cup = [
            (0.004, 0.004), (0.022, 0.004), (0.024, 0.010), (0.037, 0.036), (0.042, 0.066), (0.040, 0.066),
            (0.035, 0.037), (0.024, 0.014), (0.002, 0.012),
        ]  # fmt: skip
        saucer = [(0.004, 0.002), (0.030, 0.002), (0.062, 0.012), (0.063, 0.015), (0.034, 0.006), (0.002, 0.006)]
        handle = tube(
            [(0.039, 0, 0.052), (0.058, 0, 0.056), (0.066, 0, 0.040), (0.052, 0, 0.025), (0.034, 0, 0.024)],
            0.0036,
            self.n(22, 8),
            8,
        )
        white, red, blue = (0.94, 0.92, 0.88), (0.72, 0.18, 0.14), (0.17, 0.30, 0.52)
        lines = paint.bands(
            self.rng,
            (256, 256),
            ((0.10, white), (0.34, white), (0.05, red), (0.05, white), (0.12, blue), (0.05, white), (0.05, red)),
        )
        at = (-0.05, -0.20, 0.006)
        body = revolved(cup, self.n(56, 16), self.n(44, 14)).placed(at)
        plate = revolved(saucer, self.n(64, 16), self.n(30, 10)).placed(at)
        tea = revolved([(0.038, 0.050), (0.001, 0.050)], self.n(32, 12), 4).placed(at)
        return [
            (merged([body, handle.placed(at, 215)]), Material(lines, (0.25, 0.20), 0.5, 120, 0.03)),
            (plate, Material(lines, (0.35, 0.14), 0.5, 120, 0.03)),
            (tea, Material(paint.plain(self.rng, (0.36, 0.15, 0.05), (32, 32), 0.05), (0.1, 0.1), mirror=0.04)),
        ]

    def basket(self) -> list[Part]:
        at, stakes, rows = (0.52, -0.03, 0.004), 26, 9
        woven = []
        angles = np.arange(stakes * 2) * math.pi / stakes
        for row in range(rows):
            height = 0.008 + 0.0125 * row
            radius = 0.105 + 0.22 * height
            wave = radius + 0.0055 * np.cos(angles * stakes + math.pi * row)
            path = np.stack([wave * np.cos(angles), wave * np.sin(angles), np.full_like(angles, height)], 1)
            woven.append(tube(path, 0.0052, self.n(stakes * 5, stakes * 3), self.n(6, 5), True, (1, 60)))
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
                0.0055, self.n(160, 60), 6, True, (1, 60),
            )
            for p in (0, math.pi)
        ]  # fmt: skip
        arch = np.linspace(0, math.pi, 9)
        grips = [
            tube(
                np.stack([0.133 * np.cos(arch), p * np.cos(3 * arch), 0.12 + 0.17 * np.sin(arch)], 1),
                0.0042, self.n(40, 16), 6, False, (1, 20),
            )
            for p in (-0.006, 0.006)
        ]  # fmt: skip
        bottom = revolved([(0.001, 0.003), (0.107, 0.003)], self.n(32, 12), 6)
        cane = paint.streaked(self.rng, (0.66, 0.48, 0.27), 0.5)
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
            whole = ball((radius, radius, 0.94 * radius), self.n(40, 12), self.n(26, 8), 0.2)
            centre = np.asarray(at) + place
            peel = paint.fruit(self.rng, ripe, unripe)
            gloss = Material(peel, (6 * radius, 3 * radius), specular=0.25, gloss=50, mirror=0.02)
            parts.append((whole.placed(centre, self.rng.uniform(0, 360), 18), gloss))
        return parts

    def cage(self) -> list[Part]:
        at, wires, radius, wall = (0.40, 0.34, 0.0), 22, 0.135, 0.28
        metal = []
        dome = [(math.cos(t) * radius, wall + math.sin(t) * 0.13) for t in np.linspace(0, math.pi / 2 - 0.06, 6)]
        for k in range(wires):
            angle = 2 * math.pi * k / wires
            path = [(radius, 0.02), (radius, 0.15), *dome]
            points = [(r * math.cos(angle), r * math.sin(angle), z) for r, z in path]
            metal.append(tube(points, 0.0021, self.n(26, 14), 5))
        turns = np.linspace(0, 2 * math.pi, 32, endpoint=False)
        for height, wide in ((0.022, radius), (0.15, radius), (wall, radius), (wall + 0.075, 0.112)):
            ring = np.stack([wide * np.cos(turns), wide * np.sin(turns), np.full_like(turns, height)], 1)
            metal.append(tube(ring, 0.0030, self.n(64, 32), 6, True))
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
            self.n(72, 24),
            self.n(24, 10),
        )
        body = ball((0.030, 0.048, 0.030), self.n(30, 10), self.n(20, 8)).placed((0.01, 0, 0.155), 70, 32)
        head = ball((0.021, 0.021, 0.021), self.n(24, 10), self.n(16, 8)).placed((-0.028, -0.008, 0.190))
        tail = blade((0.045, 0.015, 0.138), (0.8, 0.25, -0.55), (0.3, 0, 1), 0.065, 0.020, 0.1)
        beak = tube([(-0.046, -0.016, 0.190), (-0.060, -0.021, 0.186)], [0.005, 0.0008], 4, 6)
        eye = ball((0.0036, 0.0036, 0.0036), 10, 8).placed((-0.037, -0.025, 0.197))
        brass = Material(paint.plain(self.rng, (0.70, 0.55, 0.26), (64, 64), 0.1), (0.2, 0.2), 0.5, 60, 0.15)
        plumage = Material(paint.streaked(self.rng, (0.93, 0.78, 0.16), 0.35), (0.08, 0.08))
        dark = Material(paint.plain(self.rng, (0.30, 0.18, 0.10), (32, 32), 0.2), (0.05, 0.05), 0.3, 60)

        def moved(*meshes: Mesh) -> Mesh:
            return merged(meshes).placed(at)

        return [(moved(*metal, tray), brass), (moved(body, head, tail), plumage), (moved(perch, beak, eye), dark)]

    def lamp(self) -> list[Part]:
        at = (-0.66, 0.34, 0.0)
        foot = revolved(
            [(0.003, 0.0), (0.075, 0.0), (0.078, 0.010), (0.050, 0.024), (0.014, 0.034), (0.009, 0.060),
             (0.016, 0.080), (0.009, 0.100), (0.008, 0.330), (0.012, 0.340), (0.001, 0.350)],
            self.n(48, 14),
            self.n(60, 20),
        )  # fmt: skip
        shade = revolved([(0.175, 0.300), (0.135, 0.400), (0.095, 0.500)], self.n(96, 30), self.n(20, 8))
        brass = Material(paint.plain(self.rng, (0.66, 0.50, 0.24), (64, 64), 0.1), (0.3, 0.3), 0.6, 90, 0.2)
        cloth = Material(paint.pleats(self.rng, (0.95, 0.84, 0.62), 44), (0.85, 0.2), glow=0.55, thin=True)
        return [(foot.placed(at), brass), (shade.placed(at), cloth)]

    def picture(self) -> list[Part]:
        wide, high, left, low, y = 0.54, 0.38, -0.03, 0.39, 0.935
        canvas = rectangle((left, y, low), (wide, 0, 0), (0, 0, high), self.n(40), self.n(30))
        bars = []
        for x0, z0, length, along in (
            (left - 0.04, low, wide + 0.08, 0), (left - 0.04, low + high, wide + 0.08, 0),
            (left, low - 0.04, high + 0.08, 2), (left + wide, low - 0.04, high + 0.08, 2),
        ):  # fmt: skip
            direction = np.array([1.0, 0, 0]) if along == 0 else np.array([0, 0, 1.0])
            start = np.array([x0, y, z0])
            path = [start + direction * length * t for t in np.linspace(0, 1, 4)]
            bars.append(tube(path, 0.024, self.n(60, 20), 12, False, (2, 14)))
        ornament = paint.fruit(self.rng, (0.80, 0.62, 0.28), (0.52, 0.36, 0.14))
        return [
            (canvas, Material(paint.landscape(self.rng, 560, 400), (wide, high), specular=0.06, gloss=30)),
            (merged(bars), Material(ornament, (0.08, 0.05), specular=0.35, gloss=30)),
        ]

    def small_things(self) -> list[Part]:
        sheet = rectangle((0, 0, 0), (0.15, 0, 0), (0, 0.21, 0), self.n(16), self.n(20))
        paper = sheet.placed((0.19, -0.40, 0.0085), 17)
        pencil = tube([(0.20, -0.36, 0.0145), (0.30, -0.28, 0.0145), (0.36, -0.235, 0.0145)], 0.0042, 16, 6)
        point = tube([(0.20, -0.36, 0.0145), (0.187, -0.3705, 0.0145)], [0.0042, 0.0005], 4, 6)
        nuts = [
            ball((r, r, 0.9 * r), self.n(20, 8), self.n(14, 6)).placed((x, y, r))
            for x, y, r in ((-0.30, -0.28, 0.017), (-0.265, -0.25, 0.015), (-0.33, -0.235, 0.016))
        ]
        marble = ball((0.042, 0.042, 0.042), self.n(48, 16), self.n(32, 12)).placed((-0.25, -0.09, 0.047))
        shell = paint.fruit(self.rng, (0.55, 0.36, 0.18), (0.36, 0.22, 0.10))
        yellow = paint.streaked(self.rng, (0.90, 0.66, 0.10), 0.1)
        steel = paint.plain(self.rng, (0.30, 0.31, 0.33), (32, 32), 0.02)
        return [
            (paper, Material(paint.letter(self.rng), (0.15, 0.21))),
            (pencil, Material(yellow, (0.03, 0.2), specular=0.3, gloss=60)),
            (point, Material(paint.plain(self.rng, (0.80, 0.62, 0.42), (16, 16), 0.1), (0.02, 0.02))),
            (merged(nuts), Material(shell, (0.08, 0.04))),
            (marble, Material(steel, (0.2, 0.1), specular=0.5, gloss=400, mirror=0.62)),
        ]
