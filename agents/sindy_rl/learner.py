"""Training a policy in a surrogate: stable-baselines3's PPO and SAC behind a small interface."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import ConstantSchedule
from torch import Tensor

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.policy_learner import PolicyLearner, Snapshot
from separatrix.agents.common.stable_baselines3.algorithm import make_algorithm
from separatrix.agents.common.stable_baselines3.config import PPOConfig, SACConfig
from separatrix.agents.common.stable_baselines3.policy import PolicyController
from separatrix.agents.common.stable_baselines3.snapshot import load_snapshot, save_snapshot
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv
from separatrix.agents.sindy_rl.config import PolicyConfig
from separatrix.controllers.controller import Controller
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.environment import Environment


class _Scalars(KVWriter):
    """Keeps the last value of everything that stable-baselines3 logs."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        self.values |= {
            key: float(value)
            for key, value in key_values.items()
            if key.startswith("train/") and isinstance(value, int | float | np.number)
        }

    def close(self) -> None:
        pass


class StableBaselinesLearner(PolicyLearner):
    """PPO or SAC.

    SAC's replay buffer is emptied before each training, for its transitions are those of a model
    that is no more.

    Args:
        config: Hyper-parameters.
        environment: A first environment, of which spaces, size and device are taken.
        seed: Seed of networks, exploration and surrogate episodes.
        total_steps: Steps of all trainings together, over which a linear learning rate falls.
    """

    def __init__(
        self,
        config: PPOConfig | SACConfig,
        environment: Environment,
        seed: int,
        total_steps: int,
    ) -> None:
        self._config, self._total_steps = config, total_steps
        self._batch = BatchedEnv(environment, environment.num_envs, output="torch")
        device = str(environment.device)
        with warnings.catch_warnings():
            # It advises against PPO on a GPU, and small batches that do not divide a rollout.
            warnings.simplefilter("ignore", UserWarning)
            self._environments = BatchedVecEnv(self._batch)
            self._algorithm = make_algorithm(config, self._environments, seed, device)
        self._reset()
        self._scalars = _Scalars()
        self._algorithm.set_logger(Logger(None, [self._scalars]))

    def train(self, environment: Environment, steps: int) -> dict[str, float]:
        """Trains for at least so many steps; see `PolicyLearner.train`."""
        algorithm = self._algorithm
        self._batch.environment = environment
        self._reset()
        rate = self._config.learning_rate
        if self._config.learning_rate_schedule == "linear":
            rate *= max(0.0, 1 - algorithm.num_timesteps / self._total_steps)
        algorithm.lr_schedule = ConstantSchedule(rate)
        if isinstance(algorithm, OffPolicyAlgorithm) and algorithm.replay_buffer is not None:
            algorithm.replay_buffer.reset()
        never: Any = None
        algorithm.learn(steps, log_interval=never, reset_num_timesteps=False)
        algorithm.logger.dump(algorithm.num_timesteps)
        return dict(self._scalars.values)

    def _reset(self) -> None:
        """Starts the next episode of every random stream."""
        algorithm = self._algorithm
        algorithm._last_obs = self._environments.reset()
        algorithm._last_episode_starts = np.ones(self._environments.num_envs, dtype=bool)

    def controller(self) -> Controller:
        """Returns the deterministic policy."""
        return PolicyController(self._algorithm.policy)

    def configure(self, config: PPOConfig | SACConfig) -> None:
        """Changes learning rate, gamma and PPO's gae_lambda."""
        self._config = config
        buffer = getattr(self._algorithm, "rollout_buffer", None)
        for part in (self._algorithm, buffer):
            for name in ("gamma", "gae_lambda"):
                if hasattr(part, name):
                    setattr(part, name, getattr(config, name))

    def take_policy(self, snapshot: Snapshot) -> None:
        """Takes over networks and optimisers of a snapshot; see `PolicyLearner.take_policy`."""
        tensors, state = self.state_dict()
        theirs, their_state = snapshot
        taken = {
            name: tensor
            for name, tensor in theirs.items()
            if name.startswith(("policy.", "moments.")) or name == "log_ent_coef"
        }
        self.load_state_dict(
            {**tensors, **taken}, {**state, "optimizers": their_state["optimizers"]}
        )

    def state_dict(self) -> Snapshot:
        """Returns everything that determines the training from here on."""
        return save_snapshot(self._algorithm)

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        load_snapshot(self._algorithm, tensors, state)


def make_learner(
    config: PolicyConfig, environment: Environment, seed: int, total_steps: int
) -> PolicyLearner:
    """Makes the learner of a configuration; see `StableBaselinesLearner` for the arguments."""
    if isinstance(config, AnalyticPolicyConfig):
        from separatrix.agents.common.analytic_policy.learner import AnalyticPolicyLearner

        return AnalyticPolicyLearner(
            environment.observation_space.shape[0],
            environment.action_shape[0],
            config,
            seed,
            environment.device,
            total_steps,
        )
    return StableBaselinesLearner(config, environment, seed, total_steps)
