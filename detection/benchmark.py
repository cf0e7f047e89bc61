"""The command ``detect3d benchmark``: one configuration, several seeds, mean and spread."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.programs.environment import machine, versions
from datasets.programs.measuring import deviation, mean, measured
from datasets.programs.seeds import about_configuration, results_of_seeds, write_json

PROGRAM = (sys.executable, "-m", "detection")
NOTES = {
    "std": "sample standard deviation over seeds (divided by n - 1); null for a single seed",
    "seconds": "wall clock of the whole `detect3d fit` process",
    "peak_mb": "largest resident memory of the fit's process, in MiB; a GPU's memory is not in it",
    "network_ms": "milliseconds a test cloud, from points to boxes",
}
COSTS = ("seconds", "peak_mb", "network_ms")


def benchmark(config: Path, *, out: Path, root: Path | None = None, seeds: int = 3) -> None:
    """Train and test a configuration with seeds 0 to N - 1; write OUT/table.json with mean and spread, and print it.

    Each fit is a process of its own, so that its seconds and peak memory are those of `detect3d fit` from start to end.
    Seeds that are finished in OUT are kept; one that was interrupted is done again from the start. OUT/seed_N is the
    run folder of seed N.

    Args:
        config: YAML file, as for `detect3d fit`.
        out: Folder for the runs and table.json; made if it does not exist.
        root: Folder of the data, in place of the configuration's.
        seeds: Number of seeds.
    """
    about = {
        **about_configuration(config, seeds, "configs/detection"),
        "root": None if root is None else str(root.resolve()),
    }
    more = [] if root is None else [f"--root={about['root']}"]

    def measure(run: Path, seed: int) -> dict[str, Any]:
        seconds, peak_mb = measured([*PROGRAM, "fit", f"--config={config}", f"--out={run}", f"--seed={seed}", *more])
        measured([*PROGRAM, "test", str(run), "--pictures=0"])
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        return {
            "seconds": round(seconds, 2),
            "peak_mb": round(peak_mb, 1),
            "network_ms": 1000 * metrics["network_seconds_per_frame"],
            "values": metrics["values"],
        }

    results = results_of_seeds(out, seeds, about, measure)
    table = summary(results) | {"about": about, "notes": NOTES, "versions": versions(), "machine": machine()}
    write_json(out / "table.json", table)
    print(f"\n{text_table(table)}\n\ntable: {out / 'table.json'}")


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every measure.

    Args:
        results: per seed ``{"seed", "seconds", "peak_mb", "network_ms", "values": {measure: value or None}}``.
    """
    rows = [{**result["values"], **{key: result[key] for key in COSTS}} for result in results]
    return {
        "seeds": [result["seed"] for result in results],
        "mean": {key: mean(row[key] for row in rows) for key in rows[0]},
        "std": {key: deviation(row[key] for row in rows) for key in rows[0]},
        "per_seed": [{"seed": result["seed"], **row} for result, row in zip(results, rows, strict=True)],
    }


def text_table(table: Mapping[str, Any]) -> str:
    """Markdown: a row for each measure, with its mean, standard deviation and the value of each seed."""
    lines = [f"| | mean | std | {' | '.join(f'seed {seed}' for seed in table['seeds'])} |"]
    lines.append("|---|" + "---|" * (2 + len(table["seeds"])))
    for key in table["mean"]:
        values = [table["mean"][key], table["std"][key], *(row[key] for row in table["per_seed"])]
        lines.append(f"| {key} | {' | '.join('–' if value is None else f'{value:.2f}' for value in values)} |")
    return "\n".join(lines)
