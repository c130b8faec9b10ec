"""The package as a user gets it: one import name, everything in the wheel, a light import."""

import ast
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
DATA = {".yaml", ".npz", ".json", ".csv", ".typed"}

# Run first in a process that must not use the network.
OFFLINE = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event} {arguments}: the network was used")
sys.addaudithook(refuse)
"""

# Run against the installed wheel: import every module, read every data file, load every config.
INVENTORY = (
    OFFLINE
    + """
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

from separatrix.agents.common.configuration import experiment_names, load_experiment
for group in ("experiment", "debug"):
    for name in experiment_names(group):
        load_experiment(name if group == "experiment" else f"debug/{name}")
print(json.dumps({
    "home": separatrix.__path__[0],
    "modules": modules,
    "files": list(files(resources.files("separatrix"))),
}))
"""
)

# Run where only what the core declares can be imported: everything but the adapters works.
CORE_ONLY = (
    OFFLINE
    + """
import importlib.machinery, pkgutil, re
from importlib import metadata

def closure(name, found):
    name = re.sub("[-_.]+", "-", name).lower()
    if name in found:
        return
    try:
        needed = metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # for another system or another Python
        return
    found.add(name)
    for requirement in needed:
        if "extra ==" not in requirement:
            closure(re.match("[A-Za-z0-9._-]+", requirement)[0], found)

core = set()
closure("separatrix", core)
owners = metadata.packages_distributions()
allowed = {
    package for package, names in owners.items()
    if core & {re.sub("[-_.]+", "-", name).lower() for name in names}
}

class Visible(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in owners.keys() - allowed
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Visible
assert "torch" in allowed and not {"pytest", "torchrl", "triton", "hypothesis"} & allowed

import separatrix, numpy, gymnasium
refused = {}
for module in pkgutil.walk_packages(separatrix.__path__, "separatrix."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        refused[module.name] = str(error)
print(refused)
for name in separatrix.envs.core.registration.REGISTRY:
    env = gymnasium.make(name)
    env.reset(seed=0)
    assert numpy.isfinite(env.step(env.action_space.sample())[0]).all()
try:
    gymnasium.make("separatrix/Lorenz-v0", backend="triton")
except ImportError as error:
    print(repr(str(error)))
"""
)


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


def test_core_works_without_extras(wheel_target: Path, tmp_path: Path) -> None:
    """What needs an extra says which; nothing else does."""
    result = python("-c", CORE_ONLY, folder=tmp_path, path=wheel_target)
    assert result.returncode == 0, result.stderr
    modules, backend = result.stdout.splitlines()
    assert ast.literal_eval(modules) == {
        "separatrix.agents.common.torchrl": (
            "TorchRLEnv needs tensordict: pip install 'separatrix[torchrl]'"
        ),
        "separatrix.envs.steppers.lattice_triton": "No module named 'triton'",
        "separatrix.envs.steppers.lattice_triton_kernel": "No module named 'triton'",
        "separatrix.envs.steppers.triton_backend": "No module named 'triton'",
        "separatrix.envs.steppers.triton_functions": "No module named 'triton'",
    }
    assert "backend 'triton' needs the package triton: pip install triton" in backend


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
    assert not loaded & {"torch", "numba", "sympy", "mujoco"}
