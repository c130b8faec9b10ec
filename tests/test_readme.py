"""The Python examples of the README run as they stand, from another folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def test_there_is_an_example_of_each_use() -> None:
    text = "\n".join(EXAMPLES)
    for use in ("gym.make(", "gym.make_vec(", "backward()", "PPO(", "LQR("):
        assert use in text


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_runs(example: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", example]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
