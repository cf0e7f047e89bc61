"""Time and memory of whole processes, and mean and spread over several of them."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

from datasets.errors import InputError


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Run ``command`` to its end; its wall clock in seconds and its largest resident memory in MiB.

    Linux counts the memory of the process that starts another as the other's until that one runs its own program: the
    caller must be small, which is why this module imports nothing heavy.

    Raises:
        InputError: where the command fails; it has said why.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except KeyboardInterrupt:
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise InputError(f"exit code {process.returncode} from: {' '.join(command)}")
    return time.perf_counter() - began, usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def deviation(values: Iterable[float | None]) -> float | None:
    """Sample standard deviation of the values that are not None; None for fewer than two."""
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None
