"""How good novel views of a scene with measured depth could become, as no photo shows most of them.

    python benchmarks/sparse_view_bound.py SCENE [--views 6]

A pixel of a test photo is shown by a train photo where the place that its measured depth gives lies in that photo, and
not behind what that photo's own depth has there. "At most" is the PSNR of a picture that is perfect in every such pixel
and has the mean colour of the train photos elsewhere, the best that is known of what no photo shows; "as the photos
have it" gives those pixels the mean of the colours that the train photos show there, so that it pays for differences of
exposure and for the sensor's errors. Pixels without measured depth count as not shown; "depth unknown" takes them for
perfect too, which is more than can be.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datasets.geometry import inside, project, unproject
from datasets.scenes import open_scene
from datasets.types import Cameras, View
from recon3d.metrics import psnr

SAME_SURFACE = 0.05  # relative difference of depths; a sensor's are rough


def shown(view: View, camera: Cameras, train: Sequence[View], cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """[H, W] whether a train photo shows the pixel, and [H, W, 3] the mean colour of those that do."""
    assert view.depth is not None
    places = unproject(torch.from_numpy(view.depth).double(), camera).reshape(-1, 3)
    pixels, depth = project(places, cameras)
    within = inside(pixels, depth, cameras).numpy() & (view.depth.ravel() > 0)
    count, colours = np.zeros(len(places)), np.zeros((len(places), 3))
    for i, photo in enumerate(train):
        candidates = np.flatnonzero(within[i])
        x, y = pixels[i, candidates].long().numpy().T
        own, here = photo.depth[y, x] if photo.depth is not None else 0, depth[i, candidates].numpy()
        visible = (own == 0) | (here < own * (1 + SAME_SURFACE))
        count[candidates[visible]] += 1
        colours[candidates[visible]] += photo.image[y[visible], x[visible]]
    colours /= np.maximum(count, 1)[:, None]
    return (count > 0).reshape(view.depth.shape), colours.reshape(*view.depth.shape, 3)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="folder of a scene with measured depth")
    parser.add_argument("--views", type=int, default=6, help="train views, by LLFF's rule")
    options = parser.parse_args()
    scene = open_scene(options.scene, split="llff", views=options.views)
    train = [scene.photos[i].load() for i in scene.train]
    cameras = scene.cameras.to(dtype=torch.float64)
    mean = np.concatenate([view.image.reshape(-1, 3) for view in train]).mean(axis=0)
    rows = []
    print("| test photo | depth known | shown | mean colour | as the photos have it | at most | depth unknown |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for index in scene.test:
        view = scene.photos[index].load()
        if view.depth is None:
            parser.error(f"{scene.photos[index].path} has no measured depth: this needs a scene of RGB-D photos")
        seen, colours = shown(view, cameras[index], train, cameras[list(scene.train)])
        known = view.depth > 0
        guess = np.broadcast_to(mean, view.image.shape)
        pictures = (
            guess,
            np.where(seen[..., None], colours, guess),
            np.where(seen[..., None], view.image, guess),
            np.where((seen | ~known)[..., None], view.image, guess),
        )
        photo = torch.from_numpy(view.image)
        reached = (psnr(torch.from_numpy(np.array(picture, np.float32)), photo) for picture in pictures)
        rows.append([known.mean(), seen.mean(), *reached])
        print(row(scene.photos[index].path.name, rows[-1]))
    print(row("mean", np.mean(rows, axis=0).tolist()))


def row(title: str, values: Sequence[float]) -> str:
    """A line of the table: two shares, and decibels."""
    return f"| {title} | {' | '.join(f'{v:.3f}' for v in values[:2])} | {' | '.join(f'{v:.2f}' for v in values[2:])} |"


if __name__ == "__main__":
    main()
