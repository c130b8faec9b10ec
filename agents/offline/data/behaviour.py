"""The policies that act in data sets: snapshots of one training.

The policy is evaluated at regular intervals as it acts in training, with its noise. The best
snapshot is the expert; the first one that is a given share of the way from random actions to the
expert is medium (Fu et al. 2020, arXiv:2004.07219, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium as gym
import torch
from rich.progress import Progress
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.replay import Transitions
from separatrix.agents.common.seeding import training_seed
from separatrix.agents.common.stable_baselines3.algorithm import make_algorithm
from separatrix.agents.common.stable_baselines3.policy import make_policy
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv
from separatrix.agents.common.training import progress_bar
from separatrix.agents.offline.data.config import DatasetConfig
from separatrix.agents.offline.data.dataset import DatasetError, References
from separatrix.agents.offline.data.sampled_policy import SampledPolicy
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment

REFERENCE_EPISODES = 100

Part = Literal["training", "choice", "references", "random", "medium", "mixed medium", "expert"]
"""What has episodes of its own."""


@dataclass(frozen=True)
class Snapshot:
    """A policy in the course of its training."""

    steps: int
    """Environment steps of the training so far."""

    mean_return: float
    """Mean return of its evaluation."""

    policy: Mapping[str, Tensor]
    """Its parameters by name."""


@dataclass(frozen=True)
class Behaviour:
    """What a training leaves for recordings."""

    medium: Snapshot
    """The medium policy."""

    expert: Snapshot
    """The best policy."""

    references: References
    """Returns that scores are scaled by, measured on other episodes than the choice was."""

    curve: Sequence[tuple[int, float]]
    """Steps and mean return of every snapshot."""

    replay: Transitions | None
    """(times, environments, ...), everything that was seen until medium; None on-policy."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns named tensors and JSON values, for a checkpoint."""
        tensors = {} if self.replay is None else prefixed("replay", vars(self.replay))
        state: dict[str, Any] = {"references": vars(self.references), "curve": list(self.curve)}
        for name in ("medium", "expert"):
            snapshot: Snapshot = getattr(self, name)
            tensors |= prefixed(name, snapshot.policy)
            state[name] = {"steps": snapshot.steps, "mean_return": snapshot.mean_return}
        return tensors, state

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Behaviour:
        """Makes what `state_dict` returned."""
        medium, expert = (
            Snapshot(**state[name], policy=with_prefix(name, tensors))
            for name in ("medium", "expert")
        )
        replay = with_prefix("replay", tensors)
        return cls(
            medium,
            expert,
            References(**state["references"]),
            [(steps, mean) for steps, mean in state["curve"]],
            Transitions(**replay) if replay else None,
        )


def train_behaviour(config: DatasetConfig, seed: int) -> Behaviour:
    """Trains, evaluates snapshots, chooses, and measures the references.

    Args:
        config: The recording.
        seed: Seed of networks, exploration and episodes.

    Raises:
        DatasetError: The training gives no medium policy, or nothing better than random actions.
    """
    environment = config.environment
    options = environment.arguments()
    made = gym.make_vec(environment.id, num_envs=environment.num_envs, output="torch", **options)
    training = BatchedVecEnv(made)
    try:
        algorithm = make_algorithm(config.agent, training, seed, environment.device)
        algorithm.set_logger(Logger(None, []))
        judge = make_environment(environment.id, config.snapshot_episodes, **options)

        def judged() -> float:
            first = part_seed(seed, "choice")
            acting = SampledPolicy(config.agent, algorithm.policy, first)
            return mean_return(judge, acting, first)

        with progress_bar() as progress:
            callback = SnapshotCallback(config, judged, progress)
            never: Any = None
            algorithm.learn(config.total_steps, callback, log_interval=never)
    finally:
        training.close()
    judge = make_environment(environment.id, REFERENCE_EPISODES, **options)
    first = part_seed(seed, "references")
    lowest = mean_return(judge, RandomController(judge, first), first)
    medium, expert = chosen(callback.snapshots, lowest, config.medium_share)
    highest = mean_return(judge, make_sampled(config, expert, judge, first), first)
    require_better(highest, lowest)
    policy = f"{config.agent.algorithm} after {expert.steps} steps, with its noise"
    replay = None
    if isinstance(algorithm, OffPolicyAlgorithm):
        assert isinstance(algorithm.replay_buffer, ReplayBuffer)
        replay = seen(algorithm.replay_buffer, medium.steps // environment.num_envs)
    return Behaviour(
        medium,
        expert,
        References(lowest, highest, REFERENCE_EPISODES, policy),
        [(snapshot.steps, snapshot.mean_return) for snapshot in callback.snapshots],
        replay,
    )


def part_seed(seed: int, part: Part) -> int:
    """Base seed of the episodes and of the noise of one part of a recording.

    Args:
        seed: Seed of the recording.
        part: The part; none shares an episode with another, of this seed or of another.
    """
    return training_seed(seed) + get_args(Part).index(part) * 2**24


def mean_return(environment: Environment, controller: Controller, first_seed: int) -> float:
    """Mean return of a controller over one episode of each environment.

    Args:
        environment: The environments.
        controller: Who acts.
        first_seed: Seed of the first one.
    """
    seeds = torch.arange(environment.num_envs) + first_seed
    return evaluate(environment, controller, seeds).returns.mean().item()


def make_sampled(
    config: DatasetConfig, snapshot: Snapshot, environment: Environment, seed: int
) -> SampledPolicy:
    """Makes the policy of a snapshot.

    Args:
        config: The recording.
        snapshot: The snapshot.
        environment: Where it is to act.
        seed: Seed of its noise.
    """
    policy = make_policy(config.agent, snapshot.policy, environment).policy
    return SampledPolicy(config.agent, policy, seed)


def chosen(snapshots: Sequence[Snapshot], lowest: float, share: float) -> tuple[Snapshot, Snapshot]:
    """Chooses the medium policy and the expert.

    Args:
        snapshots: Snapshots in the order of time.
        lowest: Mean return of random actions.
        share: How far the medium policy is to be from random to the expert.

    Raises:
        DatasetError: No snapshot is better than random actions, or the best one is the first that
            is far enough.
    """
    expert = max(snapshots, key=lambda snapshot: snapshot.mean_return)
    best = expert.mean_return
    require_better(best, lowest)
    threshold = lowest + share * (best - lowest)
    medium = next(found for found in snapshots if found.mean_return >= threshold)
    if medium is expert:
        raise DatasetError(
            f"got no medium policy: the first that returns {threshold} or more is the best, after "
            f"{expert.steps} steps; train for more total_steps, or lower snapshot_every"
        )
    return medium, expert


def require_better(best: float, lowest: float) -> None:
    """Refuses a training that has learned nothing.

    Raises:
        DatasetError: The best policy does not return more than random actions do.
    """
    if best <= lowest:
        raise DatasetError(
            f"the best policy returns {best}; allowed: above {lowest}, which random actions do; "
            "train for more total_steps"
        )


def seen(buffer: ReplayBuffer, times: int) -> Transitions:
    """Returns the first transitions of a training, (times, environments, ...)."""
    ended, timed_out = (
        torch.from_numpy(flags[:times] > 0) for flags in (buffer.dones, buffer.timeouts)
    )
    return Transitions(
        torch.from_numpy(buffer.observations[:times]),
        torch.from_numpy(buffer.actions[:times]),
        torch.from_numpy(buffer.rewards[:times]),
        torch.from_numpy(buffer.next_observations[:times]),
        ended & ~timed_out,
        ended,
    )


class SnapshotCallback(BaseCallback):
    """Copies and evaluates the policy between rounds of a training.

    Args:
        config: The recording.
        judged: Returns the mean return of the policy as it is.
        progress: Progress bar that is showing.

    Attributes:
        snapshots: In the order of time.
    """

    def __init__(
        self, config: DatasetConfig, judged: Callable[[], float], progress: Progress
    ) -> None:
        super().__init__()
        self._every, self._judged, self._last = config.snapshot_every, judged, 0
        self._progress = progress
        name = f"{config.agent.algorithm} on {config.environment.id}"
        self._task = self._progress.add_task(name, total=config.total_steps)
        self.snapshots: list[Snapshot] = []

    def _on_rollout_start(self) -> None:
        if self.num_timesteps // self._every > self._last // self._every:
            self._take()

    def _on_step(self) -> bool:
        self._progress.update(self._task, completed=self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._last:
            self._take()

    def _take(self) -> None:
        found = self.model.policy.state_dict()
        parameters = {name: tensor.to("cpu", copy=True) for name, tensor in found.items()}
        self.snapshots.append(Snapshot(self.num_timesteps, self._judged(), parameters))
        self._last = self.num_timesteps
