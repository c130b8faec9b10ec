"""Generated kernels on disk: compiled once, shared by processes, harmless when that cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from separatrix.envs.steppers import kernel_cache

# Takes one step with the Rossler system and tells what numba had to compile for it.
PROGRAM = """
import json
from numba.core import event
import torch
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers import kernel_cache

environment = make_environment("Rossler-v0", 3, backend="torch", dtype="float64")
state, _ = environment.reset(0)
with event.install_recorder("numba:compile") as compiled:
    environment = make_environment("Rossler-v0", 3, backend="numba", dtype="float64")
    result = environment.step(state, torch.full((3, 1), 0.5))
kernel = environment._stepper._kernel
statistics = kernel.serial.stats
print(json.dumps({
    "compiled": sum(recorded.is_start for _, recorded in compiled.buffer),
    "hits": sum(statistics.cache_hits.values()),
    "misses": sum(statistics.cache_misses.values()),
    "file": kernel.__file__,
    "values": result.state.values.tolist(),
}))
"""

# Prints the source of every system's kernel, without compiling any.
SOURCES = """
import hashlib
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.steppers.integrators import tableau
from separatrix.envs.steppers.numba_source import kernel_source

for name, entry in REGISTRY.items():
    if "integrator" in entry.options and "points" not in entry.options:
        program = make_environment(name, backend="torch")._program
        source = kernel_source(program, tableau("rk4"), "float32")
        print(name, hashlib.sha256(source.encode()).hexdigest())
"""


def launch(program: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    text, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return text


def step(cache: Path, **environment: str) -> dict[str, Any]:
    return json.loads(output(launch(PROGRAM, SEPARATRIX_CACHE=str(cache), **environment)))


def test_later_processes_compile_nothing(tmp_path: Path) -> None:
    """Two processes at once find an empty cache; whoever comes later finds a sound one."""
    cache = tmp_path / "not" / "yet" / "there"
    both = [launch(PROGRAM, SEPARATRIX_CACHE=str(cache)) for _ in range(2)]
    first, second = (json.loads(output(process)) for process in both)
    assert first["misses"] + second["misses"] >= 1
    assert first["compiled"] + second["compiled"] >= 1
    assert Path(first["file"]).parent == cache
    assert first["values"] == second["values"]
    assert [path.name for path in cache.glob("*.tmp")] == []
    assert len(list(cache.glob("*.py"))) == 1

    later = step(cache)
    assert (later["hits"], later["misses"], later["compiled"]) == (1, 0, 0)
    assert later["values"] == first["values"]
    assert later["file"] == first["file"]


def test_unwritable_cache_falls_back_to_a_temporary_one(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    result = step(in_the_way, TMPDIR=str(tmp_path))
    assert result["misses"] == 1
    found = Path(result["file"])
    assert found.parent.parent == tmp_path
    assert in_the_way.read_text() == "not a folder"


def test_sources_do_not_depend_on_the_order_of_hashes() -> None:
    """Else every process would compile anew, and the same seed give other bits in each."""
    processes = [launch(SOURCES, PYTHONHASHSEED=str(seed)) for seed in (1, 2)]
    first, second = map(output, processes)
    assert first == second
    assert "separatrix/Lorenz-v0" in first


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SEPARATRIX_CACHE": "{}/own", "XDG_CACHE_HOME": "{}/xdg"}, "own"),
        ({"XDG_CACHE_HOME": "{}/xdg"}, "xdg/separatrix"),
        ({"HOME": "{}"}, ".cache/separatrix"),
    ],
    ids=["own", "xdg", "home"],
)
def test_place_of_the_cache(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEPARATRIX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    # The undecorated function, as the decorated one remembers its first answer.
    found = kernel_cache.cache_directory.__wrapped__()
    assert found == tmp_path / expected
    assert found.is_dir()
