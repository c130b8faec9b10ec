"""The generated pages are up to date, complete, and true where they can be run."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import REGISTRY
from separatrix.envs.streams.stream import STREAMS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HEADINGS = (
    "Description",
    "Action space",
    "Observation space",
    "Reward",
    "Starting state",
    "Episode end",
    "Arguments",
    "References",
    "Version history",
)
PICTURE_LIMIT = 60_000  # bytes
RESULTS = "results/validation.json"


def check(docs: Path) -> subprocess.CompletedProcess[str]:
    """Runs the generator's check in a folder of documentation."""
    command = [sys.executable, "-W", "error", str(docs / "generate.py"), "--check"]
    return subprocess.run(command, cwd=docs, capture_output=True, text=True, timeout=300)


def test_pages_are_up_to_date() -> None:
    found = check(DOCS)
    assert found.returncode == 0, f"run `make docs`:\n{found.stdout}{found.stderr}"


def test_stale_pages_are_found(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS, docs, ignore=shutil.ignore_patterns("__pycache__"))
    results = json.loads((docs / RESULTS).read_text())
    results["gates"][0]["ours"] += 1.0
    (docs / RESULTS).write_text(json.dumps(results))
    (docs / "environments" / "Lorenz-v0.png").unlink()
    (docs / "environments" / "Rossler-v0.md").unlink()
    (docs / "environments" / "Nothing-v0.md").touch()
    page = docs / "agents" / "baselines.md"
    page.write_text(page.read_text().replace("Learning rate of Adam.", "A rate."))
    found = check(docs)
    assert found.returncode == 1, found.stderr
    assert {
        "validation.md is stale",
        "agents/baselines.md is stale",
        "environments/Lorenz-v0.png is missing",
        "environments/Rossler-v0.md is missing",
        "environments/Nothing-v0.md belongs to no environment",
    } <= set(found.stdout.splitlines())


@pytest.mark.parametrize("environment_id", REGISTRY)
def test_docstring_has_every_heading(environment_id: str) -> None:
    documented = REGISTRY[environment_id].documented
    text = inspect.getdoc(documented) or ""
    sections = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    content = dict(zip(sections[1::2], sections[2::2], strict=True))
    found = [heading for heading in content if heading in HEADINGS]
    assert found == list(HEADINGS), f"{documented.__name__}: sections missing or out of order"
    assert all(text.strip() for text in content.values())
    assert re.fullmatch(r"[A-Z][^\n]+\.\n\n", sections[0]), "a title of one sentence comes first"


@pytest.mark.parametrize("environment_id", REGISTRY)
def test_environment_has_a_small_picture(environment_id: str) -> None:
    picture = DOCS / "environments" / f"{environment_id.rpartition('/')[2]}.png"
    assert 1000 < picture.stat().st_size < PICTURE_LIMIT


def test_every_gate_is_recorded() -> None:
    """A test that takes the fixture `gate` has rows in the results file."""
    recorded = {
        gate["test"].partition("[")[0]
        for gate in json.loads((DOCS / RESULTS).read_text(encoding="utf-8"))["gates"]
    }
    using = {
        f"{path.relative_to(ROOT).as_posix()}::{name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name, arguments in re.findall(
            r"^def (test_\w+)\(([^)]*)\)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        if re.search(r"\bgate\b", arguments)
    }
    assert using == recorded, "record the gates again: `make docs`"


def test_controllers_are_measured_everywhere() -> None:
    """But on streams, whose tasks are environments that are, with other parameters."""
    rows = json.loads((DOCS / "results" / "controllers.json").read_text(encoding="utf-8"))["rows"]
    expected = REGISTRY.keys() - STREAMS.keys()
    assert {row["environment"] for row in rows} == expected, "run docs/controllers_table.py"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_examples_run(tmp_path: Path) -> None:
    """Those of the environments' pages and of the controllers', one after another."""
    pages = [DOCS / "controllers.md", *sorted((DOCS / "environments").glob("*-v*.md"))]
    examples = [
        example
        for page in pages
        for example in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert len(examples) >= 1 + len(REGISTRY)
    command = [sys.executable, "-W", "error", "-c", "\n".join(examples)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
