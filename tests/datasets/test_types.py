"""Cameras, views and scenes say what is wrong with what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.types import Cameras, Photo, Points, Scene, View


def cameras(count: int = 3) -> Cameras:
    angle = torch.linspace(0.1, 1.0, count)
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, 0, 0] = pose[:, 2, 2] = angle.cos()
    pose[:, 0, 2], pose[:, 2, 0] = angle.sin(), -angle.sin()
    pose[:, :3, 3] = torch.arange(3 * count).reshape(count, 3).float()
    intrinsics = torch.tensor([[50.0, 0, 20], [0, 51, 15], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(pose, intrinsics, torch.tensor([[40, 30]] * count))


def scene(count: int = 3, **more) -> Scene:
    view = View(np.zeros((30, 40, 3), np.float32))
    return Scene("test", cameras(count), tuple(Photo(Path(f"{i}.png"), lambda: view) for i in range(count)), **more)


def test_camera_to_world_is_the_inverse() -> None:
    batch = cameras()
    product = batch.camera_to_world @ batch.world_to_camera
    torch.testing.assert_close(product, torch.eye(4).expand(3, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.centres, batch.camera_to_world[:, :3, 3])


def test_indexing_and_concatenation() -> None:
    batch = cameras()
    assert len(batch[1]) == 1
    assert len(batch[1:]) == 2
    torch.testing.assert_close(batch[[2, 0]].world_to_camera[0], batch.world_to_camera[2])
    joined = Cameras.concatenate([batch[0], batch[1:]])
    torch.testing.assert_close(joined.world_to_camera, batch.world_to_camera)


def test_resizing_keeps_rays() -> None:
    batch = cameras(1)
    small = batch.resized(0.5)
    assert small.size == (20, 15)
    corner = torch.tensor([40.0, 30.0, 1.0])
    ray = torch.linalg.inv(batch.intrinsics[0]) @ corner
    half = torch.tensor([20.0, 15.0, 1.0])
    torch.testing.assert_close(torch.linalg.inv(small.intrinsics[0]) @ half, ray)
    assert batch.resized(0.001).size == (1, 1)


def test_wrong_shapes_are_named() -> None:
    good = cameras(2)
    with pytest.raises(ValueError, match=r"world_to_camera has shape \(2, 3, 4\), expected \(any, 4, 4\)"):
        Cameras(good.world_to_camera[:, :3], good.intrinsics, good.sizes)
    with pytest.raises(ValueError, match="intrinsics has shape"):
        Cameras(good.world_to_camera, good.intrinsics[:1], good.sizes)
    with pytest.raises(ValueError, match="sizes has shape"):
        Cameras(good.world_to_camera, good.intrinsics, good.sizes[:, :1])
    with pytest.raises(ValueError, match="do not share one image size"):
        _ = Cameras(good.world_to_camera, good.intrinsics, torch.tensor([[4, 3], [3, 4]])).size
    with pytest.raises(ValueError, match="image has shape"):
        View(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="mask has shape"):
        View(np.zeros((4, 5, 3)), mask=np.zeros((5, 4), bool))
    with pytest.raises(ValueError, match="depth has shape"):
        View(np.zeros((4, 5, 3)), depth=np.zeros((4, 5, 1)))
    with pytest.raises(ValueError, match="rgb has shape"):
        Points(np.zeros((3, 3)), np.zeros((2, 3)))


def test_a_scene_checks_itself() -> None:
    with pytest.raises(ValueError, match="3 cameras but 2 photos"):
        Scene("test", cameras(3), scene(2).photos)
    with pytest.raises(ValueError, match=r"\[1\] are in both"):
        scene(train=(0, 1), test=(1, 2))
    with pytest.raises(ValueError, match="bounds has shape"):
        scene(bounds=np.zeros((2, 2)))
    assert scene().with_split([2, 0], [1]).train == (2, 0)
    for train in ([0, 0], [3], [-1]):
        with pytest.raises(ValueError, match="does not fit a scene of 3 views"):
            scene().with_split(train, [])
