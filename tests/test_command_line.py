"""The command ``recon3d`` and what it says about mistakes."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from datasets.errors import SceneError
from datasets.programs.command_line import run_function
from recon3d import __main__ as program

HEAVY = ("torch", "numpy", "lightning", "open3d", "cv2", "numba", "scipy", "jsonargparse")


@dataclass
class Optimiser:
    rate: float = 0.1
    steps: int = 3


class Loss:
    def __init__(self, weight: float = 1.0) -> None:
        if weight < 0:
            raise ValueError(f"weight is {weight}, expected at least 0")
        self.weight = weight


class Edges(Loss):
    def __init__(self, weight: float = 1.0, window: int = 3) -> None:
        super().__init__(weight)
        self.window = window


@dataclass
class Calls:
    """What the command got."""

    got: list[dict] = field(default_factory=list)


CALLS = Calls()


def measure(
    run: Path,
    *,
    kind: Literal["llff", "blender"] = "llff",
    split: Literal["llff", "dtu"] | None = None,
    views: int = 3,
    optimiser: Optimiser = Optimiser(),  # noqa: B008
    losses: list[Loss] | None = None,
) -> None:
    """Measure a run.

    Args:
        run: Folder of the run.
        kind: Kind of the scene.
        split: Which photos test.
        views: How many photos.
        optimiser: How to step.
        losses: What to lower.
    """
    CALLS.got.append(
        {"run": run, "kind": kind, "split": split, "views": views, "optimiser": optimiser, "losses": losses}
    )


@pytest.fixture(autouse=True)
def command(monkeypatch):
    """``recon3d measure``, a command of this file."""
    CALLS.got.clear()
    monkeypatch.setitem(sys.modules, "commands_of_test", sys.modules[__name__])
    monkeypatch.setitem(program.COMMANDS, "measure", program.Command("commands_of_test", "measure", "for this test"))


def failed(capsys, *arguments: str) -> str:
    """What goes to the standard error when a wrong command line is refused with exit code 2."""
    try:
        code = program.main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert not CALLS.got
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_values_arrive_with_their_types(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(f"optimiser: {{rate: 0.5}}\nlosses:\n- class_path: {__name__}.Edges\n  init_args: {{window: 5}}\n")
    run_function(measure, "recon3d measure", ["RUN", "--config", str(file), "--views", "4"])
    (got,) = CALLS.got
    assert (got["run"], got["views"], got["optimiser"]) == (Path("RUN"), 4, Optimiser(rate=0.5))
    assert type(got["losses"][0]).__name__ == "Edges"
    assert got["losses"][0].window == 5


def test_a_parameter_called_config_is_an_ordinary_one():
    got = []

    def benchmark(config: Path, *, seeds: int = 3) -> None:
        got.append((config, seeds))

    run_function(benchmark, "recon3d benchmark", ["a.yaml", "--seeds", "2"])
    assert got == [(Path("a.yaml"), 2)]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_names_every_command_and_loads_nothing_heavy(arguments):
    code = (
        "import sys\nfrom recon3d.__main__ import main\n"
        f"code = main({arguments!r})\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout
    for name in program.COMMANDS.keys() - {"measure"}:
        assert f"\n  {name} " in done.stdout


def test_every_command_exists_and_prints_its_help(capsys):
    for name in program.COMMANDS:
        with pytest.raises(SystemExit) as stop:
            program.main([name, "--help"])
        assert stop.value.code == 0
        assert f"usage: recon3d {name}" in capsys.readouterr().out


def test_unknown_command(capsys):
    message = failed(capsys, "tets")
    assert "'tets'" in message
    assert "Did you mean 'test'?" in message
    for name in program.COMMANDS:
        assert name in message


def test_no_command(capsys):
    assert "name a command" in failed(capsys)


@pytest.mark.parametrize("option", ["--veiws", "--view"])
def test_unknown_option_and_no_abbreviations(capsys, option):
    message = failed(capsys, "measure", "RUN", option, "3")
    assert option in message
    assert "Did you mean '--views'?" in message
    assert "--kind" in message


def test_unknown_option_of_a_group(capsys):
    message = failed(capsys, "measure", "RUN", "--optimiser.rat", "3")
    assert "Accepted: --optimiser.rate, --optimiser.steps. Did you mean '--optimiser.rate'?" in message


@pytest.mark.parametrize(
    ("yaml", "key", "accepted"),
    [
        ("veiws: 3", "veiws", "run, kind, split, views, optimiser, losses. Did you mean 'views'?"),
        ("optimiser: {rat: 3}", "rat", "rate, steps. Did you mean 'rate'?"),
        (
            "losses: [{class_path: HERE.Edges, init_args: {windw: 3}}]",
            "windw",
            "weight, window. Did you mean 'window'?",
        ),
        ("losses: [{class_path: HERE.Egdes}]", "Egdes", "Did you mean 'Edges'?"),
        ("losses: [{class_path: Egdes}]", "Egdes", "Did you mean 'HERE.Edges'?"),
        ("losses: [{class_path: recon3d.gausians.Edges}]", "gausians", "Did you mean 'gaussians'?"),
        ("veiws: {a: 3}", "veiws.a", "Did you mean 'views'?"),
        ("split: lff", "'split'", "Expected one of 'llff', 'dtu'. Got value: lff"),
        ("views: many", "'views'", "Expected int"),
        ("kind: lff", "'kind'", "'llff', 'blender'"),
        ("losses: [{class_path: HERE.Loss, init_args: {weight: -1}}]", "weight is -1.0", "expected at least 0"),
        ("optimiser: {rate: fast}", "'optimiser.rate'", "Expected float"),
    ],
)
def test_mistakes_in_a_yaml_file(capsys, tmp_path, yaml, key, accepted):
    file = tmp_path / "a.yaml"
    file.write_text(yaml.replace("HERE", __name__))
    message = failed(capsys, "measure", "RUN", "--config", str(file))
    assert key in message
    assert accepted.replace("HERE", __name__) in message


def test_broken_yaml_names_the_file(capsys, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("views: [1\nkind: {")
    assert str(file) in failed(capsys, "measure", "RUN", "--config", str(file))


def test_missing_file_and_missing_argument(capsys, tmp_path):
    assert "nowhere.yaml" in failed(capsys, "measure", "RUN", "--config", str(tmp_path / "nowhere.yaml"))
    assert "run" in failed(capsys, "measure")


@pytest.mark.parametrize(
    "error", [SceneError("a/b.json", "it is empty", "Copy it again"), FileNotFoundError(2, "No such file", "a/b.json")]
)
def test_unusable_input_is_one_line(capsys, monkeypatch, error):
    def broken(run: Path) -> None:
        raise error

    monkeypatch.setattr(sys.modules[__name__], "measure", broken)
    assert program.main(["measure", "RUN"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("recon3d measure: ")
    assert "a/b.json" in message
    assert message.count("\n") == 1


def test_a_bug_shows_its_traceback(monkeypatch):
    def broken(run: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules[__name__], "measure", broken)
    with pytest.raises(ZeroDivisionError):
        program.main(["measure", "RUN"])
