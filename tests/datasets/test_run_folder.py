"""Which folders a fit may write to, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.errors import InputError
from datasets.programs.run_folder import RunFolders, last_checkpoint

RUNS = RunFolders("splat.bin", ("renders", "report.html"), ("model.",))
CONFIG, OTHER = "model: {size: 1}\n", "model: {size: 2}\n"


def folder(root: Path, *files: str, config: str = CONFIG) -> Path:
    for name in (*files, "config.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(config if name == "config.yaml" else "kept")
    return root


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


CASES = {
    "of another program": (("logs/events", "checkpoints/epoch=9.ckpt", "report.html"), OTHER, "another configuration"),
    "another configuration": (("checkpoints/last.ckpt",), OTHER, "another configuration"),
    "finished": (("checkpoints/last.ckpt", "splat.bin"), CONFIG, "a finished run"),
    "finished, no checkpoint": (("splat.bin", "renders/a.png"), CONFIG, "a finished run"),
    "stopped": (("checkpoints/last.ckpt", "splat.bin", "unfinished.txt"), CONFIG, "not finished.*--resume"),
    "killed": (("checkpoints/last.ckpt", "unfinished.txt"), CONFIG, "not finished.*--resume"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("resume", [False, True])
def test_what_is_there_is_refused_or_continued(tmp_path: Path, case: str, resume: bool) -> None:
    files, config, message = CASES[case]
    run = folder(tmp_path / "run", *files, config=config)
    before = names(run)
    continued = resume and config == CONFIG and "checkpoints/last.ckpt" in files
    if continued:
        assert RUNS.checked(run, CONFIG, resume=True, overwrite=False) == last_checkpoint(run)
    else:
        with pytest.raises(InputError, match=message):
            RUNS.checked(run, CONFIG, resume=resume, overwrite=False)
    assert names(run) == before
    assert RUNS.checked(run, CONFIG, resume=resume, overwrite=True) is None
    assert names(run) == before
    RUNS.claim(run, CONFIG, None)
    assert names(run) <= {"config.yaml", "unfinished.txt"}


def test_claiming_and_finishing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert RUNS.checked(run, CONFIG, resume=False, overwrite=False) is None
    assert not run.exists()
    RUNS.claim(run, CONFIG, None)
    assert RUNS.checked(run, CONFIG, resume=True, overwrite=False) is None  # nothing was done yet
    folder(run, "checkpoints/last.ckpt", "checkpoints/.part", "splat.bin")
    RUNS.claim(run, CONFIG, last_checkpoint(run))
    assert names(run) == {"config.yaml", "unfinished.txt", "checkpoints/last.ckpt", "splat.bin"}
    RUNS.finish(run)
    with pytest.raises(InputError, match="a finished run"):
        RUNS.checked(run, CONFIG, resume=False, overwrite=False)
    assert RUNS.checked(run, OTHER, resume=False, overwrite=True) is None


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not the folder of a run"):
            RUNS.checked(tmp_path, CONFIG, resume=False, overwrite=overwrite)
