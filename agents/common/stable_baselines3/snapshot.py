"""The complete state of a stable-baselines3 algorithm, as named tensors and JSON values.

stable-baselines3 saves a pickled zip that leaves out the random generators, the environments and
the last observation. A snapshot holds them too, so that training that is interrupted and resumed
takes the same steps, bit for bit on the CPU.

    policy.*                      networks, target networks included
    moments.<optimiser>.<i>.*     Adam's moments of parameter i; the groups are in the JSON part
    log_ent_coef                  SAC's entropy coefficient
    replay.*                      the filled part of the replay buffer
    last_observation, episode_starts
    environment.*                 state of the environments and their episodes
    random.*                      states of torch's generators

A rollout buffer is not part of it: take snapshots between an update and the next rollout.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from torch import Tensor
from torch.optim import Optimizer

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save_snapshot(algorithm: BaseAlgorithm) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Copy the state of an algorithm and of its environments.

    Args:
        algorithm: PPO, SAC or TD3 on a `BatchedVecEnv`, between an update and the next rollout,
            without state-dependent exploration and with memoryless action noise.

    Returns:
        Named tensors on the CPU, each owning its memory, and JSON values.
    """
    modules, variables = algorithm._get_torch_save_params()
    tensors: dict[str, Tensor] = {name: getattr(algorithm, name) for name in variables}
    tensors |= prefixed("policy", algorithm.policy.state_dict())
    tensors |= prefixed("environment", _environment(algorithm).env_method("state_dict")[0])
    tensors["last_observation"] = torch.from_numpy(algorithm._last_obs)
    tensors["episode_starts"] = torch.from_numpy(algorithm._last_episode_starts)
    state: dict[str, Any] = {name: getattr(algorithm, name) for name in COUNTERS}
    state["episodes"] = list(algorithm.ep_info_buffer or [])
    state["optimizers"] = {}
    for name, optimizer in _optimizers(algorithm, modules):
        saved = optimizer.state_dict()
        state["optimizers"][name] = saved["param_groups"]
        for index, moments in saved["state"].items():
            tensors |= prefixed(f"moments.{name}.{index}", moments)
    buffer = getattr(algorithm, "replay_buffer", None)
    if buffer is not None:
        state["replay"] = {"pos": buffer.pos, "full": buffer.full}
        filled = {name: torch.from_numpy(getattr(buffer, name)[: buffer.size()]) for name in REPLAY}
        tensors |= prefixed("replay", filled)
    random_tensors, state["random"] = _save_random(algorithm)
    tensors |= prefixed("random", random_tensors)
    return {name: _own(tensor) for name, tensor in tensors.items()}, state


def load_snapshot(
    algorithm: BaseAlgorithm, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Put an algorithm and its environments into the state of a snapshot.

    Args:
        algorithm: Freshly made with the hyper-parameters and environments of the snapshot.
        tensors: The tensors of the snapshot.
        state: Its JSON values.

    Raises:
        RuntimeError: If the networks have other parameters than the snapshot's.
        ValueError: If an optimiser, the replay buffer or the environments do not match.
        KeyError: If the snapshot is that of another algorithm.
    """
    modules, variables = algorithm._get_torch_save_params()
    with torch.no_grad():
        for name in variables:
            getattr(algorithm, name).copy_(tensors[name])
    algorithm.policy.load_state_dict(with_prefix("policy", tensors))
    for name, optimizer in _optimizers(algorithm, modules):
        moments = with_prefix(f"moments.{name}", tensors)
        _load_optimizer(optimizer, moments, state["optimizers"][name])
    for name in COUNTERS:
        setattr(algorithm, name, state[name])
    algorithm.ep_info_buffer = deque(state["episodes"], maxlen=algorithm._stats_window_size)
    algorithm.ep_success_buffer = deque(maxlen=algorithm._stats_window_size)
    buffer = getattr(algorithm, "replay_buffer", None)
    if buffer is not None:
        _load_replay(buffer, with_prefix("replay", tensors), state["replay"])
    environment = _environment(algorithm)
    environment.reset()
    environment.env_method("load_state_dict", with_prefix("environment", tensors))
    algorithm._last_obs = tensors["last_observation"].numpy().copy()
    algorithm._last_episode_starts = tensors["episode_starts"].numpy().copy()
    # Last, for everything above may have drawn numbers.
    _load_random(algorithm, with_prefix("random", tensors), state["random"])


def _environment(algorithm: BaseAlgorithm) -> BatchedVecEnv:
    environment = algorithm.get_env()
    if not isinstance(environment, BatchedVecEnv):
        raise TypeError(f"got {type(environment)}; allowed is a BatchedVecEnv")
    return environment


def _optimizers(algorithm: BaseAlgorithm, modules: list[str]) -> Iterator[tuple[str, Optimizer]]:
    """The optimisers, by their names: `policy.optimizer`, `actor.optimizer`, ..."""
    for name in modules:
        module = attrgetter(name)(algorithm)
        if isinstance(module, Optimizer):
            yield name, module


def _load_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, moment = name.partition(".")
        # A copy, for the optimiser goes on in the tensors that it is given.
        moments.setdefault(int(index), {})[moment] = tensor.clone()
    groups = [{**group, "betas": tuple(group["betas"])} for group in groups]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _load_replay(
    buffer: ReplayBuffer, tensors: Mapping[str, Tensor], position: Mapping[str, Any]
) -> None:
    buffer.pos, buffer.full = position["pos"], position["full"]
    for name, tensor in tensors.items():
        if tensor.shape != getattr(buffer, name)[: buffer.size()].shape:
            raise ValueError(
                f"got {name} of shape {tuple(tensor.shape)} for a replay buffer of "
                f"{tuple(getattr(buffer, name).shape)} that is filled up to {buffer.size()}"
            )
        getattr(buffer, name)[: buffer.size()] = tensor.numpy()


def _save_random(algorithm: BaseAlgorithm) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """States of the generators that stable-baselines3 draws from: torch, numpy, the action space.

    Python's own generator is not drawn from, but it is the run's as well.
    """
    tensors = {"torch": torch.get_rng_state()}
    if algorithm.device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(algorithm.device)
    numpy_state = np.random.get_state(legacy=False)
    keys = numpy_state["state"]["key"].tolist()
    return tensors, {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": keys}},
        "action_space": algorithm.action_space.np_random.bit_generator.state,
    }


def _load_random(
    algorithm: BaseAlgorithm, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], algorithm.device)
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    keys = np.array(state["numpy"]["state"]["key"], np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": keys}})
    algorithm.action_space.np_random.bit_generator.state = state["action_space"]


def _own(tensor: Tensor) -> Tensor:
    """Contiguous copy on the CPU."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
