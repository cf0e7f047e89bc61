"""The command ``recon3d render``: pictures, depth and video of a splat along a camera path."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from datasets.errors import InputError
from datasets.files import replacing
from datasets.pictures import read_picture, save_picture, to_bytes
from datasets.programs.devices import Device
from datasets.scenes import open_scene
from datasets.types import Cameras, Scene
from recon3d import paths
from recon3d.fitting.run_folder import SPLAT, write_text
from recon3d.pictures import colour_depth, depth_range, draw, heat
from recon3d.rendering_device import rendering_device
from recon3d.runs import CAMERAS, RENDERS, VIDEO, open_scene_of, open_splat
from recon3d.splats import Splat, load_splat
from recon3d.uncertainty import Evidence, Prediction, predict
from recon3d.video import write_video

SHAPES = ("orbit", "spiral", "between")
DIGEST = "splat_sha256"  # key by which cameras.json of this command is known
LARGEST_HALF = 6e4  # about what float16 holds
PREDICTED, PREDICTED_VIDEO = "predicted", "predicted.mp4"
UNPLACED = "a splat file does not say where the photos were taken"


def render(
    run: Path,
    *,
    path: str = "orbit",
    frames: int = 120,
    fps: int = 30,
    scale: float = 1.0,
    sweep: float | None = None,
    root: Path | None = None,
    out: Path | None = None,
    uncertainty: bool = False,
    device: Device = "auto",
    report: bool = True,
) -> None:
    """Render novel views of a fitted run, or of a splat file, along a path.

    Writes video.mp4, depth.mp4, and of each frame the picture (images/), the depth in colours and as numbers (depth/)
    with all cameras (cameras.json: the folder is a scene in turn) to RUN/renders/PATH. The video of a run also becomes
    RUN/video.mp4. Called again after an interruption, it keeps the frames that are there.

    Args:
        run: Folder of a run, or a splat file (.safetensors, .ply, .spz, .splat).
        path: orbit (around what the cameras look at), spiral (about the mean camera), between (through all train
            cameras), or a file with cameras, FILE.json, as in cameras.json.
        frames: Number of frames; a file has its own.
        fps: Frames a second of the video.
        scale: Size of the pictures relative to the photos, or to those of the file.
        sweep: Degrees of an orbit; by default what the cameras cover.
        root: Folder of the scene whose train cameras lead the path: of a run where it is now, if it was moved. A splat
            file needs one for spiral and between, and for the uncertainty, for which all photos count as fitted unless
            the scene declares a split: give the run's folder where there is one.
        out: Folder for the results, instead of RUN/renders/PATH or one beside the splat file.
        uncertainty: Whether to write the error that is predicted from the train cameras too, in the colours of
            `recon3d test`: predicted/NAME_predicted.png of each frame, and predicted.mp4.
        device: Where to render.
        report: Whether to write the run's report.html again, with the video.
    """
    if path not in SHAPES and Path(path).suffix != ".json":
        raise InputError(f"there is no path {path!r}: give one of {', '.join(SHAPES)}, or FILE.json with cameras")
    if not 0 < scale <= 16 or not 1 <= fps <= 240:
        raise InputError(f"scale is {scale} and fps {fps}: give a scale in 0..16 and 1 to 240 frames a second")
    is_run = not run.is_file()
    if uncertainty and not is_run and root is None:
        raise InputError(f"{run}: {UNPLACED}, so for its uncertainty give --root SCENE, or the run's folder")
    source = run / SPLAT if is_run else run
    splat = open_splat(run) if is_run else load_splat(run)
    on_device = splat.to(rendering_device(device))
    scene = _scene(run, root) if path in SHAPES or uncertainty else None
    if path in SHAPES:
        leading = _orbiting(run, splat, path) if scene is None else scene.cameras[list(scene.train)]
        cameras = _path(path, on_device, leading, frames, sweep or (360.0 if len(leading) == 1 else None))
    else:
        cameras = paths.from_json(Path(path), splat.scene_to_source)
    cameras = cameras.resized(scale)
    name = path if path in SHAPES else Path(path).stem
    folder = out or (run / RENDERS / name if is_run else run.with_name(f"{run.stem}_{name}"))
    video = render_frames(on_device, cameras, folder, source=source, fps=fps, scene=scene if uncertainty else None)
    if is_run:
        with replacing(run / VIDEO) as temporary:
            shutil.copyfile(video, temporary)
        video = run / VIDEO
    print(f"{len(cameras)} frames of {cameras.size[0]}x{cameras.size[1]}: {folder}")
    print(f"video: {video}")
    if uncertainty:
        print(f"predicted error: {folder / PREDICTED_VIDEO}")
    if is_run and report:
        from recon3d.report import write_report

        print(f"report: {write_report(run, root)}")


def render_frames(
    splat: Splat, cameras: Cameras, folder: Path, *, source: Path, fps: int = 30, scene: Scene | None = None
) -> Path:
    """Render ``cameras`` into ``folder`` (see :func:`render`); returns the path of the video.

    Args:
        splat: on the device to render on.
        cameras: F cameras of one size, in the splat's world.
        folder: for the results.
        source: the splat's file: frames of another splat, or of another path, are made anew.
        fps: frames a second of the video.
        scene: whose train cameras the errors are predicted from, which are then written too.

    Raises:
        InputError: where the folder holds something else than what this writes, which would be deleted.
    """
    listing = _listing(splat, cameras, hashlib.sha256(source.read_bytes()).hexdigest())
    listed = folder / CAMERAS
    before = listed.read_text(encoding="utf-8", errors="replace") if listed.is_file() else ""
    if DIGEST not in before and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: holds something else than frames of this command. Choose another --out")
    if before != listing:
        for old in ("images", "depth", PREDICTED):
            shutil.rmtree(folder / old, ignore_errors=True)
        (folder / PREDICTED_VIDEO).unlink(missing_ok=True)
        write_text(listed, listing)
    predictor = None if scene is None else _predictor(splat, scene, folder / PREDICTED)
    count = len(cameras)
    few = sorted({round(i) for i in np.linspace(0, count - 1, min(count, 8))})
    near, far = depth_range(draw(splat, camera.resized(0.25)).depth for camera in map(cameras.__getitem__, few))

    def colours() -> Iterator[np.ndarray]:
        for i in tqdm(range(count), desc="render", unit="frame"):
            picture = read_picture(folder / _image(i))
            if picture is None or (predictor and read_picture(folder / _predicted(i)) is None):
                prediction = predictor(cameras[i]) if predictor else None
                seen = prediction.picture if prediction else draw(splat, cameras[i])
                if prediction:
                    save_picture(folder / _predicted(i), heat(prediction.error))
                picture = to_bytes(seen.colour.cpu().numpy())
                _save_depth(folder / _depth(i), seen.depth * _unit(splat))
                save_picture((folder / _depth(i)).with_suffix(".png"), colour_depth(seen.depth, near, far))
                save_picture(folder / _image(i), picture)  # last: a frame whose picture is there is complete
            yield picture

    def depths() -> Iterator[np.ndarray]:
        for i in range(count):
            coloured = read_picture((folder / _depth(i)).with_suffix(".png"))
            if coloured is None:
                depth = np.load(folder / _depth(i), allow_pickle=False).astype(np.float32) / _unit(splat)
                coloured = colour_depth(depth, near, far)
            yield coloured

    def predictions() -> Iterator[np.ndarray]:
        for i in range(count):
            coloured = read_picture(folder / _predicted(i))
            assert coloured is not None  # or its frame was not complete
            yield coloured

    write_video(folder / "video.mp4", colours(), fps)
    write_video(folder / "depth.mp4", depths(), fps)
    if predictor:
        write_video(folder / PREDICTED_VIDEO, predictions(), fps)
    return folder / "video.mp4"


def _predictor(splat: Splat, scene: Scene, folder: Path) -> Callable[[Cameras], Prediction]:
    """Predicts errors from the train cameras of ``scene``; deletes what ``folder`` holds of predictions from others."""
    train, evidence = scene.cameras[list(scene.train)], Evidence.of(splat, scene)
    values = [part.numpy().tobytes() for part in (train.world_to_camera, train.intrinsics, train.sizes)]
    values.append(repr((evidence.guess, evidence.known_background)).encode())
    digest, kept = hashlib.sha256(b"".join(values)).hexdigest(), folder / "train.sha256"
    if not kept.is_file() or kept.read_text(encoding="utf-8", errors="replace") != digest:
        shutil.rmtree(folder, ignore_errors=True)
        (folder.parent / PREDICTED_VIDEO).unlink(missing_ok=True)
        write_text(kept, digest)
    return lambda camera: predict(splat, camera, evidence)


def focus_of(splat: Splat, cameras: Cameras) -> np.ndarray:
    """[3] point of the splat's world that ``cameras`` look at, by the depth they see in the middle of their images."""
    chosen = sorted({round(i) for i in np.linspace(0, len(cameras) - 1, min(len(cameras), 24))})
    few = cameras[chosen]
    depths = []
    for camera in map(few.__getitem__, range(len(few))):
        depth = draw(splat, camera.resized(0.25)).depth
        height, width = depth.shape
        middle = depth[height * 2 // 5 : height * 3 // 5 + 1, width * 2 // 5 : width * 3 // 5 + 1]
        seen = middle[middle > 0] if (middle > 0).any() else depth[depth > 0]
        depths.append(float(np.median(seen)) if len(seen) else np.nan)
    if np.isnan(depths).all():
        raise InputError("the cameras see nothing of the splat: is it of another scene?")
    return paths.focus_point(few, np.nan_to_num(depths, nan=float(np.nanmedian(depths))))


def camera_records(cameras: Cameras, splat: Splat) -> list[dict[str, Any]]:
    """Size, intrinsics and pose of each camera as cameras.json has them, in the world of the photos' source."""
    unit, to_world = _unit(splat), np.linalg.inv(splat.scene_to_source)
    width, height = cameras.size
    records = []
    for pose, k in zip(cameras.world_to_camera.double().numpy(), cameras.intrinsics, strict=True):
        moved = pose.copy()
        moved[:3] *= unit
        focal = {"fx": float(k[0, 0]), "fy": float(k[1, 1]), "cx": float(k[0, 2]), "cy": float(k[1, 2])}
        records.append({"width": width, "height": height, **focal, "w2c": (moved @ to_world).tolist()})
    return records


def _path(shape: str, splat: Splat, leading: Cameras, frames: int, sweep: float | None) -> Cameras:
    focus = focus_of(splat, leading)
    if shape == "orbit":
        return paths.orbit(leading, focus, frames, sweep)
    return paths.spiral(leading, focus, frames) if shape == "spiral" else paths.between(leading, focus, frames)


def _scene(run: Path, root: Path | None) -> Scene | None:
    """The scene of a run, or the one given for a splat file."""
    if not run.is_file():
        return open_scene_of(run, root)
    return None if root is None else open_scene(root)


def _orbiting(run: Path, splat: Splat, shape: str) -> Cameras:
    """For a splat file alone, one camera that looks at all of it (y down, as photogrammetry has it)."""
    if shape != "orbit":
        raise InputError(f"{run}: {UNPLACED}, so for {shape} give --root SCENE")
    means = splat.gaussians.means.double().numpy()
    if len(means) == 0:
        raise InputError(f"{run}: holds no Gaussians")
    middle = np.median(means, axis=0)
    radius = max(float(np.percentile(np.linalg.norm(means - middle, axis=1), 80)), 1e-6)
    up = np.array([0.0, -1.0, 0.0])
    pose = paths.look_at(middle + radius * np.array([0.0, -1.1, -3.4]), middle, up)
    intrinsics = torch.tensor([[[860.0, 0, 480], [0, 860, 270], [0, 0, 1]]])
    return Cameras(torch.from_numpy(pose[None]).float(), intrinsics, torch.tensor([[960, 540]]))


def _unit(splat: Splat) -> float:
    """Length in the source's world of one unit of the splat's."""
    return float(np.cbrt(np.linalg.det(splat.scene_to_source[:3, :3])))


def _image(index: int) -> str:
    return f"images/{index:05d}.png"


def _depth(index: int) -> str:
    return f"depth/{index:05d}.npy"


def _predicted(index: int) -> str:
    return f"{PREDICTED}/{index:05d}_predicted.png"


def _save_depth(path: Path, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        np.save(temporary, depth.astype(np.float16 if depth.max() < LARGEST_HALF else np.float32))


def _listing(splat: Splat, cameras: Cameras, digest: str) -> str:
    """cameras.json in the source's world, with the splat's digest."""
    records = camera_records(cameras, splat)
    frames = [{"file": _image(i), **record, "depth": _depth(i)} for i, record in enumerate(records)]
    return json.dumps({DIGEST: digest, "frames": frames}, indent=1) + "\n"
