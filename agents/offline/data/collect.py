"""Recording of data sets: a controller acts in many environments at once.

Every environment takes the same number of control intervals, episode after episode, and the
episode under way at the end is truncated there. No episode is chosen or left out by its length: to
keep only those that have ended would prefer short ones, to wait for the end of all long ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from separatrix.agents.common.collector import Collector
from separatrix.agents.common.replay import ReplayBuffer, Transitions
from separatrix.agents.offline.data.dataset import Dataset, Metadata, numbered
from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment

NO_METADATA = Metadata()


def record(
    environment: Environment,
    controller: Controller,
    transitions: int,
    seed: int,
    metadata: Metadata = NO_METADATA,
) -> Dataset:
    """Records a controller, in all environments of a batch side by side.

    Args:
        environment: The environment.
        controller: Who acts. Actions are recorded as the environment takes them, in [-1, 1].
        transitions: How many, a multiple of the number of environments.
        seed: Environment i has the seed `seed + i`.
        metadata: What is to be known of the data.

    Returns:
        The data on the device of the environment, one environment after the other.

    Raises:
        ValueError: The number of transitions is no positive multiple.
    """
    if transitions < 1 or transitions % environment.num_envs:
        raise ValueError(
            f"transitions: got {transitions}; allowed: positive multiples of "
            f"{environment.num_envs}, the number of environments"
        )
    buffer = ReplayBuffer(
        environment.observation_space.shape[0],
        environment.action_shape[0],
        capacity=transitions,
        num_envs=environment.num_envs,
        device=environment.device,
        dtype=environment.dtype,
    )
    collector = Collector(environment, buffer, seed)
    collector.collect(controller, transitions // environment.num_envs)
    return from_transitions(buffer.ordered(), metadata)


def from_transitions(transitions: Transitions, metadata: Metadata = NO_METADATA) -> Dataset:
    """Puts the episodes of environments that stepped together one after the other.

    Args:
        transitions: (times, environments, ...), all environments beginning with an episode.
        metadata: What is to be known of the data.

    Returns:
        The data, one environment after the other. Episodes that have not ended are truncated.
    """
    last = transitions.last.clone()
    last[-1] = True

    def flat(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1).flatten(0, 1)

    episode, step = numbered(flat(last))
    return Dataset(
        flat(transitions.observation),
        flat(transitions.action).clamp(-1, 1),
        flat(transitions.reward),
        flat(transitions.next_observation),
        flat(transitions.terminated),
        flat(last & ~transitions.terminated),
        episode,
        step,
        metadata,
    )


def joined(parts: Sequence[Dataset], metadata: Metadata) -> Dataset:
    """Puts data sets one after the other.

    Args:
        parts: Data sets on one device.
        metadata: What is to be known of the whole.
    """
    names = parts[0].tensors()
    tensors = {name: torch.cat([part.tensors()[name] for part in parts]) for name in names}
    episode, step = numbered(tensors["terminated"] | tensors["truncated"])
    return Dataset(**{**tensors, "episode": episode, "step": step}, metadata=metadata)


def whole_episodes(dataset: Dataset, horizon: int) -> Bool[Tensor, " episodes"]:
    """Tells which episodes the end of the recording did not cut short.

    Args:
        dataset: Recorded data.
        horizon: Control intervals of an episode that nothing terminates.
    """
    rows = dataset.last.nonzero()[:, 0]
    return dataset.terminated[rows] | (dataset.step[rows] + 1 >= horizon)
