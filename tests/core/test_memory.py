"""What a batch weighs, measured in processes of their own by the benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "environments.py"
IDS = ("Lorenz-v0", "Lorenz96-v0", "CartPoleSwingUp-v0")

GROWTH = """
import environments
environments.LONG = 3000
sizes = environments.growth()["bytes"]
print(max(sizes[2:]) - sizes[2])  # after the first reset, at step 400, has loaded what it needs
"""


def output_of(*arguments: str) -> str:
    """The last line that a Python process prints."""
    command = [sys.executable, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARK.parent)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_a_batch_is_light(name: str) -> None:
    """At most four times state and observation and 256 bytes an environment, at the peak."""
    row = json.loads(output_of(str(BENCHMARK), "--weigh", f"separatrix/{name}"))
    assert row["state"] + row["observation"] < row["held"] <= row["peak"] <= row["allowed"]


@pytest.mark.slow
def test_stepping_holds_no_memory() -> None:
    """One float64 kept for each of 4096 environments and each of 2400 steps would be 75 MiB."""
    assert int(output_of("-c", GROWTH)) < 2**20
