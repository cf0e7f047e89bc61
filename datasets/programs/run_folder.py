"""The folder that a fit writes: when an old one may be overwritten, continued, or must be left alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasets.errors import InputError, SceneError
from datasets.files import replacing

CONFIG, HISTORY = "config.yaml", "history.json"
CHECKPOINTS, LOGS, PREVIEWS = "checkpoints", "logs", "previews"
UNFINISHED = "unfinished.txt"  # there while a fit has steps left, whatever results an interrupted one has written


def last_checkpoint(run: Path) -> Path:
    """Where the newest checkpoint of a run folder lies."""
    return run / CHECKPOINTS / "last.ckpt"


def checkpoint_of(run: Path, *, resume: bool, overwrite: bool) -> Path | None:
    """The checkpoint that a fit with these options continues from: the same in all processes of a fit."""
    checkpoint = last_checkpoint(run)
    return checkpoint if resume and not overwrite and checkpoint.is_file() else None


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_config(path: Path, mend: str) -> dict[str, Any]:
    """A fit's full configuration, which has a section ``data``.

    Args:
        path: the YAML file.
        mend: what to do about a file that cannot be used.

    Raises:
        SceneError: where it is missing, not YAML, or has no such section.
    """
    if not path.is_file():
        raise SceneError(path, "there is no such file", mend)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SceneError(path, f"is not readable YAML ({str(error).splitlines()[0]})", mend) from error
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise SceneError(path, "has no section `data`", mend)
    return config


@dataclass(frozen=True)
class RunFolders:
    """What the run folders of a program have in common.

    Attributes:
        result: the file that a finished fit leaves.
        made: patterns of what a fit, and what is made from it, leave besides, so that a new fit does not mix with the
            results of an old one.
        decisive: beginnings of the options that decide the result; the others say where, how long and how loudly to
            run.
    """

    result: str
    made: tuple[str, ...]
    decisive: tuple[str, ...]

    def checked(self, run: Path, config: str, *, resume: bool, overwrite: bool) -> Path | None:
        """Look whether ``run`` may hold a fit of ``config`` (YAML); nothing is changed there.

        Args:
            run: the folder; it need not exist.
            config: the full configuration.
            resume: continue from the folder's last checkpoint, if there is one.
            overwrite: delete what an earlier run left there, whatever its configuration was.

        Returns:
            The checkpoint to continue from, or None to begin at the beginning.

        Raises:
            InputError: where the folder holds something else, a run of another configuration, or a run of this one that
                is neither to be resumed nor to be overwritten.
        """
        old = run / CONFIG
        if run.is_dir() and any(run.iterdir()) and not old.is_file():
            raise InputError(f"{run}: not empty, and not the folder of a run (no {CONFIG}). Choose another --out")
        if old.is_file() and not overwrite:
            began, ended = last_checkpoint(run).is_file(), (run / self.result).is_file()
            if changed := self.differences(_read(old), yaml.safe_load(config)):
                found, mend = f"a run with another configuration ({'; '.join(changed)})", "Choose another --out"
            elif (resume and began) or not (began or ended):
                found = mend = ""
            elif began and ((run / UNFINISHED).is_file() or not ended):
                found, mend = "a run that is not finished", "Give --resume to continue it"
            else:
                found, mend = "a finished run of this configuration", "Choose another --out"
            if found:
                raise InputError(f"{run}: holds {found}. {mend}, or give --overwrite to delete that run")
        return checkpoint_of(run, resume=resume, overwrite=overwrite)

    def claim(self, run: Path, config: str, checkpoint: Path | None) -> None:
        """Make ``run`` the folder of a fit of ``config`` that continues from ``checkpoint``, or where that is None
        begins: then what an earlier run left is deleted.
        """
        if checkpoint is not None:
            for leftover in checkpoint.parent.glob(".*"):  # of a write that was killed
                leftover.unlink()
        else:
            made = (CONFIG, UNFINISHED, HISTORY, self.result, CHECKPOINTS, LOGS, PREVIEWS, *self.made)
            for path in [path for name in made for path in run.glob(name)]:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        write_text(run / CONFIG, config)
        write_text(run / UNFINISHED, "This run can be continued with --resume.\n")

    def finish(self, run: Path) -> None:
        """Note that the fit of ``run`` has done all its steps."""
        (run / UNFINISHED).unlink(missing_ok=True)

    def differences(self, old: Any, new: Any) -> list[str]:
        """``key: old -> new`` of what would change the result, at most four."""
        before, after = _flat(old), _flat(new)
        keys = [key for key in sorted(before.keys() | after.keys()) if key.startswith(self.decisive)]
        changed = [f"{key}: {before.get(key)} -> {after.get(key)}" for key in keys if before.get(key) != after.get(key)]
        return changed if len(changed) <= 4 else [*changed[:4], f"and {len(changed) - 4} more"]


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not readable YAML. Choose another --out, or give --overwrite") from error


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    children = {k: v for name, value in items for k, v in _flat(value, f"{prefix}{name}.").items()}
    return children or {prefix.rstrip("."): tree}
