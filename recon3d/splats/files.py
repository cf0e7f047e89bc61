"""Saving and loading splats: the suffix chooses the format.

| suffix | holds | loses |
|---|---|---|
| .safetensors | everything | nothing (float32) |
| .ply | everything (what is not a Gaussian's goes into comments, which other programs drop) | nothing (float32) |
| .spz | Gaussians, antialiased | 8 to 24 bit quantisation, background, scene_to_source, fields |
| .splat | Gaussians without view-dependent colour | 8 bit colours and quaternions, all else |

Positions are in the scene's world in every format. Only SPZ prescribes axes of its own (right, up, back); the reader
and the writer convert, taking the scene's as right, down, forward, as Niantic's own converter does for PLY.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasets.files import replacing
from recon3d.splats import antimatter, ply, spz, tensors
from recon3d.splats.errors import SplatError
from recon3d.splats.splat import Splat, require_drawable

_WRITERS: dict[str, Callable[[Path, Splat], None]] = {
    ".safetensors": tensors.write,
    ".ply": ply.write,
    ".spz": spz.write,
    ".splat": antimatter.write,
}
_READERS: dict[str, Callable[[Path], Splat]] = {
    ".safetensors": tensors.read,
    ".ply": ply.read,
    ".spz": spz.read,
    ".splat": antimatter.read,
}
SUFFIXES = tuple(_WRITERS)


def save_splat(path: Path | str, splat: Splat) -> None:
    """Write ``splat`` to ``path`` in the format of its suffix; a file already there is replaced at once or not at all.

    Raises:
        SplatError: for an unknown suffix, or values that the format cannot hold (NaN, inf, zero quaternions).
        OSError: where the folder cannot be written.
    """
    path = Path(path)
    write = _WRITERS[_known_suffix(path)]
    require_drawable(path, splat, "Remove those Gaussians before saving.")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            write(temporary, splat)
    except SplatError as error:
        raise SplatError(path, error.found, error.mend) from error  # not the temporary name


def load_splat(path: Path | str) -> Splat:
    """Read a splat in the format of the suffix of ``path``, as float32 on the CPU.

    Raises:
        SplatError: for a file that is missing, unknown, damaged, or that claims more than it holds.
    """
    path = Path(path)
    read = _READERS[_known_suffix(path)]
    if not path.is_file():
        raise SplatError(path, "no such file", "Check the path.")
    splat = read(path)
    require_drawable(path, splat, "Export it again, or remove those Gaussians with the program that wrote it.")
    return splat


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        found = f"unknown splat format {path.suffix!r}" if path.suffix else "no suffix to tell the splat format by"
        raise SplatError(path, found, f"Use one of {', '.join(SUFFIXES)}.")
    return suffix
