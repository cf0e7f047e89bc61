"""3DGS PLY, the layout of Kerbl et al. (2023) that every splat viewer opens.

One vertex a Gaussian, float32: x y z, nx ny nz (zero), f_dc_0..2 (sh0), f_rest_0.. (shN, channel by channel),
opacity (logit), scale_0..2 (log), rot_0..3 (wxyz). What a vertex cannot hold is written as comments.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from datasets.errors import SceneError
from datasets.pointclouds.formats.ply import read_vertices
from recon3d.gaussians import Gaussians
from recon3d.splats.errors import SplatError
from recon3d.splats.splat import Splat
from recon3d.splats.tensors import extras, parse_extras

_COMMENT = "sparse-vision-3d"
_MEND = "Export it again as a 3DGS PLY."


def write(path: Path, splat: Splat) -> None:
    """Write binary little endian."""
    gaussians = splat.gaussians
    count, harmonics = len(gaussians), gaussians.shN.shape[1]
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3))]
    names += [*(f"f_rest_{i}" for i in range(3 * harmonics)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    comments = [f"comment {_COMMENT} {name} {json.dumps(value)}" for name, value in extras(splat).items()]
    properties = [f"property float {name}" for name in names]
    header = ["ply", "format binary_little_endian 1.0", *comments, f"element vertex {count}", *properties]
    columns = (
        gaussians.means,
        torch.zeros_like(gaussians.means),
        gaussians.sh0[:, 0],
        gaussians.shN.transpose(1, 2).reshape(count, 3 * harmonics),
        gaussians.opacities[:, None],
        gaussians.scales,
        gaussians.quats,
    )
    table = torch.cat([column.detach().cpu().float() for column in columns], 1)
    with open(path, "wb") as file:
        file.write("\n".join([*header, "end_header\n"]).encode("ascii"))
        file.write(np.ascontiguousarray(table.numpy(), dtype="<f4").data)


def read(path: Path) -> Splat:
    """Read any order of properties, ASCII or binary of either endianness; further properties are ignored."""
    try:
        vertices = read_vertices(path)
    except SceneError as error:
        raise SplatError(path, error.found, f"{error.mend}.") from error
    table, comments = vertices.columns, _own_comments(vertices.comments)
    names = set(table)
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in (0, 9, 24, 45):
        raise SplatError(path, f"{rest} properties f_rest_*, expected 0, 9, 24 or 45 (degree 0 to 3)", _MEND)

    def columns(*wanted: str) -> torch.Tensor:
        if missing := [name for name in wanted if name not in names]:
            hint = "It is a compressed PLY: decompress it first." if "packed_position" in names else _MEND
            raise SplatError(path, f"not a Gaussian splat: vertices have no {', '.join(missing)}", hint)
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, which is reported as such
            return torch.from_numpy(np.stack([table[name].astype(np.float32) for name in wanted], 1))

    means = columns("x", "y", "z")
    count = len(means)
    higher = columns(*(f"f_rest_{i}" for i in range(rest))) if rest else torch.zeros(count, 0)
    try:
        more = parse_extras({name: json.loads(text) for name, text in comments.items()})
    except (ValueError, RecursionError) as error:
        raise SplatError(path, f"its {_COMMENT} comments cannot be read ({error})", _MEND) from error
    gaussians = Gaussians(
        means=means,
        scales=columns("scale_0", "scale_1", "scale_2"),
        quats=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        opacities=columns("opacity")[:, 0].contiguous(),
        sh0=columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None],
        shN=higher.reshape(count, 3, rest // 3).transpose(1, 2).contiguous(),
    )
    try:
        return Splat(gaussians, **more)
    except ValueError as error:
        raise SplatError(path, f"{error}: its {_COMMENT} comments are of another file", _MEND) from error


def _own_comments(comments: tuple[str, ...]) -> dict[str, str]:
    """What stands in the comments that :func:`write` makes, by name."""
    words = [comment.split(maxsplit=2) for comment in comments]
    return {own[1]: own[2] if len(own) > 2 else "" for own in words if own[:1] == [_COMMENT] and len(own) > 1}
