"""The command ``recon3d test``: renders of the test views against their photos."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.errors import SceneError
from datasets.pictures import save_picture, to_bytes
from datasets.programs.devices import Device
from datasets.types import Scene
from recon3d.calibration import Calibration
from recon3d.fitting.run_folder import FIT, write_text
from recon3d.metrics import avge, composite, psnr, ssim
from recon3d.metrics.lpips import NO_WEIGHTS, Lpips, find_lpips
from recon3d.pictures import colour_depth, colour_error, depth_range, draw, heat
from recon3d.rendering_device import rendering_device
from recon3d.runs import METRICS, RENDERS, open_scene_of, open_splat, read_json
from recon3d.splats import Splat
from recon3d.uncertainty import Evidence, predict

Measures = dict[str, float | None]

CONVENTIONS = {
    "images": "renders clamped to 0..1 and compared as real numbers, before rounding to 8 bits; means are over images",
    "ssim": "Gaussian window of 11 pixels, sigma 1.5, data range 1, zero padding",
    "lpips_vgg": "version 0.1 with VGG16, fed with -1..1 as the network expects",
    "lpips_vgg_papers": "the same fed with 0..1, as many sparse-view papers do: compare their tables with this one",
    "avge": "geometric mean of 10^(-PSNR/10), sqrt(1-SSIM) and the papers' LPIPS, per image",
    "predicted": "from what the train photos leave open of every place; AUSE is the area between the error left when "
    "the pixels predicted worst, or those truly worst, are taken away, over the mean error; measured over predicted is "
    "the ratio of the mean errors",
    "masked": "PSNR over the mask's pixels; the others on composites that are white outside the mask",
}


def evaluate_run(
    run: Path, *, root: Path | None = None, lpips: str | None = None, device: Device = "auto", report: bool = True
) -> None:
    """Compare renders of a fitted run with its test photos: PSNR, SSIM, LPIPS, per image and mean.

    Writes metrics.json, renders/test/ (render, photo, depth, error of each view) and report.html into the run folder,
    and prints the table. Renders are clamped to 0..1 and compared as real numbers, before rounding to 8 bits.

    Args:
        run: Folder of the run.
        root: Where the scene's folder is now, if it was moved since the fit.
        lpips: File with LPIPS weights, or "torchvision"; by default $SPARSE3D_LPIPS, then those at hand.
        device: Where to render and measure.
        report: Whether to write report.html.
    """
    from recon3d.report import write_report

    began = time.perf_counter()
    splat, scene = open_splat(run), open_scene_of(run, root)
    network = find_lpips(lpips)
    calibration = Calibration()
    images = evaluate(
        splat,
        scene,
        lpips=network,
        device=rendering_device(device),
        pictures=run / RENDERS / "test",
        calibration=calibration,
    )
    notes = {} if network is not None else {"lpips_vgg": NO_WEIGHTS}
    uncertainty = calibration.summary()
    results = {
        "scene": scene.name,
        "gaussians": len(splat),
        "fit": read_json(run / FIT),
        "train": [scene.photos[i].path.name for i in scene.train],
        "mean": means(images),
        "images": images,
        "uncertainty": uncertainty,
        "lpips_weights": None if network is None else network.source,
        "notes": notes,
        "conventions": CONVENTIONS,
        "seconds": round(time.perf_counter() - began, 2),
    }
    write_text(run / METRICS, json.dumps(results, indent=1, allow_nan=False) + "\n")
    print(table(images))
    for reason in notes.values():
        print(f"LPIPS was not measured: {reason}")
    if uncertainty is not None:
        ause, chance, ratio = (uncertainty[key] for key in ("ause", "ause_of_chance", "measured_over_predicted"))
        print(
            f"predicted error: AUSE {ause:.3f} (of a prediction that says nothing: {chance:.3f}), "
            f"measured over predicted {ratio:.2f}"
        )
    print(f"metrics: {run / METRICS}")
    if report:
        print(f"report: {write_report(run, root)}")


def evaluate(
    splat: Splat,
    scene: Scene,
    *,
    lpips: Lpips | None = None,
    device: torch.device | str = "cpu",
    pictures: Path | None = None,
    calibration: Calibration | None = None,
) -> list[dict[str, Any]]:
    """Measures of every test view, in the scene's order: ``{"name": ..., "psnr": ..., "ssim": ..., ...}``.

    Where a view has a mask, every measure comes again with ``_masked`` at its end of the name.

    Args:
        splat: what to render.
        scene: whose test photos are opened, one after another.
        lpips: the network, or None: its measures and AVGE are then None.
        device: where to render and measure.
        pictures: folder for NAME.png, NAME_photo.png, NAME_depth.png and NAME_error.png of each view, or None.
        calibration: takes in the error that was predicted for each view beside the measured one; its picture is
            NAME_predicted.png.

    Raises:
        SceneError: for a scene without test views, or a photo that cannot be used.
    """
    if not scene.test:
        raise SceneError(
            scene.name, "has no test views", "Fit with a split that holds some back, such as --data.split every_nth"
        )
    on_device = splat.to(device)
    evidence = None if calibration is None else Evidence.of(on_device, scene)
    network = None if lpips is None else lpips.to(device)
    images, depths = [], {}
    for index, name in tqdm(list(zip(scene.test, names(scene), strict=True)), desc="test", unit="view"):
        view = scene.photos[index].load()
        camera = scene.cameras[index]
        prediction = None if evidence is None else predict(on_device, camera, evidence)
        render = prediction.picture if prediction else draw(on_device, camera)
        target = torch.from_numpy(view.image).to(device)
        measured = compare(render.colour, target, network)
        if view.mask is not None and view.mask.any():
            masked = compare(render.colour, target, network, torch.from_numpy(view.mask).to(device))
            measured |= {f"{key}_masked": value for key, value in masked.items()}
        images.append({"name": name, "photo": scene.photos[index].path.name, **measured})
        colour = render.colour.cpu().numpy()
        if pictures is not None:
            save_picture(pictures / f"{name}.png", to_bytes(colour))
            save_picture(pictures / f"{name}_photo.png", to_bytes(view.image))
            save_picture(pictures / f"{name}_error.png", colour_error(colour, view.image))
            depths[name] = render.depth
        if calibration is not None and prediction is not None:
            calibration.add(prediction.error, colour, view.image, view.mask)
            if pictures is not None:
                save_picture(pictures / f"{name}_predicted.png", heat(prediction.error))
    if pictures is not None:
        near, far = depth_range(depths.values())
        for name, depth in depths.items():
            save_picture(pictures / f"{name}_depth.png", colour_depth(depth, near, far))
    return images


def names(scene: Scene) -> list[str]:
    """A name for each test view that no other has: its photo's, with the view's number where that is not enough."""
    stems = [scene.photos[i].path.stem for i in scene.test]
    count = Counter(stems)
    return [stem if count[stem] == 1 else f"{stem}_{i:04d}" for i, stem in zip(scene.test, stems, strict=True)]


def compare(image: Tensor, target: Tensor, lpips: Lpips | None = None, mask: Tensor | None = None) -> Measures:
    """All measures of two images [H, W, 3] in 0..1; with a ``mask`` [H, W] bool, DTU's convention (see CONVENTIONS).

    LPIPS and AVGE are None without a network, and for images too small for it.
    """
    measured_psnr = psnr(image, target, mask)
    if mask is not None:
        image, target = composite(image, mask), composite(target, mask)
    measured_ssim = ssim(image, target)
    name = "vgg" if lpips is None else lpips.name
    usual = papers = average = None
    if lpips is not None and min(image.shape[:2]) >= lpips.smallest:
        usual, papers = lpips(image, target), lpips(image, target, papers=True)
        average = avge(measured_psnr, measured_ssim, papers)
    return {
        "psnr": measured_psnr,
        "ssim": measured_ssim,
        f"lpips_{name}": usual,
        f"lpips_{name}_papers": papers,
        "avge": average,
    }


def means(images: Sequence[Mapping[str, Any]]) -> Measures:
    """Mean of every measure over the images that have it; None where none has."""
    keys = dict.fromkeys(key for image in images for key in image if key not in ("name", "photo"))
    found = {key: [image[key] for image in images if image.get(key) is not None] for key in keys}
    return {key: math.fsum(values) / len(values) if values else None for key, values in found.items()}


def table(images: Sequence[Mapping[str, Any]]) -> str:
    """The measures as lines of text, the mean last."""
    average = means(images)
    rows = [["view", *average]]
    for image in [*images, {"name": "mean", **average}]:
        cells = (("-" if image.get(k) is None else f"{image[k]:.{2 if 'psnr' in k else 4}f}") for k in average)
        rows.append([image["name"], *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
