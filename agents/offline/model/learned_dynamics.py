"""Dynamics learned from recorded transitions: an ensemble of normal distributions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.agents.common.dynamics.model import DynamicsEnsemble, EnsembleConfig, Prediction
from separatrix.agents.common.dynamics.training import TrainingConfig, split, train_ensemble
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.model.dynamics import Candidates, Dynamics
from separatrix.agents.offline.model_config import ModelConfig
from separatrix.envs.core.environment import Environment

MARGIN = 0.5
"""How far next observations may leave the box of the recorded ones, as a fraction of its sides."""
ROLLOUT = 10
"""Steps of the held-out rollouts whose errors stop training and choose elites, at most."""
HOLD_OUT = 1 / 7
"""Share of the data that is held out: every seventh block of 20 rows, if rollouts have 10 steps. 7
divides no usual length of episodes, so that it is not the same part of every episode."""
COMPARED = 10_000
"""Recorded transitions, about, by which known rewards and ends are compared with recorded ones."""


class LearnedDynamics(Dynamics):
    """An ensemble of networks (M. Janner et al., NeurIPS 2019), trained on recorded transitions.

    Next observations are clipped to the box of the recorded ones, widened by `MARGIN` on each side,
    and learned rewards to the range of the recorded ones.

    Args:
        dataset: The data.
        environment: Where they were recorded; it is asked for known rewards and ends alone.
        config: Shape and training of the ensemble, and where rewards and ends come from.
        seed: Seed of the initial weights.

    Attributes:
        ensemble: The networks.

    Raises:
        ValueError: Rewards are to be known, and the observation does not determine them. Or so are
            ends, and some recorded transitions are terminated; if none is, no rollout terminates.
    """

    def __init__(
        self, dataset: Dataset, environment: Environment, config: ModelConfig, seed: int
    ) -> None:
        self._dataset, self._environment, self._config = dataset, environment, config
        self._reward: str = config.reward
        self._termination: str = config.termination
        self._find_known()
        shape = EnsembleConfig(
            config.members,
            config.elites,
            config.layers,
            reward_head=self._reward == "learned",
            termination_head=self._termination == "learned",
        )
        sizes = dataset.observation.shape[1], dataset.action.shape[1]
        self.ensemble = DynamicsEnsemble(*sizes, shape, seed).to(dataset.reward.device)
        seen = torch.cat((dataset.observation, dataset.next_observation))
        low, high = seen.amin(0), seen.amax(0)
        margin = MARGIN * (high - low)
        self._low, self._high = low - margin, high + margin
        self._least, self._largest = dataset.reward.aminmax()

    def prepare(self, generator: torch.Generator) -> dict[str, float]:
        """Trains the ensemble.

        Returns:
            `model/error`, the mean error of the elites on held-out rollouts (see `rollout_error` of
            `separatrix.agents.common.dynamics.training`); `model/error_steps`, their length;
            `model/epochs`; and `model/known_reward_error`, the mean absolute difference between
            known and recorded rewards, and `model/known_termination_error`, the share of recorded
            transitions whose end is another than the known one, where they are known.

        Raises:
            ValueError: There are too few transitions to hold any out.
        """
        config, data = self._config, self._dataset.transitions()
        steps, _ = hold_out(self._dataset)
        fit = train_ensemble(
            self.ensemble,
            data[torch.arange(len(self._dataset), device=data.reward.device)[:, None]],
            TrainingConfig(
                config.learning_rate,
                max_epochs=config.max_epochs,
                patience=config.patience,
                rollout=steps,
                holdout=HOLD_OUT,
            ),
            generator,
        )
        error = fit.error[self.ensemble.elites].mean().item()
        scalars = {"model/error": error, "model/error_steps": steps, "model/epochs": fit.epochs}
        return scalars | self._compare_known()

    @torch.no_grad()
    def propose(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        samples: int,
        generator: torch.Generator,
    ) -> Candidates:
        """Proposes samples of each elite, those of one elite after the other.

        Doubt is the largest norm, over all members, of the predicted standard deviation. It is
        MOPO's penalty (T. Yu et al., NeurIPS 2020, section 4.3), but in units of the standard
        deviations that the changes of the observation have in the data, so that no component weighs
        by its unit. The deviation of the reward, of which members predict only the mean, is not
        part of it.
        """
        ensemble, count = self.ensemble, self._config.members
        rows = observation.expand(count, -1, -1), action.expand(count, -1, -1)
        every = ensemble.predict(*rows)
        unit = ensemble.targets.deviation[: observation.shape[1]]
        doubt = (every.observation_deviation / unit).norm(dim=-1).amax(0)
        predicted = Prediction(*(part[ensemble.elites] for part in every))
        following = self._draw(predicted, samples, generator).flatten(0, 1)
        candidates = len(following)
        flat = following.flatten(0, 1)
        if self._reward == "known":
            before = observation.repeat(candidates, 1), action.repeat(candidates, 1)
            known = self._environment.known_outcome(*before, flat)[0]
            reward = known.to(flat).view(candidates, -1)
        else:
            reward = predicted.reward.clamp(self._least, self._largest)
            reward = reward.repeat_interleave(samples, 0)
        if self._termination == "known":
            terminated = self._environment.known_termination(flat).view(candidates, -1)
        elif self._termination == "learned":
            terminated = (predicted.termination > 0.5).repeat_interleave(samples, 0)
        else:
            terminated = torch.zeros_like(reward, dtype=torch.bool)
        return Candidates(following, reward, terminated, doubt)

    @torch.no_grad()
    def members(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        samples: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "members samples rows observation"]:
        """Draws next observations of each elite."""
        elites = self.ensemble.elites
        rows = observation.expand(len(elites), -1, -1), action.expand(len(elites), -1, -1)
        return self._draw(self.ensemble.predict(*rows, elites), samples, generator)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns weights, normalisers and elites."""
        return self.ensemble.state_dict()

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `state_dict` returned."""
        self.ensemble.load_state_dict(tensors)

    def _draw(
        self, predicted: Prediction, samples: int, generator: torch.Generator
    ) -> Float[Tensor, "elites samples rows observation"]:
        mean = predicted.next_observation[:, None]
        deviation = predicted.observation_deviation[:, None]
        elites, _, *shape = mean.shape
        noise = torch.randn(
            (elites, samples, *shape), generator=generator, device=mean.device, dtype=mean.dtype
        )
        return (mean + deviation * noise).clamp(self._low, self._high)

    def _find_known(self) -> None:
        """Asks the environment once for what is to be known, and says what was found."""
        data, environment = self._dataset, self._environment
        reward = "Rewards are predicted and clipped to the recorded range."
        if self._reward == "known":
            first = data.observation[:1], data.action[:1], data.next_observation[:1]
            try:
                environment.known_outcome(*first)
            except ValueError as error:
                raise ValueError(f"model.reward: got 'known', but {error}") from error
            reward = "Rewards are the environment's functions of what is observed."
        termination = "Ends of episodes are predicted: where their probability is above 0.5."
        if self._termination == "known":
            termination = (
                "Ends of episodes are the environment's functions of what is observed; that it "
                "would diverge is not among them."
            )
            try:
                environment.known_termination(data.next_observation[:1])
            except ValueError as error:
                ended = int(data.terminated.sum())
                if ended:
                    raise ValueError(
                        f"model.termination: got 'known', but {error}, and {ended} recorded "
                        "transitions are terminated; allowed: 'learned'"
                    ) from error
                self._termination = "none"
                termination = (
                    "Nothing ends an episode: the observation does not tell, and no recorded "
                    "transition is terminated."
                )
        self.notes = f"{reward} {termination}"

    def _compare_known(self) -> dict[str, float]:
        """Compares what is known with what was recorded."""
        found = {}
        data = self._dataset.transitions()[:: -(-len(self._dataset) // COMPARED)]
        if self._reward == "known":
            rows = data.observation, data.action, data.next_observation
            error = self._environment.known_outcome(*rows)[0] - data.reward
            found["model/known_reward_error"] = error.abs().mean().item()
        if self._termination == "known":
            ended = self._environment.known_termination(data.next_observation)
            wrong = ended != data.terminated
            found["model/known_termination_error"] = wrong.double().mean().item()
        return found


def hold_out(dataset: Dataset) -> tuple[int, Bool[Tensor, " rows"]]:
    """Tells how long rollouts on held-out data are, and which rows those are.

    Rollouts have `ROLLOUT` steps, or as many as half of the episodes have; fewer still, if such
    windows are not to be found among the held-out rows.

    Raises:
        ValueError: There are too few transitions to hold any out.
    """
    steps = min(ROLLOUT, int(torch.bincount(dataset.episode).median()))
    while True:
        try:
            training, _ = split(
                dataset.last[:, None], TrainingConfig(rollout=steps, holdout=HOLD_OUT)
            )
        except ValueError:
            if steps == 1:
                raise
            steps -= 1
        else:
            return steps, ~training[:, 0]
