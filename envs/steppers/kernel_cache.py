"""Generated kernels on disk: source files in a user cache directory, named by their content.

So the disk caches of the compilers, which go by files, work across processes. The directory is
`$SEPARATRIX_CACHE`, else `$XDG_CACHE_HOME/separatrix`, else `~/.cache/separatrix`; where that
cannot be written, a temporary one of this process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def cache_directory() -> Path:
    """Returns the directory of generated kernels, creating it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = Path(os.environ.get("SEPARATRIX_CACHE") or Path(base) / "separatrix")
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen):
            return chosen
    except OSError:
        return Path(tempfile.mkdtemp(prefix="separatrix-"))


@cache
def load_kernel(source: str, called: tuple[ModuleType, ...] = ()) -> ModuleType:
    """Imports a kernel module from its source, by way of a file named by its content.

    Args:
        source: The module's source.
        called: Modules whose changes the compiler's cache does not see: they enter the name.
    """
    texts = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in called]
    name = "step_" + hashlib.sha256("".join([source, *texts]).encode()).hexdigest()[:24]
    path = cache_directory() / f"{name}.py"
    if not path.exists():
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            file.write(source)
        os.replace(file.name, path)
    spec = importlib.util.spec_from_file_location(f"separatrix_kernels.{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the generated kernel {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
