"""Opening a scene: recognising its format, choosing its split, and checking it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from datasets.errors import InputError, SceneError
from datasets.scenes import splits
from datasets.scenes.cameras_json import read_cameras_json
from datasets.scenes.capture import Capture, half_up, scene_from
from datasets.scenes.colmap import find_model, read_colmap
from datasets.scenes.llff import read_llff
from datasets.scenes.splits import Split, SplitName
from datasets.scenes.transforms import read_transforms
from datasets.types import Scene

Kind = Literal["cameras_json", "transforms", "llff", "colmap", "builtin"]

READERS: dict[str, Callable[[Path, int], Capture]] = {
    "cameras_json": read_cameras_json,
    "transforms": read_transforms,
    "llff": read_llff,
    "colmap": read_colmap,
}


def open_scene(
    root: Path | str,
    kind: Kind | None = None,
    *,
    split: SplitName | None = None,
    views: int | None = None,
    nth: int = 8,
    train: Sequence[int] | None = None,
    test: Sequence[int] | None = None,
    downscale: int = 1,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Scene:
    """Open a folder of posed photos as a checked scene; the photos themselves are opened when asked for.

    The source's world is kept as it is, except that a scene very far from its origin is moved to it (float32 would
    lose its detail); ``Scene.scene_to_source`` leads back.

    Args:
        root: the scene's folder, or "builtin" for the scene that needs no files (a folder of that name needs its full
            path).
        kind: the format; None recognises it by cameras.json, transforms*.json, poses_bounds.npy, or a COLMAP model,
            in this order.
        split: a protocol's name; None takes the split that the source declares (Blender's files, cameras.json's
            ``split``), or trains on everything where it declares none.
        views: how many views train, spread over those that may; None takes all of them. Without effect on explicit
            indices.
        nth: for "every_nth": every nth view tests.
        train, test: explicit indices into the views (sorted by file name; Blender's train before its test views),
            instead of a split by name.
        downscale: 1/N of the full size. The source's own ``images_N`` is used where it exists; else photos are reduced
            by area averaging when loaded.
        background: colour in 0..1 that photos with an alpha channel are composited on.

    Raises:
        SceneError: naming the file, what was found, and the mend.
        InputError: for an unknown kind or split, or options that exclude one another.
    """
    if kind is not None and kind not in get_args(Kind):
        raise InputError(f"unknown kind of scene {kind!r}: choose one of {', '.join(get_args(Kind))}")
    if split is not None:
        splits.expect_split_name(split)
    if split is not None and (train is not None or test is not None):
        raise InputError(f"give either the split {split!r} or explicit train and test indices, not both")
    if (train is None) != (test is None):
        raise InputError("explicit train and test indices go together: give both (test may be empty)")
    if downscale < 1:
        raise InputError(f"downscale is {downscale}: give 1, 2, 4 ... for full, half, quarter size")
    root = Path(root)
    explicit = None if train is None or test is None else (tuple(train), tuple(test))
    if kind == "builtin" or (kind is None and root == Path("builtin")):
        return _open_builtin(split, views, explicit, downscale)
    if not root.is_dir():
        raise SceneError(root, "there is no such folder", "Give the folder that holds the scene")
    capture = READERS[kind or recognise(root)](root, downscale)
    mend = "At least two photos from different places are needed"
    if len(capture.frames) < 2:
        raise SceneError(capture.source, f"{len(capture.frames)} views", mend)
    try:
        scene = scene_from(capture, *(explicit or _choose(capture, split, views, nth)), background)
    except SceneError:
        raise
    except ValueError as error:
        raise SceneError(capture.source, str(error), "Choose another split or number of views") from error
    if len(scene.train) < 2:
        raise SceneError(capture.source, f"the split leaves {len(scene.train)} training views", mend)
    return scene


def _open_builtin(split: SplitName | None, views: int | None, explicit: Split | None, downscale: int) -> Scene:
    from datasets.scenes import builtin  # brings Open3D

    if split is not None:
        raise InputError(f"the built-in scene has its own split, not {split!r}: leave it out, or give indices")
    size = (half_up(builtin.SIZE[0] / downscale), half_up(builtin.SIZE[1] / downscale))
    try:
        return builtin.generate(size, views=views) if explicit is None else builtin.generate(size).with_split(*explicit)
    except ValueError as error:
        raise InputError(f"the built-in scene: {error}") from error


def recognise(root: Path) -> Kind:
    """The format of a scene's folder.

    Raises:
        SceneError: where it is none that is known.
    """
    if (root / "cameras.json").is_file():
        return "cameras_json"
    if (root / "transforms.json").is_file() or (root / "transforms_train.json").is_file():
        return "transforms"
    if (root / "poses_bounds.npy").is_file():
        return "llff"
    if find_model(root) is not None:
        return "colmap"
    raise SceneError(
        root,
        "holds no cameras.json, transforms.json, transforms_train.json, poses_bounds.npy or COLMAP model (sparse/0)",
        "Give the folder that directly holds one of them",
    )


def _choose(capture: Capture, split: SplitName | None, views: int | None, nth: int) -> Split:
    frames = capture.frames
    by_declared = {
        part: [i for i, frame in enumerate(frames) if frame.declared == part] for part in ("train", "test", None)
    }
    if split == "llff":
        return splits.every_nth(len(frames), views)
    if split == "every_nth":
        return splits.every_nth(len(frames), views, nth)
    if split == "dtu":
        return splits.dtu(len(frames), views)
    if split == "blender8":
        train, test = ([(i, frames[i].path.stem) for i in by_declared[part]] for part in ("train", "test"))
        return splits.blender8(train, test, views)
    pool = by_declared["train"] or by_declared[None]
    return splits.spread(pool, views), tuple(by_declared["test"])
