"""The page of the physics gates: what was measured, against what, and where that comes from."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Gate = Mapping[str, Any]
"""A row of `gates` in the results file: see the fixture `gate` of the tests."""

HEAD = """\
# Validation

Every number below was measured by a test, which fails if ours differs from the reference by more
than the tolerance. Where the reference is 0, ours is mostly the size of an error.

{origin}
"""

EXPECTED = """
## Expected failures

Gates that are known to fail. Their tests fail if they come to pass, so that this list stays true.
"""


def read(path: Path) -> dict[str, Any]:
    """Reads the file that `pytest --record-gates` writes."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def gate_table(gates: Iterable[Gate]) -> str:
    """Lays gates out as a Markdown table."""
    lines = [
        "| quantity | ours | reference | tolerance | source |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for gate in gates:
        numbers = f"{gate['ours']:.6g} | {gate['reference']:.6g} | {gate['tolerance']:.2g}"
        quantity, source = (gate[key].replace("|", r"\|") for key in ("quantity", "source"))
        lines.append(f"| {quantity} | {numbers} | {source} |")
    return "\n".join(lines) + "\n"


def page(content: Mapping[str, Any]) -> str:
    """Returns the text of the page."""
    expected = content["expected_failures"]
    subjects: dict[str, list[Gate]] = {}
    for gate in content["gates"]:
        if gate["test"] not in expected:
            subjects.setdefault(gate["subject"], []).append(gate)
    parts = [HEAD.format(origin=_origin(content))]
    for subject in sorted(subjects):
        parts.append(f"\n## {subject}\n\n{gate_table(subjects[subject])}")
    parts.append(EXPECTED)
    if not expected:
        parts.append("\nNone.\n")
    for test, reason in expected.items():
        gates = [gate for gate in content["gates"] if gate["test"] == test]
        parts.append(f"\n### `{test}`\n\n{reason}\n")
        if gates:
            parts.append(f"\n{gate_table(gates)}")
    return "".join(parts)


def _origin(content: Mapping[str, Any]) -> str:
    machine, versions = content["machine"], content["versions"]
    commit = f"commit {content['commit']}" if content["commit"] else "unknown commit"
    changed = " with changes not committed" if content["uncommitted_changes"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    later = "".join(
        f"\n\nAdded later, on the same machine, from commit {addition['commit']}:\n\n"
        f"    {addition['command']}"
        for addition in content.get("additions", [])
    )
    return (
        f"Recorded by\n\n    {content['command']}\n\n"
        f"from {commit}{changed}, on {machine['cores']} cores of {machine['cpu']} "
        f"({machine['platform']}) with {packages}.{later}"
    )
