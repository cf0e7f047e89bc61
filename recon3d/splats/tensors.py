"""The lossless splat file: safetensors, the six tensors under gsplat's names, the rest as metadata."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from recon3d.gaussians import Gaussians
from recon3d.splats.errors import SplatError
from recon3d.splats.splat import Splat

_KEY = "sparse-vision-3d splat 1"  # one key: safetensors writes several in an order that changes from run to run
_MEND = "Export it again from its run or checkpoint."


def write(path: Path, splat: Splat) -> None:
    """Write the six tensors as float32, with the rest as JSON in the metadata."""
    values = {name: value.detach().cpu().float().contiguous() for name, value in splat.gaussians.parameters().items()}
    path.write_bytes(save(values, metadata={_KEY: json.dumps(extras(splat))}))


def read(path: Path) -> Splat:
    """Read what :func:`write` wrote; SplatError for anything else."""
    names = [f.name for f in fields(Gaussians)]
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if missing := sorted(set(names) - set(file.keys())):
                raise SplatError(path, f"tensors {missing} are missing", _MEND)
            values = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise SplatError(path, f"is no safetensors file, or was cut off ({error})", _MEND) from error
    if text is None:
        raise SplatError(path, f"its metadata holds no {_KEY!r}", "Export it with this version of sparse-vision-3d.")
    for name, value in values.items():
        if value.dtype != torch.float32:
            raise SplatError(path, f"{name} is {value.dtype}, expected torch.float32", _MEND)
    try:
        return Splat(Gaussians(**values), **parse_extras(json.loads(text)))
    except (ValueError, RecursionError) as error:
        raise SplatError(path, f"its metadata or tensors do not fit ({error})", _MEND) from error


def extras(splat: Splat) -> dict[str, Any]:
    """What of ``splat`` is not a Gaussian's, by field name, ready for JSON."""
    values: dict[str, Any] = {
        "background": [float(value) for value in splat.background],
        "antialiased": bool(splat.antialiased),
        "scene_to_source": np.asarray(splat.scene_to_source, dtype=np.float64).tolist(),
    }
    return values | {"fields": list(splat.fields)} if splat.fields else values


def parse_extras(found: object) -> dict[str, Any]:
    """The inverse of :func:`extras`; what is absent is left to Splat's defaults. ValueError names the field."""
    if not isinstance(found, dict):
        raise ValueError(f"expected an object of background, antialiased, scene_to_source, found {str(found)[:80]}")
    parsed: dict[str, Any] = {}
    try:
        for name, shape in (("background", (3,)), ("scene_to_source", (4, 4))):
            if name in found:
                parsed[name] = np.asarray(found[name], dtype=np.float64).reshape(shape)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} is {str(found[name])[:80]}, expected {np.prod(shape)} numbers") from error
    if "background" in parsed:
        parsed["background"] = tuple(parsed["background"].tolist())
    if "antialiased" in found:
        if not isinstance(found["antialiased"], bool):
            raise ValueError(f"antialiased is {str(found['antialiased'])[:80]}, expected true or false")
        parsed["antialiased"] = found["antialiased"]
    if "fields" in found:
        counts = found["fields"]
        if not isinstance(counts, list) or not all(type(count) is int for count in counts):
            raise ValueError(f"fields is {str(counts)[:80]}, expected whole numbers")
        parsed["fields"] = tuple(counts)
    return parsed
