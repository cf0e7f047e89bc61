"""Simulated sweeps that are kept once they were made: making one takes a hundred times as long as reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from datasets.errors import SceneError
from datasets.files import replacing
from datasets.pointclouds.simulator.beams import BeamsName
from datasets.pointclouds.simulator.streets import SimulatedStreets
from datasets.pointclouds.types import Boxes3D, PointCloudSample


class StoredStreets(SimulatedStreets):
    """:class:`SimulatedStreets`, each sweep of which is made when it is first asked for and then read from a file.

    Sweeps of other settings in the same folder are kept apart.

    Args:
        folder: where the sweeps are kept; made if it does not exist. Delete it after a change of the simulator.
        count, class_names, beams, seed, min_points: as of SimulatedStreets.

    Raises:
        InputError: for an unknown class or model.
    """

    def __init__(
        self,
        folder: Path | str,
        count: int = 1000,
        class_names: Sequence[str] = ("Car", "Pedestrian", "Cyclist"),
        *,
        beams: BeamsName = "hdl64",
        seed: int = 0,
        min_points: int = 5,
    ) -> None:
        super().__init__(count, class_names, beams=beams, seed=seed, min_points=min_points)
        self.folder = Path(folder) / "_".join([beams, f"seed{seed}", f"points{min_points}", *class_names])

    def __getitem__(self, index: int) -> PointCloudSample:
        if not 0 <= index < self.count:
            raise IndexError(f"sweep {index} of {self.count}")
        path = self.folder / f"{index:06d}.safetensors"
        if not path.is_file():
            self._make(index, path)
        try:
            kept = load_file(path)
            boxes = Boxes3D(kept["boxes"], kept["labels"], point_counts=kept["point_counts"])
            return PointCloudSample(
                f"{self.seed:03d}_{index:06d}", kept["points"], self.channels, self.class_names, boxes
            )
        except (SafetensorError, KeyError, ValueError) as error:
            raise SceneError(path, f"is not a stored sweep ({error!r})", "Delete it; it is then made again") from error

    def _make(self, index: int, path: Path) -> None:
        sample = super().__getitem__(index)
        boxes = sample.boxes
        assert boxes is not None
        assert boxes.point_counts is not None
        tensors = {
            "points": sample.points,
            "boxes": boxes.boxes,
            "labels": boxes.labels,
            "point_counts": boxes.point_counts,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            save_file({name: value.contiguous() for name, value in tensors.items()}, part)
