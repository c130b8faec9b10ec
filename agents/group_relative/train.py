"""Training by group-relative policy gradients: a round of episodes is the unit.

Tags of the log, at the number of environment steps taken: see docs/agents/prompt_control.md.
"""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Box
from torch import Tensor

from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.common.rounds import RoundTraining
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import TrainingResult
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.agents.group_relative.learner import GroupRelativeLearner
from separatrix.agents.group_relative.transcripts import transcripts
from separatrix.controllers.controller import Controller
from separatrix.envs.core.registration import make_environment
from separatrix.envs.language.language_environment import LanguageEnvironment


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    The run ends after the round in which `total_steps` steps are reached.
    """
    return _Training(config, run).train()


class _Training(RoundTraining):
    learner: GroupRelativeLearner

    def __init__(self, config: ExperimentConfig, run: Run) -> None:
        assert isinstance(config.agent, GroupRelativeConfig)
        made, size = config.environment, config.agent.group_size
        if made.num_envs % size:
            raise ConfigurationError(
                f"environment.num_envs: got {made.num_envs}; allowed: multiples of {size}, the "
                "agent.group_size"
            )
        environment = make_environment(made.id, made.num_envs, **made.arguments())
        if isinstance(environment.action_space, Box):
            raise ConfigurationError(
                f"agent.algorithm: got group_relative, but actions of {made.id} are continuous; "
                "allowed: environments whose actions are choices"
            )
        self.learner = GroupRelativeLearner(environment, config.agent, config.seed)
        super().__init__(config, run)

    def learn(self) -> dict[str, float]:
        return self.learner.round()

    def controller(self) -> Controller:
        return self.learner.controller(self._evaluations.environment)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.learner.state_dict()

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        self.learner.load_state_dict(tensors, state)

    def texts(self) -> dict[str, str]:
        """Returns what the policy writes in some episodes of the evaluation."""
        environment = self._evaluations.environment
        if not isinstance(environment, LanguageEnvironment):
            return {}
        seed = self._config.evaluation.seed
        return {"eval/prompts": transcripts(environment, self.controller(), seed)}
