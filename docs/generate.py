"""Writes the generated pages and pictures of the documentation.

    python docs/generate.py            pages and pictures
    python docs/generate.py --check    writes nothing; tells which pages are stale

What the numbers of `docs/results/validation.json` are is told on the page made of them,
`docs/validation.md`. Other pages are written by hand but for the lines between
`<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import body_tables
import controllers_table
import environment_pages
import environment_pictures
import field_tables
import hyper_parameters
import hypercrl_tables
import medida_tables
import offline_tables
import prompt_tables
import result_tables
import twin_tables
import validation_page
from environment_pages import page_name

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import REGISTRY

DOCS = Path(__file__).resolve().parent


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Puts blocks between their marks.

    Args:
        text: A page.
        blocks: Text of each block by name.

    Raises:
        KeyError: The page names a block that does not exist.
    """

    def block(mark: re.Match[str]) -> str:
        return f"{mark[1]}\n{blocks[mark[2]].strip()}\n{mark[3]}"

    pattern = r"(<!-- begin (.+?) -->)\n.*?(<!-- end \2 -->)"
    return re.sub(pattern, block, text, flags=re.DOTALL)


def pages() -> dict[Path, str]:
    """Returns the text of every page that is generated, whole or in part."""
    validation = validation_page.read(DOCS / "results" / "validation.json")
    blocks = {
        "environments": environment_pages.table(REGISTRY.values(), "environments/"),
        "controllers": controllers_table.table(
            json.loads((DOCS / "results" / "controllers.json").read_text(encoding="utf-8"))
        ),
        **hyper_parameters.tables(),
        **result_tables.tables(),
        **field_tables.tables(),
        **body_tables.tables(),
        **medida_tables.tables(),
        **twin_tables.tables(),
        **hypercrl_tables.tables(),
        **offline_tables.tables(),
        **prompt_tables.tables(),
        "own system": f"```python\n{(DOCS / 'tutorials' / 'own_system.py').read_text()}```",
    }
    folder = DOCS / "environments"
    found = {DOCS / "validation.md": validation_page.page(validation)}
    found[folder / "index.md"] = environment_pages.index(REGISTRY.values())
    for entry in REGISTRY.values():
        gates = [gate for gate in validation["gates"] if gate["subject"] == page_name(entry)]
        found[folder / f"{page_name(entry)}.md"] = environment_pages.page(entry, gates)
    for path in DOCS.rglob("*.md"):
        if path not in found and path.parent != folder:
            found[path] = fill(path.read_text(encoding="utf-8"), blocks)
    return found


def stale(found: Mapping[Path, str]) -> list[str]:
    """Tells what `generate` would change, but for the contents of pictures."""
    expected = {
        DOCS / "environments" / f"{page_name(entry)}.png": "" for entry in REGISTRY.values()
    }
    lines = []
    for path in (*found, *expected):
        name = path.relative_to(DOCS)
        if not path.exists():
            lines.append(f"{name} is missing")
        elif path in found and path.read_text(encoding="utf-8") != found[path]:
            lines.append(f"{name} is stale")
    for path in (DOCS / "environments").iterdir():
        if path not in found and path not in expected:
            lines.append(f"{path.relative_to(DOCS)} belongs to no environment")
    return lines


def main() -> int:
    """Generates or checks; the exit code of a check is 1 if anything is stale."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, tell what is stale")
    check = parser.parse_args().check
    found = pages()
    if check:
        lines = stale(found)
        print("\n".join(lines) or "all pages are up to date")
        return 1 if lines else 0
    for path, text in found.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in field_tables.LEARNING:
        (DOCS / "pictures" / f"{name}_learning.png").write_bytes(field_tables.curves(name))
    (DOCS / "pictures" / "hypercrl_seconds.png").write_bytes(hypercrl_tables.picture())
    (DOCS / "pictures" / "prompt_curves.png").write_bytes(prompt_tables.picture())
    for entry in REGISTRY.values():
        picture = environment_pictures.draw(entry)
        (DOCS / "environments" / f"{page_name(entry)}.png").write_bytes(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
