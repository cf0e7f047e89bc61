"""Errors a user can act on."""

from pathlib import Path


class InputError(ValueError):
    """Something a user gave that cannot be used: the message names it, says what was found, and the mend.

    The command line prints it as one line; every other error there is a bug and keeps its traceback.
    """


class SceneError(InputError):
    """A scene that cannot be used. The message names the file, what was found, and the mend."""

    def __init__(self, path: Path | str, found: str, mend: str) -> None:
        super().__init__(f"{path}: {found}. {mend}")
        self.path, self.found, self.mend = Path(path), found, mend
