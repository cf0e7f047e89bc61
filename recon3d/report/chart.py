"""Curves as inline SVG, drawn here so that they show without JavaScript."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 34
MOST_POINTS = 240


def chart(title: str, axes: Mapping[str, Sequence[float]], values: Sequence[float], smooth: bool = False) -> str:
    """A figure with one curve, drawn once over each of ``axes``; the page shows one of them (class ``by-NAME``).

    Args:
        title: what the values are.
        axes: name and K rising places of each horizontal axis.
        values: K values; those that are not finite are left out.
        smooth: draw the values faintly and their running mean over them.
    """
    kept = [i for i, value in enumerate(values) if math.isfinite(value)]
    if not kept:
        return f'<figure class="chart"><figcaption>{escape(title)}</figcaption><p class="note">No values.</p></figure>'
    kept = sorted({*kept[:: math.ceil(len(kept) / MOST_POINTS)], kept[-1]})
    heights = [values[i] for i in kept]
    ticks = nice_ticks(min(heights), max(heights), 4)
    plots = "".join(
        _plot(name, [places[i] for i in kept], heights, max(places[kept[-1]], 1e-9), ticks, smooth)
        for name, places in axes.items()
    )
    latest = number(heights[-1])
    return _figure(title, latest, f"{latest} at the end", plots)


def calibration_chart(predicted: Sequence[float], measured: Sequence[float], ratio: float) -> str:
    """A figure of measured over predicted errors, with the diagonal on which those of a perfect prediction lie.

    Args:
        predicted: K rising means, at least 0 and finite.
        measured: K means, likewise.
        ratio: of the means of all, which the caption tells.
    """
    ticks = nice_ticks(0, max(*predicted, *measured, 1e-9), 4)  # of both axes, so that corners are on the diagonal
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    beneath = (
        f'<line class="diagonal" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{TOP}"/>'
        f'<text class="tick left" x="{right - 38}" y="{TOP + 12}">calibrated</text>'
        f'<text class="tick" x="{LEFT + 6}" y="{TOP + 12}">measured error</text>'
    )
    plot = _plot("predicted error", predicted, measured, ticks[-1], ticks, False, beneath)
    return _figure("Measured over predicted error", told := f"{ratio:.2f}", told, plot)


def _figure(title: str, told: str, spoken: str, plots: str) -> str:
    return (
        f'<figure class="chart"><figcaption>{escape(title)}<b>{told}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {spoken}">{plots}</svg></figure>'
    )


def _plot(
    axis: str,
    xs: Sequence[float],
    ys: Sequence[float],
    end: float,
    y_ticks: Sequence[float],
    smooth: bool,
    beneath: str = "",
) -> str:
    """One curve with its axes, the horizontal one from 0 to ``end``; ``beneath`` is drawn under the curve."""
    low, high = y_ticks[0], y_ticks[-1]
    across = [LEFT + (WIDTH - LEFT - RIGHT) * x / end for x in xs]

    def down(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low)

    curve = running_mean(ys, max(1, len(ys) // 30)) if smooth else ys
    shown = [(x, down(y)) for x, y in zip(across, curve, strict=True)]
    points = [[round(a, 1), round(d, 1), number(x), number(y)] for (a, d), x, y in zip(shown, xs, curve, strict=True)]
    parts = [f'<g class="by-{escape(axis)}">']
    for tick in y_ticks:
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>'
        )
        parts.append(f'<text class="tick left" x="{LEFT - 7}" y="{down(tick) + 3.5:.1f}">{number(tick)}</text>')
    for tick in nice_ticks(0, end, 4):
        if tick <= end:
            place = LEFT + (WIDTH - LEFT - RIGHT) * tick / end
            parts.append(f'<text class="tick below" x="{place:.1f}" y="{HEIGHT - 18}">{number(tick)}</text>')
    parts.append(f'<text class="tick left" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">{escape(axis)}</text>')
    parts.append(beneath)
    if smooth:
        parts.append(f'<path class="faint" d="{_path([(x, down(y)) for x, y in zip(across, ys, strict=True)])}"/>')
    parts.append(f'<path class="curve" d="{_path(shown)}"/>')
    parts.append(f'<g class="cursor" data-points="{escape(json.dumps(points))}"><circle r="4"/><text/></g></g>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and up to ``window`` on either side."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    ends = [(max(0, i - window), min(len(values), i + window + 1)) for i in range(len(values))]
    return [(sums[b] - sums[a]) / (b - a) for a, b in ends]


def nice_ticks(low: float, high: float, intervals: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from at most ``low`` to at least ``high``, at least two."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    rough = (high - low) / intervals
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(value: float) -> str:
    """A number for people: four significant digits, thousands separated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
