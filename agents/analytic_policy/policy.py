"""The policy that a run keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.analytic_policy.policy import (
    AnalyticPolicyController,
    make_analytic_policy,
)
from separatrix.agents.common.checkpoint import Checkpoint, with_prefix
from separatrix.agents.common.training import described_misfit
from separatrix.agents.experiment import ExperimentConfig

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment


def load_policy(
    config: ExperimentConfig, checkpoint: Checkpoint, environment: Environment
) -> AnalyticPolicyController:
    """Makes the policy of a checkpoint, see `separatrix.agents.catalog.load_policy`."""
    assert isinstance(config.agent, AnalyticPolicyConfig)
    with described_misfit(config, checkpoint):
        return make_analytic_policy(
            config.agent, with_prefix("policy", checkpoint.tensors), environment
        )
