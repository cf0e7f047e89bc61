"""Several fits of one scene as one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from recon3d.__main__ import main
from recon3d.render import render
from recon3d.splats import Splat, load_splat, save_splat
from recon3d.splats.merge import merged
from tests.recon3d.conftest import FittedRun, cameras_around, coloured_blobs


def test_opacity_of_coinciding_gaussians_is_that_of_one() -> None:
    opacities = torch.tensor([1e-6, 0.01, 0.3, 0.9, 0.999999], dtype=torch.float64)
    gaussians = replace(coloured_blobs(5), opacities=torch.logit(opacities).float())
    for count in (1, 2, 5):
        whole = merged([Splat(gaussians)] * count)
        assert len(whole) == 5 * count
        each = torch.sigmoid(whole.gaussians.opacities.double()).reshape(count, 5)
        torch.testing.assert_close(1 - (1 - each).prod(0), opacities, rtol=1e-3, atol=1e-6)


def test_extreme_opacities_stay_finite() -> None:
    gaussians = replace(coloured_blobs(4), opacities=torch.tensor([-80.0, -20.0, 20.0, 80.0]))
    opacities = merged([Splat(gaussians)] * 3).gaussians.opacities
    assert bool(torch.isfinite(opacities).all())
    assert opacities[0] < -60
    assert opacities[3] > 20
    assert opacities.dtype == torch.float32


def test_a_splat_merged_with_itself_looks_like_itself() -> None:
    splat = Splat(replace(coloured_blobs(), opacities=torch.zeros(150)), (0.2, 0.3, 0.4))
    once, thrice = (picture(one) for one in (splat, merged([splat] * 3)))
    assert float((once - thrice).abs().mean()) < 0.01


@torch.no_grad()
def picture(splat: Splat) -> torch.Tensor:
    return render(splat.gaussians, cameras_around(2), background=torch.tensor(splat.background)).colour


def test_errors_that_differ_average_out() -> None:
    truth = Splat(replace(coloured_blobs(), opacities=torch.full((150,), -1.0)))
    noisy = []
    for seed in range(4):
        off = torch.randn(truth.gaussians.sh0.shape, generator=torch.Generator().manual_seed(seed))
        noisy.append(replace(truth, gaussians=replace(truth.gaussians, sh0=truth.gaussians.sh0 + off)))
    want = picture(truth)
    errors = [float((picture(one) - want).square().mean()) for one in (*noisy, merged(noisy))]
    assert errors[-1] < 0.5 * min(errors[:-1])


def test_what_was_joined_comes_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    fields = [replace(coloured_blobs(n, n), opacities=6 * torch.randn(n, generator=generator)) for n in (30, 1, 80)]
    splat = Splat.of_fields(fields)
    assert splat.fields == (30, 1, 80)
    for one, back in zip(fields, splat.apart, strict=True):
        for name, value in one.parameters().items():
            torch.testing.assert_close(back.parameters()[name], value, atol=1e-4, rtol=1e-4)
    both = merged([splat, Splat(fields[0])])
    assert both.fields == (30, 1, 80, 30)
    torch.testing.assert_close(both.apart[2].opacities, fields[2].opacities, atol=1e-4, rtol=1e-4)
    assert Splat.of_fields(fields[:1]).apart == (fields[0],)


def test_background_is_the_mean() -> None:
    splats = [Splat(coloured_blobs(3), colour) for colour in ((0.0, 0.2, 1.0), (1.0, 0.4, 1.0))]
    assert merged(splats).background == pytest.approx((0.5, 0.3, 1.0))


@pytest.mark.parametrize("case", ["harmonics", "anti-aliasing", "worlds", "no splats"])
def test_what_does_not_go_together_is_refused(case: str) -> None:
    one = Splat(coloured_blobs(3))
    others = {
        "harmonics": [replace(one, gaussians=replace(one.gaussians, shN=torch.zeros(3, 3, 3)))],
        "anti-aliasing": [replace(one, antialiased=True)],
        "worlds": [replace(one, scene_to_source=2 * np.eye(4))],
    }
    with pytest.raises(ValueError, match=case):
        merged([one, *others[case]] if case in others else [])


def second(run: Path, **data: object) -> Path:
    """A copy of a run, with other settings of its data."""
    copy = run.with_name("second")
    shutil.copytree(run, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["data"] |= {"seed": 1, **data}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    return copy


def test_merged_run_is_a_run(fitted_run: FittedRun, tmp_path: Path) -> None:
    run, out = fitted_run.folder, tmp_path / "both"
    assert main(["merge", str(run), str(second(run)), "--out", str(out)]) == 0
    assert len(load_splat(out / "splat.safetensors")) == 2 * len(fitted_run.truth)
    assert main(["test", str(out), "--report=false", "--device=cpu"]) == 0
    assert (out / "metrics.json").is_file()


def test_bad_runs_are_refused(fitted_run: FittedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = fitted_run.folder, tmp_path / "both"
    other = second(run, views=2)

    def refused(*arguments: object) -> str:
        assert main(["merge", *map(str, arguments)]) == 1
        return capsys.readouterr().err

    assert "at least two different runs" in refused(run, run, "--out", out)
    assert "data.views differ" in refused(run, other, "--out", out)
    assert "not an empty folder" in refused(run, other, "--out", run)
    assert "nowhere" in refused(run, tmp_path / "nowhere", "--out", out)
    (other / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    save_splat(other / "splat.safetensors", replace(fitted_run.truth, antialiased=True))
    assert "does not merge" in refused(run, other, "--out", out)
    (other / "splat.safetensors").write_bytes(b"torn")
    assert "splat.safetensors" in refused(run, other, "--out", out)
    assert not out.exists()
