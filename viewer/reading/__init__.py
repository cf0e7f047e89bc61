"""From paths to layers."""

from viewer.reading.opening import Contents, open_all

__all__ = ["Contents", "open_all"]
