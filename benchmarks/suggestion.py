"""Does the photo that ``recon3d suggest`` names help more than one chosen at random?

For each seed: a fit of the configuration; a further fit with the suggested one of the photos that neither train nor
test; further fits with photos drawn at random from the same ones. All are scored on all photos that none of these fits
saw: a suggestion is for the whole scene, and a random photo beside one of few test photos wins by its place alone.
Finished fits are kept in OUT, so that the same command goes on after an interruption.

    python benchmarks/suggestion.py configs/recon3d/llff_3view.yaml --root SCENE --out OUT --json OUT/table.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.programs.environment import machine, versions
from datasets.programs.measuring import deviation, mean
from datasets.programs.seeds import write_json
from recon3d.evaluate import evaluate
from recon3d.fitting.command import FitCLI
from recon3d.runs import open_scene_of, open_splat

RECON3D = (sys.executable, "-m", "recon3d")


def fit(run: Path, config: Path, root: Path, seed: int, train: list[int], test: list[int]) -> None:
    """Fit the photos ``train``; done once."""
    if not (run / "splat.safetensors").is_file():
        split = [f"--data.train={train}", f"--data.test={test}", "--data.split=null", "--data.views=null"]
        options = [f"--config={config}", f"--data.root={root}", f"--out={run}", f"--seed={seed}", "--overwrite"]
        subprocess.run([*RECON3D, "fit", *options, *split], check=True)


def scored(run: Path, unseen: Sequence[int]) -> dict[str, float]:
    """Mean PSNR and SSIM of a fit over the photos ``unseen``."""
    scene = open_scene_of(run)
    images = evaluate(open_splat(run), scene.with_split(scene.train, tuple(unseen)))
    return {key: sum(image[key] for image in images) / len(images) for key in ("psnr", "ssim")}


def suggested(run: Path, spare: list[int]) -> int:
    """The photo among ``spare`` that is suggested after the fit in ``run``."""
    subprocess.run([*RECON3D, "suggest", str(run), "--candidates=photos", "--count=1", "--report=false"], check=True)
    frames = json.loads((run / "suggestions" / "cameras.json").read_text(encoding="utf-8"))["frames"]
    name = frames[0]["text"].removeprefix("1. ").split(":")[0]
    scene = open_scene_of(run)
    return next(i for i in spare if scene.photos[i].path.name == name)


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="folder of the scene")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random", type=int, default=3, help="photos drawn at random for each seed")
    options = parser.parse_args()

    asked = [f"--config={options.config}", f"--data.root={options.root}", f"--out={options.out / 'asked'}"]
    scene = FitCLI(asked).datamodule.scene
    train, test = list(scene.train), list(scene.test)
    spare = [i for i in range(len(scene)) if i not in (*train, *test)]
    if len(spare) < 2:
        parser.error(f"{options.root}: only {len(spare)} photos are neither in the train nor in the test split")

    rows = []
    for seed in range(options.seeds):
        folder = options.out / f"seed_{seed}"
        fit(folder / "base", options.config, options.root, seed, train, test)
        best = suggested(folder / "base", spare)
        others = [i for i in spare if i != best]
        drawn = np.random.default_rng(seed).permutation(others)[: options.random].tolist()
        for i in (best, *drawn):
            fit(folder / f"with_{i}", options.config, options.root, seed, [*train, i], test)
        unseen = [i for i in range(len(scene)) if i not in (*train, best, *drawn)]
        base = scored(folder / "base", unseen)
        found = {i: scored(folder / f"with_{i}", unseen) for i in (best, *drawn)}
        row = {"seed": seed, "suggested": best, "random": drawn}
        for key in ("psnr", "ssim"):
            row |= {f"{key}_base": base[key], f"{key}_suggested": found[best][key]}
            row[f"{key}_random"] = mean(found[i][key] for i in drawn)
            row[f"{key}_best_random"] = max(found[i][key] for i in drawn)
        rows.append(row)
    keys = [key for key in rows[0] if key.startswith(("psnr", "ssim"))]
    table = {
        "scene": scene.name,
        "mean": {key: mean(row[key] for row in rows) for key in keys},
        "std": {key: deviation(row[key] for row in rows) for key in keys},
        "per_seed": rows,
        "versions": versions(),
        "machine": machine(),
    }
    write_json(options.json, table)
    print(f"{scene.name}: train {train}, test {test}")
    for row in rows:
        print(f"seed {row['seed']}: suggested {row['suggested']}, at random {row['random']}")
    for key in keys:
        spread = table["std"][key]
        print(f"{key:18s} {table['mean'][key]:.3f}" + ("" if spread is None else f" ± {spread:.3f}"))


if __name__ == "__main__":
    main()
