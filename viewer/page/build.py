"""The HTML document, with everything inside or with the parts to be fetched from the server that gives it."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.errors import InputError
from datasets.files import check_folder, replacing
from viewer.drawing import BACKGROUND
from viewer.page.packing import first_chunk, frame_chunk
from viewer.reading import Contents
from viewer.viewpoint import Viewpoint, from_above
from viewer.views import bird_view, first_view, photo_viewpoint

STATIC = Path(__file__).parent / "static"
LARGEST = 400 << 20  # bytes of a page that browsers still open

_BODY = """<canvas id="view" tabindex="0"></canvas><canvas id="over" hidden></canvas>
<aside><header><h1>{title}</h1><button id="fold" title="Fold or unfold">☰</button></header>
<div id="sequence" hidden><label class="row"><span>frame</span><input type="range" id="frame" min="0" value="0"
step="1"></label><output id="frame-name"></output></div>
<div id="layers"></div>
<div id="photos" hidden><label class="row"><span>photo</span><select id="photo"></select></label>
<label class="row"><span>blend</span><input type="range" id="blend" min="0" max="1" value="0" step="any"></label>
<label class="row"><span>compare</span><select id="compare"><option>blend</option><option>difference</option></select>
</label></div>
<div class="buttons"><button id="shot">Screenshot</button><button id="keep">Keep view (K)</button>
<button id="path" disabled>Save path</button></div>
<output id="measure"></output>
<small>Drag: orbit. Right button or Shift: move. Ctrl: look around. Wheel: nearer. W A S D Q E: fly. R T B: start,
top, bird. [ ]: frame. K: keep view. Double-click two points: measure.</small></aside>
<div id="message" hidden></div>"""


def write_html(contents: Contents, path: Path, start: Viewpoint | None = None, frame: int = 0) -> None:
    """Write one file that shows ``contents`` in any browser, without a server or a network.

    Args:
        contents: what to show; all moments of a sequence go into the file.
        path: ends in .html; a file already there is replaced at once or not at all.
        start: where one looks from at first; None chooses.
        frame: moment that comes first.

    Raises:
        InputError: for another suffix, a folder there is not, or more than browsers open.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: a page is written as .html")
    check_folder(path)
    chunks = [first_chunk(contents.layers)]
    for moment in tqdm(range(contents.frames), desc="page", unit="frame", disable=contents.frames == 1):
        chunks.append(frame_chunk(contents.layers, moment))
        if sum(map(len, chunks)) * 4 // 3 > LARGEST:
            raise InputError(f"{path}: would be larger than {LARGEST >> 20} MiB. Give fewer files, or use --web")
    with replacing(path) as temporary:
        temporary.write_text(document(contents, start, frame, chunks=chunks), encoding="utf-8")


def document(
    contents: Contents,
    start: Viewpoint | None = None,
    frame: int = 0,
    *,
    chunks: list[bytes] | None = None,
    version: str = "",
) -> str:
    """The page; with ``chunks`` inside, or where they are None to be fetched, from a scene of that ``version``."""
    title = " · ".join(layer.name for layer in contents.layers[:2]) or "view3d"
    script = '"use strict";\n' + "\n".join(
        _static(f"{name}.js").replace('"use strict";\n', "") for name in ("camera", "shapes", "splats", "scene", "main")
    )
    style = _static("style.css")
    # Only this script may run, only its worker and its own parts be loaded; names from files are text.
    fetched = "'self'" if chunks is None else "'none'"
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; worker-src blob:; style-src {_hash(style)}; "
        f"img-src blob:; connect-src {fetched}; base-uri 'none'; form-action 'none'"
    )
    parts = "".join(
        f'<script type="text/plain" id="chunk-{i}">{base64.b64encode(chunk).decode()}</script>\n'
        for i, chunk in enumerate(chunks or [])
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{_BODY.format(title=escape(title))}\n"
        f'<script type="application/json" id="scene">{_json(_scene(contents, start, frame, version))}</script>\n'
        f'<script type="text/plain" id="sorter">{_static("sorter.js")}</script>\n{parts}'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _scene(contents: Contents, start: Viewpoint | None, frame: int, version: str) -> dict[str, Any]:
    return {
        "views": {
            "r": (start or first_view(contents)).to_json(),
            "t": from_above(contents.extent(), contents.up).to_json(),
            "b": bird_view(contents, 1.0).to_json(),
        },
        "up": contents.up.tolist(),
        "frame": frame,
        "extent": contents.extent().tolist(),
        "sourceToScene": np.linalg.inv(contents.scene_to_source).tolist(),
        "unit": float(np.cbrt(np.linalg.det(contents.scene_to_source[:3, :3]))),
        "background": [value / 255 for value in BACKGROUND],
        "frames": [contents.frame_names[i] if i < len(contents.frame_names) else "" for i in range(contents.frames)],
        "photos": _photos(contents),
        "cameras": next((i for i, layer in enumerate(contents.layers) if layer is contents.cameras), -1),
        "version": version,
    }


def _photos(contents: Contents) -> list[dict[str, Any]]:
    """Exact cameras of the photos, and the viewpoints nearest to them."""
    layer = contents.cameras
    if layer is None:
        return []
    photos = []
    for i in range(len(layer.cameras)):
        camera = layer.cameras[i]
        k, (width, height) = camera.intrinsics[0].tolist(), camera.size
        photos.append(
            {
                **{"width": width, "height": height, "fx": k[0][0], "fy": k[1][1], "cx": k[0][2], "cy": k[1][2]},
                "w2c": camera.world_to_camera[0].tolist(),
                "view": photo_viewpoint(contents, i).to_json(),
                "name": layer.files[i].path.name if layer.files else str(i),
            }
        )
    return photos


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
