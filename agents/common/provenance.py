"""Where a result comes from: the state of the code, the versions, the machine."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import separatrix

PACKAGES = ("torch", "numba", "numpy", "scipy", "gymnasium", "stable-baselines3", "mujoco")


def git_state() -> dict[str, Any]:
    """The commit the running code comes from and what has changed since.

    Returns:
        `sha`, `dirty`, `diff` (text, empty if clean) and `untracked` (files). Where the code is not
        in a git checkout, or git is missing, `sha` is None and the rest says nothing.
    """
    source = Path(separatrix.__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        # An installed package may lie in somebody else's checkout, whose commit says nothing.
        git("ls-files", "--error-unmatch", source.name)
        sha = git("rev-parse", "HEAD").strip()
        diff = git("diff", "HEAD")
        others = git("ls-files", "--others", "--exclude-standard", "--full-name", ":/")
    except (OSError, subprocess.CalledProcessError):
        return {"sha": None, "dirty": None, "diff": "", "untracked": []}
    return {
        "sha": sha,
        "dirty": bool(diff or others),
        "diff": diff,
        "untracked": others.splitlines(),
    }


def versions() -> dict[str, Any]:
    """Versions of what computes, and the hardware it computes on.

    Returns:
        One entry for each; None for a package that is not installed, an empty list without GPU.
    """
    result: dict[str, Any] = {
        "separatrix": separatrix.__version__,
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            result[package] = None
    result["platform"] = platform.platform()
    result["cpu"] = _processor()
    result["gpu"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    result["cuda"] = torch.version.cuda
    return result


def _processor() -> str:
    """Name of the processor, as far as the operating system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
