"""The citation file says what the package says."""

import tomllib
from pathlib import Path

import yaml

import separatrix

ROOT = Path(__file__).resolve().parents[2]


def test_citation_is_consistent_with_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == separatrix.__version__
    assert citation["license"] == project["license"]
    assert citation["keywords"] == project["keywords"]
    assert citation["authors"] == [{"name": "The Separatrix developers"}]
    assert citation["message"] and citation["title"].startswith("Separatrix")
