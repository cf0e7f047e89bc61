"""The benchmark over scenes and variants: its configurations, its order, what it keeps, its tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from datasets.errors import InputError
from recon3d.fitting.command import FitCLI
from recon3d.priors.kept_depth import KeptDepth


@pytest.fixture(scope="module")
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("sparse_view")


def configuration(script: ModuleType, case: str, variant: str) -> dict[str, Any]:
    return yaml.safe_load(script.compose(script.CASES[case], script.VARIANTS[variant], Path("priors")))


def test_fit_accepts_every_configuration(script: ModuleType, tmp_path: Path) -> None:
    for variant in script.VARIANTS:
        path = tmp_path / f"{variant}.yaml"
        path.write_text(script.compose(script.CASES["fern_3"], script.VARIANTS[variant], tmp_path))
        cli = FitCLI([f"--config={path}", "--data.root=builtin", f"--out={tmp_path / 'run'}"])
        shared = isinstance(getattr(cli.model.initialiser, "prior", None), KeptDepth)
        assert shared == (not script.VARIANTS[variant].timed), variant
    for case in script.CASES.values():
        assert (script.CONFIGS / f"{case.config}.yaml").is_file()


def test_changes_touch_what_they_name_and_nothing_else(script: ModuleType) -> None:
    base = yaml.safe_load((script.CONFIGS / "llff_3view.yaml").read_text())
    assert configuration(script, "fern_3", "default") == base
    assert configuration(script, "fern_3", "budget_30s") == {**base, "budget": 30}
    prior = base["model"]["initialiser"]["init_args"]["prior"]
    coarse = configuration(script, "fern_3", "without_finer_photos")["model"]["initialiser"]["init_args"]
    assert coarse == {**base["model"]["initialiser"]["init_args"], "prior": prior["init_args"]["prior"]}
    rows = script.rows_of(["hololens_6", "fern_3", "lego_8"], ["without_finer_photos", "prior_flow"])
    assert rows == [(c, "without_finer_photos") for c in ("fern_3", "lego_8")] + [
        (c, "prior_flow") for c in ("hololens_6", "fern_3")
    ]
    steps = configuration(script, "fern_3", "half_the_steps")
    assert steps["trainer"] == {"max_steps": base["trainer"]["max_steps"] // 2}
    assert steps["model"]["losses"] == base["model"]["losses"]
    losses = configuration(script, "fern_3", "depth_ranking")["model"]["losses"]
    assert losses == [*base["model"]["losses"], {"class_path": "recon3d.losses.DepthRanking", "init_args": {}}]


def test_half_the_size_takes_a_quarter_of_the_gaussians(script: ModuleType) -> None:
    def half(case: str, variant: str) -> dict[str, Any]:
        return yaml.safe_load(script.compose(script.CASES[case], script.VARIANTS[variant], Path("priors"), half=True))

    whole, smaller = configuration(script, "fox_6", "default"), half("fox_6", "default")
    assert smaller["data"]["downscale"] == 2 * whole["data"]["downscale"]
    assert half("fountain_3", "default")["data"]["downscale"] == 2
    budgets = [one["model"]["initialiser"]["init_args"].pop("budget") for one in (whole, smaller)]
    assert budgets[0] == 4 * budgets[1]
    plain = {"fields": 1, "sh_degree": 0, "sh_dropout": 0.0}
    assert smaller["model"] == whole["model"] | plain
    assert half("lego_8", "default")["model"].items() >= plain.items(), "ablations begin alike for all scenes"
    assert half("lego_8", "default")["steps_per_view"] == 200
    assert half("lego_8", "two_fields")["model"]["fields"] == 2
    fields = ["one_field", "two_fields"]
    assert script.rows_of(["lego_8"], fields) == [("lego_8", "one_field")], "two are the default at full size"
    assert script.rows_of(["lego_8"], fields, half=True) == [("lego_8", "two_fields")]
    assert "budget" not in half("fox_6", "sparse_points")["model"]["initialiser"].get("init_args", {})


def test_depth_is_shared_where_the_prior_and_the_photos_are_the_same(script: ModuleType) -> None:
    def file(case: str, variant: str) -> str:
        return configuration(script, case, variant)["model"]["initialiser"]["init_args"]["prior"]["init_args"]["file"]

    assert file("fern_3", "without_dropout") == file("fern_3", "mcmc")
    assert len({file(case, "mcmc") for case in script.CASES}) == len(script.CASES)


def test_a_wrong_prior_is_the_depth_of_the_default_row_mirrored(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = np.arange(12, dtype=np.float32).reshape(3, 4)

    def write_prior(argv: list[str]) -> None:
        out = Path(next(word for word in argv if word.startswith("--out=")).removeprefix("--out="))
        asked = yaml.safe_load((out / "config.yaml").read_text())
        assert asked == configuration(script, "fern_3", "default") | {"model": asked["model"]}
        (out / "depth").mkdir()
        np.save(out / "depth" / "image001.npy", depth)

    case, priors = script.CASES["fern_3"], tmp_path / "priors"
    monkeypatch.setattr(script, "write_prior", write_prior)
    script.write_mirrored(case, tmp_path, priors, False)
    folder = script.mirrored(case, priors, False)
    assert [path.name for path in priors.iterdir()] == [folder.name]
    np.testing.assert_array_equal(np.load(folder / "image001.npy"), np.fliplr(depth))

    kept = yaml.safe_load(script.compose(case, script.VARIANTS["beside_mirrored_depth"], priors))
    fusion = kept["model"]["initialiser"]["init_args"]["prior"]["init_args"]["prior"]["init_args"]["prior"]
    assert [prior["class_path"].split(".")[-1] for prior in fusion["init_args"]["priors"]] == [
        "EpipolarFlow",
        "PlaneSweep",
        "FileDepth",
    ]
    assert fusion["init_args"]["priors"][-1]["init_args"] == {"folder": str(folder)}
    assert script.rows_of(["lego_8"], ["beside_mirrored_depth"]) == [], "nothing is fused there"


def test_default_comes_first_and_others_only_where_scenes_are_compared(script: ModuleType) -> None:
    rows = script.rows_of(["fern_2", "fern_3", "fox_6"], ["default", "mcmc"])
    assert rows == [
        ("fern_2", "default"),
        ("fern_3", "default"),
        ("fox_6", "default"),
        ("fern_3", "mcmc"),
        ("fox_6", "mcmc"),
    ]


def test_rows_that_change_nothing_are_left_out(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    dropout = script.base(script.CASES["fern_3"])["model"]["dropout"]
    monkeypatch.setitem(script.VARIANTS, "same", script.Variant({"model.dropout": dropout}))
    assert script.rows_of(["fern_3"], ["default", "same", "mcmc"]) == [("fern_3", "default"), ("fern_3", "mcmc")]


def fake_table(psnr: list[float], seconds: float | None = 100.0) -> dict[str, Any]:
    measures = {"ssim": 0.5, "lpips_vgg": None, "lpips_vgg_papers": 0.2, "gaussians": 12345.6}
    measures |= {"seconds": seconds, "fit_seconds": seconds, "steps": 1000.0}
    per_seed = [{"seed": i, "psnr": value, **measures} for i, value in enumerate(psnr)]
    average = {"psnr": sum(psnr) / len(psnr), **measures}
    return {
        "seeds": [row["seed"] for row in per_seed],
        "mean": average,
        "std": dict.fromkeys(average, 0.25),
        "per_seed": per_seed,
    }


@pytest.fixture
def measured(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Replaces `recon3d benchmark`; lists its calls."""
    calls = []

    def benchmark(config: Path, *, root: Path, out: Path, seeds: int, views: int, report: bool) -> None:
        calls.append((out.parent.name, out.name, views))
        if out.name == "mcmc" and out.parent.name == "fox_6":
            raise InputError("exit code 1 from: recon3d fit")
        for seed in range(seeds):
            for name in ("checkpoints", "renders"):
                (out / f"seed_{seed}" / name).mkdir(parents=True, exist_ok=True)
            (out / f"seed_{seed}" / "splat.safetensors").touch()
            told = {"ause": 0.25, "ause_of_chance": 0.5, "measured_over_predicted": 2.0}
            (out / f"seed_{seed}" / "metrics.json").write_text(json.dumps({"uncertainty": told}))
        better = {"default": 0.0, "mcmc": 0.5}[out.name]
        (out / "table.json").write_text(json.dumps(fake_table([20.0 + seed + better for seed in range(seeds)])))

    monkeypatch.setattr(script, "benchmark", benchmark)
    return calls


def test_a_failed_row_does_not_stop_the_others(
    script: ModuleType,
    measured: list[tuple[str, str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["x", str(tmp_path), f"--out={tmp_path / 'out'}", "--seeds=2", "--cases", "fern_2", "fern_3", "fox_6"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--variants", "default", "mcmc"])
    assert script.main() == 1
    assert measured == [
        ("fern_2", "default", 2),
        ("fern_3", "default", 3),
        ("fox_6", "default", 6),
        ("fern_3", "mcmc", 3),
        ("fox_6", "mcmc", 6),
    ]
    seen = capsys.readouterr()
    assert "failed: fox_6, mcmc: exit code 1" in seen.err
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in seen.out
    measures = "20.50 ± 0.25 | 0.500 ± 0.250 | 0.200 ± 0.250 | –"
    assert f"| fern_3 | default | 2 | {measures} | 100 ± 0 | 100 ± 0 | 1,000 ± 0 | 12,346 ± 0 |" in text
    assert "| fern_3 | 2 | 0.250 ± 0.000 | 0.500 ± 0.000 | 2.00 ± 0.00 |" in text
    change = next(line for line in text.splitlines() if line.startswith("| mcmc |"))
    cells = [cell.strip() for cell in change.strip("|").split("|")]
    compared = [name for name, case in script.CASES.items() if case.compared]
    assert cells[1 + compared.index("fern_3")] == "+0.50"
    assert cells[1 + compared.index("fox_6")] == "–"
    assert cells[-4:] == ["+0.50", "+0.000", "+0.000", "–"]
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["rows"]["mcmc"]["fern_3"]["mean"]["fit_seconds"] is None, "its depth came from a file"
    assert table["rows"]["default"]["fern_3"]["mean"]["seconds"] == 100
    run = tmp_path / "out" / "fern_3"
    assert sorted(p.name for p in (run / "mcmc" / "seed_0").iterdir()) == ["metrics.json", "splat.safetensors"]
    kept = ["metrics.json", "renders", "splat.safetensors"]
    assert sorted(p.name for p in (run / "default" / "seed_0").iterdir()) == kept

    monkeypatch.setattr(sys, "argv", [*arguments, "--table"])
    measured.clear()
    assert script.main() == 0
    assert measured == []
    assert "| mcmc |" in capsys.readouterr().out


def test_the_table_holds_what_earlier_commands_measured_of_the_same_configuration(
    script: ModuleType, measured: list[tuple[str, str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ["x", str(tmp_path), f"--out={out}", "--seeds=1", "--variants", "default"]
    for case in ("fern_2", "fern_3", "lego_8"):
        monkeypatch.setattr(sys, "argv", [*command, "--cases", case])
        assert script.main() == 0
    assert json.loads((out / "table.json").read_text())["rows"]["default"].keys() == {"fern_2", "fern_3", "lego_8"}

    with (out / "fern_2" / "default.yaml").open("a") as config:
        config.write("budget: 60\n")
    monkeypatch.setattr(sys, "argv", [*command, "--cases", "lego_8", "--table"])
    assert script.main() == 0
    assert json.loads((out / "table.json").read_text())["rows"]["default"].keys() == {"fern_3", "lego_8"}


def test_predicted_errors_are_told_over_the_seeds_whose_runs_tell_them(script: ModuleType, tmp_path: Path) -> None:
    told = {"predicted": [0.01, 0.03], "measured": [0.02, 0.04], "ause": 0.2, "ause_of_chance": 0.6}
    seeds: dict[str, list[Any]] = {
        "fern_3": [told | {"measured_over_predicted": 0.5}, told | {"ause": 0.4}, None],
        "fox_6": [None],  # tested without a prediction
        "lego_8": [],  # its runs were deleted
    }
    for case, summaries in seeds.items():
        for seed, summary in enumerate(summaries):
            run = tmp_path / case / "default" / f"seed_{seed}"
            run.mkdir(parents=True)
            (run / "metrics.json").write_text(json.dumps({"images": [], "uncertainty": summary}))
    found = {"default": {case: fake_table([20.0] * max(len(seeds[case]), 1)) for case in seeds}, "mcmc": {"fox_6": {}}}
    head, rule, *rows = script.predicted_errors(tmp_path, found).splitlines()
    assert head.count("|") == rule.count("|")
    assert rows == [
        "| fern_3 | 2 | 0.300 ± 0.141 | 0.600 ± 0.000 | 1.00 ± 0.71 |",  # ratios .5, and 1.5 by the curve
        "| fox_6 | 0 | – | – | – |",
        "| lego_8 | 0 | – | – | – |",
    ]


def test_differences_are_between_the_same_seeds(script: ModuleType) -> None:
    found = {"default": {"fern_3": fake_table([20, 21, 30])}, "mcmc": {"fern_3": fake_table([21, 23])}}
    assert script.differences(found, "mcmc", "psnr") == {"fern_3": pytest.approx(1.5)}
    assert script.differences(found, "mcmc", "lpips_vgg") == {}
    assert script.differences({"mcmc": found["mcmc"]}, "mcmc", "psnr") == {}
