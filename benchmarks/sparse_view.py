"""Novel views from few photos: every scene, every part left out or added, and quality over time.

    python benchmarks/sparse_view.py SCENES --out OUT [--background]
    python benchmarks/sparse_view.py SCENES --out OUT --half    # all rows on photos of half the size, for ablations

SCENES holds the folders named in CASES. Each row is a configuration of configs/recon3d with the changes of a variant,
fitted and tested over several seeds as `recon3d benchmark` does. Finished seeds are kept in OUT, so that the same
command goes on after an interruption, and measures only what is new after a change of the tables below. OUT/table.json
and OUT/table.md, of all rows there, are brought up to date after each; benchmarks/sparse_view_pictures.py draws them.

Seconds include the depth; those of the process also the start of Python and the report. Rows without seconds took the
depth, which their change does not touch, from a file that an earlier row left: the same bits. How well predicted errors
fit is told of the default rows, from the metrics.json of their runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from datasets.errors import InputError
from datasets.programs.environment import machine, versions
from datasets.programs.measuring import deviation, mean
from datasets.programs.run_folder import write_text
from datasets.programs.seeds import write_json
from recon3d.benchmark import benchmark
from recon3d.calibration import measured_over_predicted
from recon3d.prior_command import DEPTH
from recon3d.prior_command import prior as write_prior
from recon3d.runs import METRICS, read_json

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "recon3d"
HEAVY = ("checkpoints", "logs", "previews", "renders", "report.html")


class Case(NamedTuple):
    """A scene with a number of train views; those that are not ``compared`` get the row "default" only."""

    folder: str
    config: str
    views: int
    compared: bool = False
    published: str = ""


CASES = {
    "fern_2": Case("llff_fern", "llff_3view", 2, published="20.09, HBSplat"),
    "fern_3": Case("llff_fern", "llff_3view", 3, True, "22.73 / .753 / .173, HBSplat"),
    "fern_6": Case("llff_fern", "llff_3view", 6),
    "fern_9": Case("llff_fern", "llff_3view", 9),
    "lego_8": Case("blender_lego", "blender_8view", 8, True, "24.06, users of DNGaussian"),
    "fountain_3": Case("strecha_fountain-P11", "photos_3view", 3, True),
    "herz_jesus_3": Case("strecha_Herz-Jesus-P8", "photos_3view", 3, True),
    "fox_6": Case("fox", "phone_6view", 6, True),
    "hololens_6": Case("rgbd_hololens000", "rgbd_6view", 6, True),
    "hololens_6_photos": Case("rgbd_hololens000", "photos_6view", 6),
}


class Variant(NamedTuple):
    """Changes of a configuration by dotted keys: values, or functions of the value that is there.

    Of ``timed`` variants every fit does all its work itself, so that its seconds are true.
    """

    changes: Mapping[str, Any]
    timed: bool = False


def times(factor: float) -> Callable[[int], int]:
    """A whole number, times ``factor``."""
    return lambda old: round(old * factor)


def loss(name: str, **init_args: Any) -> Callable[[list[Any]], list[Any]]:
    """One more loss."""
    return lambda old: [*old, {"class_path": f"recon3d.losses.{name}", "init_args": init_args}]


def scheduled(name: str, **when: Any) -> Callable[[list[Any]], list[Any]]:
    """One more loss, in a part of the fit."""
    return loss("Scheduled", loss={"class_path": f"recon3d.losses.{name}"}, **when)


def prior(name: str) -> Variant:
    """Another prior, on finer photos too."""
    finer: dict[str, Any] = {"class_path": "recon3d.priors.finer_photos.FinerPhotos"}
    finer["init_args"] = {"prior": {"class_path": f"recon3d.priors.{name}"}}
    return Variant({"model.initialiser.init_args.prior": finer}, timed=True)


def grown(name: str) -> Variant:
    """One field and a strategy that adds or removes Gaussians."""
    strategy = {"class_path": f"recon3d.fitting.densification.{name}"}
    return Variant({"model.fields": 1, "model.densification": strategy})


def within(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What is wrapped as ``name``, or what there is where nothing is."""
    return lambda old: old.get("init_args", {}).get(name, old)


def beside_mirrored(old: dict[str, Any]) -> dict[str, Any]:
    """The prior with one more to fuse, which is deliberately wrong; unchanged where nothing is fused."""
    result = deepcopy(old)
    inner = result.get("init_args", {}).get("prior", {})
    if "priors" in inner.get("init_args", {}):
        inner["init_args"]["priors"].append(MIRRORED)
    return result


MIRRORED = {"class_path": "recon3d.priors.file_depth.FileDepth", "init_args": {"folder": "MIRRORED"}}
UNCERTAIN = [
    {"class_path": "recon3d.losses.Photometric", "init_args": {"ssim": 1.0, "weight": 0.2}},
    {"class_path": "recon3d.losses.UncertainColour"},
]
PLAIN = {"model.fields": 1, "model.sh_degree": 0, "model.sh_dropout": 0.0}  # what fits begin from that are compared
VARIANTS = {
    "default": Variant({}, timed=True),
    "sparse_points": Variant(
        {"model.initialiser": {"class_path": "recon3d.initialise.TriangulatedInitialiser"}}, timed=True
    ),
    **{f"budget_{seconds}s": Variant({"budget": seconds}, timed=True) for seconds in (30, 60, 120, 180)},
    "without_finer_photos": Variant({"model.initialiser.init_args.prior": within("prior")}, timed=True),
    "prior_flow": prior("epipolar_flow.EpipolarFlow"),
    "prior_stereo": prior("multi_view_stereo.MultiViewStereo"),
    "prior_fusion": prior("fusion.Fusion"),
    "beside_mirrored_depth": Variant({"model.initialiser.init_args.prior": beside_mirrored}),
    "mirrored_depth_alone": Variant({"model.initialiser.init_args.prior": lambda old: MIRRORED}),
    "without_dropout": Variant({"model.dropout": 0.0}),
    "without_opacity_decay": Variant({"model.opacity_decay": 1.0}),
    "without_far_layer": Variant({"model.initialiser.init_args.far_layer": False}),
    "black_background": Variant({"model.background": [0.0, 0.0, 0.0]}),
    "half_the_gaussians": Variant({"model.initialiser.init_args.budget": times(0.5)}),
    "twice_the_gaussians": Variant({"model.initialiser.init_args.budget": times(2)}),
    "as_dense_in_holes": Variant({"model.initialiser.init_args.hole_density": 1.0}),
    "as_dense_without_detail": Variant({"model.initialiser.init_args.detail": 1.0}),
    "fields_as_dense": Variant({"model.initialiser.init_args.further": 1.0}),
    "half_the_steps": Variant({"trainer.max_steps": times(0.5), "steps_per_view": times(0.5)}),
    "twice_the_steps": Variant({"trainer.max_steps": times(2), "steps_per_view": times(2)}),
    "sh_1": Variant({"model.sh_degree": 1, "model.sh_every": 0}),
    "sh_1_dropout": Variant({"model.sh_degree": 1, "model.sh_every": 0, "model.sh_dropout": 0.2}),
    "twice_the_rates": Variant(
        {f"model.learning_rates.{name}": rate for name, rate in (("scales", 1e-2), ("opacities", 0.1), ("sh0", 5e-3))}
    ),
    "equalised_photos": Variant({"data.equalise": True}),
    "bound_to_rays": Variant({"model.bound": 0.3}),
    "antialiased": Variant({"model.antialiased": True}),
    "mcmc": grown("MCMCStrategy"),
    "one_field": Variant({"model.fields": 1}, timed=True),
    "two_fields": Variant({"model.fields": 2}),
    "three_fields": Variant({"model.fields": 3}),
    "four_fields": Variant({"model.fields": 4}),
    "two_fields_agreeing": Variant(
        {
            "model.fields": 2,
            "model.losses": loss("FieldAgreement"),
            "model.densification": {"class_path": "recon3d.fitting.densification.CoPruning"},
        }
    ),
    "floater_removal": grown("FloaterRemoval"),
    "estimated_depth": Variant({"model.losses": loss("EstimatedDepth")}),
    "depth_correlation": Variant({"model.losses": loss("DepthCorrelation")}),
    "depth_correlation_patches": Variant({"model.losses": loss("DepthCorrelation", patch=32)}),
    "normalised_depth": Variant({"model.losses": loss("NormalisedDepth")}),
    "depth_ranking": Variant({"model.losses": loss("DepthRanking")}),
    "depth_continuity": Variant({"model.losses": loss("DepthContinuity")}),
    "disparity_variation": Variant({"model.losses": loss("DisparityVariation")}),
    "warped_view": Variant({"model.losses": loss("WarpedView")}),
    "warped_view_between": Variant({"model.losses": loss("WarpedView", place="between")}),
    "warped_view_late": Variant({"model.losses": scheduled("WarpedView", begin=0.5, every=2)}),
    "estimated_depth_fading": Variant({"model.losses": scheduled("EstimatedDepth", end=0.5, fade=True)}),
    "uncertain_colour": Variant({"model.losses": UNCERTAIN}),
    "opacity_penalty": Variant({"model.losses": loss("OpacityPenalty")}),
    "scale_penalty": Variant({"model.losses": loss("ScalePenalty")}),
    "needle_penalty": Variant({"model.losses": loss("NeedlePenalty")}),
}


def configuration(name: str) -> dict[str, Any]:
    """A configuration that comes with the project."""
    return deepcopy(_parsed(CONFIGS / f"{name}.yaml"))


@cache
def _parsed(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def base(case: Case, half: bool = False) -> dict[str, Any]:
    """The configuration that variants change."""
    config = configuration(case.config)
    return halved(config) if half else config


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``config`` with ``changes`` by dotted keys; see :class:`Variant`."""
    result = deepcopy(dict(config))
    for key, value in changes.items():
        *path, last = key.split(".")
        place = result
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value(place[last]) if callable(value) else value
    return result


def halved(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same on photos of half the width and height, with a quarter of the Gaussians in one field, without harmonics
    and with 200 steps a photo: for ablations, which begin alike for all scenes."""
    result = changed(config, {**PLAIN, "steps_per_view": 200})
    result["data"]["downscale"] = 2 * result["data"].get("downscale", 1)
    initialiser = result["model"]["initialiser"].get("init_args", {})
    if "budget" in initialiser:
        initialiser["budget"] //= 4
    return result


def compose(case: Case, variant: Variant, priors: Path, half: bool = False) -> str:
    """The YAML of one row; ``priors`` is the folder for depth that several rows share."""
    config = changed(base(case, half), variant.changes)
    initialiser = config["model"]["initialiser"].get("init_args", {})
    if not variant.timed and "prior" in initialiser:
        told = json.dumps([case.folder, case.views, config["data"], initialiser["prior"]], sort_keys=True)
        file = priors / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
        kept = {"prior": initialiser["prior"], "file": str(file)}
        initialiser["prior"] = {"class_path": "recon3d.priors.kept_depth.KeptDepth", "init_args": kept}
    text = yaml.safe_dump(config, sort_keys=False)
    return text.replace("folder: MIRRORED", f"folder: {mirrored(case, priors, half)}")


def mirrored(case: Case, priors: Path, half: bool) -> Path:
    """Folder of depth that is wrong but looks like a scene's: the prior's own, each photo's left for right."""
    return priors / f"mirrored_{case.folder}_{case.views}{'_half' if half else ''}"


def write_mirrored(case: Case, scenes: Path, priors: Path, half: bool) -> None:
    """Write :func:`mirrored` where it is not there yet, from the depth that the default row has."""
    folder = mirrored(case, priors, half)
    if folder.is_dir():
        return
    whole = folder.with_name(f"{folder.name}.whole")
    write_text(config := whole / "config.yaml", compose(case, Variant({}), priors, half))
    data = [f"--data.root={scenes / case.folder}", f"--data.views={case.views}"]
    write_prior([f"--config={config}", *data, f"--out={whole}", "--overwrite"])
    for path in (whole / DEPTH).glob("*.npy"):
        np.save(path, np.load(path)[:, ::-1])
    (whole / DEPTH).rename(folder)
    shutil.rmtree(whole)


def usable(cases: Iterable[str], half: bool) -> list[str]:
    """Those of ``cases`` that can be measured: LLFF scenes bring their photos in sizes of their own."""
    return [case for case in cases if not (half and CASES[case].config.startswith("llff"))]


def rows_of(cases: Iterable[str], variants: Iterable[str], half: bool = False) -> list[tuple[str, str]]:
    """Case and variant of every row, in the order in which they are measured, but for those that change nothing."""

    def wanted(case: Case, variant: Variant) -> bool:
        return case.compared and changed(base(case, half), variant.changes) != base(case, half)

    cases = list(cases)
    return [(c, v) for v in variants for c in cases if v == "default" or wanted(CASES[c], VARIANTS[v])]


def measure(case: str, variant: str, scenes: Path, out: Path, seeds: int, half: bool = False) -> None:
    """Fit and test one row, as far as that was not done before; keep no more than is looked at."""
    folder, config = out / case / variant, out / case / f"{variant}.yaml"
    priors = (out / "priors").resolve()
    write_text(config, text := compose(CASES[case], VARIANTS[variant], priors, half))
    if str(mirrored(CASES[case], priors, half)) in text:
        write_mirrored(CASES[case], scenes, priors, half)
    scene, views, timed = scenes / CASES[case].folder, CASES[case].views, VARIANTS[variant].timed
    benchmark(config, root=scene, out=folder, seeds=seeds, views=views, report=timed and not half)
    for run in folder.glob("seed_*/"):
        for name in HEAVY[:2] if timed else HEAVY:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)


def finished(out: Path, rows: Iterable[tuple[str, str]], half: bool) -> dict[str, dict[str, Any]]:
    """What `recon3d benchmark` found, by variant and case; rows that are not finished, or are of another configuration
    than today's, are left out."""
    found: dict[str, dict[str, Any]] = {}
    for case, variant in rows:
        path, config = out / case / variant / "table.json", out / case / f"{variant}.yaml"
        if not path.is_file():
            continue
        today = compose(CASES[case], VARIANTS[variant], (out / "priors").resolve(), half)
        if config.read_text(encoding="utf-8") == today:
            table = json.loads(path.read_text(encoding="utf-8"))
            if not VARIANTS[variant].timed:
                for values in (table["mean"], table["std"], *table["per_seed"]):
                    values["seconds"] = values["fit_seconds"] = None
            found.setdefault(variant, {})[case] = table
    return found


def differences(found: Mapping[str, Mapping[str, Any]], variant: str, key: str) -> dict[str, float]:
    """By case, how much larger ``key`` is with ``variant`` than by default, over the seeds that both have."""
    result = {}
    for case, table in found[variant].items():
        default = found.get("default", {}).get(case)
        both = {row["seed"]: row[key] for row in default["per_seed"]} if default else {}
        pairs = [(row[key], both.get(row["seed"])) for row in table["per_seed"]]
        gains = [new - old for new, old in pairs if new is not None and old is not None]
        if gains:
            result[case] = sum(gains) / len(gains)
    return result


MEASURES = {
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 3),
    "lpips_vgg_papers": ("LPIPS, papers'", 3),
    "lpips_vgg": ("LPIPS", 3),
}


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Two tables: all measures of the timed rows, and for the others what they change."""
    costs = {"fit_seconds": ("photos to splat, s", 0), "seconds": ("process, s", 0), "steps": ("steps", 0)}
    columns = {**MEASURES, **costs, "gaussians": ("Gaussians", 0)}
    rows = [["scene, views", "row", "seeds", *(title for title, _ in columns.values()), "highest published"]]
    for case in CASES:
        for variant, tables in found.items():
            if VARIANTS[variant].timed and case in tables:
                table = tables[case]
                cells = [_cell(table["mean"][key], table["std"][key], digits) for key, (_, digits) in columns.items()]
                rows.append([case, variant, str(len(table["seeds"])), *cells, CASES[case].published])
    text = _table(rows)
    cases = [case for case in CASES if CASES[case].compared]
    rows = [["against default, PSNR", *cases, *(f"mean {title}" for title, _ in MEASURES.values())]]
    spread = {case: table["std"]["psnr"] for case, table in found.get("default", {}).items()}
    rows.append(
        ["(deviation of default's seeds)", *(_cell(spread.get(case), None, 2) for case in cases), "", "", "", ""]
    )
    for variant in found:
        gains = {key: differences(found, variant, key) for key in MEASURES}
        if variant != "default" and gains["psnr"]:
            means = [_signed(mean(gains[key].values()), digits) for key, (_, digits) in MEASURES.items()]
            rows.append([variant, *(_signed(gains["psnr"].get(case), 2) for case in cases), *means])
    return f"{text}\n\n{_table(rows)}\n"


def predicted_errors(out: Path, found: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of how well the errors of the default rows were predicted, over the seeds whose metrics.json tells it."""
    rows = [["predicted error", "seeds", "AUSE", "of a prediction that says nothing", "measured over predicted"]]
    for case, table in found.get("default", {}).items():
        metrics = [read_json(out / case / "default" / f"seed_{seed}" / METRICS) for seed in table["seeds"]]
        told = [one["uncertainty"] for one in metrics if one and one.get("uncertainty")]
        columns = [([one["ause"] for one in told], 3), ([one["ause_of_chance"] for one in told], 3)]
        columns.append(([measured_over_predicted(one) for one in told], 2))
        cells = [_cell(mean(values), deviation(values), digits) for values, digits in columns]
        rows.append([case, str(len(told)), *cells])
    return f"{_table(rows)}\n"


def _cell(value: float | None, spread: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:,.{digits}f}" + ("" if spread is None else f" ± {spread:,.{digits}f}")


def _signed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:+.{digits}f}"


def _table(rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def tell(out: Path, half: bool) -> str:
    """Write OUT/table.json and OUT/table.md from all that is finished there; returns the latter's text."""
    found = finished(out, rows_of(usable(CASES, half), VARIANTS, half), half)
    write_json(out / "table.json", {"rows": found, "versions": versions(), "machine": machine()})
    write_text(out / "table.md", text := f"{markdown(found)}\n{predicted_errors(out, found)}")
    return text


def main() -> int:
    """Measure all rows; the exit code is 1 where some failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of the scenes' folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT", help=", ".join(VARIANTS)
    )
    parser.add_argument("--half", action="store_true", help="photos of half the size; not LLFF's")
    parser.add_argument("--table", action="store_true", help="measure nothing: print what is finished")
    parser.add_argument("--background", action="store_true", help="return at once; OUT/log.txt tells how it goes")
    options = parser.parse_args()
    rows = rows_of(usable(options.cases, options.half), options.variants, options.half)

    if options.background:
        options.out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, *(word for word in sys.argv if word != "--background")]
        with (options.out / "log.txt").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        print(f"process {process.pid}, {options.out / 'log.txt'}")
        return 0
    failed = []
    for number, (case, variant) in enumerate([] if options.table else rows, 1):
        print(f"\n{number} of {len(rows)}: {case}, {variant}", flush=True)
        try:
            measure(case, variant, options.scenes, options.out, options.seeds, options.half)
        except InputError as error:
            failed.append(f"{case}, {variant}: {error}")
            print(error, flush=True)
        tell(options.out, options.half)
    print(f"\n{tell(options.out, options.half)}\n{options.out / 'table.json'}")
    for reason in failed:
        print(f"failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
