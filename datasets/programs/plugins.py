"""What installed packages register for one another, so that none of them imports another."""

from __future__ import annotations

from importlib.metadata import distributions
from typing import Any


def registered(group: str) -> list[Any]:
    """The loaded entry points of ``group``, in the order of their names."""
    # Of every copy of a package's metadata: entry_points() takes the first, which may be left from an earlier build.
    found = {entry for package in distributions() for entry in package.entry_points if entry.group == group}
    return [entry.load() for entry in sorted(found, key=lambda entry: (entry.name, entry.value))]
