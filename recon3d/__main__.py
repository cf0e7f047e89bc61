"""The command ``recon3d``: a table of commands, each imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Command(NamedTuple):
    """Where a command lives: a typed function, or with ``own_parser`` a function of the remaining arguments."""

    module: str
    function: str
    help: str
    own_parser: bool = False


COMMANDS = {
    "fit": Command("recon3d.fitting.command", "fit", "fit Gaussians to the photos of a scene", own_parser=True),
    "test": Command("recon3d.evaluate", "evaluate_run", "compare renders of a fitted run with its test photos"),
    "render": Command("recon3d.novel_views", "render", "pictures, depth and video of a splat along a path"),
    "report": Command("recon3d.report", "report", "write a run's report.html again"),
    "export": Command(
        "recon3d.splats.export", "export", "write a splat as PLY, SPZ, .splat or safetensors", own_parser=True
    ),
    "benchmark": Command("recon3d.benchmark", "benchmark", "fit and test over several seeds: mean and spread"),
    "demo": Command("recon3d.demo", "demo", "all of it on the built-in scene, in a few minutes"),
}


def help_text() -> str:
    """What ``recon3d --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: recon3d COMMAND [OPTIONS]",
            "",
            "A few posed photos to 3D Gaussians to novel views.",
            "",
            "commands:",
            *lines,
            "",
            "recon3d COMMAND --help   lists the options of a command",
            "",
            "examples:",
            "  recon3d fit --config configs/recon3d/llff_3view.yaml --data.root SCENE --out RUN",
            "  recon3d test RUN",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for input that cannot be used, 2 for a wrong command line."""
    name, *arguments = (sys.argv[1:] if argv is None else list(argv)) or [""]
    if name in ("-h", "--help"):
        print(help_text())
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(version("sparse-vision-3d"))
        return 0

    # Before torch is loaded: its threads must sleep between tasks, not spin on the cores that the rasteriser's need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from datasets.errors import InputError
    from recon3d import command_line

    if name not in COMMANDS:
        what = f"there is no command '{name}'" if name else "name a command"
        print(f"recon3d: {what}.{command_line.suggestion(name, COMMANDS)}", file=sys.stderr)
        print(f"Accepted: {', '.join(COMMANDS)}. More: recon3d --help", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    prog = f"recon3d {name}"
    try:
        function = getattr(importlib.import_module(command.module), command.function)
        if command.own_parser:
            function(arguments)
        else:
            command_line.run_function(function, prog, arguments)
    except (InputError, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
