"""The page of the baselines names exactly the tags that runs log."""

import csv
import dataclasses
import re
from pathlib import Path

import pytest

from separatrix.agents.baselines.train import train
from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.run import Run
from separatrix.envs.core.registration import make_environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agents" / "baselines.md"
ROW = re.compile(r"^\| `([a-z]+/\S+)` \| (all|[A-Z0-9, ]+) \| \S.* \|$", re.MULTILINE)


def promised_tags(agent: str, metrics: tuple[str, ...]) -> set[str]:
    """Tags that the page promises for an agent and a task with these metrics."""
    tags = set()
    for tag, agents in ROW.findall(PAGE.read_text(encoding="utf-8")):
        if agents == "all" or agent.upper() in agents.split(", "):
            names = metrics if "<metric>" in tag else ("",)
            tags |= {tag.replace("<metric>", name) for name in names}
    return tags


@pytest.mark.parametrize("agent", ["ppo", "sac", "td3"])
def test_page_names_every_tag(agent: str, tmp_path: Path) -> None:
    config = load_experiment(f"debug/lorenz_{agent}")
    # Long enough for an episode to end.
    config = dataclasses.replace(config, total_steps=450 * config.environment.num_envs)
    environment = config.environment
    with Run.create(tmp_path, environment.id, agent, 0, config) as run:
        train(config, run)
    with (run.folder / "metrics.csv").open(newline="") as file:
        logged = {row["tag"] for row in csv.DictReader(file)}
    assert logged == promised_tags(agent, make_environment(environment.id).metric_names)
