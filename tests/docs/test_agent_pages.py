"""The pages of the agents name exactly the tags that runs log."""

import csv
import dataclasses
import re
from pathlib import Path

import pytest

from separatrix.agents.catalog import train
from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.run import Run
from separatrix.agents.experiment import EvaluationConfig
from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.offline.config import (
    BehaviourCloningConfig,
    ComboConfig,
    ConservativeConfig,
    DiverseCriticsConfig,
    ImplicitQLearningConfig,
    MethodConfig,
    MobileConfig,
    ModelBasedConfig,
    MopoConfig,
    OfflineConfig,
    RavlConfig,
    TD3BehaviourCloningConfig,
)
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.dataset import Metadata, References
from separatrix.agents.offline.data.files import save_dataset
from separatrix.agents.offline.model_config import (
    DynamicsRewardConfig,
    FilterConfig,
    ModelConfig,
    RolloutsConfig,
)
from separatrix.agents.sindy_rl.config import SindyRLConfig
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "agents"
PAGE = FOLDER / "baselines.md"
ROW = re.compile(r"^\| `([a-z]+/\S+)` \| (all|[A-Z0-9, ]+) \| \S.* \|$", re.MULTILINE)


def promised_tags(agent: str, metrics: tuple[str, ...]) -> set[str]:
    """Tags that the page promises for an agent and a task with these metrics."""
    tags = set()
    for tag, agents in ROW.findall(PAGE.read_text(encoding="utf-8")):
        if agents == "all" or agent.upper() in agents.split(", "):
            names = metrics if "<metric>" in tag else ("",)
            tags |= {tag.replace("<metric>", name) for name in names}
    return tags


OFF_POLICY = [pytest.param(agent, marks=pytest.mark.slow) for agent in ("sac", "td3")]


@pytest.mark.parametrize("agent", ["ppo", *OFF_POLICY])
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


def tags_of_sindy_rl(policy: str, metrics: tuple[str, ...]) -> set[str]:
    """Tags that the page of SINDy-RL promises, those of the policy's algorithm among them."""
    text = (FOLDER / "sindy_rl.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z]+/.+?`) \| (.+) \|$", text, re.MULTILINE)
    found = set()
    for names, meaning in rows:
        analytic = "of `analytic`" in meaning
        pictures = meaning.startswith(("the equations", "the latest real"))
        if pictures or "train/..." in names or (analytic and policy != "analytic"):
            continue
        for tag in re.findall("`(.+?)`", names):
            found |= {tag.replace("<metric>", m) for m in (metrics if "<metric>" in tag else "x")}
    if policy != "analytic":
        found |= {tag for tag in promised_tags(policy, metrics) if tag.startswith("train/")}
    return found


@pytest.mark.slow
def test_page_of_analytic_policies_names_every_tag(tmp_path: Path) -> None:
    config = load_experiment("debug/lorenz_analytic_policy")
    # Long enough for whole episodes.
    config = dataclasses.replace(config, total_steps=850 * config.environment.num_envs)
    with Run.create(tmp_path, config.environment.id, "analytic", 0, config) as run:
        train(config, run)
    with (run.folder / "metrics.csv").open(newline="") as file:
        logged = {row["tag"] for row in csv.DictReader(file)}
    text = (FOLDER / "analytic_policy.md").read_text(encoding="utf-8")
    promised = re.findall(r"^\| `([a-z]+/\S+)` \| \S.* \|$", text, re.MULTILINE)
    metrics = make_environment(config.environment.id).metric_names
    names = [t.replace("<metric>", m) for t in promised for m in metrics]
    assert logged == set(names)


@pytest.mark.parametrize("policy", ["ppo", "analytic"])
def test_page_of_sindy_rl_names_every_tag(policy: str, tmp_path: Path) -> None:
    config = load_experiment("debug/lorenz_sindy_rl")
    assert isinstance(config.agent, SindyRLConfig)
    if policy == "analytic":
        agent = dataclasses.replace(config.agent, policy=AnalyticPolicyConfig(), policy_steps=2048)
        config = dataclasses.replace(config, agent=agent)
    with Run.create(tmp_path, config.environment.id, "sindy_rl", 0, config) as run:
        train(config, run)
    with (run.folder / "metrics.csv").open(newline="") as file:
        logged = {row["tag"] for row in csv.DictReader(file)}
    metrics = make_environment(config.environment.id).metric_names
    assert logged == tags_of_sindy_rl(policy, metrics)


@pytest.mark.slow
def test_page_of_hypercrl_names_every_tag(tmp_path: Path) -> None:
    config = load_experiment("debug/hypercrl_pendulum")
    # Long enough for episodes to end.
    assert isinstance(config.agent, HyperCRLConfig)
    agent = dataclasses.replace(config.agent, session_steps=600)
    config = dataclasses.replace(config, agent=agent, total_steps=2400)
    text = (FOLDER / "hypercrl.md").read_text(encoding="utf-8")
    promised = set()
    for names in re.findall(r"^\| (`[a-z]+(?:_<i>)?/.+?`) \| .+ \|$", text, re.MULTILINE):
        for tag in re.findall("`(.+?)`", names):
            promised |= {tag.replace("<i>", str(task)) for task in range(3)}
    with Run.create(tmp_path, config.environment.id, "hypercrl", 0, config) as run:
        train(config, run)
    with (run.folder / "metrics.csv").open(newline="") as file:
        logged = {row["tag"] for row in csv.DictReader(file)}
    optional = {"eval/inferred_correctly", "train/detections"}  # of tasks that are not told
    assert logged == promised - optional


SMALL_MODEL = ModelConfig(members=3, elites=2, layers=(16,), max_epochs=1)
SMALL_ROLLOUTS = RolloutsConfig(every=10, starts=20, length=2, recorded_share=0.5)
SMALL_REWARD = DynamicsRewardConfig(layers=(8,), updates=20, snapshots=2)
OFFLINE: dict[str, MethodConfig] = {
    "behaviour_cloning": BehaviourCloningConfig(),
    "td3_bc": TD3BehaviourCloningConfig(),
    "iql": ImplicitQLearningConfig(),
    "cql": ConservativeConfig(actions=2),
    "edac": DiverseCriticsConfig(critics=2),
    "mopo": MopoConfig(model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS),
    "mobile": MobileConfig(model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS, samples=2),
    "combo": ComboConfig(model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS, actions=2),
    "ravl": RavlConfig(model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS),
    "filter": MopoConfig(
        model=dataclasses.replace(SMALL_MODEL, reward="known"),
        rollouts=SMALL_ROLLOUTS,
        filter=FilterConfig(reward=SMALL_REWARD),
    ),
}


def test_page_of_offline_agents_names_every_tag(tmp_path: Path) -> None:
    config = load_experiment("debug/offline_td3_bc")
    environment, agent = config.environment, config.agent
    assert isinstance(agent, OfflineConfig)
    made = make_environment(environment.id, 4)
    metadata = Metadata(environment.id, references=References(0.0, 1.0, 2, "nobody"))
    data = record(made, RandomController(made, 0), 1600, 0, metadata)
    save_dataset(data, tmp_path / "data")
    text = (FOLDER / "offline.md").read_text(encoding="utf-8")
    promised = re.findall(r"^\| `([a-z]+/\S+)` \| ([a-z0-9_, ]+) \| \S.* \|$", text, re.MULTILINE)
    for name, method in OFFLINE.items():
        agent = dataclasses.replace(agent, dataset=str(tmp_path / "data"), method=method)
        short = dataclasses.replace(config, agent=agent, total_steps=4)
        with Run.create(tmp_path / name, environment.id, "offline", 0, short) as run:
            train(short, run)
        with (run.folder / "metrics.csv").open(newline="") as file:
            logged = {row["tag"] for row in csv.DictReader(file)}
        groups = {"all", method.kind}
        if isinstance(method, ModelBasedConfig):
            groups |= {"model"} | ({"filter"} if method.filter else set())
        tags = {tag for tag, methods in promised if groups & set(methods.split(", "))}
        tags = {tag.replace("<metric>", metric) for tag in tags for metric in made.metric_names}
        known = {"model/known_reward_error"}  # where the model does not learn the reward
        assert logged == tags - (known if name != "filter" else set()), name


def test_page_of_prompt_control_names_every_tag(tmp_path: Path) -> None:
    config = load_experiment("prompt_token_group_relative")
    environment = dataclasses.replace(config.environment, num_envs=32)
    config = dataclasses.replace(
        config, environment=environment, total_steps=128, evaluation=EvaluationConfig(episodes=4)
    )
    with Run.create(tmp_path, environment.id, "group_relative", 0, config) as run:
        train(config, run)
    with (run.folder / "metrics.csv").open(newline="") as file:
        logged = {row["tag"] for row in csv.DictReader(file)}
    text = (FOLDER / "prompt_control.md").read_text(encoding="utf-8")
    promised = re.findall(r"^\| `([a-z]+/\S+)` \| \S.* \|$", text, re.MULTILINE)
    metrics = make_environment(environment.id).metric_names
    assert logged == {tag.replace("<metric>", metric) for tag in promised for metric in metrics}
    assert (run.folder / "texts").exists()
