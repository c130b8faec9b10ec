"""A policy trained by analytic gradients through a differentiable environment.

Short-horizon actor-critic, SHAC: J. Xu et al., "Accelerated policy learning with parallel
differentiable simulation", ICLR 2022, arXiv:2204.07137. Windows of a few steps in many parallel
environments are differentiated, a critic stands for what comes after them, and so gradients neither
vanish nor explode over whole episodes and the landscape is smooth.

Beside what `AnalyticPolicyConfig` says, this differs from the paper in these ways. Observations are
of order one and are not normalised. The critic predicts (1 - gamma) times the return, which is of
the order of a reward. The last layers start a hundred times smaller, so that actions start in the
middle of their range and the critic starts silent: a random one would be followed at once. First
episodes are truncated at random steps. And gradients by the actions are computed first, those by
the weights from them in one batch, which is the same gradient, takes less time, and lets single
environments be left out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.analytic_policy.policy import (
    AnalyticPolicyController,
    GaussianPolicy,
    make_network,
)
from separatrix.agents.common.analytic_policy.window import (
    Episodes,
    Window,
    critic_targets,
    play_window,
)
from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.policy_learner import PolicyLearner, Snapshot
from separatrix.agents.common.seeding import training_seed
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.stream import Stream


class AnalyticPolicyLearner(PolicyLearner):
    """Trains a policy by gradients through windows of an environment.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        config: Hyper-parameters.
        seed: Seed of the networks, of the policy's noise and of the episodes, in [0, 2^31).
        device: Device of the networks and of the environments.
        total_steps: Steps of the whole training, over which a linear learning rate falls.

    Attributes:
        steps: Environment steps taken, summed over the environments.

    Raises:
        ValueError: The seed is outside its range.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: AnalyticPolicyConfig,
        seed: int,
        device: torch.device | str,
        total_steps: int,
    ) -> None:
        self.config, self.steps, self._total_steps = config, 0, total_steps
        self._episode_seed, self._episode = training_seed(seed), 0
        generator = self._generator = torch.Generator(device).manual_seed(seed)
        self.policy = GaussianPolicy(observation_size, action_size, config, generator)
        self.critic = make_network(
            observation_size, config.critic_layers, 1, config.activation, generator
        )
        self._target = copy.deepcopy(self.critic).requires_grad_(False)
        self._modules = {"policy": self.policy, "critic": self.critic, "target": self._target}
        self._rates = {"policy": config.policy_learning_rate, "critic": config.critic_learning_rate}
        self._optimizers = {
            name: Adam(self._modules[name].parameters(), rate, config.adam_betas, fused=True)
            for name, rate in self._rates.items()
        }

    def train(self, environment: Environment, steps: int) -> dict[str, float]:
        """Trains for at least so many steps, in whole windows; see `PolicyLearner.train`.

        Args:
            environment: Where; its step must be differentiable.
            steps: Environment steps, summed over `environment.num_envs`.

        Returns:
            See `improve`.

        Raises:
            ValueError: The environment is not differentiable.
        """
        episodes = self.begin(environment)
        found = self.improve(episodes, -(-steps // (self.config.window * environment.num_envs)))
        self._episode = int(episodes.state.stream.episode.max()) + 1
        return found

    def begin(self, environment: Environment) -> Episodes:
        """Begins episodes of random streams that no training before has used.

        Args:
            environment: Where.
        """
        seeds = torch.arange(environment.num_envs, device=environment.device) + self._episode_seed
        return Episodes(environment, Stream.start(seeds, self._episode), self._generator)

    def improve(self, episodes: Episodes, windows: int = 1) -> dict[str, float]:
        """Plays windows of episodes, and trains policy and critic after each.

        Args:
            episodes: Where the first window starts; they go on from the end of the last.
            windows: How many.

        Returns:
            Means over the windows: `train/reward`, of a step; `train/value`, the critic's targets,
            1 - gamma times a value; `train/critic_loss`; `train/gradient_norm` of the policy,
            before it is limited. The `train/standard_deviation` of the policy at the end. How many
            rows of windows were left out, `train/dropped_rows`. If an episode was played from start
            to end, `train/return`, the mean over all that were.

        Raises:
            ValueError: The environment is not differentiable.
        """
        config, num_envs = self.config, len(episodes.observation)
        shape = (config.window, num_envs, len(self.policy.log_std))
        means, dropped = list[tuple[float, ...]](), 0
        for _ in range(windows):
            noise = torch.randn(shape, generator=self._generator, device=self._generator.device)
            window = play_window(self.policy, self._value, episodes, noise, config.gamma)
            kept = window.reward.shape[1]
            dropped += num_envs - kept
            if kept > 0:
                norm = self._improve_policy(window)
                value, loss = self._train_critic(window)
                means.append((window.reward.mean().item(), value, loss, norm))
            self.steps += config.window * num_envs
        names = ("reward", "value", "critic_loss", "gradient_norm")
        columns = zip(*means, strict=True)
        found = {n: sum(c) / len(c) for n, c in zip(names, columns, strict=False)}
        if finished := episodes.pop_finished():
            found["return"] = sum(finished) / len(finished)
        found["standard_deviation"] = self.policy.log_std.exp().mean().item()
        found["dropped_rows"] = float(dropped)
        return {f"train/{name}": value for name, value in found.items()}

    def _improve_policy(self, window: Window) -> float:
        """Takes a step along the gradient of a window; returns its norm."""
        action = self.policy(window.observation, window.noise)
        # Linear in the actions: its gradient by the weights is that of the window's objective.
        loss = -(action * window.gradient).sum(2).mean()
        return self._step("policy", loss)

    def _train_critic(self, window: Window) -> tuple[float, float]:
        """Trains the critic on a window; returns the means of its targets and of its loss."""
        config = self.config
        with torch.no_grad():
            next_value = self._value(window.next_observation)
            values = critic_targets(window, next_value, config.gamma, config.td_lambda)
        targets = (1 - config.gamma) * values.flatten()
        observation, device = window.observation.flatten(0, 1), self._generator.device
        losses = []
        for _ in range(config.critic_epochs):
            order = torch.randperm(len(targets), generator=self._generator, device=device)
            for rows in order.chunk(config.critic_batches):
                predicted = self.critic(observation[rows])[:, 0]
                loss = (predicted - targets[rows]).square().mean()
                self._step("critic", loss)
                losses.append(loss.item())
        with torch.no_grad():
            for slow, fast in zip(self._target.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, config.target_rate)
        return targets.mean().item(), sum(losses) / len(losses)

    def _step(self, name: str, loss: Tensor) -> float:
        """Takes a step of an optimiser; returns the norm of the gradient."""
        optimizer, weights = self._optimizers[name], self._modules[name].parameters()
        if self.config.learning_rate_schedule == "linear":
            left = max(0.0, 1 - self.steps / self._total_steps)
            optimizer.param_groups[0]["lr"] = left * self._rates[name]
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights, self.config.max_gradient_norm)
        optimizer.step()
        return norm.item()

    def _value(self, observation: Float[Tensor, "*rows observation"]) -> Float[Tensor, "*rows"]:
        """Returns the target critic's values."""
        return self._target(observation)[..., 0] / (1 - self.config.gamma)

    def controller(self) -> AnalyticPolicyController:
        """Returns the deterministic policy, which goes on changing with the training."""
        return AnalyticPolicyController(self.policy)

    def take_policy(self, snapshot: Snapshot) -> None:
        """Takes over networks and optimisers of a snapshot; see `PolicyLearner.take_policy`."""
        tensors, _ = snapshot
        for name, module in self._modules.items():
            module.load_state_dict(with_prefix(name, tensors))
        for name, optimizer in self._optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in with_prefix(f"moments.{name}", tensors).items():
                index, _, moment = key.partition(".")
                # Cloned, for the optimiser would go on in the snapshot's own memory.
                moments.setdefault(int(index), {})[moment] = tensor.clone()
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def state_dict(self) -> Snapshot:
        """Returns everything that determines the training from here on.

        That is `policy.*`, `critic.*` and `target.*`, their weights; `moments.<network>.<i>.*`,
        Adam's moments of parameter i; the state of the random `generator`; and, as JSON values,
        the number of the next `episode` and the `steps`. Tensors are on the CPU and own their
        memory.
        """
        tensors = {"generator": self._generator.get_state()}
        for name, module in self._modules.items():
            tensors |= prefixed(name, module.state_dict())
        for name, optimizer in self._optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= prefixed(f"moments.{name}.{index}", moments)
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return copies, {"episode": self._episode, "steps": self.steps}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned.

        Raises:
            RuntimeError: The networks are others.
            KeyError: Something is missing.
        """
        self.take_policy((dict(tensors), dict(state)))
        self._generator.set_state(tensors["generator"])
        self._episode, self.steps = state["episode"], state["steps"]
