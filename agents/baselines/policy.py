"""Policies of the baselines' checkpoints."""

from typing import TYPE_CHECKING

from separatrix.agents.common.checkpoint import Checkpoint, with_prefix
from separatrix.agents.common.stable_baselines3.config import ModelFreeConfig
from separatrix.agents.common.stable_baselines3.policy import PolicyController, make_policy
from separatrix.agents.common.training import described_misfit
from separatrix.agents.experiment import ExperimentConfig

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment


def load_policy(
    config: ExperimentConfig, checkpoint: Checkpoint, environment: "Environment"
) -> PolicyController:
    """Make the policy of a checkpoint, see `separatrix.agents.catalog.load_policy`."""
    assert isinstance(config.agent, ModelFreeConfig)
    with described_misfit(config, checkpoint):
        return make_policy(config.agent, with_prefix("policy", checkpoint.tensors), environment)
