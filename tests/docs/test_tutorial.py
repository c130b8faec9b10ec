"""The tutorial is one file that runs anywhere, short where it says so."""

import ast
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "own_system.py"
LIMIT = 40  # lines of code of the system, the task and their registration


def test_own_system_runs_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(FILE)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    means = dict(
        line.removeprefix("LQR, ").split(": ")
        for line in finished.stdout.splitlines()
        if line.startswith("LQR, ")
    )
    assert float(means["diverged"]) == 0
    assert float(means["on_target"]) > 0.8  # measured: 0.888, free 0
    assert "PPO" in finished.stdout


def test_own_system_is_short() -> None:
    text = FILE.read_text(encoding="utf-8")
    statements = [
        statement
        for statement in ast.parse(text).body
        if not isinstance(statement, ast.Import | ast.ImportFrom)
    ]
    first = next(i for i, one in enumerate(statements) if isinstance(one, ast.ClassDef))
    last = next(i for i, one in enumerate(statements) if getattr(one, "name", "") == "main")
    start, end = statements[first].lineno - 1, statements[last].lineno - 1
    code = [line for line in text.splitlines()[start:end] if line.strip()]
    assert 20 < len(code) <= LIMIT
