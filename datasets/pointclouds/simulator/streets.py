"""Streets with traffic laid out at random, and the data set of what a LiDAR sees of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from datasets.errors import InputError
from datasets.pointclouds.boxes import meet_bev
from datasets.pointclouds.simulator.beams import Beams, BeamsName, beams_named
from datasets.pointclouds.simulator.buildings import house
from datasets.pointclouds.simulator.furniture import ROADSIDE
from datasets.pointclouds.simulator.ground import Relief, ground
from datasets.pointclouds.simulator.meshes import Mesh, join
from datasets.pointclouds.simulator.people import cyclist, pedestrian
from datasets.pointclouds.simulator.sensor import scan
from datasets.pointclouds.simulator.vehicles import car, truck, van
from datasets.pointclouds.types import Boxes3D, PointCloudSample

Maker = Callable[[np.random.Generator], tuple[Mesh, np.ndarray]]

MAKERS: dict[str, Maker] = {"Car": car, "Van": van, "Truck": truck, "Pedestrian": pedestrian, "Cyclist": cyclist}
OWN_CAR = (4.2, 1.9)  # length and width of the place that the sensor's own car takes
REACH = 80.0  # metres to which the street is furnished


class Crossing(NamedTuple):
    """Where along the street another one meets it at right angles, and how wide that is; 0 where there is none."""

    along: float = 0.0
    width: float = 0.0

    def blocks(self, along: float, reach: float) -> bool:
        """Whether something that reaches so far to both sides would stand in the other street."""
        return self.width > 0 and abs(along - self.along) < self.width / 2 + reach


@dataclass
class Street:
    """What has been placed so far: meshes, boxes [7] with their classes, and all footprints.

    Everything is laid out along a straight street on x and then bent by ``curvature`` (1/m).
    """

    random: np.random.Generator
    curvature: float
    relief: Relief
    meshes: list[Mesh] = field(default_factory=list)
    footprints: list[list[float]] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def pose(self, along: float, across: float, yaw: float) -> tuple[float, float, float]:
        """x, y and yaw of a place on the bent street."""
        turn = self.curvature * along
        radius_sin = np.sin(turn) / self.curvature if abs(self.curvature) > 1e-6 else along
        radius_cos = (1 - np.cos(turn)) / self.curvature if abs(self.curvature) > 1e-6 else 0.0
        return float(radius_sin - across * np.sin(turn)), float(radius_cos + across * np.cos(turn)), yaw + turn

    def place(
        self,
        make: Maker,
        along: float,
        across: float,
        yaw: float,
        z: float = 0.0,
        name: str = "",
        gap: float = 0.3,
        beside: int = 0,
    ) -> bool:
        """Put a thing down unless it would stand in another; ``name`` makes it an object to be detected.

        Its middle lies at ``along`` and ``across``, or with ``beside`` (1: left, -1: right) its side to the street.
        """
        mesh, size = make(self.random)
        across += beside * float(size[0] * abs(np.sin(yaw)) + size[1] * abs(np.cos(yaw))) / 2
        z += float(self.relief(along, across))
        x, y, yaw = self.pose(along, across, yaw)
        footprint = [x, y, 0.0, size[0] + gap, size[1] + gap, 1.0, yaw]
        placed = np.array(self.footprints)
        reach = (np.hypot(footprint[3], footprint[4]) + np.hypot(placed[:, 3], placed[:, 4])) / 2
        near = placed[np.hypot(placed[:, 0] - footprint[0], placed[:, 1] - footprint[1]) < reach]
        if len(near) and meet_bev(torch.tensor([footprint], dtype=torch.float64), torch.from_numpy(near)).any():
            return False
        self.footprints.append(footprint)
        self.owners.append(len(self.boxes) if name else -1)
        self.meshes.append(mesh.placed(x, y, z, yaw))
        if name:
            self.boxes.append([x, y, z + size[2] / 2, *size, yaw])
            self.names.append(name)
        return True


def lay_out(random: np.random.Generator) -> Street:
    """A street around a car that stands at the origin in one of its lanes, heading along x."""
    street = Street(random, float(random.normal(0, 0.004)), Relief.drawn(random))
    lanes, lane = int(random.choice([1, 2, 3, 4], p=[0.15, 0.45, 0.2, 0.2])), random.uniform(2.8, 3.5)
    parking = random.uniform(2.0, 2.4)
    parked = random.random(2) < random.choice([0.1, 0.5, 0.9])
    width = lanes * lane
    right = -lane * (int(random.integers(0, lanes)) + 0.5)  # the road's right edge, without its parking bays
    left = right + width
    edges = (right - parking * parked[0], left + parking * parked[1])
    pavement, kerb = random.uniform(0.8, 4), random.uniform(0.0, 0.15)
    street.footprints.append([0, 0, 0, OWN_CAR[0], OWN_CAR[1], 1, 0])
    street.owners.append(-1)
    floor = ground(edges, pavement, kerb, REACH + 20, street.relief)
    street.meshes.append(_bent(floor, street))
    crosses = random.random() < 0.5
    crossing = Crossing(float(random.uniform(-40, 60)), float(random.uniform(5, 11))) if crosses else Crossing()
    for side, edge, bay in ((-1, right, parked[0]), (1, left, parked[1])):
        if bay:
            _park(street, side, edge, parking, crossing)
    _drive(street, right, lane, lanes)
    for side, edge in zip((-1, 1), edges, strict=True):
        if crossing.width and random.random() < 0.8:
            _drive_across(street, side, edge + side * pavement, crossing)
        _walk(street, side, edge, pavement, kerb)
        setback = float(random.choice([0.0, random.uniform(0, 8), random.uniform(5, 25)]))
        _build(street, side, edge + side * pavement, setback, kerb, crossing)
        _furnish(street, side, edge, pavement, setback, kerb, crossing)
    return street


def _bent(mesh: Mesh, street: Street) -> Mesh:
    x, y, z = mesh.vertices.T
    turn = street.curvature * x
    small = abs(street.curvature) < 1e-6
    bent_x = x if small else np.sin(turn) / street.curvature
    bent_y = 0 * x if small else (1 - np.cos(turn)) / street.curvature
    vertices = np.stack([bent_x - y * np.sin(turn), bent_y + y * np.cos(turn), z], axis=1)
    return Mesh(vertices, mesh.triangles, mesh.material, mesh.materials)


def _vehicle(random: np.random.Generator, trucks: float) -> str:
    return str(random.choice(["Car", "Van", "Truck"], p=[0.9 - trucks, 0.1, trucks]))


def _park(street: Street, side: int, edge: float, width: float, crossing: Crossing) -> None:
    """A row of parked vehicles, along the kerb or square to it, some of them half on the pavement."""
    random = street.random
    square, share = random.random() < 0.2, random.uniform(0.1, 0.95)
    at = -REACH
    while at < REACH:
        at += random.uniform(2.5, 3.2) if square else random.uniform(5.0, 6.8)
        if random.random() > share or crossing.blocks(at, 2.5):
            continue
        name = _vehicle(random, 0.02)
        yaw = np.pi / 2 * side if square else 0.0
        yaw += np.pi * (random.random() < 0.4) + random.normal(0, 0.03)
        depth = random.uniform(1.9, 2.4) if square else width / 2 + random.normal(0.0, 0.12)
        street.place(MAKERS[name], at, edge + side * depth, yaw, name=name)


def _drive(street: Street, right: float, lane: float, lanes: int) -> None:
    """Traffic: the left lanes come towards the sensor; some vehicles turn, some ride a bicycle."""
    random = street.random
    density = random.uniform(12, 60)
    for i in range(lanes):
        across, ahead = right + (i + 0.5) * lane, i < lanes / 2
        at = -REACH + random.exponential(density)
        while at < REACH:
            name = "Cyclist" if random.random() < 0.08 else _vehicle(random, 0.06)
            yaw = (0.0 if ahead else np.pi) + random.normal(0, 0.04)
            if random.random() < 0.06:
                yaw += random.uniform(-np.pi, np.pi)
            street.place(MAKERS[name], at, across + random.normal(0, 0.25), yaw, name=name, gap=0.6)
            at += 6 + random.exponential(density)


def _walk(street: Street, side: int, edge: float, pavement: float, kerb: float) -> None:
    """People and bicycles on the pavement and at the kerb."""
    random = street.random
    for _ in range(random.poisson(3.5)):
        name = "Cyclist" if random.random() < 0.35 else "Pedestrian"
        along, yaw = random.uniform(-50, 50), random.choice([0, np.pi]) + random.normal(0, 0.3)
        if name == "Pedestrian" and random.random() < 0.3:
            yaw = random.uniform(-np.pi, np.pi)
        across = random.uniform(-1.2, pavement)
        street.place(MAKERS[name], along, edge + side * across, yaw, kerb * (across > 0), name)
        if name == "Pedestrian" and random.random() < 0.3:
            street.place(pedestrian, along, edge + side * (across + 0.75), yaw, kerb * (across > -0.75), name, 0.1)


def _drive_across(street: Street, side: int, edge: float, crossing: Crossing) -> None:
    """Vehicles in the street that meets this one at ``crossing`` (where, how wide), on one side."""
    random = street.random
    for lane in (-1, 1):
        out = random.uniform(1, 20)
        while out < REACH / 2:
            name = "Cyclist" if random.random() < 0.08 else _vehicle(random, 0.04)
            along = crossing.along + lane * (crossing.width / 4 + random.normal(0, 0.15))
            yaw = np.pi / 2 * lane * side + np.pi * (random.random() < 0.1) + random.normal(0, 0.1)
            street.place(MAKERS[name], along, edge + side * (out + 2.5), yaw, name=name, gap=0.6)
            out += 6 + random.exponential(20)


def _build(street: Street, side: int, edge: float, setback: float, kerb: float, crossing: Crossing) -> None:
    """Houses: in a closed row, or each by itself, and turned a little."""
    random = street.random
    row, built, turned = random.random() < 0.5, random.uniform(0.2, 1), random.choice([0.0, 0.1, 0.4])
    at = -REACH + random.uniform(0, 15)
    while at < REACH:
        at += 0.0 if row else random.uniform(2, 12)
        across = setback + (random.choice([0.0, random.uniform(0, 2)]) if row else random.exponential(1.5))
        yaw = (0.0 if side > 0 else np.pi) + (0.0 if row else random.normal(0, turned))
        half = 0.0
        if random.random() < built:
            half = float(random.uniform(3, 12))
            at += half
            if not crossing.blocks(at, half):
                make = partial(house, width=2 * half)
                street.place(make, at, edge + side * (0.2 + across), yaw, kerb, gap=-0.05, beside=side)
        at += half if half else 8.0


def _furnish(
    street: Street, side: int, edge: float, pavement: float, setback: float, kerb: float, crossing: Crossing
) -> None:
    """Things between the kerb and the houses, and behind where there are none."""
    random = street.random
    makers = [make for make, _ in ROADSIDE]
    weights = np.array([weight for _, weight in ROADSIDE]) * random.uniform(0.0, 2, len(makers)) ** 2
    for _ in range(random.poisson(random.choice([60, 120, 200]))):
        make = makers[random.choice(len(makers), p=weights / weights.sum())]
        across = random.choice([0.3, pavement + 0.1, random.uniform(0.3, pavement + setback + 8)])
        yaw = random.normal(0, 0.08) + np.pi / 2 * (random.random() < 0.2)
        along = random.triangular(-REACH, 0, REACH)
        if not crossing.blocks(along, 1.0):
            street.place(make, along, edge + side * across, yaw, kerb, gap=0.1, beside=side)


def heading(random: np.random.Generator) -> float:
    """By how much the street is turned as the sensor sees it: little, but where its car turns into another street."""
    return float(random.uniform(-np.pi, np.pi) if random.random() < 0.2 else random.normal(0, 0.08))


class SimulatedStreets:
    """Made-up LiDAR sweeps with boxes: the same for the same seed and number, on any machine and in any process.

    Boxes of objects that were hit by fewer than ``min_points`` shots are left out, as annotators leave out what they
    cannot see.

    Args:
        count: how many sweeps.
        class_names: classes to annotate, of Car, Van, Truck, Pedestrian, Cyclist; others are there and not annotated.
        beams: the LiDAR: a name or a model.
        seed: of all randomness.
        min_points: hits that an annotated object has at least.

    Raises:
        InputError: for an unknown class or model.
    """

    channels = ("x", "y", "z", "intensity")

    def __init__(
        self,
        count: int = 1000,
        class_names: Sequence[str] = ("Car", "Pedestrian", "Cyclist"),
        *,
        beams: BeamsName | Beams = "hdl64",
        seed: int = 0,
        min_points: int = 5,
    ) -> None:
        if unknown := [name for name in class_names if name not in MAKERS]:
            raise InputError(f"there are no simulated objects {unknown[0]!r}: choose of {', '.join(MAKERS)}")
        if count < 1:
            raise InputError(f"count is {count}: give the number of sweeps, 1 or more")
        self.count, self.class_names, self.seed, self.min_points = count, tuple(class_names), seed, min_points
        self.beams = beams if isinstance(beams, Beams) else beams_named(beams)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> PointCloudSample:
        if not 0 <= index < self.count:
            raise IndexError(f"sweep {index} of {self.count}")
        random = np.random.default_rng((self.seed, index))
        street = lay_out(random)
        mesh = join(street.meshes)
        height = self.beams.height + float(random.normal(0, 0.03))
        points, triangles = scan(mesh, self.beams, random, height)
        turn = heading(random)
        # The first mesh is the ground; each other one has a footprint, of which the first is the sensor's own car.
        last = np.cumsum([len(one.triangles) for one in street.meshes])
        owner = np.array([-1, *street.owners[1:]])[np.searchsorted(last, triangles, side="right")]
        counts = np.bincount(owner[owner >= 0], minlength=len(street.boxes))
        chosen = np.array([name in self.class_names for name in street.names], bool) & (counts >= self.min_points)
        boxes = np.array(street.boxes, np.float32).reshape(-1, 7)[chosen]
        boxes[:, 2] -= height
        for rows in (points, boxes):
            x, y = rows[:, 0].copy(), rows[:, 1].copy()
            rows[:, 0], rows[:, 1] = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
        boxes[:, 6] = (boxes[:, 6] + turn + np.pi) % (2 * np.pi) - np.pi
        names = [name for name, keep in zip(street.names, chosen, strict=True) if keep]
        labels = torch.tensor([self.class_names.index(name) for name in names], dtype=torch.int64)
        return PointCloudSample(
            f"{self.seed:03d}_{index:06d}",
            torch.from_numpy(points),
            self.channels,
            self.class_names,
            Boxes3D(torch.from_numpy(boxes), labels, point_counts=torch.from_numpy(counts[chosen])),
        )
