"""A fit that was killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.errors import InputError
from datasets.programs.checkpoints import AtomicCheckpointIO
from recon3d.fitting.command import fit

Arguments = Callable[..., list[str]]
Same = Callable[[Path, Path], None]
ROOT = Path(__file__).resolve().parents[3]
CHECKPOINTS = AtomicCheckpointIO(("fit",), "recon3d fit")

EVERYTHING = """
model:
  sh_degree: 2
  sh_every: 15
  dropout: 0.3
  opacity_decay: 0.99
  losses:
    - class_path: plugins.KillSwitch
    - class_path: recon3d.losses.Photometric
    - class_path: recon3d.losses.OpacityPenalty
  densification:
    class_path: recon3d.fitting.densification.MCMCStrategy
    init_args: {refine_start_iter: 5, refine_every: 10, noise_lr: 1000}
"""

TWO_FIELDS = """
model:
  fields: 2
  dropout: 0.3
  losses:
    - class_path: plugins.KillSwitch
    - class_path: recon3d.losses.Photometric
    - class_path: recon3d.losses.FieldAgreement
  densification:
    class_path: recon3d.fitting.densification.CoPruning
    init_args: {every: 10, begin: 10, apart: 2.0}
"""


def fit_in_a_process(arguments: list[str], **environment: str) -> int:
    """Exit code of ``recon3d fit``."""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return subprocess.run(
        [sys.executable, "-m", "recon3d", "fit", *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        cwd=ROOT,
        check=False,
    ).returncode


@pytest.mark.parametrize(
    ("settings", "renders", "gaussians"), [(EVERYTHING, 1, range(151, 10**6)), (TWO_FIELDS, 2, range(100, 300))]
)
def test_killed_in_a_step_and_within_a_checkpoint(
    arguments: Arguments, same_fit: Same, tmp_path: Path, settings: str, renders: int, gaussians: range
) -> None:
    straight, killed, config = tmp_path / "straight", tmp_path / "killed", tmp_path / "everything.yaml"
    config.write_text(settings)
    options = (f"--config={config}", "--trainer.max_steps=60")
    fit(arguments(straight, *options))
    again = arguments(killed, *options, "--resume")
    assert fit_in_a_process(arguments(killed, *options), KILL_IN_STEP=str(33 * renders)) == -signal.SIGKILL
    assert CHECKPOINTS.load_checkpoint(killed / "checkpoints" / "last.ckpt")["global_step"] == 28
    # Resumed at 28, the second checkpoint would be that of step 42.
    assert fit_in_a_process(again, KILL_IN_CHECKPOINT="2") == -signal.SIGKILL
    assert CHECKPOINTS.load_checkpoint(killed / "checkpoints" / "last.ckpt")["global_step"] == 35
    assert len(list((killed / "checkpoints").iterdir())) == 2, "the torn file lies beside the whole one"
    assert fit_in_a_process(again) == 0
    assert [path.name for path in (killed / "checkpoints").iterdir()] == ["last.ckpt"]
    same_fit(straight, killed)
    checkpoint = CHECKPOINTS.load_checkpoint(killed / "checkpoints" / "last.ckpt")
    assert len(checkpoint["state_dict"]["params.means"]) in gaussians, "densification was to add or to remove Gaussians"


def test_killed_before_the_first_checkpoint(arguments: Arguments, same_fit: Same, tmp_path: Path) -> None:
    fit(arguments(tmp_path / "straight"))
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "config.yaml").write_bytes((tmp_path / "straight" / "config.yaml").read_bytes())
    fit(arguments(killed, "--resume"))
    same_fit(tmp_path / "straight", killed)


def test_finished_run_resumes_to_itself(arguments: Arguments, same_fit: Same, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    fit(arguments(run))
    copy.mkdir()
    for path in ("checkpoints/last.ckpt", "splat.safetensors"):
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_bytes((run / path).read_bytes())
    history = (run / "history.json").read_text()
    fit(arguments(run, "--resume"))
    same_fit(run, copy)
    assert (run / "history.json").read_text() == history


def test_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    whole = {"state_dict": {}, "optimizer_states": [], "loops": {}, "fit": {"extent": 2.0}}
    CHECKPOINTS.save_checkpoint(whole, path)

    def full_disk(_: Any, file: Any) -> None:
        file.write(b"PK")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        with pytest.raises(OSError, match="no space"):
            CHECKPOINTS.save_checkpoint({}, path)
    assert CHECKPOINTS.load_checkpoint(path) == whole
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("trapped"),)


@pytest.mark.parametrize("content", ["empty", "text", "truncated", "pickle", "other"])
def test_what_is_no_checkpoint_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}} if content == "other" else {"fit": Trap()} if content == "pickle" else {}, path)
    if content in ("empty", "text"):
        path.write_bytes(b"" if content == "empty" else b"not a checkpoint")
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"last\.ckpt.*Fit again without --resume"):
        CHECKPOINTS.load_checkpoint(path)
    assert not (tmp_path / "trapped").exists()
