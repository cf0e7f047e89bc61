"""The page itself: one HTML file that asks for nothing from elsewhere.

Everything that comes from files is escaped, and a content security policy lets only the page's own script (by its
hash) run, so that a name or configuration with markup in it stays text.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from datasets.programs.environment import machine, versions
from recon3d.calibration import measured_over_predicted
from recon3d.report import media
from recon3d.report.chart import calibration_chart, chart, number
from recon3d.report.content import Content, TestView, measures

HERE = Path(__file__).parent
VIEW_SIDE, PHOTO_SIDE, THUMB_SIDE, PREVIEW_SIDE = 960, 480, 150, 960
KINDS = {
    "photo": "Photo",
    "depth": "Depth (red is near)",
    "error": "Error (bright is wrong)",
    "predicted": "Predicted error",
}


def page(content: Content) -> str:
    """The whole HTML document."""
    script = (HERE / "script.js").read_text(encoding="utf-8")
    style = (HERE / "style.css").read_text(encoding="utf-8") + _ratio(content)
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    sections = "".join(
        (
            _head(content),
            '<div class="pair">' + _video(content) + _photos(content) + "</div>",
            _outside(content),
            _views(content),
            _uncertainty(content),
            _suggestions(content),
            _curves(content),
            _table(content),
            _previews(content),
            _about(content),
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(content.scene)} · recon3d</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n{sections}\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def label(key: str) -> str:
    """A measure's name for people."""
    base, masked = key.removesuffix("_masked"), key.endswith("_masked")
    known = {"psnr": "PSNR", "ssim": "SSIM", "avge": "AVGE"}
    if base.startswith("lpips_"):
        network = base.removeprefix("lpips_").removesuffix("_papers").upper()
        text = f"LPIPS {network}" + (" (papers)" if base.endswith("_papers") else "")
    else:
        text = known.get(base, base)
    return text + (", masked" if masked else "")


def value(key: str, measured: float | None) -> str:
    """A measure for people: PSNR with two digits, others with three or four."""
    if measured is None:
        return "–"
    return f"{measured:.2f}" if key.startswith("psnr") else f"{measured:.4f}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _ratio(content: Content) -> str:
    """A rule with the shape of the test views, by which the page keeps them within the window."""
    if not content.views:
        return ""
    height, width = content.views[0].pictures["render"].shape[:2]
    return f".viewer {{ --ratio: {width / height:.4f}; }}\n"


def _mean(content: Content) -> dict[str, float | None]:
    return measures(content.metrics.get("mean", {})) if content.metrics else {}


def _train_count(content: Content) -> int:
    return len((content.metrics or {}).get("train", ())) or content.train


def _head(content: Content) -> str:
    history, mean = content.history, _mean(content)
    count = _train_count(content)
    facts = [f"{count} photos"] if count else []
    tiles = []
    for key in ("psnr", "ssim", *(key for key in mean if key.startswith("lpips_") and "masked" not in key)):
        if mean.get(key) is not None:
            better = {"psnr": " in dB ↑", "ssim": " ↑"}.get(key, " ↓")
            tiles.append((value(key, mean[key]), label(key) + better))
    if history:
        tiles.append((number(history["gaussians"][-1]), "Gaussians"))
        given = "" if content.budget is None else f" of {_duration(content.budget)} given"
        tiles.append((_duration(history["seconds"][-1]), f"to fit{given}, {number(history['step'][-1])} steps"))
    shown = "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in tiles)
    facts += [f"{len(content.metrics['images'])} test views"] if content.metrics else []
    return (
        f'<header><h1>{escape(content.scene)}</h1><p class="lead">{escape(" · ".join(facts))}</p>'
        f'<div class="tiles">{shown}</div></header>'
    )


def _video(content: Content) -> str:
    if content.video is None:
        body = '<p class="note">No video yet: <code>recon3d render RUN</code> makes one.</p>'
    else:
        body = f'<video controls autoplay loop muted playsinline src="{media.video(content.video)}"></video>'
    return f"<section><h2>Novel views</h2>{body}</section>"


def _photos(content: Content) -> str:
    figures = "".join(_figure(image, PHOTO_SIDE, name, name) for name, image in content.photos)
    more = _train_count(content) - len(content.photos)
    note = content.missing_photos or (f"and {more} more" if more > 0 else "")
    body = f'<div class="photos">{figures}</div>' + (f'<p class="note">{escape(note)}</p>' if note else "")
    return f"<section><h2>Photos used</h2>{body}</section>"


def _outside(content: Content) -> str:
    if content.outside is None:
        return ""
    text = "Where the photos were taken: blue ones were used, orange ones test, grey ones neither."
    return f"<section><h2>From outside</h2>{_figure(content.outside, VIEW_SIDE, text, text)}</section>"


def _views(content: Content) -> str:
    if not content.views:
        text = "No test views were rendered yet: <code>recon3d test RUN</code> compares them with their photos."
        return f'<section><h2>Beside the truth</h2><p class="note">{text}</p></section>'
    kinds = [kind for kind in KINDS if all(kind in view.pictures for view in content.views)]
    buttons = "".join(
        f'<button type="button" data-kind="{kind}" aria-pressed="{_bool(i == 0)}">{KINDS[kind]}</button>'
        for i, kind in enumerate(kinds)
    )
    stages = "".join(_stage(i, view, kinds) for i, view in enumerate(content.views))
    thumbs = "".join(
        f'<button type="button" data-view="{i}" aria-pressed="{_bool(i == 0)}">'
        f"{_image(view.pictures['render'], THUMB_SIDE, '')}<span>{escape(view.name)}</span></button>"
        for i, view in enumerate(content.views)
    )
    total = len(content.metrics["images"]) if content.metrics else len(content.views)
    some = f" {len(content.views)} of {total} are shown." if total > len(content.views) else ""
    return (
        '<section class="viewer"><h2>Beside the truth</h2>'
        '<p class="note">Test views, which the fit never saw. Drag the handle: the render is on its left, on its right '
        f"what is chosen here.{some}</p>"
        f'<div class="bar" role="group" aria-label="beside the render">{buttons}</div>{stages}'
        f'<div class="thumbs" role="group" aria-label="test views">{thumbs}</div></section>'
    )


def _stage(index: int, view: TestView, kinds: list[str]) -> str:
    name = escape(view.name)
    beside = "".join(
        _image(view.pictures[kind], VIEW_SIDE, f"{KINDS[kind]} of {view.name}", f"beside {kind}", hidden=i > 0)
        for i, kind in enumerate(kinds)
    )
    told = " · ".join(
        f"{label(key)} {value(key, measured)}"
        for key, measured in view.measures.items()
        if measured is not None and not key.endswith("_masked")
    )
    return (
        f'<div class="stage"{" hidden" if index else ""}><div class="frame">{beside}'
        f"{_image(view.pictures['render'], VIEW_SIDE, f'Render of {view.name}', 'render')}"
        f'<input type="range" min="0" max="100" step="0.1" value="50" aria-label="Share of the render of {name}">'
        f'<div class="handle"></div><span class="label left">Render</span>'
        f'<span class="label right">{KINDS[kinds[0]]}</span></div>'
        f'<p class="measures">{name}: {escape(told)}</p></div>'
    )


def _image(pixels: np.ndarray, side: int, alt: str, classes: str = "", quality: int = 82, hidden: bool = False) -> str:
    source = media.picture(pixels, side, quality)
    named = f' class="{classes}"' if classes else ""
    return f'<img{named} src="{source}" alt="{escape(alt)}"{" hidden" if hidden else ""}>'


def _figure(pixels: np.ndarray, side: int, alt: str, caption: str, quality: int = 82) -> str:
    return f"<figure>{_image(pixels, side, alt, quality=quality)}<figcaption>{escape(caption)}</figcaption></figure>"


def _curves(content: Content) -> str:
    history = content.history
    if not history:
        return ""
    axes = {"steps": history["step"], "seconds": history["seconds"]}
    charts = "".join(
        chart(title, axes, history[key], smooth)
        for key, title, smooth in (
            ("psnr", "PSNR of the photos used (dB)", True),
            ("loss", "Loss", True),
            ("gaussians", "Gaussians", False),
        )
    )
    buttons = "".join(
        f'<button type="button" data-axis="{axis}" aria-pressed="{_bool(axis == "steps")}">{axis}</button>'
        for axis in axes
    )
    return (
        f'<section data-shown="steps"><h2>The fit</h2><div class="bar" role="group" aria-label="axis">{buttons}</div>'
        f'<div class="charts">{charts}</div></section>'
    )


def _uncertainty(content: Content) -> str:
    summary = (content.metrics or {}).get("uncertainty")
    if summary is None:
        return ""
    ratio = measured_over_predicted(summary)
    curve = calibration_chart(summary["predicted"], summary["measured"], ratio)
    text = (
        "The error is predicted from the photos used alone: a place that one of them shows, or none, is guessed. "
        "Each point of the curve is a tenth of the test views' pixels, in the order of the prediction. Its area to "
        f"the best order (AUSE, of the mean error) is {summary['ause']:.2f}; that of a prediction that says nothing is "
        f"{summary['ause_of_chance']:.2f}. The mean measured error over the mean predicted one is {ratio:.2f}: beneath "
        "the dashed line too much was predicted, above it too little."
    )
    return f'<section><h2>Where it is guessed</h2><p class="note">{text}</p><div class="charts">{curve}</div></section>'


def _suggestions(content: Content) -> str:
    if not content.suggestions:
        return ""
    figures = "".join(_figure(image, PREVIEW_SIDE, text, text, quality=75) for text, image in content.suggestions)
    mapped = content.suggestion_map
    caption = "From above: photos used in blue, candidates in grey, suggested ones in red."
    plan = "" if mapped is None else _figure(mapped, PHOTO_SIDE, "map", caption)
    return (
        '<section><h2>Next photos</h2><p class="note">Taking these would show most of what no photo shows '
        "from nearly the same side: what the splat shows from there, and its predicted error.</p>"
        f'<div class="previews">{figures}{plan}</div></section>'
    )


def _table(content: Content) -> str:
    if not content.metrics:
        return ""
    mean = _mean(content)
    keys = list(mean)
    heads = "".join(f"<th>{escape(label(key))}</th>" for key in keys)
    rows = "".join(_row(image["name"], measures(image), keys) for image in content.metrics["images"])
    notes = [f"{label(key)} was not measured: {text}" for key, text in content.metrics.get("notes", {}).items()]
    notes += [
        f"{label(key) if key in mean else key.capitalize()}: {text}"
        for key, text in content.metrics.get("conventions", {}).items()
        if key in ("images", *keys) or (key == "masked" and any(k.endswith("_masked") for k in keys))
    ]
    told = "".join(f'<p class="note">{escape(str(note))}</p>' for note in notes)
    return (
        f'<section><h2>Measures</h2><div class="scroll"><table><thead><tr><th>View</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody><tfoot>{_row('Mean', mean, keys)}</tfoot></table></div>"
        f"<details><summary>How they are measured</summary>{told}</details></section>"
    )


def _row(name: str, measured: Mapping[str, float | None], keys: list[str]) -> str:
    cells = "".join(f"<td>{value(key, measured.get(key))}</td>" for key in keys)
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


def _previews(content: Content) -> str:
    if not content.previews:
        return ""
    figures = "".join(
        _figure(image, PREVIEW_SIDE, name, name.replace("_", " "), quality=75) for name, image in content.previews
    )
    return f'<section><h2>While it was fitted</h2><div class="previews">{figures}</div></section>'


def _about(content: Content) -> str:
    history, metrics = content.history, content.metrics or {}
    facts: dict[str, Any] = {}
    if history and history["step"][-1] > 0:
        seconds, steps = history["seconds"][-1], history["step"][-1]
        facts["Fit"] = f"{_duration(seconds)}, start included, for {number(steps)} steps"
    if isinstance(metrics.get("seconds"), (int, float)):
        facts["Test"] = _duration(metrics["seconds"])
    if content.splat_bytes:
        facts["Splat"] = f"splat.safetensors, {number(content.splat_bytes / 1e6)} MB"
    facts["LPIPS weights"] = metrics.get("lpips_weights") or None
    here = machine()
    facts["Report made on"] = f"{here['processor'] or here['system']}, {here['cores']} cores, {here['system']}"
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in versions().items())
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items() if v is not None)
    commands = "recon3d fit --config RUN/config.yaml --out NEW_RUN\nrecon3d test NEW_RUN\nrecon3d render NEW_RUN"
    return (
        f"<section><h2>To do it again</h2><pre>{escape(commands)}</pre><dl>{listed}</dl></section>"
        f"<section><details><summary>Configuration</summary><pre>{escape(content.config)}</pre></details></section>"
    )


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 120 else f"{whole // 60}:{whole % 60:02d} min"
