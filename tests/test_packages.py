"""How the packages find and import one another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("datasets", "recon3d", "detection", "viewer")
MAY_IMPORT = {
    "datasets": {"datasets"},
    "recon3d": {"datasets", "recon3d"},
    "detection": {"datasets", "detection"},
    "viewer": {"datasets", "viewer"},
}


def imported(source: str) -> set[str]:
    """The top-level packages that ``source`` imports anywhere, functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_imported_sees_imports_inside_functions():
    assert imported("import a.b\ndef f():\n    from c.d import e\n    from . import g") == {"a", "c"}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_have_one_direction(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    ours = {*PACKAGES, "tests", "benchmarks", "configs"}
    wrong = {
        str(file.relative_to(ROOT)): sorted(found)
        for file in files
        if (found := imported(file.read_text(encoding="utf-8")) & ours - MAY_IMPORT[package])
    }
    assert not wrong


def test_every_folder_of_code_is_a_package_that_is_installed():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert not [package for package in PACKAGES if f'"{package}", "{package}.*"' not in project]
    folders = {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]


@pytest.mark.parametrize("package", ["recon3d", "detection", "viewer"])
@pytest.mark.parametrize("regular", [True, False])
def test_a_foreign_datasets_found_first_is_named_with_the_mend(package, regular, tmp_path):
    stranger = tmp_path / "datasets"
    stranger.mkdir()
    if regular:
        (stranger / "__init__.py").write_text("raise RuntimeError('the stranger ran')\n")
    code = (
        f"import sys; sys.path[:] = [{str(tmp_path)!r}, *sys.path, {str(ROOT)!r}]\n"
        f"try:\n    import {package}\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    if regular:
        assert str(stranger) in done.stdout
        assert str(ROOT / "datasets") in done.stdout
        assert f"pip install -e .` in {ROOT}" in done.stdout
    else:  # a plain folder of that name does no harm: Python prefers our package
        assert done.stdout == ""
