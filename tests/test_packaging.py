"""The package as a user gets it: one import name, everything in the wheel, a light import."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("agents", "configs", "controllers", "envs")
SOURCES = (*LINKED, "src", "pyproject.toml", "README.md", "LICENSE")
GENERATED = ("__pycache__", "*.egg-info")
DATA = {".yaml", ".npz", ".json", ".typed"}

# Run against the installed wheel: import every module, read every data file.
INVENTORY = """
import importlib, json, pkgutil
from importlib import resources
import separatrix

def files(folder, prefix=""):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from files(entry, prefix + entry.name + "/")
        else:
            entry.read_bytes()
            yield prefix + entry.name

modules = [module.name for module in pkgutil.walk_packages(separatrix.__path__, "separatrix.")]
for name in modules:
    importlib.import_module(name)
print(json.dumps({
    "home": separatrix.__path__[0],
    "modules": modules,
    "files": list(files(resources.files("separatrix"))),
}))
"""


def python(
    *arguments: str, folder: Path, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter in a folder, with warnings as errors and `path` first on its path."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def pip(*arguments: str, folder: Path) -> None:
    """Run pip without dependencies, which are those of this interpreter."""
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def source_files(suffixes: set[str]) -> set[str]:
    """Paths of the package's files with these suffixes, relative to the package, through links."""
    package = ROOT / "src" / "separatrix"
    folders = [path for path in package.iterdir() if path.is_dir()]
    paths = [*package.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    return {path.relative_to(package).as_posix() for path in paths if path.suffix in suffixes}


@pytest.fixture(scope="module")
def wheel_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package, installed from a wheel built from a clean copy."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns(*GENERATED)
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy / name)
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(copy), folder=folder)
    (wheel,) = folder.glob("*.whl")
    pip("install", "--target", str(folder / "target"), str(wheel), folder=folder)
    return folder / "target"


def test_wheel_holds_every_module_and_data_file(wheel_target: Path, tmp_path: Path) -> None:
    result = python("-c", INVENTORY, folder=tmp_path, path=wheel_target)
    assert result.returncode == 0, result.stderr
    inventory = json.loads(result.stdout)
    assert inventory["home"] == str(wheel_target / "separatrix")
    expected = {
        "separatrix." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in source_files({".py"}) - {"__init__.py"}
    }
    assert set(inventory["modules"]) == expected
    assert source_files(DATA) <= set(inventory["files"])


def test_wheel_installs_one_import_name(wheel_target: Path) -> None:
    names = {path.name for path in wheel_target.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"bin"} == {"separatrix"}


@pytest.mark.parametrize("name", ["agents", "controllers", "envs"])
def test_bare_import_of_a_root_folder_is_refused(name: str) -> None:
    result = python("-c", f"import {name}", folder=ROOT)
    assert result.returncode == 1
    assert f"ImportError: got the import name '{name}'; import separatrix.{name} instead" in (
        result.stderr
    )


def test_import_is_light(tmp_path: Path) -> None:
    script = "import json, sys, separatrix; print(json.dumps(sorted(sys.modules)))"
    result = python("-c", script, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = set(json.loads(result.stdout))
    assert "separatrix.envs.chaotic" in loaded
    assert not loaded & {"torch", "numba", "sympy"}
