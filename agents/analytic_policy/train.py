"""Training by analytic gradients: a window of all environments is the unit.

Tags of the log, at the number of environment steps taken: see docs/agents/analytic_policy.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.analytic_policy.learner import AnalyticPolicyLearner
from separatrix.agents.common.analytic_policy.window import Episodes
from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.common.rounds import RoundTraining
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import TrainingResult, check_continuous
from separatrix.agents.experiment import ExperimentConfig
from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    The run ends after the window in which `total_steps` steps are reached.
    """
    return _Training(config, run).train()


class _Training(RoundTraining):
    learner: AnalyticPolicyLearner

    def __init__(self, config: ExperimentConfig, run: Run) -> None:
        assert isinstance(config.agent, AnalyticPolicyConfig)
        made = config.environment
        environment = make_environment(made.id, made.num_envs, **made.arguments())
        check_continuous(config, environment)
        self.learner = AnalyticPolicyLearner(
            environment.observation_space.shape[0],
            environment.action_shape[0],
            config.agent,
            config.seed,
            environment.device,
            config.total_steps,
        )
        self._episodes = self.learner.begin(environment)
        _check_gradients(environment, self._episodes)
        super().__init__(config, run)

    def learn(self) -> dict[str, float]:
        return self.learner.improve(self._episodes)

    def controller(self) -> Controller:
        return self.learner.controller()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, state = self.learner.state_dict()
        return tensors | prefixed("episodes", self._episodes.state_dict()), state

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.learner.load_state_dict(tensors, state)
        self._episodes.load_state_dict(with_prefix("episodes", tensors))


def _check_gradients(environment: Environment, episodes: Episodes) -> None:
    """Refuses an environment through which no gradient flows."""
    action = torch.zeros(
        (environment.num_envs, *environment.action_shape),
        dtype=environment.dtype,
        device=environment.device,
        requires_grad=True,
    )
    try:
        transition = environment.step(episodes.state, action)
        if not (transition.reward.requires_grad or transition.observation.requires_grad):
            raise ValueError("nothing that a step returns depends on the action differentiably")
    except ValueError as error:
        raise ConfigurationError(
            f"environment.id: analytic gradients need an environment that has them: {error}"
        ) from error
