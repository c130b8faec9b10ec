"""The policy that a run keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.checkpoint import Checkpoint, with_prefix
from separatrix.agents.common.stable_baselines3.policy import make_policy
from separatrix.agents.common.training import described_misfit
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.sindy_rl.config import PolicyConfig, SindyRLConfig
from separatrix.controllers.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from separatrix.envs.core.environment import Environment


def policy_of(
    config: PolicyConfig, tensors: Mapping[str, Tensor], environment: Environment
) -> Controller:
    """Makes the deterministic policy of a learner's snapshot.

    Args:
        config: Hyper-parameters of the learner.
        tensors: The tensors of its snapshot.
        environment: Environment it is to act in.
    """
    weights = with_prefix("policy", tensors)
    if isinstance(config, AnalyticPolicyConfig):
        from separatrix.agents.common.analytic_policy.policy import make_analytic_policy

        return make_analytic_policy(config, weights, environment)
    return make_policy(config, weights, environment)


def load_policy(
    config: ExperimentConfig, checkpoint: Checkpoint, environment: Environment
) -> Controller:
    """Makes the policy of a checkpoint, see `separatrix.agents.catalog.load_policy`."""
    assert isinstance(config.agent, SindyRLConfig)
    with described_misfit(config, checkpoint):
        return policy_of(
            config.agent.policy, with_prefix("deployed", checkpoint.tensors), environment
        )
