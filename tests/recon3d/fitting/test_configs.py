"""The configurations that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon3d.fitting.command import FitCLI

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs" / "recon3d").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configuration_is_accepted(config: Path, wall: Path, tmp_path: Path) -> None:
    cli = FitCLI([f"--config={config}", f"--data.root={wall}", f"--out={tmp_path / 'run'}"])
    assert cli.trainer.max_steps >= 100
    assert cli.model.losses
    assert not (tmp_path / "run").exists(), "parsing writes nothing"


def test_there_are_configurations() -> None:
    assert {"llff_3view", "photos", "blender_8view"} <= {path.stem for path in CONFIGS}
