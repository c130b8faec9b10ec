"""Every method, by the `kind` of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from separatrix.agents.offline.behaviour_cloning import BehaviourCloning
from separatrix.agents.offline.combo import Combo
from separatrix.agents.offline.config import ModelBasedConfig, OfflineConfig
from separatrix.agents.offline.cql import ConservativeCritics
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.edac import DiverseCritics
from separatrix.agents.offline.experience import Experience, RecordedExperience
from separatrix.agents.offline.iql import ImplicitQLearning
from separatrix.agents.offline.learner import OfflineLearner
from separatrix.agents.offline.mobile import Mobile
from separatrix.agents.offline.model.experience import ModelExperience
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic
from separatrix.agents.offline.td3_bc import TD3BehaviourCloning

if TYPE_CHECKING:
    from separatrix.agents.offline.model.dynamics import Dynamics
    from separatrix.envs.core.environment import Environment

LEARNERS: Mapping[str, type[OfflineLearner]] = {
    "behaviour_cloning": BehaviourCloning,
    "td3_bc": TD3BehaviourCloning,
    "iql": ImplicitQLearning,
    "cql": ConservativeCritics,
    "edac": DiverseCritics,
    "mopo": SoftActorCritic,
    "combo": Combo,
    "ravl": DiverseCritics,
}
"""What learns; MOBILE's learner, which looks at the dynamics, is made apart."""


def make_learner(
    config: OfflineConfig,
    observation_size: int,
    action_size: int,
    seed: int,
    device: torch.device | str,
    total_updates: int,
    lowest_value: float,
    dynamics: Dynamics | None = None,
) -> OfflineLearner:
    """Makes the learner of a method, see `OfflineLearner`.

    Args:
        config: Hyper-parameters.
        observation_size: Components of an observation.
        action_size: Components of an action.
        seed: Seed of weights and of everything drawn.
        device: Where the networks are.
        total_updates: Updates of the whole run.
        lowest_value: Value of next observations that are not believed.
        dynamics: Those of the experience, for MOBILE.
    """
    sizes = observation_size, action_size
    if config.method.kind == "mobile":
        assert dynamics is not None
        return Mobile(*sizes, config, seed, device, total_updates, lowest_value, dynamics)
    learner = LEARNERS[config.method.kind]
    return learner(*sizes, config, seed, device, total_updates, lowest_value)


def make_experience(
    dataset: Dataset, environment: Environment, config: OfflineConfig, seed: int
) -> Experience:
    """Makes what a method's batches come from.

    Args:
        dataset: The data.
        environment: Where they were recorded.
        config: Hyper-parameters.
        seed: Seed of everything drawn.

    Raises:
        ValueError: The environment cannot serve as the configuration wants.
    """
    if isinstance(config.method, ModelBasedConfig):
        return ModelExperience(dataset, environment, config, seed)
    return RecordedExperience(dataset, config.batch_size, seed)
