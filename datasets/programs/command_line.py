"""Command lines made from typed functions, with errors that say what is accepted and what was probably meant."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, get_args

from jsonargparse import ActionConfigFile, ArgumentParser

from datasets.errors import InputError


def suggestion(word: str, accepted: Iterable[str]) -> str:
    """``Did you mean 'x'?`` with the closest of ``accepted``, or nothing where none is close."""
    by_last_part = {name.rpartition(".")[2]: name for name in accepted}
    close = difflib.get_close_matches(word.rpartition(".")[2], by_last_part, n=1)
    return f" Did you mean '{by_last_part[close[0]]}'?" if close else ""


class ErrorsThatHelp(ArgumentParser):
    """Mixin for jsonargparse parsers (put it first): errors name the key and list what is accepted.

    ``class Parser(ErrorsThatHelp, LightningArgumentParser)`` gives LightningCLI the same messages. Abbreviated options
    are errors, since a mistyped key must never be taken for another. Exit code 2, as argparse has it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self._reading: str | None = None

    def parse_path(self, cfg_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's; meanwhile errors name the file."""
        self._reading = str(cfg_path)
        try:
            values = super().parse_path(cfg_path, *args, **kwargs)
        except UnicodeDecodeError as error:
            raise InputError(f"{cfg_path}: is not UTF-8 text ({error.reason}). Save it again as UTF-8") from error
        self._reading = None
        return values

    def instantiate(self, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's; a constructor that refuses a value is an error of the command line."""
        try:
            return super().instantiate(*args, **kwargs)
        except InputError:
            raise
        except ValueError as error:
            self.error(str(error), error)

    instantiate_classes = instantiate  # the name by which LightningCLI calls it, which jsonargparse warns about

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print ``message``, what is accepted in its place, and where to read more; exit with 2."""
        if not self.exit_on_error:  # the parser of a class inside another, which reports it
            super().error(message, ex)
        parser: ArgumentParser = getattr(ex, "subcommand_parser", None) or self
        place = f"{self._reading}: " if self._reading else ""
        lines = [f"{parser.prog}: {place}{_plain(message)}", *_accepted(parser, message)]
        self.exit(2, "\n".join([*lines, f"All options: {parser.prog} --help"]) + "\n")


class Parser(ErrorsThatHelp):
    """The parser of every command that is a typed function."""


def run_function(function: Callable[..., object], prog: str, arguments: Sequence[str]) -> None:
    """Call ``function`` with arguments parsed from the command line and from YAML files given with ``--config``.

    Parameters without a default become positional, keyword-only ones become options; the docstring becomes the help.
    A parameter that itself is called ``config`` takes that name over, and there are then no YAML files.
    """
    names = list(inspect.signature(function).parameters)
    description = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
    parser = Parser(prog=prog, description=description)
    if "config" not in names:
        parser.add_argument("--config", action=ActionConfigFile, help="YAML file with values for the options.")
    parser.add_function_arguments(function, as_positional=True, as_group=False)
    values = parser.instantiate(parser.parse_args(list(arguments)))
    function(**{name: values[name] for name in names})


def _plain(message: str) -> str:
    """``message`` with Python's names of types in plainer words."""
    union = re.search(
        r"Does not validate against any of the Union.*?Errors:\n(.*?)\s*Given value type:.*?Given", message, re.S
    )
    if union and all(line.strip().startswith("- Expected") for line in union[1].splitlines()):
        expected = [
            line.strip().removeprefix("- Expected ") for line in union[1].splitlines() if "NoneType" not in line
        ]
        message = message.replace(union[0], f"Expected {' or '.join(expected)}. Got")
    message = re.sub(r"Parser key \"([^\"]+)\":\s*", r"'\1': ", message)
    message = re.sub(r"\ban? <class '(?:\w+\.)*(\w+)'>", r"\1", message)
    message = re.sub(r"\ba typing\.Literal\[([^]]+)\]", r"one of \1", message)
    return message.strip()


def _accepted(parser: ArgumentParser, message: str) -> list[str]:
    """Lines that list what may stand where ``message`` says something is not accepted; none for other errors."""
    if unknown := re.search(r"[Uu]nrecognized arguments: (.*)", message):
        option = next((word for word in unknown[1].split() if word.startswith("--")), None)
        if option is None:
            return []
        given, accepted = option.partition("=")[0], _options(parser)
        group = given.rpartition(".")[0]
        return _listed(given, [name for name in accepted if name.rpartition(".")[0] == group] or accepted)
    if in_class := re.search(r"given class_path '([^']+)':\s+(?:\w+ )?Option '([^']+)' is not accepted", message):
        return _listed(in_class[2], _class_keys(in_class[1]))
    if no_name := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return _listed(no_name[2], _public_names(no_name[1]))
    if no_path := re.search(r"Parser key \"([^\"]+)\".*Expected a dot import path string: (\w+)", message, re.S):
        hints = [getattr(action, "_typehint", None) for action in parser._actions if action.dest == no_path[1]]
        return _listed(no_path[2], (name for hint in hints for name in _class_paths(hint)))
    if in_group := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        group, _, key = f"{in_group[1]}.{in_group[2]}".rpartition(".")
        return _listed(key, _keys(parser, f"{group}."))
    if at_top := re.search(r"Option '([^']+)' is not accepted", message):
        return _listed(at_top[1].partition(".")[0], _keys(parser))
    return []


def _listed(given: str, accepted: Iterable[str]) -> list[str]:
    accepted = list(dict.fromkeys(accepted))
    return [f"Accepted: {', '.join(accepted)}.{suggestion(given, accepted)}"] if accepted else []


def _options(parser: ArgumentParser) -> list[str]:
    """The long options, without those that only print something."""
    strings = (string for action in parser._actions for string in action.option_strings)
    return [
        string
        for string in strings
        if string.startswith("--")
        and not string.startswith(("--help", "--print_"))
        and not string.endswith((".help", "+"))
    ]


def _keys(parser: ArgumentParser, prefix: str = "") -> list[str]:
    """The keys of a YAML file directly below ``prefix``."""
    inside = (action.dest[len(prefix) :] for action in parser._actions if action.dest.startswith(prefix))
    names = (name.partition(".")[0] for name in inside)
    return [name for name in names if name not in ("", "help", "config", "print_config", "print_shtab")]


def _public_names(module: str) -> list[str]:
    """Classes and modules that a class path may name after ``module``, which is imported."""
    found = importlib.import_module(module)
    inside = [name for _, name, _ in pkgutil.iter_modules(getattr(found, "__path__", []))]
    package = module.partition(".")[0]
    classes = (
        name for name, value in vars(found).items() if inspect.isclass(value) and value.__module__.startswith(package)
    )
    return [name for name in (*classes, *inside) if not name.startswith("_")]


def _class_paths(hint: Any) -> list[str]:
    """Import paths of the known classes that an option of type ``hint`` takes."""
    if inspect.isclass(hint) and not get_args(hint):
        own = (
            [] if inspect.isabstract(hint) or hint.__module__ == "builtins" else [f"{hint.__module__}.{hint.__name__}"]
        )
        return own + [path for known in hint.__subclasses__() for path in _class_paths(known)]
    return [path for part in get_args(hint) for path in _class_paths(part)]


def _class_keys(class_path: str) -> list[str]:
    """What ``init_args`` of ``class_path`` may hold."""
    module, _, name = class_path.rpartition(".")
    parser = ArgumentParser()
    parser.add_class_arguments(getattr(importlib.import_module(module), name), fail_untyped=False)
    return _keys(parser)
