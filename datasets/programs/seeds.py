"""One configuration under several seeds: each is done once, and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datasets.errors import InputError
from datasets.programs.run_folder import write_text


def about_configuration(config: Path, seeds: int, folder: str) -> dict[str, Any]:
    """Name and digest of a configuration, to know its results by.

    Args:
        config: the YAML file.
        seeds: how many seeds are asked for.
        folder: where the project's own configurations lie.

    Raises:
        InputError: for no seeds, or where there is no such file.
    """
    if seeds < 1:
        raise InputError(f"--seeds is {seeds}, expected at least 1")
    if not config.is_file():
        raise InputError(f"{config}: there is no such configuration. The project's lie in {folder}")
    return {"config": config.name, "config_sha256": hashlib.sha256(config.read_bytes()).hexdigest()}


def results_of_seeds(
    out: Path, seeds: int, about: Mapping[str, Any], measure: Callable[[Path, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The results of seeds 0 to N - 1; those that ``out`` holds already are not measured again.

    Args:
        out: holds seed_N.json, and what ``measure`` writes into the run folder seed_N.
        seeds: how many.
        about: what the results are of; those of something else are refused.
        measure: gives the result of a seed; its run folder does not exist yet.

    Raises:
        InputError: for a result that is damaged, or of something else.
    """
    results = []
    for seed in range(seeds):
        result = _kept(out, seed, about)
        if result is None:
            run = out / f"seed_{seed}"
            shutil.rmtree(run, ignore_errors=True)
            out.mkdir(parents=True, exist_ok=True)
            print(f"seed {seed}:", flush=True)
            result = {"about": dict(about), "seed": seed, **measure(run, seed)}
            write_json(out / f"seed_{seed}.json", result)
        results.append(result)
    return results


def _kept(out: Path, seed: int, about: Mapping[str, Any]) -> dict[str, Any] | None:
    path = out / f"seed_{seed}.json"
    if not path.is_file():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        old = result["about"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is not a result of this command ({error!r}). Delete it") from error
    if old != about:
        changed = ", ".join(f"{key} {old.get(key)}, now {about[key]}" for key in about if old.get(key) != about[key])
        raise InputError(f"{path}: is a result of something else ({changed}). Give another --out, or delete {out}")
    print(f"seed {seed}: finished before")
    return result


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that is whole or absent; ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
