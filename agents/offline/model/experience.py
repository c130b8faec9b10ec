"""Batches of recorded transitions and of those that the policy makes in a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.offline.config import ModelBasedConfig, MopoConfig, OfflineConfig
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.experience import Experience, draw
from separatrix.agents.offline.learner import Batch, OfflineLearner
from separatrix.agents.offline.model.buffer import ModelBuffer, ModelTransitions
from separatrix.agents.offline.model.diagnostics import values_by_position
from separatrix.agents.offline.model.dynamics import Dynamics
from separatrix.agents.offline.model.learned_dynamics import LearnedDynamics, hold_out
from separatrix.agents.offline.model.rollouts import roll_out
from separatrix.agents.offline.model.true_dynamics import TrueDynamics
from separatrix.agents.offline.morec.calibration import calibrate
from separatrix.agents.offline.morec.dynamics_reward import DynamicsReward
from separatrix.agents.offline.morec.training import train_dynamics_reward
from separatrix.agents.offline.morec.transition_filter import TransitionFilter
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic
from separatrix.envs.core.environment import Environment

EVALUATED = 2000
"""Transitions at which critics are compared between steps of rollouts, and, of those held out, at
most, at which a dynamics reward is compared with the truth."""


class ModelExperience(Experience):
    """Batches of recorded rows, first, and of rows of rollouts in learned or true dynamics.

    Args:
        dataset: The data, on the device of the learner.
        environment: Where they were recorded: true dynamics step it; learned ones ask it for known
            rewards and ends alone.
        config: Hyper-parameters; the method's are a `ModelBasedConfig`.
        seed: Seed of weights and of everything drawn.

    Attributes:
        dynamics: What rollouts go on in.
        transition_filter: MOREC's; None for none.
        buffer: Transitions of rollouts.

    Raises:
        ValueError: The environment cannot serve as the configuration wants; see `TrueDynamics` and
            `LearnedDynamics`.
    """

    def __init__(
        self, dataset: Dataset, environment: Environment, config: OfflineConfig, seed: int
    ) -> None:
        method = config.method
        assert isinstance(method, ModelBasedConfig)
        self._dataset, self._config, self._method, self._seed = dataset, config, method, seed
        self._generator = torch.Generator(dataset.reward.device).manual_seed(seed)
        self._penalty = method.penalty if isinstance(method, MopoConfig) else 0.0
        self.dynamics: Dynamics
        if method.model.source == "true":
            name = dataset.metadata.environment or type(environment).__name__
            self.dynamics = TrueDynamics(environment, name)
        else:
            self.dynamics = LearnedDynamics(dataset, environment, method.model, seed)
        sizes = dataset.observation.shape[1], dataset.action.shape[1]
        device = dataset.reward.device
        self.transition_filter: TransitionFilter | None = None
        if method.filter is not None:
            reward = DynamicsReward(*sizes, method.filter.reward).to(device)
            self.transition_filter = TransitionFilter(reward, method.filter)
        rollouts = method.rollouts
        capacity = rollouts.kept * rollouts.starts * rollouts.length
        self.buffer = ModelBuffer(*sizes, capacity, device)
        self._recorded = round(config.batch_size * rollouts.recorded_share)

    @property
    def notes(self) -> str:
        """Where steps, rewards and ends of rollouts come from, in words."""
        return self.dynamics.notes

    def prepare(self) -> dict[str, float]:
        """Trains the dynamics and, for a filter, the dynamics reward.

        Neither learns from what is held out, where the dynamics reward is then compared with the
        truth.

        Returns:
            What `LearnedDynamics.prepare`, `train_dynamics_reward` and `calibrate` return.
        """
        scalars = self.dynamics.prepare(self._generator)
        if self.transition_filter is None:
            return scalars
        reward, known = self.transition_filter.reward, self._dataset.transitions()
        _, held_out = hold_out(self._dataset)
        scalars |= train_dynamics_reward(reward, known[~held_out], self._seed)
        rows = held_out.nonzero()[:, 0]
        some = known[rows[:: -(-len(rows) // EVALUATED)]]
        samples = self.transition_filter.config.samples
        before = some.observation, some.action
        candidates = self.dynamics.propose(*before, samples, self._generator).next_observation
        return scalars | calibrate(reward, some, candidates, self._generator)

    def batch(self, learner: OfflineLearner) -> tuple[Batch, dict[str, float]]:
        """Draws a batch, before which the policy is rolled out every so many updates."""
        scalars = {}
        if learner.updates % self._method.rollouts.every == 0:
            scalars = self._roll_out(learner)
        batch = draw(self._dataset, self._recorded, self._generator)
        imagined = self.buffer.sample(self._config.batch_size - self._recorded, self._generator)
        return mixed(batch, imagined), scalars

    def _roll_out(self, learner: OfflineLearner) -> dict[str, float]:
        rollouts = self._method.rollouts
        starts = draw(self._dataset, rollouts.starts, self._generator).observation
        scalars = roll_out(
            self.dynamics,
            learner.act,
            starts,
            rollouts.length,
            self.buffer,
            self._generator,
            penalty=self._penalty,
            transition_filter=self.transition_filter,
        )
        if len(self.buffer) == 0:
            raise ConfigurationError(
                "filter.threshold: no transition of the model is believed, and all are dropped; "
                "allowed: a lower threshold, or another on_cut"
            )
        scalars["model/transitions"] = len(self.buffer)
        if isinstance(learner, SoftActorCritic):
            some = self.buffer.sample(EVALUATED, self._generator)
            scalars |= values_by_position(learner, some, rollouts.length).scalars()
        return scalars

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns dynamics, dynamics reward, transitions and the state of the random generator."""
        tensors = {"generator": self._generator.get_state()}
        tensors |= prefixed("dynamics", self.dynamics.state_dict())
        tensors |= prefixed("buffer", self.buffer.state_dict())
        if self.transition_filter is not None:
            tensors |= prefixed("dynamics_reward", self.transition_filter.reward.state_dict())
        return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}, {}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.dynamics.load_state_dict(with_prefix("dynamics", tensors))
        self.buffer.load_state_dict(with_prefix("buffer", tensors))
        if self.transition_filter is not None:
            found = with_prefix("dynamics_reward", tensors)
            self.transition_filter.reward.load_state_dict(found)
        self._generator.set_state(tensors["generator"])


def mixed(recorded: Batch, imagined: ModelTransitions) -> Batch:
    """Puts rows of a model behind recorded ones."""
    return Batch(
        torch.cat((recorded.observation, imagined.observation)),
        torch.cat((recorded.action, imagined.action)),
        torch.cat((recorded.reward, imagined.reward)),
        torch.cat((recorded.next_observation, imagined.next_observation)),
        torch.cat((recorded.terminated, imagined.terminated)),
        torch.cat((recorded.cut, imagined.cut)),
        recorded.recorded,
    )
