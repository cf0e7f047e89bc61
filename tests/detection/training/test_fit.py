"""``detect3d fit``: what a run leaves, that it learns, goes on where it was, and says what does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import yaml

from datasets.errors import InputError
from detection.trained import load_model
from detection.training.command import FitCLI, fit
from tests.equality import assert_same

Arguments = Callable[..., list[str]]
ROOT = Path(__file__).resolve().parents[3]


def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def same_training(one: Path, other: Path) -> None:
    first, second = checkpoint(one), checkpoint(other)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same(first[key], second[key], key)


def test_run_folder(fitted: Path) -> None:
    names = {path.name for path in fitted.iterdir()}
    assert names == {"config.yaml", "history.json", "detector.safetensors", "checkpoints", "previews"}
    assert cv2.imread(str(fitted / "previews" / "epoch_0004.png")).shape == (900, 900, 3)
    records = json.loads((fitted / "history.json").read_text())
    assert [record["step"] for record in records] == list(range(1, 13))
    assert {"loss", "heat", "box", "overlap", "quality", "learning_rate", "seconds"} <= set(records[0])
    assert records[-1]["loss"] < records[0]["loss"]
    rates = [record["learning_rate"] for record in records]
    assert max(rates) == pytest.approx(3e-3, rel=0.2)
    assert rates[-1] < 0.1 * max(rates)
    trained = load_model(fitted)
    assert (trained.class_names, trained.channels) == (("Car", "Pole"), ("x", "y", "z", "power"))
    assert trained.features == {"power": 100}
    assert not trained.detector.training
    expected = {name.removeprefix("detector."): value for name, value in checkpoint(fitted)["state_dict"].items()}
    assert_same(dict(trained.detector.state_dict()), expected)


def test_stopped_and_resumed_as_if_nothing_had_happened(arguments: Arguments, fitted: Path, tmp_path: Path) -> None:
    """Stopped after each of the first four steps, the third of which ends an epoch."""
    run = tmp_path / "run"
    fit(arguments(run, "--time_limit=0"))
    assert checkpoint(run)["global_step"] == 1
    for step in (2, 3, 4):
        fit(arguments(run, "--time_limit=0", "--resume"))
        assert checkpoint(run)["global_step"] == step
    fit(arguments(run, "--resume"))
    same_training(fitted, run)


def test_a_finished_run_resumes_to_itself(arguments: Arguments, fitted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(arguments(run))
    fit(arguments(run, "--resume"))
    same_training(fitted, run)


def test_a_run_that_stopped_early_or_ended_is_not_trained_again_unless_told(
    arguments: Arguments, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    fit(arguments(run, "--time_limit=0"))
    with pytest.raises(InputError, match=r"not finished.*--resume"):
        fit(arguments(run, "--time_limit=0"))
    with pytest.raises(InputError, match=r"gradient_clip_val: 10.0 -> 1.0"):
        fit(arguments(run, "--resume", "--trainer.gradient_clip_val=1"))
    fit(arguments(run, "--resume"))
    with pytest.raises(InputError, match="a finished run"):
        fit(arguments(run))
    fit(arguments(run, "--time_limit=0", "--overwrite"))
    assert checkpoint(run)["global_step"] == 1


def test_seed_decides(arguments: Arguments, fitted: Path, tmp_path: Path) -> None:
    fit(arguments(tmp_path / "other", "--seed=1"))
    one, other = (checkpoint(run)["state_dict"] for run in (fitted, tmp_path / "other"))
    assert not torch.equal(*(state["detector.encoder.linears.0.weight"] for state in (one, other)))


def test_loading_in_other_processes_changes_nothing(arguments: Arguments, fitted: Path, tmp_path: Path) -> None:
    fit(arguments(tmp_path / "run", "--data.workers=2"))
    same_training(fitted, tmp_path / "run")


def test_bf16_learns_and_scores_while_it_trains(arguments: Arguments, tmp_path: Path) -> None:
    more = ("--trainer.precision=bf16-mixed", "--previews.score_every=4", "--trainer.max_epochs=8")
    fit(arguments(tmp_path / "run", *more))
    records = json.loads((tmp_path / "run" / "history.json").read_text())
    losses = [record["loss"] for record in records if "loss" in record]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    scores = [record for record in records if "Car bev 0.1 all" in record]
    assert [record["step"] for record in scores] == [12, 24]
    assert all(0 <= record["Car 3d 0.1 all"] <= 100 for record in scores)
    weights = load_model(tmp_path / "run").detector.state_dict().values()
    assert all(value.dtype == torch.float32 for value in weights if value.is_floating_point())


def test_two_processes_train_and_write_one_run(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    command = [sys.executable, "-m", "detection", "fit", f"--config={config}", f"--out={run}", "--data.objects=objects"]
    options = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=1", "--trainer.max_epochs=2")
    done = subprocess.run(
        [*command, *options],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert checkpoint(run)["global_step"] == 6
    assert load_model(run).class_names == ("Car", "Pole")
    assert [path.name for path in (tmp_path / "objects").iterdir()] == ["objects.safetensors"]
    assert done.stderr.count("cut objects: 100%") == 1, "by one of the two, for both"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--data.train.init_args.nan_loss_at=3", r"loss is not finite .*003.*Lower\s+model.learning_rate"),
        ("--data.train.init_args.boxes=false", "no boxes|no annotation|no annotated"),
        ("--data.features={}", r"encoder takes points of 4 channels, but the data give 3 \(x, y, z\)"),
        ("--data.features={doppler: 1}", r"000: its points have no channel 'doppler'.*only power"),
        ("--model.detector.init_args.head.init_args.classes=3", r"finds 3 classes, but the data have 2 \(Car, Pole\)"),
        ("--trainer.max_steps=5", "no trainer.max_steps"),
        ("--trainer.max_epochs=0", "trainer.max_epochs, 1 or more"),
        ("--model.detector.init_args.voxel_size=[0.7,0.5,4]", "along x the range"),
        ("--data.train.init_args.count=0", "no samples to train on"),
        ("--data.features={power: 0}", "data.features divides power by 0"),
        ("--data.paste={Pol: 1}", "data.paste names 'Pol', but the data have Car, Pole"),
        ("--model.detector.init_args.neck.init_args.in_channels=9", "model.detector: its parts do not fit together"),
        ("--model.detector.init_args.backbone.init_args.set_size=0", "model.detector: its parts do not fit together"),
        ("--model.detector.init_args.point_range=[100,-8,-2,116,8,2]", "none of the first 6 clouds has a point"),
        ("--data.test=toy.Swapped", r"data.test \('Pole', 'Car'\)"),
        ("--data.protocol=null", "data.protocol: overlaps say nothing of Pole"),
        ("--data.protocol=detection.protocols.NuScenesProtocol", "data.protocol: ranges say nothing of Car"),
        ("--trainer.accumulate_grad_batches=2", "gradients are not accumulated"),
        ("--trainer.accelerator=tpu", "trainer: .*torch_xla"),
        ("--trainer.devices=0", "trainer: "),
        ("--trainer.strategy=several", "trainer: .*several"),
    ],
)
def test_what_cannot_be_trained_leaves_everything_as_it_was(
    arguments: Arguments, tmp_path: Path, option: str, message: str
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/last.ckpt", "detector.safetensors"):
        (run / name).write_text("of an earlier run")
    nan = "nan_loss_at" in option  # which only training finds
    with pytest.raises(InputError, match=message):
        fit(arguments(run, option, "--overwrite"))
    for name in ("config.yaml", "checkpoints/last.ckpt", "detector.safetensors"):
        assert nan or (run / name).read_text() == "of an earlier run", name


def test_points_of_more_channels_than_were_read_are_warned_of(arguments: Arguments, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="in 000 rows of 2 kinds take turns"):
        fit(arguments(tmp_path / "run", "--data.train=toy.Misread", "--trainer.max_epochs=1"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.learning_rates=1", "Did you mean '--model.learning_rate'?"),
        ("--model.learning_rate=-1", "model.learning_rate is -1.0, expected more than 0"),
        ("--data.batch_size=0", "data.batch_size is 0"),
        ("--data.train=toy.ToyCloud", "Did you mean"),
        ("--data.fade=[0.9,0.5]", "fade is (0.9, 0.5)"),
    ],
)
def test_mistyped_options(arguments: Arguments, tmp_path: Path, capsys: Any, option: str, message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        fit(arguments(tmp_path / "run", option))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_root_replaces_the_folders_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "velodyne").mkdir()
    path = ROOT / "configs" / "detection" / "radar_dsvt.yaml"
    with pytest.raises(InputError, match=str(tmp_path)):
        FitCLI([f"--config={path}", f"--root={tmp_path}", f"--out={tmp_path / 'run'}"])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "detection").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_configurations_build_and_run(path: Path) -> None:
    from datasets.pointclouds.types import PointCloudBatch
    from detection.detector import Detector
    from detection.trained import build

    config = yaml.safe_load(path.read_text())
    detector = build(Detector, config["model"]["detector"], path.name)
    channels = detector.encoder.point_channels
    low, high = torch.tensor(detector.grid.low), torch.tensor(detector.grid.high)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(300, channels, generator=generator)
    points[:, :3] = low + points[:, :3] * (high - low)
    names = tuple("abcdefgh"[: channels - 3])
    classes = tuple(config["data"]["train"]["init_args"]["class_names"])
    batch = PointCloudBatch(("0",), points, torch.zeros(300, dtype=torch.int64), ("x", "y", "z", *names), classes)
    assert len(detector.eval().detect(batch)) == 1
    assert detector.head.classes == len(classes)
    assert channels == 3 + len(config["data"]["features"])
