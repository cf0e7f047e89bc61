"""The files of a COLMAP model, binary and text, read with every length checked.

This is our own reader of a small, stable format because pycolmap's never returns from a truncated binary file. In
tests it is held against models that pycolmap writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import SceneError
from datasets.scenes.files import read_bytes

MEND = "Write the model again with COLMAP"
PARAMETERS = {  # by COLMAP's model number: name and count, of those that are read; others are undistorted by COLMAP
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
}
COUNTS = dict(PARAMETERS.values())


@dataclass(frozen=True)
class ColmapCamera:
    """A lens: COLMAP's model name, the photo's size in pixels, and the model's parameters."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """A posed photo: world-to-camera rotation (wxyz quaternion) and translation, its camera and file name."""

    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera: int
    name: str


@dataclass(frozen=True)
class ColmapPoint:
    """A point: position, colour in 0..255, and the numbers of the images that saw it."""

    xyz: tuple[float, ...]
    rgb: tuple[int, ...]
    images: tuple[int, ...]


@dataclass(frozen=True)
class ColmapModel:
    """Cameras and images by COLMAP's numbers, and all points."""

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: list[ColmapPoint]


def read_model(folder: Path, suffix: str) -> ColmapModel:
    """The model in ``folder`` whose files end in ``suffix``, ".bin" or ".txt". points3D may be absent.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    cameras, images, points = (folder / f"{part}{suffix}" for part in ("cameras", "images", "points3D"))
    if suffix == ".bin":
        return ColmapModel(
            _binary_cameras(cameras), _binary_images(images), _binary_points(points) if points.is_file() else []
        )
    return ColmapModel(_text_cameras(cameras), _text_images(images), _text_points(points) if points.is_file() else [])


class _Bytes:
    """A file read from front to back; asking for more than it holds is a SceneError."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.position = path, read_bytes(path), 0

    def take(self, layout: str) -> tuple:
        """The next values, as ``struct`` (little-endian) lays them out."""
        start = self.position
        self.skip(struct.calcsize("<" + layout))
        return struct.unpack_from("<" + layout, self.data, start)

    def skip(self, count: int) -> None:
        if count > len(self.data) - self.position:
            raise SceneError(self.path, f"ends after {len(self.data)} bytes, in the middle of a record", MEND)
        self.position += count

    def text(self) -> str:
        """The next zero-terminated string."""
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise SceneError(self.path, f"ends after {len(self.data)} bytes, in the middle of a name", MEND)
        start, self.position = self.position, end + 1
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError as error:
            raise SceneError(self.path, f"holds a name that is no text: {self.data[start:end]!r}", MEND) from error

    def finish(self) -> None:
        if self.position != len(self.data):
            raise SceneError(self.path, f"holds {len(self.data) - self.position} bytes after its last record", MEND)


def _binary_cameras(path: Path) -> dict[int, ColmapCamera]:
    file, cameras = _Bytes(path), {}
    for _ in range(file.take("Q")[0]):
        number, model, width, height = file.take("IiQQ")
        if model not in PARAMETERS:
            raise _unknown_lens(path, f"number {model}")
        name, count = PARAMETERS[model]
        cameras[number] = ColmapCamera(name, width, height, file.take(f"{count}d"))
    file.finish()
    return cameras


def _binary_images(path: Path) -> dict[int, ColmapImage]:
    file, images = _Bytes(path), {}
    for _ in range(file.take("Q")[0]):
        number, *pose, camera = file.take("I7dI")
        images[number] = ColmapImage(tuple(pose[:4]), tuple(pose[4:]), camera, file.text())
        file.skip(24 * file.take("Q")[0])  # where on the photo each point lies
    file.finish()
    return images


def _binary_points(path: Path) -> list[ColmapPoint]:
    file, points = _Bytes(path), []
    for _ in range(file.take("Q")[0]):
        _, x, y, z, r, g, b, _, length = file.take("Q3d3BdQ")
        file.skip(8 * length)
        track = struct.unpack_from(f"<{2 * length}I", file.data, file.position - 8 * length)
        points.append(ColmapPoint((x, y, z), (r, g, b), track[::2]))
    file.finish()
    return points


def _lines(path: Path) -> Iterator[str]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SceneError(path, "is not UTF-8 text", MEND) from error
    return (line for line in text.splitlines() if not line.startswith("#"))


def _text_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for line in filter(str.strip, _lines(path)):
        try:
            number, model, width, height, *parameters = line.split()
            cameras[int(number)] = ColmapCamera(model, int(width), int(height), tuple(map(float, parameters)))
        except ValueError as error:
            raise _bad_line(path, line) from error
        if model not in COUNTS:
            raise _unknown_lens(path, model)
        if len(parameters) != COUNTS[model]:
            raise _bad_line(path, line)
    return cameras


def _text_images(path: Path) -> dict[int, ColmapImage]:
    images = {}
    lines = _lines(path)
    for line in lines:
        if not line.strip():
            continue
        try:
            number, *pose, camera, name = line.split(maxsplit=9)
            w, x, y, z, *translation = map(float, pose)
            tx, ty, tz = translation
            images[int(number)] = ColmapImage((w, x, y, z), (tx, ty, tz), int(camera), name.strip())
        except ValueError as error:
            raise _bad_line(path, line) from error
        points = next(lines, "").split()  # where on the photo each point lies; may be empty
        if len(points) % 3 or (points and not points[-1].lstrip("-").isdigit()):
            found = f"holds the line {' '.join(points)[:80]!r} where the points of {name.strip()} should be"
            raise SceneError(path, found, "Leave the line after each image empty where it has no points")
    return images


def _text_points(path: Path) -> list[ColmapPoint]:
    points = []
    for line in filter(str.strip, _lines(path)):
        try:
            _, x, y, z, r, g, b, _, *track = line.split()
            xyz, rgb = (float(x), float(y), float(z)), (int(r), int(g), int(b))
            points.append(ColmapPoint(xyz, rgb, tuple(map(int, track[::2]))))
        except ValueError as error:
            raise _bad_line(path, line) from error
    return points


def _bad_line(path: Path, line: str) -> SceneError:
    return SceneError(path, f"holds the line {line[:80]!r}, which is not as COLMAP writes it", MEND)


def _unknown_lens(path: Path, model: str) -> SceneError:
    known = ", ".join(COUNTS)
    return SceneError(path, f"has the camera model {model}; known are {known}", "Run COLMAP's image_undistorter first")
