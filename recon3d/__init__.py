"""A few posed photos to 3D Gaussians to novel views."""

from importlib.util import find_spec
from pathlib import Path


def _refuse_strangers() -> None:
    """Raise ImportError where a package that belongs beside this one would be imported from elsewhere.

    ``datasets`` is also the name of a well-known distribution; found first, it would run in our place.
    """
    root = Path(__file__).resolve().parent.parent
    for name in ("datasets", "detection", "viewer"):
        spec = find_spec(name)
        places = [] if spec is None else [*(spec.submodule_search_locations or []), spec.origin]
        found = next((place for place in places if place), None)
        if found is None or Path(found).resolve() != root / name:
            raise ImportError(
                f"recon3d at {root / 'recon3d'} needs the package '{name}' at {root / name}, but Python finds "
                f"{found or 'none'}. Use a fresh virtual environment and run `pip install -e .` in {root}."
            )


_refuse_strangers()
