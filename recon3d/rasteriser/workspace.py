"""Scratch memory that outlives a call: fresh pages cost more than the arithmetic done in them."""

from __future__ import annotations

import math
import threading
import weakref

import numpy as np

_CACHE_LINE = 64
_KEPT = 4  # workspaces; one is in use per forward pass whose graph is alive


class Workspace:
    """Named arrays that grow and are reused; their contents are whatever was there."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}
        self.owner: weakref.finalize | None = None  # set while borrowed

    def take(self, name: str, shape: int | tuple[int, ...], dtype: type) -> np.ndarray:
        """An uninitialised array that starts at a cache line, valid until the next call with the same name."""
        size = (math.prod(shape) if isinstance(shape, tuple) else shape) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            room = size + size // 4
            buffer = np.empty(room + _CACHE_LINE, np.uint8)
            start = -buffer.ctypes.data % _CACHE_LINE
            buffer = self._buffers[name] = buffer[start : start + room]
        return buffer[:size].view(dtype).reshape(shape)


_free: list[Workspace] = []
_lock = threading.RLock()  # a collected owner may give back while we hold it


def give_back(workspace: Workspace) -> None:
    """Let others use a borrowed workspace; does nothing the second time."""
    with _lock:
        if workspace.owner is not None:
            workspace.owner.detach()
            workspace.owner = None
            if len(_free) < _KEPT:
                _free.append(workspace)


def borrow(owner: object) -> Workspace:
    """A workspace that nobody else uses until it is given back, at the latest when ``owner`` is collected."""
    with _lock:
        workspace = _free.pop() if _free else Workspace()
    workspace.owner = weakref.finalize(owner, give_back, workspace)
    return workspace
