"""Environments for TorchRL (https://docs.pytorch.org/rl), its collectors, losses and planners.

from separatrix.agents.common.torchrl import TorchRLEnv

env = TorchRLEnv(make_environment("separatrix/Lorenz-v0", 4096, device="cuda"))
trajectories = env.rollout(100, policy, break_when_any_done=False)
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from separatrix.envs.core.environment import Environment
from separatrix.envs.core.inputs import random_seed, read_seeds
from separatrix.envs.core.state import put, take
from separatrix.envs.core.stream import Stream

try:
    from tensordict import TensorDict, TensorDictBase
    from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, TensorSpec
    from torchrl.envs import EnvBase
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"TorchRLEnv needs {error.name}: pip install 'separatrix[torchrl]'", name=error.name
    ) from error


class TorchRLEnv(EnvBase):
    """A batch of environments as a `torchrl.envs.EnvBase`, of batch size (num_envs,).

    Environment i follows the trajectory that it follows in a `BatchedEnv` with the same seed and
    actions: `set_seed(s)` gives it the seed s + i at the next reset, and every later reset starts
    the next episode of its random stream. Episodes are truncated after `environment.horizon`
    steps. Nothing leaves the device, and gradients flow through a rollout to its actions, from one
    reset to the next.

    Args:
        environment: What `make_environment` returns.

    Attributes:
        environment: The pure environment.
        state: Its state; None before the first reset.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(device=environment.device, batch_size=[environment.num_envs])
        self.environment = environment
        self.state: Any = None
        self._seed: int | None = None
        self.observation_spec = Composite(
            observation=self._bounded(environment.observation_space), shape=self.batch_size
        )
        self.action_spec = self._actions(environment.action_space)
        lowest, highest = environment.reward_range
        column = torch.Size((environment.num_envs, 1))
        self.reward_spec = Bounded(
            lowest, highest, column, device=self.device, dtype=environment.dtype
        )
        self.done_spec = Composite(
            {
                name: Binary(1, column, device=self.device, dtype=torch.bool)
                for name in ("done", "terminated", "truncated")
            },
            shape=self.batch_size,
        )

    def _actions(self, space: Box | Discrete | MultiDiscrete) -> TensorSpec:
        if isinstance(space, Box):
            return self._bounded(space)
        if isinstance(space, Discrete):
            return Categorical(int(space.n), self.batch_size, self.device, torch.int64)
        shape = torch.Size((*self.batch_size, len(space.nvec)))
        return MultiCategorical(space.nvec.tolist(), shape, self.device, torch.int64)

    def _bounded(self, space: Box) -> Bounded:
        low, high = (
            torch.from_numpy(bound).to(self.device).expand(*self.batch_size, -1)
            for bound in (space.low, space.high)
        )
        return Bounded(low, high, low.shape, device=self.device, dtype=low.dtype)

    def _set_seed(self, seed: int | None) -> None:
        self._seed = seed

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        streams = self._streams()
        if mask is None or self.state is None or mask.all():
            self.state, observation = self.environment.restart(streams)
        else:
            rows = mask.flatten().nonzero()[:, 0]
            state, _ = self.environment.select(rows).restart(take(streams, rows))
            self.state = put(self.state, rows, state)
            observation = self.environment.observe(self.state)
        return self._packed(observation=observation)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        self.state, observation, reward, terminated, _ = self.environment.step(
            self.state, tensordict["action"]
        )
        truncated = self.state.interval >= self.environment.horizon
        flags = {"terminated": terminated, "truncated": truncated, "done": terminated | truncated}
        columns = {name: flag[:, None] for name, flag in flags.items()}
        return self._packed(observation=observation, reward=reward[:, None], **columns)

    def _packed(self, **values: Tensor) -> TensorDict:
        return TensorDict(values, self.batch_size, device=self.device)

    def _streams(self) -> Stream:
        """Starts with the seed that was set, if one was; or goes on with the next episodes."""
        if self._seed is None and self.state is not None:
            return self.state.stream.next_episode()
        seed, self._seed = random_seed() if self._seed is None else self._seed, None
        seeds = read_seeds(seed, self.environment.num_envs)
        return Stream.start(seeds.to(self.environment.device))
