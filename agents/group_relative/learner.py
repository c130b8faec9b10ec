"""Group-relative policy gradients: Z. Shao et al., arXiv:2402.03300, section 4.1.

Episodes of a group start from the same state. Each is judged by its return less the mean return of
its group, over their standard deviation, and all of its choices by that; no critic is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.seeding import training_seed
from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.agents.group_relative.policy import ChoiceController, ChoicePolicy, Rows
from separatrix.envs.core.environment import Environment


@dataclass(frozen=True)
class Choices:
    """Choices of the episodes of a round, one row each, in no particular order."""

    observation: Float[Tensor, "rows observation"]
    allowed: Bool[Tensor, "rows choices"] | None
    action: Rows
    log_probability: Float[Tensor, " rows"]
    """When the choice was made."""
    advantage: Float[Tensor, " rows"]
    """Of the episode that the choice is of."""

    def __getitem__(self, rows: Tensor) -> Choices:
        """Returns some rows."""
        allowed = None if self.allowed is None else self.allowed[rows]
        return Choices(
            self.observation[rows],
            allowed,
            self.action[rows],
            self.log_probability[rows],
            self.advantage[rows],
        )


class GroupRelativeLearner:
    """Trains a policy of choices.

    Args:
        environment: Where; its number of environments is a multiple of the size of a group.
        config: Hyper-parameters.
        seed: Seed of the networks, of the choices and of the episodes, in [0, 2^31).

    Attributes:
        policy: The policy.
        steps: Environment steps taken, of episodes that had not ended.
        rounds: Rounds of episodes.
    """

    def __init__(self, environment: Environment, config: GroupRelativeConfig, seed: int) -> None:
        self.config, self.steps, self.rounds = config, 0, 0
        self._environment, self._seed = environment, training_seed(seed)
        self._generator = torch.Generator(environment.device).manual_seed(seed)
        self.policy = ChoicePolicy(environment, config, seed)
        self._optimizer = torch.optim.Adam(
            self.policy.parameters(), config.learning_rate, fused=True
        )

    def controller(self, environment: Environment) -> ChoiceController:
        """Returns the likeliest choices, which go on changing with the training."""
        return ChoiceController(self.policy, environment)

    def round(self) -> dict[str, float]:
        """Plays an episode in every environment, and learns from them.

        Returns:
            `train/return` and `train/length`, means over the episodes; `train/spread`, the mean
            standard deviation of returns in a group; `train/entropy` of the choices made, in nats;
            `train/covariance` of log-probability and advantage; `train/loss`, `train/ratio_clipped`
            (share) and `train/gradient_norm`, means over the updates.
        """
        choices, found = self._play()
        config, device = self.config, self._generator.device
        sums = dict.fromkeys(("loss", "ratio_clipped", "gradient_norm"), 0.0)
        for _ in range(config.epochs):
            order = torch.randperm(len(choices.advantage), generator=self._generator, device=device)
            for rows in order.chunk(config.batches):
                for name, value in self._update(choices[rows]).items():
                    sums[name] += value
        self.rounds += 1
        updates = config.epochs * config.batches
        found |= {name: value / updates for name, value in sums.items()}
        return {f"train/{name}": value for name, value in found.items()}

    @torch.no_grad()
    def _play(self) -> tuple[Choices, dict[str, float]]:
        environment, config = self._environment, self.config
        groups = environment.num_envs // config.group_size
        seeds = torch.arange(groups).repeat_interleave(config.group_size) + self._seed
        state, observation = environment.reset(seeds, episode=self.rounds)
        alive = torch.ones(len(seeds), dtype=torch.bool, device=environment.device)
        returns = torch.zeros(len(seeds), dtype=torch.float64, device=environment.device)
        taken, entropies = list[tuple[Any, ...]](), list[Tensor]()
        for _ in range(environment.horizon):
            allowed = environment.allowed_actions(state)
            found = self.policy(observation, allowed)
            action = self.policy.sample(found, self._generator)
            log_probability = self.policy.log_probability(found, action)
            taken.append((observation, allowed, action, log_probability, alive))
            entropies.append(_entropy(found)[alive])
            state, observation, reward, terminated, _ = environment.step(state, action)
            returns += torch.where(alive, reward.double(), 0.0)
            self.steps += int(alive.sum())
            alive = alive & ~terminated
            if not alive.any():
                break
        advantage, spread = advantages(returns, config.group_size, config.normalize_advantage)
        kept = [part[-1] for part in taken]
        masks = None
        if taken[0][1] is not None:
            masks = torch.cat([part[1][k] for part, k in zip(taken, kept, strict=True)])
        columns = [
            torch.cat([part[i][k] for part, k in zip(taken, kept, strict=True)]) for i in (0, 2, 3)
        ]
        judged = torch.cat([advantage[k] for k in kept]).to(columns[2])
        choices = Choices(columns[0], masks, columns[1], columns[2], judged)
        lengths = sum(k.double().mean().item() for k in kept)
        return choices, {
            "return": returns.mean().item(),
            "length": lengths,
            "spread": spread,
            "entropy": torch.cat(entropies).mean().item(),
            "covariance": covariances(choices.log_probability, judged).mean().item(),
        }

    def _update(self, batch: Choices) -> dict[str, float]:
        config = self.config
        found = self.policy(batch.observation, batch.allowed)
        change = self.policy.log_probability(found, batch.action) - batch.log_probability
        ratio, limit = change.exp(), config.clip_range
        clipped = ratio.clamp(1 - limit, 1 + limit)
        gain = torch.minimum(ratio * batch.advantage, clipped * batch.advantage)
        covariance = covariances(batch.log_probability, batch.advantage)
        if config.covariance == "clip":
            left_out = self._left_out(covariance)
            gain = torch.where(left_out, gain.detach(), gain)
        loss = -gain.mean() - config.entropy_coefficient * _entropy(found).mean()
        if config.covariance == "penalty":
            count = max(1, round(config.covariance_share * len(covariance)))
            held = covariance.topk(count).indices
            loss = loss + config.covariance_weight * change[held].abs().sum() / len(change)
        self._optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_gradient_norm)
        self._optimizer.step()
        return {
            "loss": loss.item(),
            "ratio_clipped": (ratio.detach() != clipped.detach()).double().mean().item(),
            "gradient_norm": norm.item(),
        }

    def _left_out(self, covariance: Float[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
        """Draws choices among those of large covariance."""
        low, high = self.config.covariance_range
        eligible = ((covariance > low) & (covariance < high)).nonzero()[:, 0]
        count = min(len(eligible), max(1, round(self.config.covariance_share * len(covariance))))
        order = torch.randperm(
            len(eligible), generator=self._generator, device=self._generator.device
        )
        left_out = torch.zeros_like(covariance, dtype=torch.bool)
        left_out[eligible[order[:count]]] = True
        return left_out

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns everything that determines the training from here on.

        Tensors are on the CPU and own their memory; the rest are JSON values.
        """
        tensors = {"generator": self._generator.get_state()}
        tensors |= prefixed("policy", self.policy.state_dict())
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= prefixed(f"moments.{index}", moments)
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return copies, {"steps": self.steps, "rounds": self.rounds}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned.

        Raises:
            RuntimeError: The networks are others.
            KeyError: Something is missing.
        """
        self.policy.load_state_dict(with_prefix("policy", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in with_prefix("moments", tensors).items():
            index, _, moment = key.partition(".")
            moments.setdefault(int(index), {})[moment] = tensor.clone()
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._generator.set_state(tensors["generator"])
        self.steps, self.rounds = state["steps"], state["rounds"]


def advantages(
    returns: Float[Tensor, " episodes"], group_size: int, normalize: bool
) -> tuple[Float[Tensor, " episodes"], float]:
    """Returns how much better episodes are than the mean of their group.

    Args:
        returns: Those of a group one after the other.
        group_size: Episodes of a group.
        normalize: Whether they are divided by the standard deviation of the group.

    Returns:
        The advantages, 0 in groups whose returns are all the same, and the mean deviation.
    """
    grouped = returns.view(-1, group_size)
    off = grouped - grouped.mean(1, keepdim=True)
    deviation = grouped.std(1, correction=0, keepdim=True)
    if normalize:
        off = off / (deviation + 1e-6)
    return off.flatten(), deviation.mean().item()


def covariances(
    log_probability: Float[Tensor, " rows"], advantage: Float[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Returns the centred products of log-probability and advantage, whose mean is the covariance.

    By a policy gradient step entropy falls by this covariance times the step, to first order (G.
    Cui et al., arXiv:2505.22617, theorem 1).
    """
    return (log_probability - log_probability.mean()) * (advantage - advantage.mean())


def _entropy(log_probabilities: list[Float[Tensor, "rows _"]]) -> Float[Tensor, " rows"]:
    """Returns the entropy of choices made together, in nats."""
    return sum(-(part.exp() * part).sum(1) for part in log_probabilities)  # type: ignore[return-value]
