"""The rasteriser's own threads.

Kernels release the GIL and share work through an atomic counter, so a plain pool of Python threads is as fast as
numba's parallel backends and free of their traps: it survives fork (a child starts afresh) and may be used from several
Python threads at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np

_Task = Callable[[], None]


class _Pool:
    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self.workers = 0
        self.lock = threading.Lock()

    def grow(self, workers: int) -> None:
        with self.lock:
            while self.workers < workers:
                threading.Thread(target=self._serve, name=f"rasteriser-{self.workers}", daemon=True).start()
                self.workers += 1

    def _serve(self) -> None:
        while True:
            self.tasks.get()()


_pool = _Pool()
_threads = 0


def _reset_after_fork() -> None:
    global _pool
    _pool = _Pool()  # the parent's threads do not exist here, and its locks may be held for ever


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def thread_count() -> int:
    """How many threads a call uses: set by :func:`set_threads`, else by NUMBA_NUM_THREADS, else one per usable core."""
    return _threads or _default_threads()


@functools.cache
def _default_threads() -> int:
    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    if limit.isdigit() and int(limit) > 0:
        return int(limit)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int) -> None:
    """Use ``count`` threads from now on, 0 for the default; ValueError below 0. Results do not depend on it."""
    global _threads
    if count < 0:
        raise ValueError(f"the number of threads must be at least 0, got {count}")
    _threads = count


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Use ``count`` threads within a ``with`` block."""
    before = _threads
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)


class _Share:
    """One call's work on one other thread: the outcome is waited for under a lock, which costs less than an event."""

    def __init__(self, kernel: Callable[..., None], args: tuple) -> None:
        self.kernel, self.args = kernel, args
        self.error: BaseException | None = None
        self.running = threading.Lock()
        self.running.acquire()

    def __call__(self) -> None:
        try:
            self.kernel(*self.args)
        except BaseException as error:
            self.error = error
        finally:
            self.running.release()

    def join(self) -> None:
        self.running.acquire()
        if self.error is not None:
            raise self.error


def run(kernel: Callable[..., None], items: int, *args: object) -> None:
    """Call ``kernel(tickets, *args)`` on every thread at once; it draws numbers from ``tickets`` up to ``items``."""
    tickets = np.zeros(1, np.int64)
    count = min(thread_count(), items)
    if count <= 1:
        kernel(tickets, *args)
        return
    _pool.grow(count - 1)
    shares = [_Share(kernel, (tickets, *args)) for _ in range(count - 1)]
    for share in shares:
        _pool.tasks.put(share)
    try:
        kernel(tickets, *args)
    finally:
        for share in shares:
            share.join()
