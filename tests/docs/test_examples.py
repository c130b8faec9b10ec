"""The Python examples of the pages run as they stand, one after the other, from another folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = (
    "agents/offline.md",
    "agents/prompt_control.md",
    "agents/sindy_rl.md",
    "analysis.md",
    "controllers.md",
    "fields.md",
    "models.md",
)


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, tmp_path: Path) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert examples
    # Each in a namespace of its own: an example must not live on the imports of another.
    program = "\n".join(f"exec(compile({code!r}, '{page}', 'exec'), {{}})" for code in examples)
    command = [sys.executable, "-W", "error", "-c", program]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
