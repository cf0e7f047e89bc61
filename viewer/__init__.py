"""Windows, pictures and pages that show the results of both halves."""

from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_FOUND = getattr(find_spec("datasets"), "origin", None)
if _FOUND is None or Path(_FOUND).resolve().parent != _ROOT / "datasets":
    raise ImportError(
        f"viewer at {_ROOT / 'viewer'} needs the package 'datasets' at {_ROOT / 'datasets'}, but Python finds "
        f"{_FOUND or 'none'}. Use a fresh virtual environment and run `pip install -e .` in {_ROOT}."
    )
