"""Runtime checks of types and shapes, and the gates that compare physics with published numbers."""

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from jaxtyping import install_import_hook

# Machines are shared: no test fails for the time that it takes.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

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


class GateRecorder:
    """Collects the gates of a session and writes them with where they come from.

    Args:
        path: The JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gates: list[dict[str, Any]] = []
        self.expected_failures: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes the reason of a failure that its test expects."""
        if report.skipped and hasattr(report, "wasxfail"):
            self.expected_failures[report.nodeid] = report.wasxfail

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Writes the file if everything passed, and failed only where it was expected to."""
        if exitstatus != pytest.ExitCode.OK:
            return
        from separatrix.agents.common import provenance

        versions = provenance.versions()
        machine = {key: versions.pop(key) for key in ("platform", "cpu", "gpu", "cuda")}
        git = provenance.git_state()
        content = {
            "command": shlex.join(["pytest", *session.config.invocation_params.args]),
            "commit": git["sha"],
            "uncommitted_changes": git["dirty"],
            "machine": {**machine, "cores": os.cpu_count()},
            "versions": versions,
            "expected_failures": self.expected_failures,
            "gates": self.gates,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


RECORDER = pytest.StashKey[GateRecorder]()


FAST_FLUIDS = (
    "KuramotoSivashinsky-v0",
    "Schrodinger-v0",
    "KolmogorovFlow-v0",
    "RotaryCylinder-v0",
)
"""Of the many flows: one field on a line, two, one on a plane, and bodies in a stream."""
FAST_STREAMS = ("PendulumStream-v0", "PusherStream-v0")
"""Of the streams, whose bases are tested by themselves: one in torch, one in MuJoCo."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that run over all ids as slow for most fields, which share all but a page.

    So it does for most streams. Tests of fields and streams say on their own what is slow.
    """
    from separatrix.envs.core.registration import REGISTRY

    slow = {
        name
        for entry in REGISTRY.values()
        if (".fluid." in entry.documented.__module__ and not entry.id.endswith(FAST_FLUIDS))
        or (".streams." in entry.documented.__module__ and not entry.id.endswith(FAST_STREAMS))
        for name in (entry.id, entry.id.partition("/")[2])
    }
    for item in items:
        if item.path.parent.name in ("physics", "fluid", "streams"):
            continue
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if any(isinstance(value, str) and value in slow for value in parameters.values()):
            item.add_marker(pytest.mark.slow)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-gates",
        type=Path,
        metavar="FILE",
        help="write the numbers that gates compare to a JSON file, if all tests pass",
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--record-gates")
    if path is None:
        return
    if config.getoption("numprocesses", None):
        raise pytest.UsageError("--record-gates needs all tests in one process: leave out -n")
    config.stash[RECORDER] = GateRecorder(config.rootpath / path)
    config.pluginmanager.register(config.stash[RECORDER])


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compares a number of ours with a reference, and records it with `--record-gates`.

    `gate(subject, quantity, ours, reference, *, tolerance, source)` asserts
    `abs(ours - reference) <= tolerance`. The subject is the environment's name, such as
    "Lorenz-v0", or what else is measured; the source says where the reference comes from.
    """
    recorder = request.config.stash.get(RECORDER, None)

    def compare(
        subject: str,
        quantity: str,
        ours: float,
        reference: float,
        *,
        tolerance: float,
        source: str,
    ) -> None:
        ours, reference, tolerance = float(ours), float(reference), float(tolerance)
        if recorder is not None:
            row = {"subject": subject, "quantity": quantity, "ours": ours, "reference": reference}
            row |= {"tolerance": tolerance, "source": source, "test": request.node.nodeid}
            recorder.gates.append(row)
        allowed = f"{reference!r} +- {tolerance!r} ({source})"
        assert abs(ours - reference) <= tolerance, (
            f"{subject}, {quantity}: got {ours!r}; allowed: {allowed}"
        )

    return compare
