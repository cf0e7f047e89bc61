"""Compiled kernels on torch's own OpenMP threads.

A second set of threads would fight with torch's, which keep a processor busy for many milliseconds after each
operation in expectation of the next one.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numba.extending
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.ccallback import CFunc

_kept: list[Any] = []  # code lives as long as its owner
_Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# What it makes is called without the typing context that its definition has, which type checkers mistake.
_intrinsic: Any = numba.extending.intrinsic


@_intrinsic
def pointer(typing, address):
    """A number as a pointer, for ``numba.carray``."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@_intrinsic
def take_ticket(typing, tickets):
    """Add one to the first number of an int64 array and return what it was, as one step that no thread interrupts."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(tickets), generate


def c_function(function: Callable[[Any], None]) -> int:
    """Address of ``function`` of one untyped pointer, compiled for this processor and cached on disk.

    Numba's cache looks at the one file that holds a function; what this one calls is in others, so that the cache is
    tied to all of them.
    """
    options = {"nopython": True, "error_model": "numpy"}
    compiled: Any = CFunc(function, ((types.voidptr,), types.void), locals={}, options=options)
    compiled.enable_caching()
    digest = hashlib.sha256()
    for source in sorted({Path(function.__code__.co_filename), *Path(__file__).parent.glob("*.py")}):
        digest.update(source.read_bytes())
    compiled._cache._cache_file._source_stamp = digest.hexdigest()
    compiled.compile()
    _kept.append(compiled)
    return compiled.address


@functools.cache
def _openmp_team() -> Callable[[Any, int, int, int], None] | None:
    """OpenMP's entry for running a function on a team, in the library that torch has loaded; None where it has not."""
    try:
        team = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    team.argtypes, team.restype = (_Work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return team


def run_on_team(address: int, job: np.ndarray, threads: int) -> None:
    """Call the C function at ``address`` with the address of ``job`` on ``threads`` threads at once.

    It draws its parts from a ticket within the job, so that all work is done however many threads come.
    """
    work = _Work(address)
    team = _openmp_team()
    if threads <= 1:
        work(job.ctypes.data)
    elif team is not None:
        team(work, job.ctypes.data, threads, 0)
    else:
        others = [Thread(target=work, args=(job.ctypes.data,)) for _ in range(threads - 1)]
        for other in others:
            other.start()
        work(job.ctypes.data)
        for other in others:
            other.join()
