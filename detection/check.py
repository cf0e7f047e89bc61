"""What is wrong with a data set: the questions to ask before, or after, a detector finds nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.errors import InputError
from datasets.pictures import save_picture
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.boxes import points_in_boxes
from datasets.pointclouds.types import PointCloudSample
from detection.check_alignment import explain
from detection.check_pictures import annotated_frame, objects_of_class
from detection.interleaved import turns

POOR_FIT = 0.35  # mean share of an object's points that boxes hold, below which they do not lie on objects
EMPTY_SHARE = 0.3  # share of boxes without points that is worth a warning
OUTSIDE_SHARE = 0.1  # share of boxes, or of objects' points, outside the range that is worth an error
FARTHEST = 300.0  # metres that no LiDAR or radar of a car sees
HUGE = 30.0  # metres that no class of road user is long
PICTURES = 4


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or that may be (warning), with what was measured, and the mend."""

    level: Literal["error", "warning"]
    subject: str
    found: str
    mend: str

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {self.found}. {self.mend}."


@dataclass(frozen=True)
class ClassSummary:
    """What the checked frames hold of a class: boxes, median points in a box, share of empty boxes, median size."""

    name: str
    boxes: int
    points: float
    empty: float
    size: tuple[float, float, float]


@dataclass(frozen=True)
class CheckReport:
    """Result of :func:`check`.

    Attributes:
        findings: errors first.
        classes: one summary for each class.
        frames: how many frames were looked at.
        fit: mean share of the points in and closely around boxes that are inside; a sound LiDAR set has 0.6 to 0.9.
        pictures: files written.
    """

    findings: tuple[Finding, ...]
    classes: tuple[ClassSummary, ...]
    frames: int
    fit: float
    pictures: tuple[Path, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether there are no errors."""
        return not any(finding.level == "error" for finding in self.findings)

    def text(self) -> str:
        """The report as Markdown."""
        lines = [f"{self.frames} frames looked at; boxes hold {self.fit:.0%} of the points in and closely around them."]
        lines += [
            "",
            "| class | boxes | points (median) | empty | length x width x height (median) |",
            "|---|---|---|---|---|",
        ]
        for one in self.classes:
            size = " x ".join(f"{value:.2f}" for value in one.size) if one.boxes else "–"
            points = f"{one.points:.0f} | {one.empty:.0%}" if one.boxes else "– | –"
            lines.append(f"| {one.name} | {one.boxes} | {points} | {size} |")
        lines += ["", *(f"- {finding}" for finding in self.findings)]
        return "\n".join(lines if self.findings else [*lines, "Nothing is wrong that could be seen."])


def check(
    samples: Samples,
    *,
    point_range: Sequence[float] | None = None,
    source_classes: Mapping[str, int] | None = None,
    frames: int = 50,
    seed: int = 0,
    out: Path | None = None,
) -> CheckReport:
    """Look at a data set and say what is wrong with it.

    Args:
        samples: annotated samples.
        point_range: x, y, z low, then x, y, z high, to which a detector cuts the points, or None.
        source_classes: how often each class stands in the labels, chosen or not, to suggest what a name should be.
        frames: how many frames to look at, drawn at random.
        seed: of the drawing.
        out: folder for pictures of a few frames from above, and of all objects of each class; None draws none.

    Raises:
        InputError: for no samples, a range that is none, and no frames to look at. Samples that cannot be opened raise
            their own errors.
    """
    if not len(samples):
        raise InputError("the data set has no frames to check")
    if frames < 1:
        raise InputError(f"frames is {frames}: give how many to look at, 1 or more")
    if point_range is not None and (
        len(point_range) != 6 or any(low >= high for low, high in zip(point_range[:3], point_range[3:], strict=False))
    ):
        raise InputError(f"point_range is {list(point_range)}: give x, y, z low, then x, y, z high")
    chosen = np.random.default_rng(seed).permutation(len(samples))[:frames]
    seen = [samples[int(i)] for i in tqdm(sorted(chosen.tolist()), desc="check", unit="frame")]
    counts = [_point_counts(sample) for sample in seen]
    classes = tuple(_summary(seen, counts, label, name) for label, name in enumerate(seen[0].class_names))
    fit, alignment = _alignment(seen)
    findings = [
        *_frames(seen),
        *_values(seen),
        *alignment,
        *_class_names(classes, source_classes),
        *_boxes(seen, classes, aligned=not alignment),
        *(_range(seen, point_range) if point_range is not None else ()),
    ]
    findings.sort(key=lambda finding: finding.level)
    pictures = () if out is None else tuple(_draw(seen, out, point_range))
    return CheckReport(tuple(findings), classes, len(seen), fit, pictures)


def _point_counts(sample: PointCloudSample) -> Tensor:
    if sample.boxes is None:
        return torch.zeros(0, dtype=torch.int64)
    return points_in_boxes(sample.points, sample.boxes.boxes).sum(dim=1)


def _summary(seen: Sequence[PointCloudSample], counts: Sequence[Tensor], label: int, name: str) -> ClassSummary:
    inside, sizes = [torch.zeros(0)], [torch.zeros(0, 3)]
    for sample, count in zip(seen, counts, strict=True):
        if sample.boxes is not None:
            own = sample.boxes.labels == label
            inside.append(count[own].float())
            sizes.append(sample.boxes.boxes[own, 3:6])
    points, size = torch.cat(inside), torch.cat(sizes)
    if not len(points):
        return ClassSummary(name, 0, 0.0, 0.0, (0.0, 0.0, 0.0))
    length, width, height = size.median(dim=0).values.tolist()
    return ClassSummary(
        name, len(points), float(points.median()), float((points == 0).float().mean()), (length, width, height)
    )


def _frames(seen: Sequence[PointCloudSample]) -> list[Finding]:
    findings = []
    unlabelled = [sample.frame for sample in seen if sample.boxes is None]
    if unlabelled:
        found = f"{len(unlabelled)} of {len(seen)} frames have no annotation, the first {unlabelled[0]}"
        findings.append(Finding("error", "annotation", found, "Add label files, or leave these frames out of training"))
    bare = [sample.frame for sample in seen if sample.boxes is not None and not len(sample.boxes)]
    if len(bare) > len(seen) / 2:
        found = f"{len(bare)} of {len(seen)} frames hold no box of the chosen classes, the first {bare[0]}"
        findings.append(
            Finding("warning", "frames without boxes", found, "Check class names, or train on other frames")
        )
    sizes = np.array([len(sample) for sample in seen])
    thin = [sample.frame for sample in seen if len(sample) < 0.1 * np.median(sizes)]
    if thin:
        found = (
            f"{len(thin)} clouds hold less than a tenth of the usual {np.median(sizes):.0f} points, the first {thin[0]}"
        )
        findings.append(Finding("warning", "thin clouds", found, "Restore them, or leave them out"))
    return findings


def _values(seen: Sequence[PointCloudSample]) -> list[Finding]:
    findings = []
    points = torch.cat([sample.points for sample in seen])
    if not bool(points.isfinite().all()):
        share = float((~points.isfinite().all(dim=1)).float().mean())
        findings.append(Finding("error", "points", f"{share:.1%} hold NaN or infinity", "Remove such points"))
        points = points[points.isfinite().all(dim=1)]
    if (kinds := turns([sample.points for sample in seen])) > 1:
        found = f"rows of {kinds} kinds take turns, as if a point had more channels than {', '.join(seen[0].channels)}"
        findings.append(Finding("error", "points", found, "Give all channels that the files have"))
    far = float((points[:, :3].abs().amax(dim=1) > FARTHEST).float().mean()) if len(points) else 0.0
    if far > 0.001:
        found = f"{far:.1%} lie farther than {FARTHEST:.0f} m"
        mend = "Give the channels that the files have, lengths in metres, and points relative to the sensor"
        findings.append(Finding("error", "points", found, mend))
    for column, name in enumerate(seen[0].channels[3:], 3):
        values = points[:, column]
        if len(values) > 1 and float(values.max()) == float(values.min()):
            found = f"is {float(values[0]):g} at all points"
            findings.append(
                Finding("warning", f"channel {name}", found, "Check the order of the channels, or leave it out")
            )
        elif name == "intensity" and len(values) and float(values.max()) > 2:
            found = f"reaches {float(values.max()):g}"
            findings.append(Finding("warning", f"channel {name}", found, "Divide by its largest value to have 0 to 1"))
    return findings


def _alignment(seen: Sequence[PointCloudSample]) -> tuple[float, list[Finding]]:
    fit, mistake = explain(seen)
    if mistake is not None:
        return fit, [Finding("error", "boxes and points", f"it looks as if {mistake.found}", mistake.advice)]
    if fit < POOR_FIT:
        centres = torch.cat([sample.boxes.boxes[:, :2] for sample in seen if sample.boxes is not None])
        if len(centres) and centres.norm(dim=1).median() > FARTHEST:
            found = f"boxes lie {centres.norm(dim=1).median():.0f} m from the sensor"
            return fit, [
                Finding("error", "boxes", found, "Boxes must be relative to the sensor, not in world coordinates")
            ]
        found = f"boxes hold only {fit:.0%} of the points in and closely around them, and no usual mistake explains it"
        mend = "Check that each label belongs to its cloud, and that both have the same origin and axes"
        return fit, [Finding("error", "boxes and points", found, mend)]
    return fit, []


def _class_names(classes: Sequence[ClassSummary], source: Mapping[str, int] | None) -> list[Finding]:
    findings = []
    for one in classes:
        if one.boxes:
            continue
        mend = "Check its spelling, or look at more frames"
        if source is not None:
            listed = ", ".join(f"{name} ({count})" for name, count in sorted(source.items(), key=lambda item: -item[1]))
            mend = f"The labels have {listed}"
        level: Literal["error", "warning"] = "warning" if source is not None and source.get(one.name) else "error"
        findings.append(Finding(level, f"class {one.name}", "no box in any frame that was looked at", mend))
    return findings


def _boxes(seen: Sequence[PointCloudSample], classes: Sequence[ClassSummary], aligned: bool) -> list[Finding]:
    findings = []
    for one in classes:
        if one.boxes and (max(one.size) > HUGE or max(one.size) < 0.1):
            found = f"its median length is {one.size[0]:g}, width {one.size[1]:g}, height {one.size[2]:g}"
            findings.append(Finding("error", f"class {one.name}", found, "Sizes must be in metres"))
        if aligned and one.boxes and one.empty > EMPTY_SHARE:
            found = f"{one.empty:.0%} of {one.boxes} boxes hold no point"
            mend = "Leave out boxes without points: a detector cannot learn them"
            findings.append(Finding("warning", f"class {one.name}", found, mend))
    values = torch.cat([torch.zeros(0, 7), *(sample.boxes.boxes for sample in seen if sample.boxes is not None)])
    if len(values) > 10 and float((values[:, 6] - values[:, 6].median()).abs().max()) < 1e-3:
        found = f"all {len(values)} boxes have yaw {float(values[0, 6]):.2f}"
        findings.append(Finding("warning", "yaw", found, "Check that the headings were written"))
    if len(values) and float((values[:, 6].abs() > torch.pi + 1e-3).float().mean()) > 0:
        found = f"yaw reaches {float(values[:, 6].abs().max()):.1f}"
        findings.append(Finding("error", "yaw", found, "Yaw must be in radians, in [-pi, pi)"))
    double = 0
    for sample in seen:
        if sample.boxes is not None and len(sample.boxes) > 1:
            apart = torch.cdist(sample.boxes.boxes[:, :3], sample.boxes.boxes[:, :3])
            same = sample.boxes.labels[:, None] == sample.boxes.labels
            double += int(((apart < 0.2) & same).triu(1).sum())
    if double:
        found = f"{double} boxes stand within 20 cm of another of their class"
        findings.append(Finding("warning", "boxes twice", found, "Remove the doubles"))
    return findings


def _range(seen: Sequence[PointCloudSample], limits: Sequence[float]) -> list[Finding]:
    low, high = torch.tensor(limits[:3]), torch.tensor(limits[3:])
    centres = torch.cat([torch.zeros(0, 3), *(s.boxes.boxes[:, :3] for s in seen if s.boxes is not None)])
    findings = []
    for axis, name in enumerate("xyz"):
        outside = (centres[:, axis] < low[axis]) | (centres[:, axis] > high[axis])
        if len(centres) and float(outside.float().mean()) > OUTSIDE_SHARE:
            first, last = centres[:, axis].quantile(torch.tensor([0.02, 0.98])).tolist()
            found = (
                f"{float(outside.float().mean()):.0%} of the boxes lie outside {name} {low[axis]:g} to {high[axis]:g}"
            )
            mend = f"Most boxes lie at {name} from {first:.1f} to {last:.1f}: widen the range, or leave such boxes out"
            findings.append(Finding("error", "range", found, mend))
    cut, total = 0, 0
    for sample in seen:
        if sample.boxes is not None and len(sample.boxes):
            own = sample.points[points_in_boxes(sample.points, sample.boxes.boxes).any(dim=0), 2]
            cut, total = cut + int(((own < low[2]) | (own > high[2])).sum()), total + len(own)
    if total and cut / total > OUTSIDE_SHARE and not findings:
        found = f"z {low[2]:g} to {high[2]:g} cuts off {cut / total:.0%} of the objects' points"
        findings.append(Finding("error", "range", found, "Widen it in z"))
    return findings


def _draw(seen: Sequence[PointCloudSample], out: Path, limits: Sequence[float] | None) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    written = []
    annotated = sorted(seen, key=lambda sample: -len(sample.boxes or ()))[:PICTURES]
    for i, sample in enumerate(annotated):
        written.append(out / f"frame_{i}.png")
        save_picture(written[-1], annotated_frame(sample, limits))
    for label, name in enumerate(seen[0].class_names):
        written.append(out / f"class_{label}.png")
        save_picture(written[-1], objects_of_class(seen, label, name))
    return written
