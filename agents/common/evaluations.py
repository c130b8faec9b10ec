"""The evaluations of a training: on episodes of their own, with steps that are counted apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from separatrix.agents.common.seeding import evaluation_seed
from separatrix.agents.experiment import ExperimentConfig
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import make_environment


class Evaluations:
    """Evaluates policies on the same episodes each time, and remembers the last outcome.

    Args:
        config: The experiment.

    Attributes:
        environment: Where the episodes take place.
        last: Means of the last evaluation by tag, `eval/return`, ...; empty before the first.
        steps: Environment steps of all evaluations.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        self._config, self.last, self.steps = config.evaluation, dict[str, float](), 0
        environment, episodes = config.environment, config.evaluation.episodes
        self.environment = make_environment(environment.id, episodes, **environment.arguments())

    def run(self, controller: Controller) -> None:
        """Evaluates a controller.

        Args:
            controller: The policy's deterministic actions.
        """
        seeds = torch.arange(self._config.episodes) + evaluation_seed(self._config.seed)
        found = evaluate(self.environment, controller, seeds)
        self.steps += int(found.lengths.sum())
        self.last = {f"eval/{name}": mean for name, mean in found.means().items()}
        self.last["eval/steps"] = float(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Returns what has to be remembered, as JSON values."""
        return {"evaluation": self.last, "evaluation_steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.last, self.steps = dict(state["evaluation"]), state["evaluation_steps"]
