"""Writing files that are whole or absent."""

from datasets.files import replacing

__all__ = ["replacing"]
