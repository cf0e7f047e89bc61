"""The command ``recon3d merge``: several fitted runs of one scene as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.errors import InputError, SceneError
from datasets.programs.command_line import Parser
from recon3d.fitting.run_folder import CONFIG, SPLAT, write_text
from recon3d.runs import open_splat, read_config
from recon3d.splats import save_splat
from recon3d.splats.merge import merged


def merge(arguments: Sequence[str]) -> None:
    """Run the command line ``recon3d merge``."""
    parser = Parser(
        prog="recon3d merge",
        description="Merge fits of one scene from several seeds into one run that shows the mean of their pictures: "
        "nearer to the truth than each, and as many times as large.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="Folders of finished runs, two or more.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the merged run; new or empty.")
    given = parser.parse_args(list(arguments))
    print(merge_runs(given.runs, given.out))


def merge_runs(runs: Sequence[Path], out: Path) -> Path:
    """Write the merged run of ``runs`` to ``out``: splat.safetensors and the first one's config.yaml.

    Raises:
        InputError: for fewer than two runs, runs of other photos, or an ``out`` that holds something.
        SceneError, SplatError: for a run that cannot be used.
    """
    if len({run.resolve() for run in runs}) < 2:
        raise InputError("merging takes at least two different runs")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: not an empty folder. Choose another --out")
    sources = [{key: value for key, value in read_config(run)["data"].items() if key != "seed"} for run in runs]
    for run, source in zip(runs[1:], sources[1:], strict=True):
        if changed := sorted(
            key for key in source.keys() | sources[0].keys() if source.get(key) != sources[0].get(key)
        ):
            raise InputError(f"{run}: fitted to other photos than {runs[0]} (data.{', data.'.join(changed)} differ)")
    try:
        splat = merged([open_splat(run) for run in runs])
    except ValueError as error:
        raise SceneError(runs[0], f"does not merge with the others: {error}", "Fit with the same options") from error
    write_text(out / CONFIG, (runs[0] / CONFIG).read_text(encoding="utf-8"))
    save_splat(out / SPLAT, splat)
    return out / SPLAT
