"""The configuration for nuScenes, from its tables to mAP and NDS."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from detection.__main__ import main
from tests.datasets.pointclouds.made_up_drive import write_drive

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "detection" / "nuscenes_dsvt.yaml"


def test_from_tables_to_nds(tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    for part in ("train", "test"):
        config["data"][part]["init_args"] |= {"version": "v1.0-test", "split": None}
    config["data"]["workers"] = 0
    config["model"]["detector"]["init_args"] |= {"voxel_size": [1.2, 1.2, 8]}
    config["trainer"]["max_epochs"] = 1
    path, run = tmp_path / "nuscenes.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(config))
    drive = write_drive(tmp_path)
    assert main(["fit", f"--config={path}", f"--root={drive}", f"--out={run}"]) == 0
    assert main(["test", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"mAP", "NDS", "velocity error", "attribute error"} <= metrics["values"].keys()
    assert 0 <= metrics["values"]["mAP"] <= 100
    assert main(["predict", str(run), f"--out={tmp_path / 'found'}", "--score=0"]) == 0
    for frame in ("k0", "k1", "k2"):
        document = json.loads((tmp_path / "found" / f"{frame}.json").read_text())
        assert len(document["boxes"]) == len(document["velocities"])
        assert (tmp_path / "found" / f"{frame}.png").is_file()
