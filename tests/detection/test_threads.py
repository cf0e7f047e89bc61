"""Teams of threads: as many as were asked for, at the same time, by OpenMP and without it."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from detection.sparse import threads
from detection.sparse.threads import run_on_team


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_team_has_the_threads_that_were_asked_for(size: int, openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(threads, "_openmp_team", lambda: None)
    everyone = threading.Barrier(size)
    came: list[tuple[int, int | None]] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def work(data: int | None) -> None:
        everyone.wait(timeout=30)
        came.append((threading.get_ident(), data))

    address, job = ctypes.cast(work, ctypes.c_void_p).value, np.zeros(1, np.int64)
    assert address is not None
    run_on_team(address, job, size)
    assert len({thread for thread, _ in came}) == size
    assert [data for _, data in came] == [job.ctypes.data] * size
