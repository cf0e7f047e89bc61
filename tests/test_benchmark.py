"""The command ``recon3d benchmark``: means, spread, what is kept, and what is measured."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.errors import InputError
from recon3d.benchmark import benchmark, summary, text_table


def result(seed: int, psnr: float, lpips: float | None = 0.2) -> dict:
    """What one seed leaves."""
    measures = {"psnr": psnr, "ssim": 0.5, "lpips_vgg": lpips, "lpips_vgg_papers": lpips, "avge": lpips}
    images = [
        {"name": "a", "photo": "a.png", **measures},
        {"name": "b", "photo": "b.png", **measures, "psnr": psnr + 2},
    ]
    return {
        "seed": seed,
        "seconds": 10.0 + seed,
        "peak_mb": 500.0,
        "gaussians": 100 * seed,
        "fit": {"seconds": 8.0 + seed, "steps": 600},
        "mean": {**measures, "psnr": psnr + 1},
        "images": images,
    }


def test_mean_and_sample_deviation_over_seeds():
    table = summary([result(0, 19.0), result(1, 20.0), result(2, 24.0)])
    assert table["mean"]["psnr"] == pytest.approx(22.0)
    assert table["std"]["psnr"] == pytest.approx(7**0.5)  # deviations -2, -1, 3
    assert table["mean"]["gaussians"] == 100
    assert table["std"]["seconds"] == pytest.approx(1.0)
    assert table["std"]["peak_mb"] == 0
    assert (table["mean"]["fit_seconds"], table["mean"]["steps"]) == (pytest.approx(9.0), 600)
    assert [row["psnr"] for row in table["per_seed"]] == [20.0, 21.0, 25.0]
    assert table["per_image"]["b"]["psnr"]["values"] == [21.0, 22.0, 26.0]
    assert table["per_image"]["a"]["psnr"]["mean"] == pytest.approx(21.0)
    assert list(table["mean"])[:7] == [
        "psnr",
        "ssim",
        "lpips_vgg",
        "lpips_vgg_papers",
        "seconds",
        "gaussians",
        "peak_mb",
    ]


def test_one_seed_has_no_deviation_and_what_was_not_measured_is_null():
    table = summary([result(0, 19.0, lpips=None)])
    assert table["std"]["psnr"] is None
    assert table["mean"]["lpips_vgg"] is None
    lines = text_table(table).splitlines()
    assert "lpips" not in lines[0]
    assert [line.split()[0] for line in lines] == ["seed", "0", "mean", "std"]


@pytest.fixture
def finished(tmp_path):
    """A configuration and the folder of a benchmark whose three seeds are done, as a call left them."""
    config = tmp_path / "config.yaml"
    config.write_text("model: {}\n")
    digest = hashlib.sha256(config.read_bytes()).hexdigest()
    about = {"config": "config.yaml", "config_sha256": digest, "root": "builtin", "views": None}
    out = tmp_path / "out"
    out.mkdir()
    for seed in range(3):
        (out / f"seed_{seed}.json").write_text(json.dumps({**result(seed, 19.0 + seed), "about": about}))
    return config, out


def test_finished_seeds_are_not_done_again(finished, capsys):
    config, out = finished
    benchmark(config, root=Path("builtin"), out=out, seeds=3)
    table = json.loads((out / "table.json").read_text())
    assert table["mean"]["psnr"] == pytest.approx(21.0)
    assert table["about"]["root"] == "builtin"
    assert table["machine"]["cores"] >= 1
    assert "torch" in table["versions"]
    assert str(out / "table.json") in capsys.readouterr().out
    assert not (out / "seed_0").exists()
    assert not list(out.glob(".*"))


def test_results_of_another_configuration_are_refused(finished):
    config, out = finished
    config.write_text("model: {sh_degree: 1}\n")
    with pytest.raises(InputError, match=r"seed_0\.json.*config_sha256.*another --out"):
        benchmark(config, root=Path("builtin"), out=out, seeds=3)


@pytest.mark.parametrize("text", ["", "[]", '{"seed": 0}', '{"about": '])
def test_a_damaged_result_is_named(finished, text):
    config, out = finished
    (out / "seed_1.json").write_text(text)
    with pytest.raises(InputError, match=r"seed_1\.json.*Delete it"):
        benchmark(config, root=Path("builtin"), out=out, seeds=3)


def test_bad_arguments(tmp_path, finished):
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        benchmark(tmp_path / "nowhere.yaml", root=Path("builtin"), out=tmp_path)
    with pytest.raises(InputError, match="--seeds is 0"):
        benchmark(finished[0], root=Path("builtin"), out=tmp_path, seeds=0)


def test_a_failed_fit_is_an_error_that_names_the_command(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("nonsense: 1\n")
    with pytest.raises(InputError, match=r"exit code 2 from: .* fit --config"):
        benchmark(config, root=Path("builtin"), out=tmp_path / "out", seeds=1)
    assert not (tmp_path / "out" / "table.json").exists()


def test_peak_memory_is_the_childs_own():
    code = (
        "import sys\nfrom recon3d.benchmark import measured\n"
        "heavy = [name for name in ('torch', 'numpy', 'lightning') if name in sys.modules]\n"
        "small = measured([sys.executable, '-c', ''])[1]\n"
        "large = measured([sys.executable, '-c', 'b\"x\" * (300 << 20)'])[1]\n"
        "print(heavy, small < 100, 300 <= large < 400, small, large)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] True True"), done.stdout


def test_a_real_benchmark_is_measured_once(tmp_path, capfd):
    config = tmp_path / "small.yaml"
    config.write_text(
        "model: {initialiser: {class_path: recon3d.initialise.SparseInitialiser}}\n"
        "data: {downscale: 8}\ntrainer: {max_steps: 2}\n"
    )
    out = tmp_path / "out"
    benchmark(config, root=Path("builtin"), out=out, seeds=1, views=2)
    table = json.loads((out / "table.json").read_text())
    assert len(table["per_image"]) == 8
    assert table["mean"]["psnr"] > 0
    assert table["mean"]["seconds"] > 0
    assert table["mean"]["peak_mb"] > 100
    assert table["mean"]["gaussians"] > 0
    made = (out / "seed_0" / "config.yaml").stat().st_mtime_ns
    capfd.readouterr()
    benchmark(config, root=Path("builtin"), out=out, seeds=1, views=2)
    assert (out / "seed_0" / "config.yaml").stat().st_mtime_ns == made
    assert "finished before" in capfd.readouterr().out
