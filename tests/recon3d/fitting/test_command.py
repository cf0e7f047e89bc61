"""`recon3d fit` as a user has it."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from datasets.errors import InputError
from recon3d.fitting.callbacks import History
from recon3d.fitting.command import fit
from recon3d.splats import load_splat

Arguments = Callable[..., list[str]]
Same = Callable[[Path, Path], None]


def checkpoint_of(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def test_run_folder(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(arguments(run, "--previews.every=20", "--trainer.logger=true"))
    history = json.loads((run / "history.json").read_text())
    assert [record["step"] for record in history] == [1, 10, 20, 24]
    assert history[-1]["psnr"] > history[0]["psnr"] + 0.3
    assert history[-1]["gaussians"] == 150
    assert 0 < history[0]["seconds"] < history[-1]["seconds"]
    assert sorted(p.name for p in (run / "previews").iterdir()) == [
        "step_000001.png",
        "step_000020.png",
        "step_000024.png",
    ]
    picture = cv2.imread(str(run / "previews" / "step_000024.png"))
    photo = cv2.imread(str(yaml.safe_load((run / "config.yaml").read_text())["data"]["root"]) + "/0.png")
    assert picture.shape == (30, 120, 3)
    np.testing.assert_array_equal(picture[:, 40:80], photo)
    splat = load_splat(run / "splat.safetensors")
    assert len(splat) == 150
    np.testing.assert_allclose(splat.background, (0.2, 0.3, 0.4), atol=1e-6)
    assert any((run / "logs").glob("events*"))
    checkpoint = checkpoint_of(run)
    assert checkpoint["global_step"] == 24


def test_a_whole_fit_with_its_report_opens_no_test_photo(arguments: Arguments, wall: Path, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(wall, scene)
    for i in (3, 4):
        (scene / f"{i}.png").write_bytes(b"no photo")
    run = tmp_path / "run"
    fit(arguments(run, f"--data.root={scene}"))
    report = (run / "report.html").read_text()
    assert "cannot be shown" not in report
    assert "From outside" in report


def world_of_size(scene: Path, size: float) -> None:
    document = json.loads((scene / "cameras.json").read_text())
    for frame in document["frames"]:
        for row in frame["w2c"][:3]:
            row[3] *= size
    (scene / "cameras.json").write_text(json.dumps(document))


def test_world_too_small_to_be_drawn_and_masks_that_hide_everything(
    arguments: Arguments, wall: Path, tmp_path: Path
) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(wall, scene)
    random = "--model.initialiser=recon3d.initialise.SparseInitialiser"
    for size, found in ((1e-3, "units from their cameras, and nothing nearer"), (1e3, "")):
        world_of_size(scene, size)
        if found:
            with pytest.raises(InputError, match=found):
                fit(arguments(tmp_path / "run", f"--data.root={scene}", random))
            assert not (tmp_path / "run").exists()
        else:
            fit(arguments(tmp_path / "run", f"--data.root={scene}", random, "--trainer.max_steps=1"))
    document = json.loads((scene / "cameras.json").read_text())
    cv2.imwrite(str(scene / "mask.png"), np.zeros((30, 40), np.uint8))
    document["frames"] = [{**frame, "mask": "mask.png"} for frame in document["frames"]]
    (scene / "cameras.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="masks of all train photos hide everything"):
        fit(arguments(tmp_path / "masked", f"--data.root={scene}", random))


@pytest.mark.parametrize(("per_view", "steps"), [(0, 24), (8, 24), (9, 27)])
def test_more_photos_take_more_steps(arguments: Arguments, tmp_path: Path, per_view: int, steps: int) -> None:
    run = tmp_path / "run"
    fit(arguments(run, f"--steps_per_view={per_view}"))  # of three photos
    assert json.loads((run / "fit.json").read_text())["steps"] == steps
    assert checkpoint_of(run)["global_step"] == steps


def test_same_seed_same_bits_and_another_seed_differs(arguments: Arguments, same_fit: Same, tmp_path: Path) -> None:
    more = ("--model.dropout=0.3", "--model.opacity_decay=0.99")
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        fit(arguments(tmp_path / name, f"--seed={seed}", *more))
    same_fit(tmp_path / "one", tmp_path / "same")
    one, other = (checkpoint_of(tmp_path / name)["state_dict"]["params.means"] for name in ("one", "other"))
    assert not torch.equal(one, other)


def test_saved_configuration_fits_again(arguments: Arguments, same_fit: Same, tmp_path: Path) -> None:
    fit(arguments(tmp_path / "one", "--model.dropout=0.2", "--overwrite"))
    fit(["--config", str(tmp_path / "one" / "config.yaml"), f"--out={tmp_path / 'two'}"])
    same_fit(tmp_path / "one", tmp_path / "two")
    assert yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())["overwrite"] is False


def test_another_configuration_is_not_overwritten_unless_told(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(arguments(run))
    before = checkpoint_of(run)
    (run / "metrics.json").write_text("{}")
    (run / "suggestions").mkdir()
    with pytest.raises(InputError, match=r"model\.dropout: 0\.0 -> 0\.1.*--overwrite"):
        fit(arguments(run, "--model.dropout=0.1"))
    assert torch.equal(before["state_dict"]["params.means"], checkpoint_of(run)["state_dict"]["params.means"])
    with pytest.raises(InputError, match=r"model\.dropout"):
        fit(arguments(run, "--model.dropout=0.1", "--resume"))
    fit(arguments(run, "--model.dropout=0.1", "--overwrite"))
    assert not (run / "metrics.json").exists(), "results of the old run"
    assert not (run / "suggestions").exists(), "results of the old run"


def test_unfinished_run_is_not_begun_again_unless_told(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(arguments(run))
    (run / "splat.safetensors").unlink()
    with pytest.raises(InputError, match=r"not finished.*--resume"):
        fit(arguments(run))
    fit(arguments(run, "--resume"))
    assert (run / "splat.safetensors").is_file()
    (run / "config.yaml").write_text("{")
    with pytest.raises(InputError, match=r"config\.yaml: is not readable YAML"):
        fit(arguments(run))
    fit(arguments(run, "--overwrite"))


def test_finished_run_is_not_fitted_again_unless_told(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(arguments(run))
    (run / "renders").mkdir()
    with pytest.raises(InputError, match=r"a finished run of this configuration.*--overwrite"):
        fit(arguments(run))
    assert (run / "renders").is_dir()


def test_start_that_fails_leaves_the_run_alone(
    arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    fit(arguments(run))

    def fail(*_: Any) -> None:
        raise InputError("no depth today")

    monkeypatch.setattr("recon3d.fitting.module.SplatModule.begin", fail)
    with pytest.raises(InputError, match="no depth today"):
        fit(arguments(run, "--overwrite"))
    assert (run / "splat.safetensors").is_file()
    assert checkpoint_of(run)["global_step"] > 0
    with pytest.raises(InputError, match="no depth today"):
        fit(arguments(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_folder_of_something_else_is_left_alone(arguments: Arguments, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(InputError, match="not the folder of a run"):
        fit(arguments(tmp_path, "--overwrite"))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_scene_that_cannot_be_used_leaves_the_run_alone(arguments: Arguments, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(arguments(run))
    with pytest.raises(InputError, match="no such folder"):
        fit(arguments(run, "--overwrite", f"--data.root={tmp_path / 'nowhere'}"))
    assert (run / "splat.safetensors").is_file()


def test_mistyped_key_names_it_and_lists_the_accepted(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("model:\n  dropuot: 0.2\n")
    with pytest.raises(SystemExit) as stopped:
        fit(arguments(tmp_path / "run", f"--config={config}"))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "dropuot" in message
    assert "opacity_decay" in message
    assert "Did you mean 'dropout'?" in message


def test_configuration_that_is_no_text_is_named(arguments: Arguments, tmp_path: Path) -> None:
    config = tmp_path / "latin.yaml"
    config.write_bytes("model: {dropout: 0.1}  # wie groß?".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: is not UTF-8 text.*Save it again"):
        fit(arguments(tmp_path / "run", f"--config={config}"))


@pytest.mark.parametrize(
    "option",
    [
        "--model.dropout=1",
        "--model.background=[0,0,2]",
        "--model.opacity_decay=0",
        "--checkpoint.every=0",
        "--model.sh_degree=4",
        "--history.every=0",
        "--previews.every=0",
        "--model.learning_rates.quats=-1",
        "--trainer.max_steps=0",
        "--steps_per_view=-1",
    ],
)
def test_values_out_of_range_are_refused(
    arguments: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises((SystemExit, InputError)) as stopped:
        fit(arguments(tmp_path / "run", option))
    key = option.removeprefix("--").partition("=")[0]
    assert key in str(stopped.value) + capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_time_limit_leaves_a_splat_and_resume_finishes(arguments: Arguments, same_fit: Same, tmp_path: Path) -> None:
    fit(arguments(tmp_path / "straight"))
    run = tmp_path / "limited"
    fit(arguments(run, "--time_limit=0.001"))
    assert checkpoint_of(run)["global_step"] == 1
    assert (run / "splat.safetensors").is_file()
    with pytest.raises(InputError, match=r"not finished.*--resume"):
        fit(arguments(run))
    fit(arguments(run, "--resume"))
    same_fit(tmp_path / "straight", run)
    with pytest.raises(InputError, match="a finished run"):
        fit(arguments(run))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_after_the_step_with_a_checkpoint(
    arguments: Arguments, same_fit: Same, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    fit(arguments(tmp_path / "straight"))
    run = tmp_path / "interrupted"
    record = History.on_train_batch_end

    def interrupt(self: History, trainer: Any, *rest: Any) -> None:
        record(self, trainer, *rest)
        if trainer.global_step == 10:
            signal.raise_signal(number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(arguments(run))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert checkpoint_of(run)["global_step"] in (10, 11)
    assert not (run / "splat.safetensors").exists()
    fit(arguments(run, "--resume"))
    same_fit(tmp_path / "straight", run)


def test_loss_that_is_not_a_number_ends_the_fit(arguments: Arguments, tmp_path: Path) -> None:
    config = tmp_path / "blowup.yaml"
    config.write_text("model: {losses: [{class_path: plugins.Blowup}]}")
    with pytest.raises(InputError, match=r"after step 20 .* Gaussians are not finite"):
        fit(arguments(tmp_path / "run", f"--config={config}"))
    stored = checkpoint_of(tmp_path / "run")
    assert stored["global_step"] == 14
    assert bool(torch.isfinite(stored["state_dict"]["params.means"]).all())
    assert not (tmp_path / "run" / "splat.safetensors").exists()
