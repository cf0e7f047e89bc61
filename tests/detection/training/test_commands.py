"""``detect3d test``, ``predict``, ``check``, ``benchmark`` and ``demo`` on small data."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from toy import CONFIG, ToyClouds

from datasets.errors import InputError
from datasets.pointclouds.kitti_labels import read_objects
from datasets.pointclouds.types import Boxes3D, PointCloudBatch
from detection import __main__ as program
from detection import demo
from detection.benchmark import benchmark, summary, text_table
from detection.check_command import check_config
from detection.evaluate import evaluate, evaluate_run, one_per_object
from detection.predict import predict_clouds
from detection.protocols import KittiProtocol
from detection.trained import MODEL, load_model, save_model

HEAVY = ("torch", "numpy", "lightning", "open3d", "cv2", "numba", "scipy", "jsonargparse")


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom detection.__main__ import main\ncode = main(['--help'])\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout
    for name in program.COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_every_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in program.COMMANDS:
        with pytest.raises(SystemExit) as stop:
            program.main([name, "--help"])
        assert stop.value.code == 0
        assert f"usage: detect3d {name}" in capsys.readouterr().out


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["predcit"]) == 2
    assert "Did you mean 'predict'?" in capsys.readouterr().err


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A run folder of one's own."""
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def test_test_scores_and_draws(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_run(run, pictures=2)
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["values"]) == {
        f"{name} {metric} 0.1 all{exact}"  # both, as there are few objects
        for name in ("Car", "Pole")
        for metric in ("bev", "3d")
        for exact in ("", " exact")
    }
    assert metrics["frames"] == 3
    assert "| Car bev | 0.1 |" in capsys.readouterr().out
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["000.png", "001.png"]


class Knows(torch.nn.Module):
    """A detector that finds what is annotated."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.zeros(1))

    def detect(self, batch: PointCloudBatch) -> list[Boxes3D]:
        assert batch.boxes is not None
        return [replace(boxes, scores=torch.linspace(0.9, 0.8, len(boxes))) for boxes in batch.boxes]


def test_every_frame_is_scored_against_its_own_annotation() -> None:
    protocol = KittiProtocol(overlaps=[{"Car": 0.7, "Pole": 0.5}], metrics=["bev", "3d"])
    values = evaluate(Knows().eval(), ToyClouds(6), {"power": 100}, protocol).values  # type: ignore[arg-type]
    exact = {name: value for name, value in values.items() if name.endswith("exact")}
    names = ("Car bev 0.7", "Car 3d 0.7", "Pole bev 0.5", "Pole 3d 0.5")
    assert exact == pytest.approx({f"{name} all exact": 100.0 for name in names})


def test_test_without_test_data_or_model(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["test"] = None
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="`data` has no `test`"):
        evaluate_run(run)
    (run / MODEL).unlink()
    with pytest.raises(InputError, match=f"holds no {MODEL}"):
        evaluate_run(run)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_names": ("Pole", "Car")}, r"finds \('Pole', 'Car'\), but the test data have \('Car', 'Pole'\)"),
        ({"channels": ("x", "y", "z"), "features": None}, "trained on points of .* but the test data have"),
    ],
)
def test_test_data_that_do_not_fit_the_detector(run: Path, tmp_path: Path, changed: dict, message: str) -> None:
    save_model(run / MODEL, replace(load_model(run), **changed))
    with pytest.raises(InputError, match=message):
        evaluate_run(run)
    with pytest.raises(InputError, match=message):
        predict_clouds(run, [], out=tmp_path / "found")
    assert not (tmp_path / "found").exists()


def write_cloud(folder: Path, name: str = "000001") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ToyClouds()[0].points.numpy().astype("<f4").tofile(folder / f"{name}.bin")
    return folder / f"{name}.bin"


def test_predict_writes_json_text_and_pictures(run: Path, tmp_path: Path) -> None:
    cloud, out = write_cloud(tmp_path / "clouds"), tmp_path / "found"
    predict_clouds(run, [tmp_path / "clouds"], out=out, score=0.0)
    document = json.loads((out / "000001.json").read_text())
    assert document["cloud"] == cloud.name
    assert document["class_names"] == ["Car", "Pole"]
    boxes = np.array(document["boxes"])
    assert boxes.shape == (len(document["labels"]), 7)
    assert len(boxes) == len(document["scores"]) > 0
    assert document["scores"] == sorted(document["scores"], reverse=True)
    least = float(np.median(document["scores"]))
    predict_clouds(run, [cloud], out=tmp_path / "fewer", score=least, pictures=False)
    fewer = json.loads((tmp_path / "fewer" / "000001.json").read_text())["scores"]
    assert 0 < len(fewer) < len(boxes)
    assert min(fewer) > least - 1e-4
    objects = read_objects(out / "000001.txt", scored=True)
    assert objects.names.tolist() == [document["class_names"][label] for label in document["labels"]]
    np.testing.assert_allclose(objects.locations[:, 2], boxes[:, 0], atol=1e-3)  # depth is x
    np.testing.assert_allclose(objects.sizes[:, 0], boxes[:, 5], atol=1e-3)
    picture = cv2.imread(str(out / "000001.png"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    seen = cv2.imread(str(out / "000001_3d.png"))
    assert seen.shape == (540, 960, 3)
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 10


def test_what_several_classes_claim_is_shown_once() -> None:
    car, beside = [10.0, 0, 0, 4, 2, 1.5, 0.3], [10.0, 3, 0, 4, 2, 1.5, 0.3]
    boxes = torch.tensor([car, [10.3, 0, 0, 4.4, 2, 2, 0.3], beside, [10.0, 0.2, 0, 0.8, 0.6, 1.7, 0], car])
    found = Boxes3D(boxes, torch.tensor([0, 1, 0, 2, 1]), torch.tensor([0.7, 0.8, 0.5, 0.4, 0.2]))
    shown = one_per_object(found, 0.3)
    # The van hides the car; a pedestrian beside its door is small and stays; what is too unsure hides nothing.
    assert shown.labels.tolist() == [1, 0, 2]
    assert torch.equal(shown.boxes, boxes[[1, 2, 3]])
    assert one_per_object(found[torch.zeros(0, dtype=torch.int64)], 0.3).boxes.shape == (0, 7)


def test_bfloat16_finds_about_the_same(run: Path, tmp_path: Path) -> None:
    cloud = write_cloud(tmp_path / "clouds")
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        predict_clouds(run, [cloud], out=tmp_path / precision, score=0.2, pictures=False, precision=precision)
        found[precision] = json.loads((tmp_path / precision / "000001.json").read_text())
    exact, rough = found["32-true"]["scores"], found["bf16-mixed"]["scores"]
    assert exact != rough, "bfloat16 was asked for"
    np.testing.assert_allclose(rough[:20], exact[:20], rtol=0.03)
    evaluate_run(run, pictures=1, precision="bf16-mixed")
    assert json.loads((run / "metrics.json").read_text())["precision"] == "bf16-mixed"


def test_predict_uses_the_camera_of_kittis_layout(run: Path, tmp_path: Path) -> None:
    cloud = write_cloud(tmp_path / "training" / "velodyne")
    for folder in ("calib", "image_2"):
        (tmp_path / "training" / folder).mkdir()
    (tmp_path / "training" / "calib" / "000001.txt").write_text(
        "P2: 100 0 80 0 0 100 60 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0.5\n"
    )
    cv2.imwrite(str(tmp_path / "training" / "image_2" / "000001.png"), np.full((120, 160, 3), 40, np.uint8))
    predict_clouds(run, [cloud], out=tmp_path / "found", score=0.0)
    document = json.loads((tmp_path / "found" / "000001.json").read_text())
    objects = read_objects(tmp_path / "found" / "000001.txt", scored=True)
    np.testing.assert_allclose(objects.locations[:, 2], np.array(document["boxes"])[:, 0] + 0.5, atol=1e-3)
    assert (objects.boxes_2d.max(axis=0) > 0).any()
    drawn = cv2.imread(str(tmp_path / "found" / "000001_photo.png"))
    assert drawn.shape == (120, 160, 3)
    assert (drawn != 40).any()


def test_predict_without_clouds_takes_the_runs_test_data(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    predict_clouds(run, [], out=out, score=0.0)
    evaluate_run(run, pictures=3, score=0.0)
    names = sorted(path.name for path in (run / "pictures").iterdir())
    assert names == ["000.png", "001.png", "002.png"]
    for name in names:
        assert (out / name).read_bytes() == (run / "pictures" / name).read_bytes()
        assert cv2.imread(str(out / name.replace(".", "_3d."))).shape == (540, 960, 3)
        assert json.loads((out / name.replace("png", "json")).read_text())["cloud"] == name[:3]
    with pytest.raises(InputError, match="a detector without data: give clouds"):
        predict_clouds(run / MODEL, [], out=out)
    with pytest.raises(InputError, match=r"--root says where .* leave one of them out"):
        predict_clouds(run, [write_cloud(tmp_path / "clouds")], out=out, root=tmp_path)


def test_predict_says_what_is_wrong_with_clouds(run: Path, tmp_path: Path) -> None:
    cloud = write_cloud(tmp_path / "clouds")
    with pytest.raises(InputError, match=r"nowhere\.bin: there is no such file"):
        predict_clouds(run, [tmp_path / "nowhere.bin"], out=tmp_path / "found")
    with pytest.raises(InputError, match="several clouds are called 000001"):
        predict_clouds(run, [cloud, write_cloud(tmp_path / "others")], out=tmp_path / "found")
    own = cloud.rename(cloud.with_name("n015__LIDAR_TOP__15.pcd.bin"))
    with pytest.raises(InputError, match=r"a cloud of nuScenes, which has axes of its own"):
        predict_clouds(run, [own], out=tmp_path / "found")
    cloud = own.rename(cloud)
    cloud.write_bytes(cloud.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"000001\.bin: .*no whole number of points of 4 float32"):
        predict_clouds(run, [cloud], out=tmp_path / "found")


def test_predict_skips_bad_clouds_if_asked_to(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [write_cloud(tmp_path / "clouds", name) for name in ("a", "c")]
    bad = write_cloud(tmp_path / "clouds", "b")
    bad.write_bytes(bad.read_bytes()[:-5])
    words = ["predict", str(run), str(tmp_path / "clouds"), "--out", str(tmp_path / "found"), "--pictures=false"]
    assert program.main(words) == 1
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["a.json", "a.txt"]
    assert program.main([*words, "--on-bad", "skip"]) == 0
    assert sorted(path.name for path in (tmp_path / "found").glob("*.json")) == ["a.json", "c.json"]
    printed = capsys.readouterr()
    assert re.search(r"skipped: .*/b\.bin: holds \d+ bytes, which is no whole number", printed.err)
    assert re.search(r"boxes in 2 clouds, 1 more skipped: .*/found\n$", printed.out)
    for path in good:
        path.unlink()
    assert program.main([*words, "--on-bad=skip"]) == 1
    assert "none of 1 clouds can be used; the first: " in capsys.readouterr().err
    assert program.main([*words[:2], str(tmp_path / "nowhere.bin"), *words[3:], "--on-bad=skip"]) == 1


def test_a_cloud_without_a_finite_point_has_no_boxes(run: Path, tmp_path: Path) -> None:
    cloud, out = tmp_path / "a.npy", tmp_path / "found"
    np.save(cloud, np.full((20, 4), np.nan, np.float32))
    with pytest.warns(UserWarning, match=r"a\.npy: 20 of 20 points hold NaN or infinity; they are left out"):
        predict_clouds(run, [cloud], out=out)
    assert json.loads((out / "a.json").read_text())["boxes"] == []
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.png", "a.txt"]


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """Two clouds in a folder of one's own, the second with a camera that has a photo."""
    folder = tmp_path / "own"
    for name in ("a", "b"):
        write_cloud(folder / "clouds", name)
    for part in ("cameras", "images"):
        (folder / part).mkdir()
    pose = [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0.5], [0, 0, 0, 1]]
    camera = {"image": "images/b.png", "width": 160, "height": 120, "fx": 100, "fy": 100, "cx": 80, "cy": 60}
    (folder / "cameras" / "b.json").write_text(json.dumps({"cameras": [{**camera, "w2c": pose}]}))
    cv2.imwrite(str(folder / "images" / "b.png"), np.full((120, 160, 3), 40, np.uint8))
    return folder


@pytest.mark.parametrize("given", ["clouds", "test data"])
def test_predict_draws_into_the_photos_of_a_folder_of_ones_own(
    run: Path, own_folder: Path, tmp_path: Path, given: str
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    data = {"root": str(own_folder), "class_names": ["Car", "Pole"], "channels": list(ToyClouds()[0].channels)}
    data |= {"labelled": False}
    config["data"]["test"] = {"class_path": "datasets.pointclouds.custom.CustomDataset", "init_args": data}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "found"
    predict_clouds(run, [own_folder / "clouds"] if given == "clouds" else [], out=out, score=0.0)
    assert [path.name for path in out.glob("*_photo*")] == ["b_photo.png"]
    drawn = cv2.imread(str(out / "b_photo.png"))
    assert drawn.shape == (120, 160, 3)
    assert (drawn != 40).any()


@pytest.mark.parametrize("bad", ["a", "b"])
@pytest.mark.parametrize("how", ["cut off", "NaN"])
def test_predict_skips_bad_clouds_of_the_test_data(
    run: Path, own_folder: Path, tmp_path: Path, bad: str, how: str
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    data = {"root": str(own_folder), "class_names": ["Car", "Pole"], "channels": list(ToyClouds()[0].channels)}
    data |= {"labelled": False, "on_bad_frame": "error", "invalid_points": "error"}
    config["data"]["test"] = {"class_path": "datasets.pointclouds.custom.CustomDataset", "init_args": data}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    path = own_folder / "clouds" / f"{bad}.bin"
    nan = np.full(4, np.nan, np.float32).tobytes()
    path.write_bytes(path.read_bytes()[:-5] if how == "cut off" else nan + path.read_bytes()[16:])
    out = tmp_path / "found"
    with pytest.raises(InputError, match=rf"{bad}\.bin"):
        predict_clouds(run, [], out=out, pictures=False)
    with warnings.catch_warnings(record=True):
        predict_clouds(run, [], out=out, pictures=False, on_bad="skip")
    assert sorted(path.name for path in out.glob("*.json")) == ["b.json" if bad == "a" else "a.json"]


def test_a_cloud_whose_photo_is_damaged_leaves_no_results(
    run: Path, own_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = own_folder / "images" / "b.png"
    photo.write_bytes(photo.read_bytes()[:-20])
    predict_clouds(run, [own_folder / "clouds"], out=tmp_path / "found", on_bad="skip")
    assert "b.png: is a truncated image" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "found").glob("*.json")) == ["a.json"]


REFUSALS = {
    "missing": "there is no such file",
    "text": "cannot be read",
    "truncated": "cannot be read",
    "foreign": "is not a detector",
    "earlier version": "was trained by another version",
    "other network": "do not fit its network",
    "no class": "cannot be built",
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_is_no_model_is_refused_by_name(run: Path, tmp_path: Path, kind: str) -> None:
    path = run / MODEL
    if kind == "missing":
        path.unlink()
    elif kind == "text":
        path.write_text("weights")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "foreign":
        save_file({"a": torch.zeros(2)}, path)
    else:
        trained = load_model(path)
        config = json.loads(json.dumps(trained.config))
        if kind == "other network":
            config["init_args"]["head"]["init_args"]["channels"] = 16
        elif kind == "no class":
            config["init_args"]["head"]["class_path"] = "subprocess.Popen"
        about = {"detector": config, "class_names": ["Car", "Pole"], "channels": list("xyzp"), "features": None}
        state = {name: value.contiguous() for name, value in trained.detector.state_dict().items()}
        version = "detect3d-1" if kind == "earlier version" else "detect3d-2"
        save_file(state, path, {"format": version, "about": json.dumps(about)})
    with pytest.raises(InputError, match=REFUSALS[kind]) as refusal:
        load_model(path)
    assert MODEL in str(refusal.value)


def test_check_explains(run: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_config(config, frames=6, out=tmp_path / "pictures")
    assert "| Car | 6 |" in capsys.readouterr().out
    assert (tmp_path / "pictures" / "frame_0.png").is_file()
    spoiled = CONFIG.replace("point_range: [0, -8,", "point_range: [9, -8,")
    config.write_text(spoiled)
    with pytest.raises(InputError, match="have errors"):
        check_config(config, frames=6)
    assert "boxes lie outside x" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "message"), [("a: [", "not readable YAML"), ("model: {}", "no section `data`")])
def test_check_of_what_is_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        check_config(tmp_path / "a.yaml")


def result(seed: int, value: float | None) -> dict:
    return {"seed": seed, "seconds": 5.0, "peak_mb": 300.0, "network_ms": 7.0, "values": {"Car 3d": value}}


def test_mean_and_spread_over_seeds() -> None:
    table = summary([result(0, 19.0), result(1, 20.0), result(2, 24.0)])
    assert table["mean"]["Car 3d"] == pytest.approx(21.0)
    assert table["std"]["Car 3d"] == pytest.approx(7**0.5)
    assert "| Car 3d | 21.00 | 2.65 | 19.00 | 20.00 | 24.00 |" in text_table(table)
    table = summary([result(0, None)])
    assert table["std"]["Car 3d"] is None
    assert "| Car 3d | – | – | – |" in text_table(table)


def test_benchmark_keeps_finished_seeds_and_refuses_others(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    digest = hashlib.sha256(config.read_bytes()).hexdigest()
    about = {"config": "toy.yaml", "config_sha256": digest, "root": None}
    for seed in range(2):
        (out / f"seed_{seed}.json").write_text(json.dumps({**result(seed, 19.0 + seed), "about": about}))
    benchmark(config, out=out, seeds=2)
    assert json.loads((out / "table.json").read_text())["mean"]["Car 3d"] == pytest.approx(19.5)
    config.write_text(CONFIG + "\nseed: 3\n")
    with pytest.raises(InputError, match=r"seed_0\.json.*config_sha256.*another --out"):
        benchmark(config, out=out, seeds=2)


def test_benchmark_trains_and_tests(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).resolve().parents[3]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{Path(__file__).parent}")
    benchmark(config, out=tmp_path / "out", seeds=1)
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["mean"]["seconds"] > 0
    assert table["mean"]["network_ms"] > 0
    assert "Car bev 0.1 all" in table["mean"]
    config.write_text("nonsense: 1\n")
    with pytest.raises(InputError, match="exit code"):
        benchmark(config, out=tmp_path / "other", seeds=1)


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(demo.CONFIG.read_text())
    for which in ("train", "test"):
        config["data"][which]["init_args"].update(count=2, beams="vlp16")
    config["data"].update(workers=0)
    config["trainer"]["max_epochs"] = 1
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(demo, "CONFIG", small)
    mine = write_cloud(tmp_path / "clouds", "mine")
    for cloud, name in ((None, "sweep"), (mine, "mine")):  # an earlier demo is replaced
        demo.demo(out=tmp_path / "demo", cloud=cloud)
        printed = capsys.readouterr().out
        for path in ("run/metrics.json", "run/pictures", f"found/{name}.png", f"found/{name}.json"):
            assert str(tmp_path / "demo" / path) in printed
            assert (tmp_path / "demo" / path).exists()
        assert f"view3d {cloud or tmp_path / 'demo' / 'sweep.npy'} " in printed
