"""An ensemble of networks in the place of the sparse model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.dynamics.model import DynamicsEnsemble, EnsembleConfig
from separatrix.agents.common.dynamics.training import TrainingConfig, train_ensemble
from separatrix.agents.common.replay import Transitions
from separatrix.agents.sindy_rl.config import NeuralModelConfig
from separatrix.agents.sindy_rl.forecast import Dynamics, Forecast, Projection


class NeuralDynamics(Dynamics):
    """The mean of the networks' predictions, and how they differ.

    Args:
        ensemble: The networks, trained; all of them are elites.
        project: Moves observations to where the true ones lie.
    """

    def __init__(self, ensemble: DynamicsEnsemble, project: Projection) -> None:
        self.ensemble, self._project = ensemble.requires_grad_(False), project

    def forecast(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
    ) -> Forecast:
        """Predicts one control interval, differentiably; the leverage is zero."""
        ensemble = self.ensemble
        members = ensemble.config.members
        predicted = ensemble.predict(
            observation.expand(members, -1, -1), action.expand(members, -1, -1)
        )
        unit = ensemble.targets.deviation[: observation.shape[1]]
        following = predicted.next_observation
        deviation = (following / unit).var(0, correction=0).mean(1).sqrt()
        return Forecast(
            self._project(following.mean(0)),
            predicted.reward.mean(0) if ensemble.config.reward_head else None,
            deviation,
            torch.zeros_like(deviation),
        )


def fit_neural_dynamics(
    transitions: Transitions, config: NeuralModelConfig, *, project: Projection, seed: int
) -> NeuralDynamics:
    """Trains an ensemble from scratch.

    Args:
        transitions: (times, environments, ...) in the order of time.
        config: How.
        project: Moves observations to where the true ones lie.
        seed: Seed of weights and batches.

    Raises:
        ValueError: There are too few transitions for held-out rollouts, or some are not finite.
    """
    observation, action = transitions.observation, transitions.action
    shape = EnsembleConfig(
        members=config.members,
        elites=config.members,
        hidden=config.hidden,
        reward_head=config.reward == "learned",
    )
    ensemble = DynamicsEnsemble(observation.shape[-1], action.shape[-1], shape, seed)
    ensemble.to(observation.device)
    training = TrainingConfig(
        learning_rate=config.learning_rate, max_epochs=config.max_epochs, patience=config.patience
    )
    generator = torch.Generator(observation.device).manual_seed(seed)
    train_ensemble(ensemble, transitions, training, generator)
    return NeuralDynamics(ensemble, project)
