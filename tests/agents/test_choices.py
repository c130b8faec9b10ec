"""Agents that choose: masked PPO and group-relative policy gradients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from separatrix.agents.catalog import load_policy, train
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.common.run import Run
from separatrix.agents.common.stable_baselines3.config import (
    MaskablePPOConfig,
    PPOConfig,
    SACConfig,
)
from separatrix.agents.experiment import (
    AgentConfig,
    EnvironmentConfig,
    EvaluationConfig,
    ExperimentConfig,
)
from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.agents.group_relative.learner import (
    GroupRelativeLearner,
    advantages,
    covariances,
)
from separatrix.agents.group_relative.policy import ChoicePolicy
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import make_environment
from tests.agents.training_runs import rows

PPO = MaskablePPOConfig(
    rollout_steps=16, batch_size=32, epochs=2, policy_layers=(16,), value_layers=(16,)
)
GROUPS = GroupRelativeConfig(group_size=4, epochs=2, batches=2, layers=(16,), embedding_size=4)
AGENTS: dict[str, AgentConfig] = {"maskable_ppo": PPO, "group_relative": GROUPS}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of threads come in an order that depends on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def experiment(
    agent: AgentConfig, name: str = "PromptToken-v0", **options: Any
) -> ExperimentConfig:
    environment = EnvironmentConfig(f"separatrix/{name}", 8, options=options)
    return ExperimentConfig(
        environment,
        agent,
        total_steps=256,
        checkpoint_every=128,
        evaluation=EvaluationConfig(episodes=4),
    )


@pytest.mark.parametrize("name", ["PromptToken-v0", "PromptEdit-v0", "PromptDialogue-v0"])
@pytest.mark.parametrize("agent", AGENTS)
def test_agents_learn_and_their_policies_are_kept(agent: str, name: str, tmp_path: Path) -> None:
    config = experiment(AGENTS[agent], name)
    with Run.create(tmp_path, config.environment.id, agent, 0, config) as run:
        result = train(config, run)
    assert result.steps >= 256
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    environment = make_environment(name, 6)
    policy = load_policy(config, checkpoint, environment)
    first, second = (evaluate(environment, policy, torch.arange(6)) for _ in range(2))
    assert torch.equal(first.returns, second.returns)


@pytest.mark.parametrize("agent", AGENTS)
def test_resumed_runs_are_those_that_were_not_interrupted(agent: str, tmp_path: Path) -> None:
    config = experiment(AGENTS[agent])
    with Run.create(tmp_path / "whole", config.environment.id, agent, 0, config) as whole:
        train(config, whole)
    short = replace(config, total_steps=128)
    with Run.create(tmp_path / "parts", config.environment.id, agent, 0, short) as run:
        train(short, run)
    (run.folder / "config.yaml").write_text((whole.folder / "config.yaml").read_text())
    with pytest.warns(RuntimeWarning, match="total_steps"), Run.resume(run.folder) as resumed:
        train(config, resumed)
    ends = [r.latest_checkpoint() for r in (whole, resumed)]
    assert ends[0] is not None and ends[1] is not None
    assert ends[0].tensors.keys() == ends[1].tensors.keys()
    for key, tensor in ends[0].tensors.items():
        assert torch.equal(tensor, ends[1].tensors[key]), key


@pytest.mark.parametrize("agent", AGENTS)
def test_what_makes_no_sense_is_never_chosen(agent: str, tmp_path: Path) -> None:
    config = experiment(AGENTS[agent])
    with Run.create(tmp_path, config.environment.id, agent, 0, config) as run:
        train(config, run)
    # Each allowed token is written, so that nothing was chosen in vain.
    written = [float(value) for _, tag, value in rows(run) if tag == "eval/written"]
    assert written and written[-1] == 1.0


def test_groups_begin_alike_and_learn_a_single_target(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "fixed_text": "The value of the ",
        "fixed_target": "c",
        "observation": "tokens",
    }
    environment = make_environment("PromptToken-v0", 64, prompt_length=1, horizon=1, **options)
    config = GroupRelativeConfig(group_size=64, learning_rate=1e-2, layers=(32,))
    learner = GroupRelativeLearner(environment, config, 0)
    first = learner.round()
    for _ in range(30):
        last = learner.round()
    tokens = torch.arange(1, 95)
    repeated = environment.reset(torch.zeros(64, dtype=torch.int64))[0]
    rewards = [environment.step(repeated, token.expand(64)).reward[0] for token in tokens]
    best = torch.stack(rewards).max().item()
    assert first["train/return"] < 0.3 * best and last["train/return"] > 0.6 * best
    assert last["train/entropy"] < first["train/entropy"]


def test_advantages_are_those_within_a_group() -> None:
    returns = torch.tensor([1.0, 3.0, 10.0, 10.0])
    found, spread = advantages(returns, 2, normalize=True)
    torch.testing.assert_close(found, torch.tensor([-1.0, 1.0, 0.0, 0.0]), atol=1e-5, rtol=0)
    assert spread == pytest.approx(0.5)
    raw, _ = advantages(returns, 2, normalize=False)
    assert raw.tolist() == [-1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_entropy_falls_by_the_covariance(seed: int) -> None:
    """First-order change of entropy of a softmax under natural steps along the advantage."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, generator=generator, dtype=torch.float64)
    advantage = torch.randn(7, generator=generator, dtype=torch.float64)
    step = 1e-5

    def entropy(values: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Categorical(logits=values).entropy()

    probability = logits.softmax(0)
    change = (entropy(logits + step * advantage) - entropy(logits)) / step
    log = logits.log_softmax(0)
    mean = (probability * log).sum(), (probability * advantage).sum()
    covariance = (probability * (log - mean[0]) * (advantage - mean[1])).sum()
    torch.testing.assert_close(change, -covariance, atol=1e-4, rtol=1e-3)
    sampled = covariances(log, advantage)
    assert sampled.shape == (7,)


@pytest.mark.parametrize("covariance", ["none", "clip", "penalty"])
def test_the_covariance_options_change_the_training(covariance: Any) -> None:
    environment = make_environment("PromptToken-v0", 32)
    plain, other = (
        GroupRelativeLearner(
            environment,
            replace(GROUPS, covariance=kind, covariance_share=0.2, covariance_range=(1e-9, 99.0)),
            0,
        )
        for kind in ("none", covariance)
    )
    for learner in (plain, other):
        learner.round()
    same = all(
        torch.equal(a, b)
        for a, b in zip(plain.policy.parameters(), other.policy.parameters(), strict=True)
    )
    assert same == (covariance == "none")


def test_policies_embed_the_tokens_that_they_see() -> None:
    environment = make_environment("PromptToken-v0", 3, observation="tokens")
    policy = ChoicePolicy(environment, GROUPS, 0)
    _, observation = environment.reset(0)
    found = policy(observation, None)[0]
    other = observation.clone()
    other[:, -1] = 5 / 95  # another target
    assert not torch.equal(found, policy(other, None)[0])
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize(
    ("agent", "name", "message"),
    [
        (SACConfig(), "PromptToken-v0", "got sac, but actions are choices; allowed: ppo, maskable"),
        (PPO, "Lorenz-v0", "got maskable_ppo, but actions are continuous; allowed: ppo, sac, td3"),
        (GROUPS, "Lorenz-v0", "got group_relative, but actions of separatrix/Lorenz-v0 are contin"),
        (
            replace(GROUPS, group_size=3),
            "PromptToken-v0",
            "num_envs: got 8; allowed: multiples of 3",
        ),
    ],
)
def test_agents_that_do_not_suit_are_refused(
    agent: AgentConfig, name: str, message: str, tmp_path: Path
) -> None:
    config = experiment(agent, name)
    with (
        Run.create(tmp_path, config.environment.id, "x", 0, config) as run,
        pytest.raises(ConfigurationError, match=re.escape(message)),
    ):
        train(config, run)


def test_ppo_without_masks_chooses_as_well(tmp_path: Path) -> None:
    agent = PPOConfig(rollout_steps=16, batch_size=32, epochs=1, policy_layers=(8,))
    config = experiment(agent, "PromptEdit-v0")
    with Run.create(tmp_path, config.environment.id, "ppo", 0, config) as run:
        assert train(config, run).steps >= 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 1}, "group_size"),
        ({"covariance_share": 1.5}, "covariance_share"),
        ({"covariance_range": (5.0, 1.0)}, "covariance_range"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_hyper_parameters_that_make_no_sense_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GROUPS, **change)
