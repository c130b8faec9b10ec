"""The policy that a run keeps; the data are not needed any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from separatrix.agents.common.checkpoint import Checkpoint, with_prefix
from separatrix.agents.common.dynamics.network import Normalizer
from separatrix.agents.common.training import described_misfit
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.offline.config import OfflineConfig
from separatrix.agents.offline.learner import PolicyController
from separatrix.agents.offline.networks import (
    DeterministicPolicy,
    GaussianPolicy,
    Policy,
    SquashedPolicy,
)

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment

POLICIES: Mapping[str, type[DeterministicPolicy | GaussianPolicy]] = {
    "behaviour_cloning": DeterministicPolicy,
    "td3_bc": DeterministicPolicy,
    "iql": GaussianPolicy,
}
"""Policies of the methods that do not build on soft actor-critic."""


def load_policy(
    config: ExperimentConfig, checkpoint: Checkpoint, environment: Environment
) -> PolicyController:
    """Makes the policy of a checkpoint, see `separatrix.agents.catalog.load_policy`."""
    agent = config.agent
    assert isinstance(agent, OfflineConfig)
    sizes = environment.observation_space.shape[0], environment.action_shape[0]
    device = environment.device
    normalizer = Normalizer(sizes[0]).to(device)
    make = POLICIES.get(agent.method.kind, SquashedPolicy)
    policy: Policy = make(*sizes, agent.layers, torch.Generator(device))
    with described_misfit(config, checkpoint):
        normalizer.load_state_dict(with_prefix("learner.normalizer", checkpoint.tensors))
        policy.load_state_dict(with_prefix("learner.policy", checkpoint.tensors))
    return PolicyController(normalizer, policy.requires_grad_(False))
