"""Learning the dynamics reward: a discriminator against a generator of transitions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from separatrix.agents.common.dynamics.model import DynamicsEnsemble, EnsembleConfig
from separatrix.agents.common.dynamics.network import EnsembleNetwork
from separatrix.agents.common.replay import Transitions
from separatrix.agents.offline.model_config import DynamicsRewardConfig
from separatrix.agents.offline.morec.dynamics_reward import DynamicsReward

EVALUATED = 10_000
"""Transitions, drawn anew, over which the mean logits of a snapshot are taken."""
FLOOR = 0.01
"""Share of recorded transitions that may lie below the lowest logit that counts."""


def train_dynamics_reward(
    reward: DynamicsReward, transitions: Transitions, seed: int
) -> dict[str, float]:
    """Learns the reward that the dynamics behind recorded transitions maximise.

    It is a game of inverse reinforcement learning (F. Luo et al., ICLR 2024, after J. Ho and
    S. Ermon, NeurIPS 2016): dynamics are an agent that acts by choosing the next observation. A
    generator proposes next observations for recorded observations and actions, and climbs the
    reward -log(1 - D); the discriminator D tells them from the recorded ones.

    The authors' code of this game is not public; all of it is ours. The generator is a normal
    distribution with learned mean and variance, and follows the gradient through what it draws. It
    starts with random weights, not fitted to the data: against one that is fitted, a discriminator
    meets small errors alone, and learns nothing of large ones. Snapshots are taken at equal ratios
    of time, so that the mean over them holds opponents of bad, fair and good generators.

    Args:
        reward: What is trained, in place, on the device of the transitions.
        transitions: Recorded ones, (rows, ...).
        seed: Seed of weights and of everything drawn.

    Returns:
        Over the last tenth of the updates, mean `morec/discriminator_loss`, with the gradient
        penalty, and `morec/generator_loss`; of the last snapshot `morec/logit_recorded` and
        `morec/logit_generated`; `morec/telling`, the share of snapshots that put recorded
        transitions above generated ones; and `morec/generator_error`, the root mean square error of
        the generator's means in the end, in units of the standard deviation of each component's
        changes.
    """
    config, game = reward.config, _Game(reward, transitions, seed)
    snapshots = {update: index for index, update in enumerate(snapshot_updates(config))}
    losses = []
    for update in range(1, config.updates + 1):
        losses.append(game.update())
        if update in snapshots:
            game.take_snapshot(snapshots[update])
    last = torch.stack(losses[9 * config.updates // 10 :]).mean(0)
    return {
        "morec/discriminator_loss": last[0].item(),
        "morec/generator_loss": last[1].item(),
        "morec/logit_recorded": reward.recorded[-1].item(),
        "morec/logit_generated": reward.generated[-1].item(),
        "morec/telling": (reward.recorded > reward.generated).double().mean().item(),
        "morec/generator_error": game.generator_error(),
    }


def snapshot_updates(config: DynamicsRewardConfig) -> list[int]:
    """Returns the updates after which snapshots are taken, in equal ratios, the last at the end."""
    found = list[int]()
    for k in range(1, config.snapshots + 1):
        update = round(config.updates * config.first_share ** (1 - k / config.snapshots))
        found.append(max(update, found[-1] + 1 if found else 1))
    return found


class _Game:
    """Discriminator and generator with their optimisers."""

    def __init__(self, reward: DynamicsReward, transitions: Transitions, seed: int) -> None:
        self._reward, self._config = reward, reward.config
        self._transitions, device = transitions, transitions.reward.device
        self._random = torch.Generator(device).manual_seed(seed)
        observation, action = transitions.observation, transitions.action
        following = transitions.next_observation
        # A component that never changes, where any noise would give the generator away, is kept.
        self._moves = (following != observation).any(0)
        self._recorded = reward.seen(observation, action, following)
        reward.inputs.fit(self._recorded)
        self._recorded = reward.inputs(self._recorded)
        sizes, layers = (observation.shape[1], action.shape[1]), self._config.layers
        shape = EnsembleConfig(1, 1, layers, reward_head=False)
        self._generator = DynamicsEnsemble(*sizes, shape, seed).to(device)
        self._generator.inputs.fit(torch.cat((observation, action), -1))
        self._generator.targets.fit(following - observation)
        weights = torch.Generator().manual_seed(seed)
        inputs = self._recorded.shape[1]
        self._discriminator = EnsembleNetwork(1, inputs, layers, 1, weights).to(device)
        adam, rate = torch.optim.Adam, self._config.generator_learning_rate
        self._generator_weights = list(self._generator.parameters())
        self._generator_optimizer = adam(self._generator_weights, rate, fused=True)
        rate = self._config.learning_rate
        self._optimizer = adam(self._discriminator.parameters(), rate, fused=True)

    def update(self) -> Float[Tensor, " 2"]:
        """Takes a step of the discriminator, then one of the generator; returns their losses."""
        config = self._config
        recorded, generated = self._draw(config.batch_size)
        recorded.requires_grad_()
        true, false = self._logit(recorded), self._logit(generated.detach())
        label = torch.full_like(true, config.smooth_label)
        loss = binary_cross_entropy_with_logits(true, label) + softplus(false).mean()
        (slope,) = torch.autograd.grad(true.sum(), recorded, create_graph=True)
        loss = loss + 0.5 * config.gradient_penalty * slope.square().sum(1).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        # The reward -log(1 - D) is softplus(logit).
        generator_loss = -softplus(self._logit(generated)).mean()
        self._generator_optimizer.zero_grad()
        generator_loss.backward(inputs=self._generator_weights)
        self._generator_optimizer.step()
        return torch.stack((loss, generator_loss)).detach()

    @torch.no_grad()
    def take_snapshot(self, index: int) -> None:
        """Copies the discriminator into the reward, with its mean logits."""
        reward = self._reward
        pairs = zip(reward.snapshots.parameters(), self._discriminator.parameters(), strict=True)
        for kept, weight in pairs:
            kept[index] = weight[0]
        recorded, generated = (self._logit(rows) for rows in self._draw(EVALUATED))
        lowest = reward.generated[index] = generated.mean()
        reward.recorded[index] = recorded.mean()
        if self._config.floor == "recorded":
            lowest = torch.minimum(lowest, recorded.quantile(FLOOR))
        reward.lowest[index] = lowest

    @torch.no_grad()
    def generator_error(self) -> float:
        """Root mean square error of the generator's means, in deviations of the changes."""
        known, generator = self._transitions, self._generator
        predicted = generator.predict(known.observation[None], known.action[None])
        error = (
            predicted.next_observation[0] - known.next_observation
        ) / generator.targets.deviation
        return error.square().mean().sqrt().item()

    def _draw(self, rows: int) -> tuple[Tensor, Tensor]:
        """Draws recorded transitions, and makes generated ones of the same start.

        Returns:
            What a discriminator sees of both, normalised, (rows, inputs).
        """
        known = self._transitions
        index = torch.randint(
            len(self._recorded), (rows,), generator=self._random, device=known.reward.device
        )
        observation, action = known.observation[index], known.action[index]
        predicted = self._generator.predict(observation[None], action[None])
        noise = torch.empty_like(observation).normal_(generator=self._random)
        drawn = predicted.next_observation[0] + predicted.observation_deviation[0] * noise
        following = torch.where(self._moves, drawn, observation)
        generated = self._reward.seen(observation, action, following)
        return self._recorded[index], self._reward.inputs(generated)

    def _logit(self, seen: Float[Tensor, "rows inputs"]) -> Float[Tensor, " rows"]:
        return self._discriminator(seen[None])[0, :, 0]
