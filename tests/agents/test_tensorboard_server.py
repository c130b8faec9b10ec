"""TensorBoard itself, started on a real run, shows what the documentation promises."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

from separatrix.envs.core.registration import make_environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agents" / "baselines.md"
PATIENCE = 90.0  # seconds until the server answers, on a busy machine
# 2048 steps of 4 environments: an episode, of 400 steps, ends in each.
EXPERIMENT = ("debug/lorenz_ppo", "--total-steps", "2048")


def separatrix(*arguments: str, folder: Path) -> None:
    """Runs the command line in a fresh process."""
    command = [sys.executable, "-m", "separatrix", *arguments]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port: int = server.getsockname()[1]
        return port


class Server:
    """A TensorBoard process and its HTTP interface."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.address = f"http://localhost:{free_port()}"
        port = self.address.rpartition(":")[2]
        self.log = log
        options = ("--logdir", str(folder), "--host", "localhost", "--port", port)
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tensorboard.main", *options, "--load_fast", "false"],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._opener = build_opener(ProxyHandler({}))  # a proxy would not find localhost

    def get(self, path: str, **query: str) -> Any:
        """Returns what the server answers, decoded where it is JSON."""
        address = f"{self.address}/data/{path}" + (f"?{urlencode(query)}" if query else "")
        with self._opener.open(address, timeout=20) as answer:
            body = answer.read()
            return json.loads(body) if answer.headers.get_content_subtype() == "json" else body

    def wait_for(self, run: str) -> None:
        """Waits until the server has read a run to its end, the pictures of its evaluation."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                tags = self.get("plugin/scalars/tags").get(run, {})
                if "eval/return" in tags and "eval/rollout" in self.get("plugin/images/tags")[run]:
                    return
            except (URLError, ConnectionError, KeyError):
                pass
            time.sleep(0.2)
        raise AssertionError(f"TensorBoard did not show {run}:\n{self.log.read_text()}")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server over one run, trained and evaluated, and the name it gives the run."""
    folder = tmp_path_factory.mktemp("tensorboard")
    separatrix("train", *EXPERIMENT, "--root", "runs", folder=folder)
    (run,) = (folder / "runs").glob("*/*/*")
    separatrix("evaluate", str(run), "--episodes", "4", folder=folder)
    server = Server(folder / "runs", folder / "log.txt")
    try:
        name = run.relative_to(folder / "runs").as_posix()
        server.wait_for(name)
        yield server, name
    finally:
        server.process.kill()
        server.process.wait(timeout=30)


def promised(pattern: str) -> set[str]:
    """Tags of the documentation whose row matches, for PPO on the Lorenz system."""
    metrics = make_environment("Lorenz-v0").metric_names
    rows = re.findall(pattern, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {row.replace("<metric>", metric) for row in rows for metric in metrics}


def test_scalars_are_the_promised_ones(shown: tuple[Server, str]) -> None:
    server, run = shown
    tags = set(server.get("plugin/scalars/tags")[run])
    assert tags == promised(r"^\| `(\S+)` \| (?:all|PPO) \|")
    points = server.get("plugin/scalars/scalars", run=run, tag="rollout/ep_len_mean")
    steps, values = [point[1] for point in points], [point[2] for point in points]
    assert steps[-1] == 2048 and steps == sorted(steps)
    assert values[-1] == 400.0


def test_pictures_are_the_promised_ones(shown: tuple[Server, str]) -> None:
    server, run = shown
    tags = set(server.get("plugin/images/tags")[run])
    assert tags == promised(r"^\| `(eval/\w+)` \| [^|]+ \|$")
    for tag, start in (("eval/phase_portrait", b"\x89PNG"), ("eval/rollout", b"GIF89a")):
        (picture,) = server.get("plugin/images/images", run=run, tag=tag, sample="0")
        image = server.get(f"plugin/images/individualImage?{picture['query']}")
        assert image.startswith(start)


def test_plugins_are_active(shown: tuple[Server, str]) -> None:
    server, _ = shown
    plugins = server.get("plugins_listing")
    assert all(plugins[name]["enabled"] for name in ("scalars", "images", "hparams", "timeseries"))


def test_hyper_parameters_come_with_their_outcome(shown: tuple[Server, str]) -> None:
    server, run = shown
    request = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS"]}
    experiment = server.get("plugin/hparams/experiment", request=json.dumps({}))
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert {"algorithm", "environment", "learning_rate", "seed", "total_steps"} <= names
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {"eval/return", "eval/on_target"} <= metrics
    columns = {"colParams": [{"metric": {"tag": "eval/return"}}]}
    sizes = {"startIndex": 0, "sliceSize": 10}
    asked = json.dumps({**request, **columns, **sizes})
    (group,) = server.get("plugin/hparams/session_groups", request=asked)["sessionGroups"]
    assert group["hparams"]["algorithm"] == "ppo"
    assert group["sessions"][0]["name"] == run
