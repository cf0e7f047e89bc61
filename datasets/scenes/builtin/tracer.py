"""Light and cameras of the built-in scene: baked soft light, then ray-cast photos with reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np

from datasets.scenes.builtin.shapes import Mesh, merged

WINDOW_CENTRE = np.array([-2.3, -1.7, 2.3])
WINDOW_RIGHT = np.array([0.6, -0.8, 0.0]) * 0.75  # half its width, and below half its height
WINDOW_LIGHT = np.array([1.0, 0.95, 0.86]) * 3.4
OFFSET = 1e-3
BANDS = 6  # of a photo, shaded side by side


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        texture: [h, w, 3] float32 sRGB albedo in 0..1; it repeats.
        texel: metres that one repeat of the texture covers along u and v.
        specular: strength of the window's Blinn-Phong highlight.
        gloss: its exponent.
        mirror: reflectance of a clear coat at normal incidence (Schlick, 1994), 0 for none.
        glow: light that the surface itself sends out, times its albedo.
        thin: whether light shines through, as through a leaf.
    """

    texture: np.ndarray
    texel: tuple[float, float]
    specular: float = 0.0
    gloss: float = 40.0
    mirror: float = 0.0
    glow: float = 0.0
    thin: bool = False


Part = tuple[Mesh, Material]


class World:
    """Meshes with their light, ready to be photographed. Deterministic: every ray is fixed beforehand.

    Args:
        parts: (mesh, material) pairs.
        footprint: metres that a ray sample covers at the scene's distance; finer texture is averaged away.
        light_rays: rays per vertex to the window (a square number).
        sky_rays: rays per vertex to everything around.
    """

    def __init__(self, parts: Sequence[Part], footprint: float, light_rays: int, sky_rays: int) -> None:
        import open3d

        mesh = merged([part for part, _ in parts])
        self._tensor = open3d.core.Tensor.from_numpy
        self._scene = open3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            self._tensor(mesh.vertices.astype(np.float32)), self._tensor(mesh.triangles.astype(np.uint32))
        )
        self._materials = [replace(material, texture=_prepared(material, footprint)) for _, material in parts]
        self._triangles = mesh.triangles
        self._triangle_part = np.repeat(
            np.arange(len(parts), dtype=np.int16), [len(part.triangles) for part, _ in parts]
        )
        vertex_part = np.repeat(np.arange(len(parts)), [len(part.vertices) for part, _ in parts])
        self._bake(mesh, vertex_part, light_rays, sky_rays)

    def photograph(
        self, world_to_camera: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], samples: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A photo [H, W, 3] float32 sRGB in 0..1 of ``samples`` squared rays a pixel, and z-depth [H, W] float32.

        Depth is that of the pixel's centre, exact, and 0 where nothing is hit.
        """
        width, height = size
        origin, directions = camera_rays(world_to_camera, intrinsics, size, samples)
        bands = np.array_split(directions.reshape(height, -1, 3), min(height, BANDS))

        def band(rays: np.ndarray) -> np.ndarray:
            rays = rays.reshape(-1, 3)
            light = self._seen(np.broadcast_to(origin, rays.shape), rays, reflections=1)
            return light.reshape(-1, samples, width, samples, 3).mean(axis=(1, 3))

        with ThreadPoolExecutor(2) as pool:
            photo = np.concatenate(list(pool.map(band, bands)))
        origin, directions = camera_rays(world_to_camera, intrinsics, size, 1)
        depth = self._cast(np.broadcast_to(origin, directions.shape), directions)["t_hit"]
        return _developed(photo), np.where(np.isfinite(depth), depth, 0).astype(np.float32).reshape(height, width)

    def _cast(self, origins: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
        rays = np.concatenate([origins, directions], axis=1, dtype=np.float32)
        return {name: value.numpy() for name, value in self._scene.cast_rays(self._tensor(rays)).items()}

    def _occluded(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        rays = np.concatenate([origins, directions], axis=1, dtype=np.float32)
        return self._scene.test_occlusions(self._tensor(rays), 0.0, 1.0).numpy()

    def _bake(self, mesh: Mesh, vertex_part: np.ndarray, light_rays: int, sky_rays: int) -> None:
        """Irradiance at each vertex: the window's direct light, then one bounce from everything around."""
        thin = np.array([material.thin for material in self._materials])[vertex_part]
        albedo = np.stack([material.texture[1:-1, 1:-1].mean(axis=(0, 1)) for material in self._materials])[vertex_part]
        glow = np.array([material.glow for material in self._materials])[vertex_part]
        points, normals = mesh.vertices.astype(np.float32), mesh.normals.astype(np.float32)
        direct = self._window_light(points, normals, light_rays)
        if thin.any():
            behind = self._window_light(points[thin], -normals[thin], light_rays)
            direct[thin] = 0.6 * direct[thin] + 0.4 * behind
        self._direct_glow = albedo * (direct[:, None] * WINDOW_LIGHT + glow[:, None])
        around = self._sky_light(points, normals, sky_rays)
        if thin.any():
            around[thin] = 0.6 * around[thin] + 0.4 * self._sky_light(points[thin], -normals[thin], sky_rays)
        irradiance = direct[:, None] * WINDOW_LIGHT + around + glow[:, None]
        self._normals = normals
        self._attributes = np.concatenate([mesh.uv, irradiance, direct[:, None]], axis=1, dtype=np.float32)

    def _window_light(self, points: np.ndarray, normals: np.ndarray, rays: int) -> np.ndarray:
        """[N] share of the window's light that arrives, cosine included."""
        side = round(math.sqrt(rays))
        steps = (np.arange(side) + 0.5) / side * 2 - 1
        total = np.zeros(len(points), np.float32)
        for a in steps:
            for b in steps:
                towards = (WINDOW_CENTRE + a * WINDOW_RIGHT + b * np.array([0, 0, 0.75])).astype(np.float32) - points
                cosine = (normals * towards).sum(1) / np.linalg.norm(towards, axis=1)
                lit = np.flatnonzero(cosine > 0)
                free = ~self._occluded(points[lit] + OFFSET * normals[lit], towards[lit])
                total[lit] += cosine[lit] * free
        return total / side**2

    def _sky_light(self, points: np.ndarray, normals: np.ndarray, rays: int) -> np.ndarray:
        """[N, 3] light from all around, once reflected: one set of directions for every vertex, so without noise."""
        total = np.zeros((len(points), 3), np.float32)
        index = np.arange(rays)
        height = 1 - (2 * index + 1) / rays
        angle = index * math.pi * (3 - math.sqrt(5))
        radius = np.sqrt(1 - height**2)
        for direction in np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1).astype(np.float32):
            cosine = normals @ direction
            facing = np.flatnonzero(cosine > 0)
            starts = points[facing] + OFFSET * normals[facing]
            hits = self._cast(starts, np.broadcast_to(direction, starts.shape))
            # What lies behind a triangle index that is no hit's does not matter: it is not chosen.
            reached = np.minimum(hits["primitive_ids"], len(self._triangles) - 1)
            arriving = np.where(
                np.isfinite(hits["t_hit"])[:, None],
                self._direct_glow[self._triangles[reached, 0]],
                _room_light(direction[None]),
            )
            total[facing] += cosine[facing, None] * arriving
        return total * np.float32(4 / rays)

    def _seen(self, origins: np.ndarray, directions: np.ndarray, reflections: int) -> np.ndarray:
        """[N, 3] linear light that comes back along rays."""
        hits = self._cast(origins, directions)
        missed = np.isinf(hits["t_hit"])
        triangle = np.where(missed, 0, hits["primitive_ids"])
        part = np.where(missed, np.int16(len(self._materials)), self._triangle_part[triangle])
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(len(self._materials) + 1))
        light = np.empty(directions.shape, np.float32)
        for number, material in enumerate(self._materials):
            rays = order[bounds[number] : bounds[number + 1]]
            if not len(rays):
                continue
            corners, weights = self._triangles[triangle[rays]], hits["primitive_uvs"][rays]
            values = _interpolated(self._attributes, corners, weights)
            shade = _sampled(material.texture, values[:, :2])
            shade *= values[:, 2:5]
            if material.specular or material.mirror:
                position = origins[rays] + hits["t_hit"][rays, None] * directions[rays]
                normal = _unit(_interpolated(self._normals, corners, weights))
                shade = self._coated(material, shade, values[:, 5], position, normal, directions[rays], reflections)
            light[rays] = shade
        rays = order[bounds[-1] :]
        light[rays] = _room_light(directions[rays])
        return light

    def _coated(
        self,
        material: Material,
        shade: np.ndarray,
        lit: np.ndarray,
        position: np.ndarray,
        normal: np.ndarray,
        directions: np.ndarray,
        reflections: int,
    ) -> np.ndarray:
        """``shade`` with the window's highlight and the clear coat's reflection on it."""
        ray = _unit(directions)
        facing = -(normal * ray).sum(1, keepdims=True)
        normal = np.where(facing < 0, -normal, normal)
        facing = np.abs(facing)
        if material.specular:
            halfway = _unit(_unit(WINDOW_CENTRE.astype(np.float32) - position) - ray)
            shine = np.maximum((normal * halfway).sum(1), 0) ** np.float32(material.gloss)
            shade = shade + (material.specular * shine * np.minimum(1, 3 * lit))[:, None] * WINDOW_LIGHT
        if material.mirror and reflections:
            fresnel = material.mirror + (1 - material.mirror) * (1 - facing) ** 5
            bounced = (ray + 2 * facing * normal).astype(np.float32)
            shade = shade * (1 - fresnel) + fresnel * self._seen(position + OFFSET * normal, bounced, reflections - 1)
        return shade


def camera_rays(
    world_to_camera: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Origin [3] and directions [H*samples * W*samples, 3] of rays whose length unit is z-depth, row by row."""
    width, height = size
    x = ((np.arange(width * samples) + 0.5) / samples - intrinsics[0, 2]) / intrinsics[0, 0]
    y = ((np.arange(height * samples) + 0.5) / samples - intrinsics[1, 2]) / intrinsics[1, 1]
    rotation = world_to_camera[:3, :3]
    origin = -rotation.T @ world_to_camera[:3, 3]
    directions = (y[:, None, None] * rotation[1] + rotation[2]) + x[None, :, None] * rotation[0]
    return origin.astype(np.float32), directions.astype(np.float32).reshape(-1, 3)


def _interpolated(attributes: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[N, K] of [V, K] values at triangle corners [N, 3], barycentric weights [N, 2] of the second and third."""
    second, third = weights[:, :1], weights[:, 1:]
    values = attributes[corners[:, 0]] * (1 - second - third)
    values += attributes[corners[:, 1]] * second
    values += attributes[corners[:, 2]] * third
    return values


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _room_light(directions: np.ndarray) -> np.ndarray:
    """[N, 3] what the open side of the room sends: a warm dim room with a bright window of four panes."""
    unit = _unit(directions)
    up = unit[:, 2:3]
    light = np.array([0.42, 0.39, 0.36]) + np.array([0.20, 0.22, 0.26]) * up
    axis = WINDOW_CENTRE / np.linalg.norm(WINDOW_CENTRE)
    along = unit @ axis
    right = WINDOW_RIGHT / np.linalg.norm(WINDOW_RIGHT)
    above = np.cross(right, axis)
    above = above if above[2] > 0 else -above
    a, b = unit @ right / np.maximum(along, 1e-6), unit @ above / np.maximum(along, 1e-6)
    pane = (along > 0) & (np.abs(a) < 0.24) & (np.abs(b) < 0.24) & (np.abs(a) > 0.02) & (np.abs(b) > 0.02)
    light = np.where(pane[:, None], 7.0 * np.array([1.0, 0.97, 0.92]), light)
    return light.astype(np.float32)


def _prepared(material: Material, footprint: float) -> np.ndarray:
    """The texture in linear light, no finer than rays can sample it, with a margin that repeats its other side."""
    linear = np.clip(material.texture, 0, 1).astype(np.float32) ** np.float32(2.2)
    height, width = linear.shape[:2]
    wanted = [
        min(have, max(1, round(metres / footprint)))
        for have, metres in zip((width, height), material.texel, strict=True)
    ]
    resized = cv2.resize(linear, (wanted[0], wanted[1]), interpolation=cv2.INTER_AREA)
    return np.pad(resized.reshape(wanted[1], wanted[0], 3), ((1, 1), (1, 1), (0, 0)), mode="wrap")


def _sampled(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """[N, 3] bilinear samples of a texture with its margin, v upwards, repeating."""
    height, width = texture.shape[0] - 2, texture.shape[1] - 2
    x = np.float32(width) * (uv[:, 0] - np.floor(uv[:, 0])) + np.float32(0.5)
    y = np.float32(height) * (1 - (uv[:, 1] - np.floor(uv[:, 1]))) + np.float32(0.5)
    columns = 4096  # cv2 takes maps of up to 32767 a side
    rows = -(-len(uv) // columns)
    map_x, map_y = np.zeros((2, rows * columns), np.float32)
    map_x[: len(uv)], map_y[: len(uv)] = x, y
    samples = cv2.remap(texture, map_x.reshape(rows, columns), map_y.reshape(rows, columns), cv2.INTER_LINEAR)
    return samples.reshape(-1, 3)[: len(uv)]


def _developed(light: np.ndarray) -> np.ndarray:
    """Linear light to sRGB: highlights roll off, then the transfer curve."""
    exposed = 0.80 * light
    mapped = np.where(exposed < 0.5, exposed, 0.5 + 0.5 * (1 - np.exp(-(exposed - 0.5) / 0.5)))
    curved = np.where(mapped < 0.0031308, 12.92 * mapped, 1.055 * np.maximum(mapped, 1e-6) ** (1 / 2.4) - 0.055)
    return np.clip(curved, 0, 1).astype(np.float32)
