"""Casting a LiDAR's shots into a mesh."""

from __future__ import annotations

import numpy as np

from datasets.pointclouds.simulator.beams import Beams
from datasets.pointclouds.simulator.meshes import Mesh

LAYERS = 4  # windows and leaves that one pulse may pass
STEP = 0.01  # metres behind a surface from which a pulse that passed it goes on
GRAZING = 0.05  # share of the light that comes back even where the shot grazes the surface
ROUGH = 0.7  # the same in the intensity that the sensor states, which makes up for most of the angle
FLOOR, FALL = 0.06, 0.14  # what stated intensities lack everywhere, and besides at 32 m, growing with distance squared


def scan(mesh: Mesh, beams: Beams, random: np.random.Generator, height: float) -> tuple[np.ndarray, np.ndarray]:
    """One turn of a LiDAR standing over the origin.

    A shot returns from the first surface that does not let it through, if enough light comes back: the chance falls
    with distance squared, with reflectivity, and on glossy surfaces with the angle of incidence.

    Args:
        mesh: the world.
        beams: the LiDAR.
        random: of noise, losses, and what passes windows.
        height: of the sensor, metres above the world's origin.

    Returns:
        points [N, 4] float32: x, y, z from the sensor, intensity in 0..1 in steps of 0.01; and of each point the index
        [N] of the triangle that it lies on.
    """
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor.from_numpy(mesh.vertices.astype(np.float32)),
        o3d.core.Tensor.from_numpy(mesh.triangles.astype(np.uint32)),
    )
    reflectivity, gloss, transmission = (
        np.array([getattr(material, name) for material in mesh.materials])[mesh.material]
        for name in ("reflectivity", "gloss", "transmission")
    )
    directions = beams.directions(random)
    directions = directions[random.random(len(directions)) >= beams.dropout]
    distance, triangle = np.zeros(len(directions)), np.full(len(directions), -1)
    facing = np.zeros(len(directions))
    flying = np.arange(len(directions))
    for _ in range(LAYERS):
        start = directions[flying] * distance[flying, None] + (0, 0, height)
        hits = scene.cast_rays(
            o3d.core.Tensor.from_numpy(np.concatenate([start, directions[flying]], axis=1).astype(np.float32))
        )
        travelled, normals = hits["t_hit"].numpy(), hits["primitive_normals"].numpy()
        seen = np.isfinite(travelled)
        flying, travelled, normals = flying[seen], travelled[seen], normals[seen]
        index = hits["primitive_ids"].numpy()[seen].astype(np.int64)
        passes = random.random(len(flying)) < transmission[index]
        distance[flying] += travelled + STEP * passes
        stops = flying[~passes]
        triangle[stops] = index[~passes]
        facing[stops] = np.abs((normals * directions[flying]).sum(axis=1))[~passes]
        flying = flying[passes]
        if not len(flying):
            break
    hit = triangle >= 0
    distance, facing, triangle, directions = distance[hit], facing[hit], triangle[hit], directions[hit]
    albedo = reflectivity[triangle] * (1 - gloss[triangle] * (1 - facing) ** 2)
    signal = albedo * (GRAZING + (1 - GRAZING) * facing) / 0.1 * (beams.sensitivity / np.maximum(distance, 1)) ** 2
    returned = random.random(len(signal)) < signal / (1 + signal)
    returned &= (distance >= beams.min_range) & (distance <= beams.max_range)
    noisy = distance + beams.range_noise * random.normal(size=len(distance))
    stated = albedo * (ROUGH + (1 - ROUGH) * facing) - FLOOR - FALL * (distance / 32) ** 2
    stated += random.normal(0, 0.09, len(stated))
    intensity = np.clip(stated, 0, 0.99).round(2)
    points = np.concatenate([directions * noisy[:, None], intensity[:, None]], axis=1)
    return points[returned].astype(np.float32), triangle[returned]
