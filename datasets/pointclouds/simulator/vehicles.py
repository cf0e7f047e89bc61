"""Cars, vans and trucks as meshes: a body with rounded corners, a cabin with windows, seats, wheels, lamps, plates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.pointclouds.simulator.meshes import Material, Mesh, box, grid, join, tube

GLASS = Material(0.1, gloss=1.0, transmission=0.85)
RUBBER = Material(0.06)
TRIM = Material(0.08)
PLATE = Material(0.95)
LAMP = Material(0.8, gloss=0.3)


@dataclass(frozen=True)
class Shape:
    """Outline of a kind of vehicle. Lengths are shares of the length counted from the middle, heights of the height.

    Attributes:
        windscreen, roof_front, roof_rear, rear: where windscreen, roof and rear window start and end.
        bonnet, belt, boot: heights of the bonnet's front, of the windows' lower edge, of the boot's rear.
        roof_width: share of the width at the roof.
        length, width, height: mean and standard deviation in metres.
    """

    windscreen: float
    roof_front: float
    roof_rear: float
    rear: float
    bonnet: float
    belt: float
    boot: float
    roof_width: float
    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]


HATCHBACK = Shape(0.24, 0.07, -0.36, -0.47, 0.50, 0.62, 0.62, 0.72, (3.85, 0.25), (1.63, 0.07), (1.50, 0.06))
SALOON = Shape(0.23, 0.06, -0.22, -0.37, 0.48, 0.63, 0.66, 0.70, (4.40, 0.25), (1.70, 0.07), (1.45, 0.05))
ESTATE = Shape(0.24, 0.08, -0.40, -0.47, 0.48, 0.62, 0.62, 0.74, (4.40, 0.25), (1.70, 0.07), (1.49, 0.06))
OFF_ROADER = Shape(0.25, 0.10, -0.41, -0.48, 0.54, 0.62, 0.60, 0.78, (4.35, 0.25), (1.80, 0.08), (1.72, 0.08))
VAN = Shape(0.36, 0.22, -0.47, -0.49, 0.42, 0.55, 0.55, 0.86, (4.95, 0.45), (1.90, 0.08), (2.10, 0.20))
CARS = ((HATCHBACK, 0.38), (SALOON, 0.24), (ESTATE, 0.24), (OFF_ROADER, 0.14))


def paint(random: np.random.Generator) -> Material:
    """A car's paint: light, dark, or between."""
    reflectivity = random.choice([random.uniform(0.35, 0.8), random.uniform(0.1, 0.35), random.uniform(0.02, 0.1)])
    return Material(float(reflectivity), gloss=float(random.uniform(0.2, 0.7)))


def car(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A car standing on the ground at the origin, heading along x, and its length, width and height."""
    kind = random.choice(len(CARS), p=[share for _, share in CARS])
    return _vehicle(random, CARS[kind][0], panelled=False)


def van(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A van, with or without windows behind the driver."""
    return _vehicle(random, VAN, panelled=bool(random.random() < 0.5))


def truck(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A truck: a driver's cab and a closed box on wheels."""
    length, width, height = random.uniform([6, 2.2, 2.7], [11, 2.55, 3.6])
    colour, cargo = paint(random), Material(float(random.uniform(0.3, 0.8)), gloss=0.2)
    cab, front = 0.85 * min(height, 2.9), length / 2
    parts = [
        box((-0.9, 0, (height + 0.9) / 2), (length - 1.8, width, height - 0.9), cargo),
        box((front - 0.85, 0, (cab * 0.55 + 0.4) / 2), (1.7, width, cab * 0.55 - 0.4), colour),
        box((front - 0.95, 0, cab * 0.95), (1.5, width * 0.95, cab * 0.1), colour),
        box((front - 1.6, 0, cab * 0.75), (0.1, width * 0.95, cab * 0.5), colour),
        box((0, 0, 0.75), (length - 0.2, 0.8, 0.25), TRIM),
        box((front - 0.15, 0, cab * 0.72), (0.05, width * 0.95, cab * 0.35), GLASS),
        *(box((front - 0.9, side * width * 0.47, cab * 0.72), (1.2, 0.04, cab * 0.35), GLASS) for side in (-1, 1)),
        *_wheels(length, width, 0.48, (0.36, -0.22, -0.36)),
    ]
    return join(parts), np.array([length, width, height])


def _vehicle(random: np.random.Generator, shape: Shape, panelled: bool) -> tuple[Mesh, np.ndarray]:
    mean, spread = np.array([shape.length, shape.width, shape.height]).T
    size = mean + spread * np.clip(random.normal(size=3), -2, 2)
    length, width, height = size
    colour = paint(random)
    clearance = float(random.uniform(0.16, 0.24))
    parts = [
        _body(shape, length, width, height, clearance, colour),
        *_cabin(shape, length, width, height, colour, panelled),
        *_seats(shape, length, width, height),
        *_wheels(length, width, float(random.uniform(0.29, 0.34)), (0.31, -0.29)),
        *_fittings(length, width, height, shape),
    ]
    return join(parts), size


def _half_width(share: np.ndarray, width: float) -> np.ndarray:
    """Half the body's width along the length: rounded in at both ends."""
    return width / 2 * np.interp(np.abs(share), [0, 0.36, 0.44, 0.48, 0.5], [1, 1, 0.95, 0.84, 0.66])


def _belt(shape: Shape, share: np.ndarray, height: float) -> np.ndarray:
    """Height of the body without the cabin along the length."""
    at = [-0.5, -0.49, shape.rear, shape.windscreen, 0.46, 0.5]
    return height * np.interp(
        share, at, [0.8 * shape.boot, shape.boot, shape.belt, shape.belt, shape.bonnet, 0.8 * shape.bonnet]
    )


def _body(shape: Shape, length: float, width: float, height: float, clearance: float, colour: Material) -> Mesh:
    """The part below the windows: a skin from sill to belt, open above where the cabin stands."""
    stations = np.unique(
        [-0.5, -0.49, -0.46, -0.4, shape.rear, -0.2, 0, 0.15, shape.windscreen, 0.33, 0.4, 0.46, 0.49, 0.5]
    )
    half, top = _half_width(stations, width), _belt(shape, stations, height)
    bottom = clearance + 0.1 * (np.abs(stations) > 0.44) + 0.06 * (np.abs(stations) > 0.48)
    middle = bottom + 0.55 * (top - bottom)

    def ring(y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.stack([stations * length, y, z], axis=1)

    lid = np.where((stations > shape.rear) & (stations < shape.windscreen), 0.86, 0.0)
    section = [(0.0, bottom), (0.88, bottom), (0.98, bottom + 0.08), (1.0, middle), (0.93, top - 0.02)]
    rows = [ring(share * half, z) for share, z in section] + [ring(lid * half, top + 0.02 * (lid == 0))]
    side = np.stack(rows)
    ends = [np.stack([side[:, end], side[:, end] * (1, 0, 1)]) for end in (0, -1)]
    parts = [grid(surface * (1, mirror, 1), colour) for surface in (side, *ends) for mirror in (1, -1)]
    return join(parts)


def _cabin(shape: Shape, length: float, width: float, height: float, colour: Material, panelled: bool) -> list[Mesh]:
    """Windscreen, side windows between pillars, roof, rear window."""
    pillar = 0.012
    middle = (shape.roof_front + shape.roof_rear) / 2 + 0.02
    knots = [shape.rear, shape.roof_rear, shape.roof_rear + 2 * pillar, middle - pillar, middle + pillar]
    stations = np.array([*knots, shape.roof_front, shape.windscreen])
    heights = height * np.array([shape.belt, 0.97, 0.985, 1, 1, 0.975, shape.belt])
    below = 0.9 * _half_width(stations, width)
    share = (heights / height - shape.belt) / (1 - shape.belt)
    above = below * (1 - share) + share * shape.roof_width * width / 2
    x, belt = stations * length, np.full(len(stations), height * shape.belt)
    low, high = np.stack([x, below, belt], 1), np.stack([x, above, heights], 1)
    opaque = (1, 3)
    parts = []
    for i in range(len(stations) - 1):
        hidden = i in opaque or (panelled and i < 3)
        for mirror in (1, -1):
            side = np.stack([low[i : i + 2], high[i : i + 2]]) * (1, mirror, 1)
            frame = side[1] + 0.1 * (side[0] - side[1])  # the strip between window and roof
            parts.append(grid(np.stack([side[0], frame]), colour if hidden else GLASS))
            parts.append(grid(np.stack([frame, side[1]]), colour))
        lid = np.stack([high[i : i + 2] * (1, -1, 1), high[i : i + 2]])
        sloped = i in (0, len(stations) - 2)
        parts.append(grid(lid, GLASS if sloped and not (panelled and i == 0) else colour))
    return parts


def _seats(shape: Shape, length: float, width: float, height: float) -> list[Mesh]:
    """What is seen through the windows: two rows of backrests, the cushions, and the dashboard."""
    belt, cloth = height * shape.belt, Material(0.25)
    rows = [shape.roof_front - 0.05, shape.roof_rear * 0.6]
    backs = [
        box((row * length, side * width * 0.2, belt * 0.9), (0.15, 0.45, belt * 0.75), cloth)
        for row in rows
        for side in (-1, 1)
    ]
    middle = (shape.windscreen + shape.rear) / 2
    floor = box(
        (middle * length, 0, belt * 0.55), ((shape.windscreen - shape.rear) * length * 0.95, width * 0.8, 0.05), cloth
    )
    board = box(((shape.windscreen - 0.03) * length, 0, belt * 0.93), (0.3, width * 0.75, 0.12), TRIM)
    return [*backs, floor, board]


def _wheels(length: float, width: float, radius: float, axles: tuple[float, ...]) -> list[Mesh]:
    return [
        tube(
            (axle * length, side * (width / 2 - 0.2), radius),
            (axle * length, side * (width / 2 - 0.005), radius),
            (radius, radius * 0.97),
            RUBBER,
            sides=12,
        )
        for axle in axles
        for side in (-1, 1)
    ]


def _fittings(length: float, width: float, height: float, shape: Shape) -> list[Mesh]:
    """Plates, lamps and mirrors, which send back more than paint does."""
    low, lamps = 0.3 * height, 0.82 * shape.bonnet * height
    parts = [box((end * (length / 2), 0, low), (0.02, 0.5, 0.11), PLATE) for end in (-1, 1)]
    parts += [
        box((end * 0.47 * length, side * 0.36 * width, lamps), (0.1, 0.2 * width, 0.13), LAMP)
        for end in (-1, 1)
        for side in (-1, 1)
    ]
    mirror = 0.97 * shape.belt * height
    return parts + [
        box(((shape.windscreen - 0.04) * length, side * (width / 2 + 0.06), mirror), (0.1, 0.18, 0.12), TRIM)
        for side in (-1, 1)
    ]
