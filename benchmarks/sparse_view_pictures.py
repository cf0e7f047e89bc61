"""What benchmarks/sparse_view.py measured, to look at.

    python benchmarks/sparse_view_pictures.py OUT

writes OUT/views.jpg (of each scene the middle test view of the default's first seed: the render, its depth, the error
that was predicted and the one that is there) and OUT/time.svg (quality over the time that --budget gave).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from datasets.pictures import read_picture, save_picture
from datasets.programs.run_folder import write_text
from recon3d.report.chart import nice_ticks, number

KINDS = {"": "novel view", "_depth": "depth", "_predicted": "predicted error", "_error": "error"}
HEIGHT, GAP, HEAD = 220, 6, 28  # pixels of the sheet: of a row, between pictures, and of the line above them
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e")
WIDE, HIGH, MARGIN = 420, 260, 56  # of one diagram


class Point(NamedTuple):
    """A mean over seeds at a time in seconds; ``spread`` is their standard deviation, 0 for a single seed."""

    seconds: float
    value: float
    spread: float


def middle_view(renders: Path) -> list[np.ndarray] | None:
    """The pictures of :data:`KINDS` of the middle test view [H, W, 3], or None where they are not all there."""
    names = sorted(path.name.removesuffix("_depth.png") for path in renders.glob("*_depth.png"))
    if not names:
        return None
    pictures = [read_picture(renders / f"{names[len(names) // 2]}{kind}.png") for kind in KINDS]
    whole = [picture for picture in pictures if picture is not None]
    return whole if len(whole) == len(KINDS) else None


def sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of pictures as one, white between them, with :data:`KINDS` above; columns are as wide as their widest."""
    scaled = [
        [cv2.resize(p, (round(p.shape[1] * HEIGHT / p.shape[0]), HEIGHT), interpolation=cv2.INTER_AREA) for p in row]
        for row in rows
    ]
    width = max(picture.shape[1] for row in scaled for picture in row)
    places = [GAP + i * (width + GAP) for i in range(len(KINDS))]
    result = np.full((HEAD + len(rows) * (HEIGHT + GAP), places[-1] + width + GAP, 3), 255, np.uint8)
    for left, title in zip(places, KINDS.values(), strict=True):
        cv2.putText(result, title, (left, HEAD - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40, 40, 40), 1, cv2.LINE_AA)
    for place, row in enumerate(scaled):
        top = HEAD + place * (HEIGHT + GAP)
        for left, picture in zip(places, row, strict=True):
            inset = left + (width - picture.shape[1]) // 2
            result[top : top + HEIGHT, inset : inset + picture.shape[1]] = picture
    return result


def over_time(table: Mapping[str, Any], measure: str) -> dict[str, list[Point]]:
    """By case, what the rows with a budget have, shortest first; cases with fewer than two are left out."""
    found: dict[str, list[Point]] = {}
    for variant, cases in table["rows"].items():
        for case, row in cases.items() if variant.startswith("budget_") else ():
            if row["mean"][measure] is not None:
                point = Point(row["mean"]["fit_seconds"], row["mean"][measure], row["std"][measure] or 0.0)
                found.setdefault(case, []).append(point)
    return {case: sorted(points) for case, points in found.items() if len(points) > 1}


def diagrams(curves: Mapping[str, Mapping[str, Sequence[Point]]]) -> str:
    """An SVG with a diagram for each title in ``curves``, and in it a line for each case, with the seeds' spread."""
    cases = list(dict.fromkeys(case for lines in curves.values() for case in lines))
    colours = {case: COLOURS[i % len(COLOURS)] for i, case in enumerate(cases)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE * len(curves)}" height="{HIGH + 24}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for i, (title, lines) in enumerate(curves.items()):
        parts.append(f'<g transform="translate({i * WIDE} 0)">{_diagram(title, lines, colours)}</g>')
    for i, case in enumerate(cases):
        parts.append(f'<text x="{MARGIN + 150 * i}" y="{HIGH + 16}" fill="{colours[case]}">{escape(case)}</text>')
    return "".join([*parts, "</svg>\n"])


def _diagram(title: str, lines: Mapping[str, Sequence[Point]], colours: Mapping[str, str]) -> str:
    points = [point for line in lines.values() for point in line]
    rows = nice_ticks(min(p.value - p.spread for p in points), max(p.value + p.spread for p in points), 5)
    columns = nice_ticks(0, max(p.seconds for p in points), 5)

    def across(seconds: float) -> float:
        return MARGIN + (WIDE - MARGIN - 20) * seconds / columns[-1]

    def down(value: float) -> float:
        return 30 + (HIGH - 70) * (rows[-1] - value) / (rows[-1] - rows[0])

    parts = [f'<text x="{MARGIN}" y="18" font-weight="bold">{escape(title)}</text>']
    for tick in rows:
        y = down(tick)
        parts.append(f'<path d="M{MARGIN} {y:.1f}H{WIDE - 20}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#57606a">{number(tick)}</text>')
    for tick in columns:
        place = f'x="{across(tick):.1f}" y="{HIGH - 22}"'
        parts.append(f'<text {place} text-anchor="middle" fill="#57606a">{number(tick)}</text>')
    parts.append(f'<text x="{WIDE - 20}" y="{HIGH - 6}" text-anchor="end" fill="#57606a">seconds</text>')
    for case, line in lines.items():
        places = [(across(p.seconds), down(p.value), down(p.value + p.spread), down(p.value - p.spread)) for p in line]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in places)
        bars = "".join(f"M{x:.1f} {top:.1f}V{bottom:.1f}" for x, _, top, bottom in places)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y, _, _ in places)
        parts.append(f'<path d="M{path}{bars}" fill="none" stroke="{colours[case]}" stroke-width="2"/>')
        parts.append(f'<g fill="{colours[case]}">{dots}</g>')
    return "".join(parts)


def main() -> int:
    """Draw what OUT holds; the exit code is 1 where that is nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="what benchmarks/sparse_view.py was given as --out")
    out = parser.parse_args().out
    path = out / "table.json"
    if not path.is_file():
        print(f"{path} is not there: run benchmarks/sparse_view.py first", file=sys.stderr)
        return 1
    table = json.loads(path.read_text(encoding="utf-8"))
    cases = table["rows"].get("default", {})
    views = [middle_view(out / case / "default" / "seed_0" / "renders" / "test") for case in cases]
    written = []
    if rows := [row for row in views if row is not None]:
        save_picture(out / "views.jpg", sheet(rows))
        written.append(out / "views.jpg")
    measures = {"PSNR, dB": "psnr", "LPIPS, papers'": "lpips_vgg_papers"}
    curves = {title: lines for title, measure in measures.items() if (lines := over_time(table, measure))}
    if curves:
        write_text(out / "time.svg", diagrams(curves))
        written.append(out / "time.svg")
    print("\n".join(map(str, written)) or f"{out} holds no renders and no rows with a budget yet")
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main())
