"""Does the photo that ``recon3d suggest`` names help more than one chosen at random?

    python benchmarks/suggestion.py SCENES --out OUT

For each scene of CASES in the folder SCENES and each seed, photos are drawn: a few to fit, CANDIDATES that might be
added, and the rest, on which all fits are scored: a suggestion is for the whole scene, and a photo beside one of few
test photos wins by its place alone. Every candidate is added to the first fit in turn, so that the mean of what they
gain is what one at random gains. The fits are small and short, since there are nine for each row; seeds draw the
photos, the noise of the fits is the same. Finished fits are kept in OUT, so that the same command goes on after an
interruption; OUT/table.json and OUT/table.md are brought up to date after each row.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from sparse_view import PLAIN, changed, configuration, within

from datasets.programs.environment import machine, versions
from datasets.programs.measuring import deviation, mean
from datasets.programs.run_folder import write_text
from datasets.programs.seeds import write_json
from datasets.scenes import open_scene
from recon3d.evaluate import evaluate
from recon3d.runs import open_scene_of, open_splat

RECON3D = (sys.executable, "-m", "recon3d")
CANDIDATES = 8
GAUSSIANS, STEPS = 50_000, 400


class Case(NamedTuple):
    """A scene, the configuration of its kind, the divisor of its photos' size, and how many photos are fitted first."""

    folder: str
    config: str
    downscale: int
    views: int


CASES = {
    "fern": Case("llff_fern", "llff_3view", 8, 3),
    "lego": Case("blender_lego", "blender_8view", 4, 6),
    "fox": Case("fox", "phone_6view", 8, 4),
    "hololens": Case("rgbd_hololens000", "photos_6view", 2, 5),
}


@dataclass(frozen=True)
class Draw:
    """Which photos of a scene are fitted first, which may be added, and which score all fits."""

    first: list[int]
    candidates: list[int]
    unseen: list[int]

    @staticmethod
    def of(photos: int, views: int, seed: int) -> Draw:
        """Drawn by ``seed``; ValueError where too few photos are left to score on."""
        order = np.random.default_rng(seed).permutation(photos).tolist()
        if photos <= views + CANDIDATES:
            raise ValueError(f"{photos} photos are too few: {views} to fit, {CANDIDATES} to add and some to score on")
        cuts = views, views + CANDIDATES
        return Draw(sorted(order[: cuts[0]]), sorted(order[cuts[0] : cuts[1]]), sorted(order[cuts[1] :]))


def small(case: Case) -> str:
    """The case's configuration for small and short fits, as YAML."""
    changes = {
        "model.initialiser.init_args.prior": within("prior"),  # without finer photos
        "model.initialiser.init_args.budget": GAUSSIANS,
        **PLAIN,
        "data": {"downscale": case.downscale},
        "trainer.max_steps": STEPS,
        "steps_per_view": 0,
    }
    return yaml.safe_dump(changed(configuration(case.config), changes), sort_keys=False)


def fit(run: Path, config: Path, root: Path, train: list[int], test: list[int]) -> None:
    """Fit the photos ``train``; done once."""
    if not (run / "splat.safetensors").is_file():
        photos = [f"--data.train={train}", f"--data.test={test}", "--data.split=null", "--data.views=null"]
        options = [f"--config={config}", f"--data.root={root}", f"--out={run}", "--overwrite"]
        subprocess.run([*RECON3D, "fit", *options, *photos], check=True)
        shutil.rmtree(run / "checkpoints")


def scored(run: Path, unseen: list[int]) -> float:
    """Mean PSNR of a fit over the photos ``unseen``."""
    scene = open_scene_of(run)
    images = evaluate(open_splat(run), scene.with_split(scene.train, tuple(unseen)))
    return float(np.mean([image["psnr"] for image in images]))


def suggested(run: Path, candidates: list[int]) -> int:
    """The photo among ``candidates`` that is suggested after the fit in ``run``."""
    subprocess.run([*RECON3D, "suggest", str(run), "--candidates=photos", "--count=1", "--report=false"], check=True)
    frames = json.loads((run / "suggestions" / "cameras.json").read_text(encoding="utf-8"))["frames"]
    name = frames[0]["text"].removeprefix("1. ").split(":")[0]
    scene = open_scene_of(run)
    return next(i for i in candidates if scene.photos[i].path.name == name)


def measure(case: Case, root: Path, folder: Path, seed: int) -> dict[str, Any]:
    """One row: what each candidate gains, and which was suggested."""
    draw = Draw.of(len(open_scene(root, downscale=case.downscale)), case.views, seed)
    config = folder.parent / "small.yaml"
    write_text(config, small(case))
    fit(folder / "first", config, root, draw.first, draw.unseen)
    best = suggested(folder / "first", draw.candidates)
    before = scored(folder / "first", draw.unseen)
    gains = {}
    for photo in draw.candidates:
        fit(folder / f"with_{photo}", config, root, sorted([*draw.first, photo]), draw.unseen)
        gains[photo] = scored(folder / f"with_{photo}", draw.unseen) - before
    return {
        "seed": seed,
        "first": draw.first,
        "unseen": draw.unseen,
        "psnr": before,
        "gains": gains,
        "suggested": best,
        "gain_suggested": gains[best],
        "gain_random": float(np.mean(list(gains.values()))),
        "gain_best": max(gains.values()),
        "better_ones": sum(gain > gains[best] for gain in gains.values()),
    }


COLUMNS = {
    "psnr": "PSNR before, dB",
    "gain_suggested": "gain by the suggested photo",
    "gain_random": "by one at random (mean of all)",
    "gain_best": "by the best",
    "better_ones": "photos that gain more",
}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A line for each scene and seed, and the mean of all."""
    lines = ["| scene | seed | " + " | ".join(COLUMNS.values()) + " |", "|---|---:|" + "---:|" * len(COLUMNS)]
    for row in rows:
        lines.append(f"| {row['scene']} | {row['seed']} | " + " | ".join(_cell(row[key]) for key in COLUMNS) + " |")
    means = [_cell(mean(row[key] for row in rows)) for key in COLUMNS]
    lines.append("| mean | | " + " | ".join(means) + " |")
    over = [row["gain_suggested"] - row["gain_random"] for row in rows]
    lines += ["", f"Suggested over random: {_cell(mean(over))} ± {_cell(deviation(over))} dB (deviation of the rows)."]
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder that holds the scenes of CASES")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the tables")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()

    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for name in options.cases:
            folder = options.out / name / f"seed_{seed}"
            row = measure(CASES[name], options.scenes / CASES[name].folder, folder, seed)
            rows.append({"scene": name, **row})
            write_json(options.out / "table.json", {"rows": rows, "versions": versions(), "machine": machine()})
            write_text(options.out / "table.md", markdown(rows))
            print(markdown(rows), flush=True)


if __name__ == "__main__":
    main()
