"""Observations labelled with a teacher's actions, where the teacher or its student goes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.sindy_rl.distillation_config import DistillationConfig
from separatrix.agents.sindy_rl.distillation_refine import draw_seeds
from separatrix.agents.sindy_rl.forecast import Projection
from separatrix.controllers.controller import Controller
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment


class Mixture(Controller):
    """Acts as the teacher with a given probability, else as the student; notes the teacher's way.

    Args:
        teacher: The teacher.
        student: The student; None for the teacher alone.
        share: Probability of the teacher's action, for each row and step.
        generator: Draws who acts.

    Attributes:
        label: The teacher's last actions.
    """

    label: Float[Tensor, "batch action"]

    def __init__(
        self,
        teacher: Controller,
        student: Controller | None,
        share: float,
        generator: torch.Generator,
    ) -> None:
        self._teacher, self._student = teacher, student
        self._share, self._generator = share, generator

    def reset(self, mask: Tensor) -> None:
        """Resets both."""
        self._teacher.reset(mask)
        if self._student is not None:
            self._student.reset(mask)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the action of one of the two for each row.

        Raises:
            ValueError: An action of the teacher is not finite.
        """
        self.label = _finite(self._teacher.act(observation, state))
        if self._student is None:
            return self.label
        drawn = torch.rand((len(observation), 1), generator=self._generator)
        action = self._student.act(observation, state)
        return torch.where(drawn.to(action.device) < self._share, self.label, action)


class Samples:
    """Labelled observations, collected round by round.

    Args:
        teacher: Labels.
        surrogate: Where episodes run.
        config: Hyper-parameters.
        project: Moves disturbed observations to where true ones lie.
        generator: Draws everything.

    Attributes:
        observations: All so far, (rows, observation) in float64; of each round those seen, then
            those disturbed.
        labels: The teacher's actions, (rows, action) in float64, in [-1, 1].
    """

    def __init__(
        self,
        teacher: Controller,
        surrogate: Environment,
        config: DistillationConfig,
        project: Projection | None,
        generator: torch.Generator,
    ) -> None:
        self._teacher, self._surrogate, self._config = teacher, surrogate, config
        self._project, self._generator = project, generator
        sizes = surrogate.observation_space.shape[0], surrogate.action_shape[0]
        self.observations, self.labels = (
            torch.zeros((0, size), dtype=torch.float64, device=surrogate.device) for size in sizes
        )
        self._deviation: Tensor | None = None

    def collect(self, student: Controller | None, share: float) -> None:
        """Adds a round.

        Args:
            student: Who acts beside the teacher.
            share: Probability of the teacher's action.

        Raises:
            ValueError: The teacher's actions are not finite, or it cannot act on disturbed
                observations.
        """
        mixture = Mixture(self._teacher, student, share, self._generator)
        seeds = draw_seeds(self._config.episodes, self._generator)
        seen, labelled = [], []
        for step in rollout(self._surrogate, mixture, seeds):
            seen.append(step.observation[step.alive])
            labelled.append(mixture.label[step.alive])
        observations, labels = torch.cat(seen), torch.cat(labelled)
        if self._deviation is None:  # the teacher's own, for all rounds
            self._deviation = observations.std(0)
        drawn = torch.randperm(len(observations), generator=self._generator)
        rows = drawn[: self._config.samples].to(observations.device)
        self._add(observations[rows], labels[rows])
        if self._config.query_noise:
            noise = torch.randn((len(rows), len(self._deviation)), generator=self._generator)
            noise = noise.to(observations) * self._deviation
            queries = observations[rows] + self._config.query_noise * noise
            queries = queries if self._project is None else self._project(queries)
            self._add(queries, self._ask(queries))

    def _add(self, observations: Tensor, labels: Tensor) -> None:
        self.observations = torch.cat([self.observations, observations.double()])
        self.labels = torch.cat([self.labels, labels.double().clamp(-1.0, 1.0)])

    def _ask(self, queries: Tensor) -> Tensor:
        try:
            actions = self._teacher.act(queries, None)
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f"the teacher does not act on observations alone ({error}); set query_noise = 0"
            ) from error
        return _finite(actions)


def _finite(labels: Tensor) -> Tensor:
    wrong = int((~labels.isfinite().all(1)).sum())
    if wrong:
        raise ValueError(
            f"teacher: {wrong} of {len(labels)} actions are NaN or infinite; allowed: finite ones; "
            "look for observations that it was not trained on"
        )
    return labels
