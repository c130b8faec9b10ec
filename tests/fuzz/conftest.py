"""Inputs of every kind, offered to a plain interpreter as users have it; counted by kind.

    pytest tests/fuzz                                    some hundreds of each kind
    pytest tests/fuzz --hypothesis-profile=thorough      more than 100,000 in all

The suite checks types at run time, which users do not: what is offered here is a text that another
process evaluates (`worker.py`). There an input works, or is refused with one clear error.
"""

import json
import selectors
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 120  # for one input; more means that it hangs
COUNTS: Counter[str] = Counter()  # of "<kind>: accepted" and "<kind>: refused"

settings.register_profile("thorough", settings.get_profile("default"))
Offer = Callable[..., None]


class Worker:
    """A process that tries inputs, one JSON line for each."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-W", "error::RuntimeWarning", str(WORKER), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(request)}\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(SECONDS):
                raise AssertionError(f"no answer within {SECONDS} s to {request}")
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the process died, {self.process.wait()}, of {request}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def offer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offer]:
    """Offers one input of a kind: it must be accepted, or refused with one clear error."""
    workers: list[Worker] = []

    def offer_one(kind: str, **request: Any) -> None:
        if not workers:
            workers.append(Worker(tmp_path_factory.mktemp("worker")))
        try:
            answer = workers[0].ask({"kind": kind, **request})
        except AssertionError:
            workers.pop().close()
            raise
        outcome = answer["outcome"]
        assert outcome in ("accepted", "refused", "no input"), "\n".join(map(str, answer.values()))
        if outcome != "no input":
            COUNTS[f"{kind}: {outcome}"] += 1

    yield offer_one
    for worker in workers:
        worker.close()


@pytest.fixture(scope="session")
def tries() -> Callable[..., settings]:
    """Settings of a test: how many inputs it offers in the suite, and in the thorough profile."""

    def choose(fast: int, thorough: int) -> settings:
        chosen = settings.get_current_profile_name() == "thorough"
        return settings(
            max_examples=thorough if chosen else fast,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )

    return choose


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands the counts of a worker of pytest-xdist to the process that prints them."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["fuzz"] = dict(COUNTS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    COUNTS.update(getattr(node, "workeroutput", {}).get("fuzz", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    kinds = sorted({name.partition(":")[0] for name in COUNTS})
    if not kinds:
        return
    terminalreporter.section("inputs")
    terminalreporter.write_line(f"{'kind':24}{'offered':>10}{'accepted':>10}{'refused':>10}")
    total = 0
    for kind in kinds:
        accepted, refused = (COUNTS[f"{kind}: {what}"] for what in ("accepted", "refused"))
        total += accepted + refused
        terminalreporter.write_line(f"{kind:24}{accepted + refused:10}{accepted:10}{refused:10}")
    terminalreporter.write_line(f"{'all':24}{total:10}")
