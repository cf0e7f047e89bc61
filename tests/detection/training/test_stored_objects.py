"""Objects to paste that are cut once and kept in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from toy import Swapped, ToyClouds

from datasets.errors import InputError
from datasets.pointclouds.object_paste import OBJECTS, cut_objects, has_objects
from datasets.pointclouds.types import PointCloudBatch
from detection.training import data
from detection.training.command import FitCLI, fit
from detection.training.data import CloudData

Arguments = Callable[..., list[str]]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """What cuts objects, and counts how often it was asked to."""
    counted = Mock(wraps=cut_objects)
    monkeypatch.setattr(data, "cut_objects", counted)
    return counted


def first_batch(module: CloudData) -> PointCloudBatch:
    """What a trainer gets, which calls the two hooks in this order, long before pasting fades out."""
    module.trainer, module.epochs = Mock(global_rank=0, world_size=1), 20
    module.prepare_data()
    return next(iter(module.train_dataloader()))


def test_objects_are_cut_once_and_then_read(tmp_path: Path, cut: Mock) -> None:
    options: dict[str, Any] = {"paste": {"Pole": 2}, "features": {"power": 100.0}}
    batches = [first_batch(CloudData(ToyClouds(), objects=tmp_path / "made" / "here", **options)) for _ in range(2)]
    assert cut.call_count == 1
    assert [path.name for path in (tmp_path / "made" / "here").iterdir()] == [OBJECTS]
    batches.append(first_batch(CloudData(ToyClouds(), **options)))
    assert cut.call_count == 2
    for batch in batches[1:]:
        assert torch.equal(batch.points, batches[0].points)
    assert len(batches[0].points) > len(first_batch(CloudData(ToyClouds(), features={"power": 100.0})).points)


def test_nothing_is_kept_where_nothing_is_pasted(tmp_path: Path, cut: Mock) -> None:
    module = CloudData(ToyClouds(), objects=tmp_path / "objects")
    first_batch(module)
    module.check_objects()
    assert cut.call_count == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"train": ToyClouds(seed=1)},
        {"train": ToyClouds(count=7)},
        {"train": Swapped()},
        {"features": {}},
    ],
)
def test_objects_of_other_data_are_refused(tmp_path: Path, other: dict) -> None:
    options: dict[str, Any] = {
        "train": ToyClouds(),
        "features": {"power": 100.0},
        "paste": {"Pole": 1},
        "objects": tmp_path,
    }
    CloudData(**options).prepare_data()
    CloudData(**{**options, "features": {"power": 50.0}, "paste": {"Car": 1}}).check_objects()
    module = CloudData(**{**options, **other})
    for refused in (module.check_objects, lambda: first_batch(module)):
        with pytest.raises(InputError, match=rf"{tmp_path}.*objects of other data .*Delete it, .* another folder"):
            refused()


def test_a_folder_that_cannot_be_made_is_found_before_objects_are_cut(tmp_path: Path, cut: Mock) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "objects"):
        with pytest.raises(InputError, match=rf"{folder}: cannot hold objects .* Give another folder"):
            CloudData(ToyClouds(), paste={"Pole": 1}, objects=folder).check_objects()
    assert cut.call_count == 0


def test_cutting_that_is_interrupted_is_begun_again(tmp_path: Path, cut: Mock) -> None:
    cut.side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        CloudData(ToyClouds(), paste={"Pole": 1}, objects=tmp_path).prepare_data()
    assert not has_objects(tmp_path)
    cut.side_effect = None
    CloudData(ToyClouds(), paste={"Pole": 1}, objects=tmp_path).prepare_data()
    assert has_objects(tmp_path)


def test_a_configuration_names_the_folder(
    config: Path, arguments: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = yaml.safe_load(config.read_text())
    described["data"]["objects"] = "objects"
    config.write_text(yaml.safe_dump(described))
    monkeypatch.chdir(tmp_path)
    cli = FitCLI(arguments(tmp_path / "run"))
    assert cli.datamodule.objects == tmp_path / "objects"
    assert yaml.safe_load(cli.configuration())["data"]["objects"] == str(tmp_path / "objects")
    assert FitCLI(arguments(tmp_path / "run", "--data.objects=null")).datamodule.objects is None


def test_refused_objects_leave_an_earlier_run_as_it_was(arguments: Arguments, tmp_path: Path) -> None:
    folder, run = tmp_path / "objects", tmp_path / "run"
    CloudData(ToyClouds(seed=1), paste={"Pole": 1}, features={"power": 100.0}, objects=folder).prepare_data()
    run.mkdir()
    (run / "config.yaml").write_text("of an earlier run")
    with pytest.raises(InputError, match=rf"{folder}.*objects of other data"):
        fit(arguments(run, f"--data.objects={folder}", "--overwrite"))
    assert (run / "config.yaml").read_text() == "of an earlier run"
