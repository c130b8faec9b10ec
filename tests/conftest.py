"""Runtime checks of types and shapes: every annotation of the package is enforced under pytest."""

import re
from pathlib import Path

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "separatrix"
# An int passes for a float (PEP 484). Self is not checked: the hook decorates methods, not classes.
CHECKER = (
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, "
    "hint_overrides=beartype.FrozenDict({beartype.typing.Self: object})))"
)


def checked_modules() -> list[str]:
    """Names of the modules to check: all but the steppers and others that hold numba's functions.

    Numba compiles a function from its bytecode and cannot compile a checked one, which is a
    wrapper. Packages are left out by name, for naming one would check everything inside it.
    """
    folders = [path for path in PACKAGE.iterdir() if path.is_dir()]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return [
        ".".join(("separatrix", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in paths
        if path.name != "__init__.py"
        and path.parent != PACKAGE / "envs" / "steppers"
        and not re.search(r"^\s*(from|import) numba\b", path.read_text(encoding="utf-8"), re.M)
    ]


install_import_hook(checked_modules(), CHECKER)
