"""SPZ, Niantic's compressed splat (https://github.com/nianticlabs/spz): writes version 3, reads 2 and 3.

A gzip stream: 16-byte header, then per attribute for all Gaussians positions (24-bit fixed point), opacities,
colours, scales (8 bit), rotations (version 3: the three smallest quaternion components, 10 bits each, and which one
is left out; version 2: x, y, z in 8 bits), harmonics (8 bit). Axes are right, up, back: y and z are turned.
"""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from recon3d.gaussians import Gaussians
from recon3d.splats.errors import SplatError
from recon3d.splats.splat import Splat

_LOG = logging.getLogger(__name__)
_HEADER = struct.Struct("<IIIBBBB")  # magic, version, count, SH degree, fractional bits, flags, reserved
_MAGIC = 0x5053474E
_ANTIALIASED = 1
_COLOUR_SCALE = 0.15  # sh0 is stored so narrow that colours beyond 0..1 fit
_HARMONICS = {0: 0, 1: 3, 2: 8, 3: 15}
_FLIPPED_AXES = np.array([1, -1, -1], np.float32)
# Sign of each higher harmonic when y and z change sign: that of y, z, x; xy, yz, zz, xz, xx - yy; and degree 3.
_FLIPPED_HARMONICS = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)
_DAMAGED = "The file is cut off or damaged: copy or export it again."
_LARGE, _LARGEST_RATIO = 1 << 26, 64  # no splat beyond 64 MiB shrinks more than that: a bomb does


def write(path: Path, splat: Splat) -> None:
    """Write version 3, with as many fractional bits for the positions as their range leaves."""
    gaussians = {name: value.detach().cpu().float().numpy() for name, value in splat.gaussians.parameters().items()}
    means, higher = gaussians["means"] * _FLIPPED_AXES, gaussians["shN"]
    bits = _fractional_bits(path, means, gaussians["scales"])
    fixed = np.round(means.astype(np.float64) * 2**bits).astype("<i4")
    opacities = 255 / (1 + np.exp(-gaussians["opacities"].astype(np.float64)))
    attributes = (
        np.ascontiguousarray(fixed).view(np.uint8).reshape(-1, 3, 4)[:, :, :3],
        _bytes(opacities),
        _bytes((gaussians["sh0"][:, 0] * _COLOUR_SCALE + 0.5) * 255),
        _bytes((gaussians["scales"] + 10) * 16),
        _pack_rotations(gaussians["quats"]),
        _pack_harmonics(higher * _FLIPPED_HARMONICS[: higher.shape[1], None]),
    )
    flags = _ANTIALIASED if splat.antialiased else 0
    header = _HEADER.pack(_MAGIC, 3, len(means), splat.gaussians.sh_degree, bits, flags, 0)
    packer = zlib.compressobj(wbits=31)
    with open(path, "wb") as file:
        for part in (header, *(np.ascontiguousarray(attribute).tobytes() for attribute in attributes)):
            file.write(packer.compress(part))
        file.write(packer.flush())


def read(path: Path) -> Splat:
    """Read version 2 or 3; never inflates more than the header claims, nor an implausible claim."""
    packed = path.read_bytes()
    if packed[:4] == _MAGIC.to_bytes(4, "little"):
        mend = "Save it as version 3 or as PLY with the program that wrote it."
        raise SplatError(path, "SPZ version 4 (zstandard), expected version 2 or 3", mend)
    unpacker = zlib.decompressobj(wbits=31)
    start = _inflate(path, unpacker, packed, _HEADER.size)
    magic, version, count, degree, bits, flags, _ = _HEADER.unpack(start)
    if magic != _MAGIC:
        raise SplatError(path, "compressed, but not with SPZ inside", "Give an SPZ file, or the suffix of what it is.")
    if version not in (2, 3):
        raise SplatError(path, f"SPZ version {version}, expected 2 or 3", "Save it as version 3 or as PLY.")
    if degree not in _HARMONICS or bits > 23:
        raise SplatError(path, f"degree {degree} (at most 3) and {bits} fractional bits (at most 23)", _DAMAGED)
    harmonics = _HARMONICS[degree]
    widths = (9, 1, 3, 3, 4 if version == 3 else 3, 3 * harmonics)
    size = count * sum(widths)
    if size > _LARGE and size > _LARGEST_RATIO * len(packed):
        raise SplatError(path, f"claims {count} Gaussians, {size} bytes, in a file of {len(packed)}", _DAMAGED)
    data = np.frombuffer(_inflate(path, unpacker, unpacker.unconsumed_tail, size), np.uint8)
    _check_end(path, unpacker)
    ends = np.cumsum([0, *(count * width for width in widths)])
    positions, opacities, colours, scales, rotations, higher = (
        data[a:b].reshape(count, width) for a, b, width in zip(ends[:-1], ends[1:], widths, strict=True)
    )
    fixed = np.zeros((count, 3, 4), np.uint8)
    fixed[:, :, 1:] = positions.reshape(count, 3, 3)  # in the upper bytes, so that shifting back keeps the sign
    means = (fixed.view("<i4")[:, :, 0] >> 8) * 2.0**-bits * _FLIPPED_AXES
    quats = _unpack_rotations(rotations) if version == 3 else _unpack_first_three(rotations)
    shN = (higher.reshape(count, harmonics, 3).astype(np.float32) - 128) / 128
    alpha = np.clip(opacities[:, 0] / 255.0, 0.5 / 255, 1 - 0.5 / 255)  # 0 and 255 have no finite logit
    values = {
        "means": means,
        "scales": scales / 16.0 - 10,
        "quats": quats,
        "opacities": np.log(alpha / (1 - alpha)),
        "sh0": ((colours / 255.0 - 0.5) / _COLOUR_SCALE)[:, None],
        "shN": shN * _FLIPPED_HARMONICS[:harmonics, None],
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in values.items()}
    return Splat(Gaussians(**tensors), antialiased=bool(flags & _ANTIALIASED))


def _inflate(path: Path, unpacker: zlib._Decompress, packed: bytes, size: int) -> bytes:
    """Exactly ``size`` further bytes; what the stream does not give is never allocated."""
    parts: list[bytes] = []
    try:
        while size > 0 and not unpacker.eof:
            part = unpacker.decompress(packed, min(size, 1 << 24))
            parts.append(part)
            size -= len(part)
            packed = unpacker.unconsumed_tail
            if not part and not packed:
                break
    except zlib.error as error:
        raise SplatError(path, f"not a gzip stream ({error})", _DAMAGED) from error
    if size > 0:
        raise SplatError(path, f"{size} bytes fewer than its header claims", _DAMAGED)
    return b"".join(parts)


def _check_end(path: Path, unpacker: zlib._Decompress) -> None:
    """Go on to the checksum at the end of the stream, over extensions if they are not large."""
    try:
        unpacker.decompress(unpacker.unconsumed_tail, 1 << 20)
    except zlib.error as error:
        raise SplatError(path, f"its checksum does not fit ({error})", _DAMAGED) from error
    if not unpacker.eof and not unpacker.unconsumed_tail:
        raise SplatError(path, "the end of its gzip stream is missing", _DAMAGED)


def _fractional_bits(path: Path, means: np.ndarray, log_scales: np.ndarray) -> int:
    reach = float(np.abs(means).max(initial=0))
    if reach > (1 << 23) - 1:
        raise SplatError(path, f"positions reach {reach:g} units, SPZ holds 8388607", "Remove far Gaussians.")
    bits = 23
    while reach * 2**bits > (1 << 23) - 1:
        bits -= 1
    if len(means) and 2.0**-bits > np.exp(np.median(log_scales)):
        _LOG.warning("SPZ rounds positions that reach %g units to %g, more than Gaussians are large", reach, 2.0**-bits)
    return bits


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _pack_harmonics(shN: np.ndarray) -> np.ndarray:
    """Round degree 1 to 5 bits and the rest to 4, as Niantic's writer does: what makes the stream compress."""
    step = np.full(shN.shape[1], 16)
    step[:3] = 8
    levels = np.round(shN * 128).astype(np.int64) + 128
    return np.clip((levels + step[:, None] // 2) // step[:, None] * step[:, None], 0, 255).astype(np.uint8)


def _pack_rotations(wxyz: np.ndarray) -> np.ndarray:
    """[N, 4] quaternions to 4 bytes each: 2 bits for the largest of x, y, z, w, then sign and 9 bits of the others."""
    xyzw = wxyz[:, [1, 2, 3, 0]].astype(np.float64) * [*_FLIPPED_AXES, 1]
    xyzw /= np.linalg.norm(xyzw, axis=1, keepdims=True)
    largest = np.abs(xyzw).argmax(1)
    xyzw *= np.where(np.take_along_axis(xyzw, largest[:, None], 1) < 0, -1, 1)
    packed = largest.astype(np.uint32)
    magnitudes = np.minimum(np.abs(xyzw) * (511 * np.sqrt(2)) + 0.5, 511).astype(np.uint32)
    for axis in range(4):
        field = (xyzw[:, axis] < 0).astype(np.uint32) << 9 | magnitudes[:, axis]
        packed = np.where(largest == axis, packed, packed << 10 | field)
    return np.ascontiguousarray(packed, "<u4").view(np.uint8).reshape(-1, 4)


def _unpack_rotations(packed: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(packed).view("<u4")[:, 0]
    largest = words >> 30
    xyzw = np.zeros((len(words), 4))
    for axis in (3, 2, 1, 0):
        value = (words & 511) / (511 * np.sqrt(2)) * np.where(words & 512, -1, 1)
        xyzw[:, axis] = np.where(largest == axis, 0, value)
        words = np.where(largest == axis, words, words >> 10)
    rest = np.sqrt(np.maximum(1 - (xyzw**2).sum(1), 0))
    np.put_along_axis(xyzw, largest[:, None].astype(np.int64), rest[:, None], 1)
    return (xyzw * [*_FLIPPED_AXES, 1])[:, [3, 0, 1, 2]]


def _unpack_first_three(packed: np.ndarray) -> np.ndarray:
    xyz = packed / 127.5 - 1
    w = np.sqrt(np.maximum(1 - (xyz**2).sum(1, keepdims=True), 0))
    return np.concatenate([w, xyz * _FLIPPED_AXES], 1)
