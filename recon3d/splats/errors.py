"""The one error of splat files."""

from pathlib import Path

from datasets.errors import InputError


class SplatError(InputError):
    """A splat file that cannot be read or written. The message names the file, what was found, and the mend."""

    def __init__(self, path: Path | str, found: str, mend: str) -> None:
        super().__init__(f"{path}: {found}. {mend}")
        self.path, self.found, self.mend = Path(path), found, mend
