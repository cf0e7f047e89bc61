"""The simulated LiDAR against geometry known beforehand, and streets that keep their promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.pointclouds.boxes import meet_bev, points_in_boxes
from datasets.pointclouds.simulator import BEAMS, Beams, SimulatedStreets
from datasets.pointclouds.simulator.buildings import house
from datasets.pointclouds.simulator.furniture import ROADSIDE
from datasets.pointclouds.simulator.meshes import Material, box, join, of, tube
from datasets.pointclouds.simulator.people import cyclist, pedestrian
from datasets.pointclouds.simulator.sensor import scan
from datasets.pointclouds.simulator.streets import MAKERS, lay_out
from datasets.pointclouds.simulator.vegetation import tree
from datasets.pointclouds.simulator.vehicles import GLASS, car, truck, van

CHALK = Material(1.0)
EXACT = Beams((0.0, -10.0), 360, 1.7, 100, range_noise=0, angle_noise=0, sensitivity=1e6, dropout=0)
CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Cyclist")


def test_a_wall_and_the_ground_are_where_they_are() -> None:
    wall = box((10.5, 0, 5), (1, 200, 10), CHALK)
    floor = box((0, 0, -0.5), (300, 300, 1), CHALK)
    points, triangles = scan(join([wall, floor]), EXACT, np.random.default_rng(0), height=1.7)
    on_wall = triangles < len(wall.triangles)
    np.testing.assert_allclose(points[on_wall, 0], 10, atol=1e-4)
    np.testing.assert_allclose(points[~on_wall, 2], -1.7, atol=1e-4)
    assert on_wall.sum() > 150  # the level beams ahead; the others meet the ground first
    assert (~on_wall).sum() > 340
    below = np.hypot(points[~on_wall, 0], points[~on_wall, 1])
    np.testing.assert_allclose(below, 1.7 / np.tan(np.radians(10)), rtol=1e-3)
    assert (points[np.linalg.norm(points[:, :3], axis=1) < 12, 3] > 0.3).all()
    assert points.dtype == np.float32


def test_what_is_hidden_gives_no_points_but_through_windows() -> None:
    def behind(material: Material) -> int:
        screen, wall = box((5, 0, 0), (0.1, 400, 100), material), box((10, 0, 0), (0.1, 400, 100), CHALK)
        points, _ = scan(join([screen, wall]), EXACT, np.random.default_rng(0), height=1.7)
        return int((points[:, 0] > 9).sum())

    assert behind(CHALK) == 0
    assert behind(GLASS) > 100  # 0.85 squared of about 350


def test_dark_far_and_grazed_surfaces_return_less() -> None:
    beams = Beams((0.0,), 3600, 1.7, 200, dropout=0)

    def share(reflectivity: float, distance: float, gloss: float = 0, yaw: float = 0) -> float:
        wall = box((0, 0, 0), (0.1, 4, 10), Material(reflectivity, gloss)).placed(distance, 0, 0, yaw)
        bright = box((0, 0, 0), (0.1, 4, 10), Material(1000.0)).placed(distance, 0, 0, yaw)
        counts = [len(scan(mesh, beams, np.random.default_rng(0), 1.7)[0]) for mesh in (wall, bright)]
        return counts[0] / counts[1]

    assert share(0.5, 20) > 0.95
    assert share(0.1, 70) == pytest.approx(0.5, abs=0.2)
    assert share(0.1, 70) < share(0.5, 70)
    assert share(0.1, 150) < share(0.1, 70) / 1.5
    assert share(0.1, 40, gloss=1, yaw=1.3) < share(0.1, 40, yaw=1.3) < share(0.1, 40)


def test_range_and_dropout() -> None:
    room = box((0, 0, 0), (20, 20, 40), CHALK)
    noisy = Beams((0.0,), 4000, 1.7, 100, range_noise=0.02, angle_noise=0, sensitivity=1e6, dropout=0.25)
    points, _ = scan(room, noisy, np.random.default_rng(0), 1.7)
    assert len(points) == pytest.approx(3000, abs=100)
    ahead = points[np.abs(points[:, 1]) < 1]
    ahead = np.abs(ahead[:, 0])
    assert ahead.std() == pytest.approx(0.02, rel=0.3)
    near = Beams((0.0,), 400, 1.7, 12, min_range=10.5, sensitivity=1e6)
    distance = np.hypot(*scan(room, near, np.random.default_rng(0), 1.7)[0][:, :2].T)
    assert distance.min() > 10.4
    assert distance.max() < 12.1


@pytest.mark.parametrize("name", BEAMS)
def test_beams_look_where_they_should(name) -> None:
    beams = BEAMS[name]
    directions = beams.directions(np.random.default_rng(0))
    assert directions.shape == (len(beams.elevations) * beams.columns, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    found = np.degrees(np.arcsin(directions[:, 2])).reshape(len(beams.elevations), -1).mean(axis=1)
    np.testing.assert_allclose(found, beams.elevations, atol=0.01)


@pytest.mark.parametrize("make", [car, van, truck, pedestrian, cyclist])
def test_objects_fill_their_boxes(make) -> None:
    for seed in range(20):
        mesh, size = make(np.random.default_rng(seed))
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert np.isfinite(mesh.vertices).all()
        assert mesh.triangles.max() < len(mesh.vertices)
        assert mesh.material.max() < len(mesh.materials)
        assert low[2] >= -0.01
        assert high[2] == pytest.approx(size[2], abs=0.03)
        np.testing.assert_allclose((high - low)[0], size[0], atol=0.03)
        assert size[1] - 0.03 <= (high - low)[1] <= size[1] + 0.32  # mirrors stand out
        np.testing.assert_allclose((high + low)[:2] / 2, 0, atol=0.03)


def test_cars_are_as_large_as_cars() -> None:
    sizes = np.array([car(np.random.default_rng(seed))[1] for seed in range(60)])
    np.testing.assert_allclose(sizes.mean(axis=0), [4.2, 1.7, 1.5], atol=0.12)
    assert (sizes.std(axis=0) > [0.2, 0.05, 0.05]).all()


@pytest.mark.parametrize("make", [*(make for make, _ in ROADSIDE), house])
def test_surroundings_are_sound_meshes(make) -> None:
    for seed in range(10):
        mesh, size = make(np.random.default_rng(seed))
        assert np.isfinite(mesh.vertices).all()
        assert mesh.triangles.max() < len(mesh.vertices)
        assert (size > 0).all()
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        assert high[2] > 0.2
        if make is not tree:  # whose crown hangs over
            np.testing.assert_allclose((low + high)[:2] / 2, 0, atol=1.5)
            assert ((high - low)[:2] < size + 2.4).all()


def test_meshes_join_and_move() -> None:
    parts = [box((0, 0, 0), (1, 1, 1), CHALK), tube((0, 0, 0), (0, 0, 2), (0.5, 0.5), GLASS)]
    joined = join([parts[0], parts[1].placed(3, 0, 0, 1.0)])
    assert len(joined.triangles) == sum(len(part.triangles) for part in parts)
    assert [joined.materials[i] for i in joined.material[[0, -1]]] == [CHALK, GLASS]
    assert joined.vertices[joined.triangles[-1]][:, 0].min() >= 2.5 - 1e-9
    with pytest.raises(ValueError, match=r"vertices has shape \(4, 2\)"):
        of(np.zeros((4, 2)), np.zeros((1, 3), np.int64), CHALK)


def test_things_stand_apart() -> None:
    for seed in range(3):
        street = lay_out(np.random.default_rng(seed))
        footprints = torch.tensor(street.footprints, dtype=torch.float64)
        meets = meet_bev(footprints, footprints)
        assert (meets.sum(dim=1) == 1).all()  # itself alone
        assert len(street.meshes) == len(street.footprints) == len(street.owners)
        assert len(street.boxes) == len(street.names)


@pytest.fixture(scope="module")
def sweeps() -> SimulatedStreets:
    return SimulatedStreets(5, CLASSES, seed=3)


def test_the_same_seed_gives_the_same_sweep(sweeps) -> None:
    one, again = sweeps[1], SimulatedStreets(2, CLASSES, seed=3)[1]
    assert torch.equal(one.points, again.points)
    assert torch.equal(one.boxes.boxes, again.boxes.boxes)
    assert one.frame == again.frame == "003_000001"
    coarse = SimulatedStreets(3, CLASSES, beams="vlp16", seed=4)
    assert len(coarse[0]) != len(coarse[1])


def test_boxes_hold_the_points_that_they_count(sweeps) -> None:
    seen = set()
    for i in range(3):
        sample = sweeps[i]
        assert sample.points.isfinite().all()
        assert 0 <= sample.points[:, 3].min() <= sample.points[:, 3].max() < 1
        assert (sample.boxes.point_counts >= 5).all()
        inside = points_in_boxes(sample.points, sample.boxes.boxes, margin=0.15).sum(dim=1)
        assert (inside >= 0.95 * sample.boxes.point_counts).all()
        assert (sample.boxes.boxes[:, 6].abs() <= torch.pi).all()
        ground = sample.points[sample.points[:, :2].norm(dim=1) < 5][:, 2].quantile(0.2)
        assert ground == pytest.approx(-1.73, abs=0.25)
        seen |= {CLASSES[label] for label in sample.boxes.labels.tolist()}
    assert {"Car", "Pedestrian", "Cyclist"} <= seen


def test_other_classes_are_there_but_not_annotated(sweeps) -> None:
    cars = SimulatedStreets(5, ("Car",), seed=3, min_points=50)[0]
    everything = sweeps[0]
    assert torch.equal(cars.points, everything.points)
    expected = everything.boxes[(everything.boxes.labels == 0) & (everything.boxes.point_counts >= 50)]
    assert torch.equal(cars.boxes.boxes, expected.boxes)


def test_beams_give_clouds_of_their_own_density() -> None:
    counts = [len(SimulatedStreets(1, beams=name)[0]) for name in ("vlp16", "hdl32", "hdl64")]
    assert counts[0] < counts[1] < counts[2]
    assert 85_000 < counts[2] < 130_000  # a real sweep of this model has about 120,000


def test_wrong_arguments_say_what_is_accepted(sweeps) -> None:
    with pytest.raises(InputError, match="choose of Car, Van, Truck, Pedestrian, Cyclist"):
        SimulatedStreets(1, ("Tram",))
    with pytest.raises(InputError, match="choose one of hdl64, hdl32, vlp16"):
        SimulatedStreets(1, beams="hdl128")
    with pytest.raises(InputError, match="count is 0"):
        SimulatedStreets(0)
    with pytest.raises(IndexError, match="sweep 5 of 5"):
        sweeps[5]
    assert set(MAKERS) == set(CLASSES)
