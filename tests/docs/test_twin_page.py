"""The page of twins shows what its example prints, and its records are those of their script."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"[-+]?\d+(?:\.\d+)?", text)]


def test_the_example_runs_from_elsewhere_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(DOCS / "tutorials" / "patient_twin.py")]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    page = (DOCS / "twin.md").read_text(encoding="utf-8")
    shown = re.findall(r"```text\n(.*?)```", page, re.DOTALL)[0]
    lines, expected = finished.stdout.splitlines(), shown.splitlines()
    words = [re.sub(r"[-+]?\d+(?:\.\d+)?", "", line).split() for line in lines]
    assert words == [re.sub(r"[-+]?\d+(?:\.\d+)?", "", line).split() for line in expected]
    for line, printed in zip(lines, expected, strict=True):
        # Another machine may round otherwise, which the last digits show.
        assert numbers(line) == pytest.approx(numbers(printed), abs=0.06, rel=0.03), printed


def test_the_records_are_those_of_their_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(DOCS / "tutorials" / "patient_records.py"))
    shipped = script["FILE"].read_text(encoding="utf-8")
    main = script["main"]
    monkeypatch.setitem(main.__globals__, "FILE", tmp_path / "patient.csv")
    main()
    assert (tmp_path / "patient.csv").read_text(encoding="utf-8") == shipped
