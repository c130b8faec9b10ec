"""SINDy-RL on the features of a language model under vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from separatrix.agents.catalog import train
from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.run import Run
from separatrix.agents.experiment import EvaluationConfig
from separatrix.agents.sindy_rl.config import SindyRLConfig


def test_sindy_rl_learns_from_features_of_vectors(tmp_path: Path) -> None:
    config = load_experiment("prompt_soft_sindy_rl")
    assert isinstance(config.agent, SindyRLConfig)
    agent = replace(
        config.agent,
        policy_steps=5120,
        collection=replace(config.agent.collection, initial_steps=100, steps=100),
    )
    config = replace(config, agent=agent, total_steps=200, evaluation=EvaluationConfig(episodes=8))
    with Run.create(tmp_path, config.environment.id, "sindy_rl", 0, config) as run:
        result = train(config, run)
    assert result.steps >= 200 and result.evaluation["eval/diverged"] == 0
