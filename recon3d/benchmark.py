"""The command ``recon3d benchmark``: one configuration, several seeds, mean and spread."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.programs.environment import machine, versions
from datasets.programs.measuring import deviation, mean, measured
from datasets.programs.seeds import about_configuration, results_of_seeds, write_json

PROGRAM = (sys.executable, "-m", "recon3d")
NOTES = {
    "std": "sample standard deviation over seeds (divided by n - 1); null for a single seed",
    "seconds": "wall clock of the whole `recon3d fit` process: start of Python, compiling or loading kernels, "
    "opening the photos, depth prior, fit, previews, writing the splat",
    "fit_seconds": "the part of it from reading the photos to the written splat",
    "peak_mb": "largest resident memory of the fit's process, in MiB; a GPU's memory is not in it",
    "gaussians": "Gaussians in the final splat",
}
# The columns that stand first; then whatever else the test measured.
FIRST = ("psnr", "ssim", "lpips_vgg", "lpips_vgg_papers", "seconds", "gaussians", "peak_mb")


def benchmark(
    config: Path, *, root: Path, out: Path, seeds: int = 3, views: int | None = None, report: bool = True
) -> None:
    """Fit and test a configuration with seeds 0 to N - 1; write OUT/table.json with mean and spread, and print it.

    Each fit is a process of its own, so that its seconds and peak memory are those of `recon3d fit` from start to end.
    Seeds that are finished in OUT are kept; one that was interrupted is done again from the start, so that its seconds
    are true. OUT/seed_N is the run folder of seed N.

    Args:
        config: YAML file, as for `recon3d fit`.
        root: Folder of the scene, or "builtin".
        out: Folder for the runs and table.json; made if it does not exist.
        seeds: Number of seeds.
        views: Number of train views, where it is not to be the configuration's.
        report: Whether every seed gets a report page, which takes a while.
    """
    about = {
        **about_configuration(config, seeds, "configs/recon3d"),
        "root": str(root if str(root) == "builtin" else root.resolve()),
        "views": views,
    }
    more = [] if views is None else [f"--data.views={views}"]

    def measure(run: Path, seed: int) -> dict[str, Any]:
        arguments = [f"--config={config}", f"--data.root={about['root']}", f"--out={run}", f"--seed={seed}", *more]
        seconds, peak_mb = measured([*PROGRAM, "fit", *arguments])
        measured([*PROGRAM, "test", str(run), f"--report={str(report).lower()}"])
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        result = {key: metrics[key] for key in ("scene", "train", "gaussians", "fit", "mean", "images", "conventions")}
        return {**result, "seconds": round(seconds, 2), "peak_mb": round(peak_mb, 1)}

    results = results_of_seeds(out, seeds, about, measure)
    table = summary(results) | {"about": about, "notes": NOTES, "versions": versions(), "machine": machine()}
    write_json(out / "table.json", table)
    print(f"\n{text_table(table)}\n\ntable: {out / 'table.json'}")


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every measure, overall and per image.

    Args:
        results: per seed ``{"seed", "seconds", "peak_mb", "gaussians", "mean": {measure: value}, "images": [...]}``,
            where images hold "name" and the same measures; a value may be None.

    Returns:
        ``{"seeds", "mean", "std", "per_seed", "per_image"}``, measures in one order.
    """
    rows = []
    for result in results:
        fit = result.get("fit") or {}
        rows.append(
            {
                **result["mean"],
                **{key: result[key] for key in ("seconds", "gaussians", "peak_mb")},
                **{"fit_seconds": fit.get("seconds"), "steps": fit.get("steps")},
            }
        )
    keys = [*FIRST, *(key for key in rows[0] if key not in FIRST)]
    rows = [{key: row.get(key) for key in keys} for row in rows]
    images: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        for image in result["images"]:
            images.setdefault(image["name"], []).append(image)
    return {
        "seeds": [result["seed"] for result in results],
        "mean": {key: mean(row[key] for row in rows) for key in keys},
        "std": {key: deviation(row[key] for row in rows) for key in keys},
        "per_seed": [{"seed": result["seed"], **row} for result, row in zip(results, rows, strict=True)],
        "per_image": {
            name: {
                key: {
                    "mean": mean(image.get(key) for image in found),
                    "std": deviation(image.get(key) for image in found),
                    "values": [image.get(key) for image in found],
                }
                for key in results[0]["mean"]
            }
            for name, found in images.items()
        },
    }


def text_table(table: Mapping[str, Any]) -> str:
    """The seeds, their mean and their standard deviation as lines of text."""
    keys = [key for key in table["mean"] if table["mean"][key] is not None]
    rows = [["seed", *keys]]
    for row in (*table["per_seed"], {"seed": "mean", **table["mean"]}, {"seed": "std", **table["std"]}):
        rows.append([str(row["seed"]), *("-" if row[key] is None else _short(key, row[key]) for key in keys)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def _short(key: str, value: float) -> str:
    if key in ("seconds", "fit_seconds", "gaussians", "peak_mb", "steps"):
        return f"{value:.1f}" if "seconds" in key else f"{value:.0f}"
    return f"{value:.2f}" if "psnr" in key else f"{value:.4f}"
