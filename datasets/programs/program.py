"""A command line program: a table of commands, each imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Command(NamedTuple):
    """Where a command lives: a typed function, or with ``own_parser`` a function of the remaining arguments."""

    module: str
    function: str
    help: str
    own_parser: bool = False


@dataclass(frozen=True)
class Program:
    """A program with commands.

    Attributes:
        name: what it is called by.
        purpose: one line.
        commands: by name.
        examples: command lines to begin with.
    """

    name: str
    purpose: str
    commands: Mapping[str, Command]
    examples: tuple[str, ...]

    def help_text(self) -> str:
        """What ``--help`` prints."""
        width = max(map(len, self.commands))
        lines = [f"  {name:<{width}}  {command.help}" for name, command in self.commands.items()]
        return "\n".join(
            [
                f"usage: {self.name} COMMAND [OPTIONS]",
                "",
                self.purpose,
                "",
                "commands:",
                *lines,
                "",
                f"{self.name} COMMAND --help   lists the options of a command",
                "",
                "examples:",
                *(f"  {example}" for example in self.examples),
            ]
        )

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run one command; returns the exit code: 0, 1 for input that cannot be used, 2 for a wrong command line."""
        name, *arguments = (sys.argv[1:] if argv is None else list(argv)) or [""]
        if name in ("-h", "--help"):
            print(self.help_text())
            return 0
        if name == "--version":
            from importlib.metadata import version

            print(version("sparse-vision-3d"))
            return 0

        # Before torch is loaded: its threads must sleep between tasks, not spin on the cores that our kernels need.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from datasets.errors import InputError
        from datasets.programs import command_line

        if name not in self.commands:
            what = f"there is no command '{name}'" if name else "name a command"
            print(f"{self.name}: {what}.{command_line.suggestion(name, self.commands)}", file=sys.stderr)
            print(f"Accepted: {', '.join(self.commands)}. More: {self.name} --help", file=sys.stderr)
            return 2
        command = self.commands[name]
        prog = f"{self.name} {name}"
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
