"""Errors a user can act on."""

from pathlib import Path


class SceneError(ValueError):
    """A scene that cannot be used. The message names the file, what was found, and the mend."""

    def __init__(self, path: Path | str, found: str, mend: str) -> None:
        super().__init__(f"{path}: {found}. {mend}")
        self.path, self.found, self.mend = Path(path), found, mend
