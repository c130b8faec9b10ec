"""stable-baselines3 over our batched environments.

stable-baselines3 knows batches only as `VecEnv`: numpy arrays, an info dictionary for each
environment, and the last observation of an episode hidden in it. `BatchedVecEnv` speaks that on one
side and steps a `gymnasium.vector.VectorEnv` of torch tensors on the other, copying to the host
once a step, however many environments there are.
"""

import copy
import time
from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Float
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
from torch import Tensor


class BatchedVecEnv(VecEnv):
    """A batched environment with torch output, as stable-baselines3 wants it.

    Everything returned is fresh, writable memory: stable-baselines3 adds to the rewards in place
    and keeps the last observations. The info of an environment is empty but for the step that ends
    its episode, where it holds

    - `terminal_observation`: the last observation, since the one returned is the next episode's;
    - `TimeLimit.truncated`: whether time alone ended the episode;
    - `episode`: its return `r`, its length `l` in steps, and the seconds `t` since this object was
      made;
    - the task's metrics at that step.
    """

    def __init__(self, env: VectorEnv) -> None:
        """Wrap an environment.

        Args:
            env: What `gymnasium.make_vec(id, num_envs, output="torch")` returns; its episodes
                restart in the step that ends them.

        Raises:
            ValueError: If the environment has another autoreset mode than SAME_STEP.
        """
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"got autoreset mode {mode}; allowed is {AutoresetMode.SAME_STEP}")
        self.env = env
        self._action: Tensor | None = None
        self._device: torch.device | None = None
        self._start = time.monotonic()
        self._metric_sums: dict[str, Tensor] = {}
        self._metric_steps = 0
        # Copies, because an algorithm seeds its action space and samples from it.
        super().__init__(
            env.num_envs,
            copy.deepcopy(env.single_observation_space),
            copy.deepcopy(env.single_action_space),
        )

    def reset(self) -> np.ndarray:
        """Start all episodes anew, with the seed of the last `seed(s)`: s + i for environment i.

        Returns:
            Observations of shape (num_envs, observation).

        Raises:
            TypeError: If the environment does not return torch tensors.
        """
        observation, _ = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        if not isinstance(observation, Tensor):
            raise TypeError(
                f"got observations of {type(observation)}; allowed are torch tensors: "
                'make the environment with output="torch"'
            )
        self._device = observation.device
        self._reset_seeds()
        self._reset_options()
        return self._to_observation_array(_to_host(observation))

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next `step_wait`.

        Args:
            actions: Shape (num_envs, action), in [-1, 1]; or choices.
        """
        self._action = torch.tensor(actions, device=self._device)

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments.

        Returns:
            Observations (num_envs, observation), rewards (num_envs,) as float32, whether each
            episode ended, and the infos.
        """
        observation, reward, terminated, truncated, info = self.env.step(self._action)
        columns = [observation.flatten(1), reward[:, None], terminated[:, None], truncated[:, None]]
        packed = _to_host(torch.cat([column.to(observation.dtype) for column in columns], 1))
        ended_by_physics, ended_by_time = packed[:, -2] > 0, packed[:, -1] > 0
        done = ended_by_physics | ended_by_time
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            self._describe_ends(np.flatnonzero(done), info, infos)
            for row in np.flatnonzero(done):
                infos[row]["TimeLimit.truncated"] = bool(not ended_by_physics[row])
        self._add_metrics(info)
        rewards = packed[:, -3].astype(np.float32)
        return self._to_observation_array(packed[:, :-3]), rewards, done, infos

    def pop_metrics(self) -> dict[str, float]:
        """Metrics of the task, averaged over all steps since the last call.

        Returns:
            Mean of each metric; empty if there was no step.
        """
        means = {
            name: sums.mean().item() / self._metric_steps
            for name, sums in self._metric_sums.items()
        }
        self._metric_sums, self._metric_steps = {}, 0
        return means

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Attribute of the batched environment, which all its environments share.

        Args:
            attr_name: Name of the attribute.
            indices: Environments asked.

        Returns:
            The one value, repeated for each index.
        """
        value = getattr(self.env.unwrapped, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the batched environment.

        Args:
            attr_name: Name of the attribute.
            value: Its new value.
            indices: Must name all environments, for they share the attribute.

        Raises:
            ValueError: If only some environments are named.
        """
        self._require_all(indices, f"the attribute {attr_name}")
        setattr(self.env.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the batched environment, once.

        Args:
            method_name: Name of the method.
            *method_args: Its arguments.
            indices: Must name all environments, for the method concerns all.
            **kwargs: Its named arguments.

        Returns:
            The one result, repeated for each environment.

        Raises:
            ValueError: If only some environments are named.
        """
        self._require_all(indices, f"the method {method_name}")
        result = getattr(self.env.unwrapped, method_name)(*method_args, **kwargs)
        if method_name == "action_masks":  # the one method whose result has a row for each
            return list(_to_host(result))
        return [result for _ in range(self.num_envs)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether each environment is wrapped: never, for a batch has no single environments."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Images (height, width, 3) of all environments."""
        return cast("tuple[np.ndarray, ...]", self.env.render())

    def _require_all(self, indices: VecEnvIndices, what: str) -> None:
        got = list(self._get_indices(indices))
        if sorted(got) != list(range(self.num_envs)):
            raise ValueError(
                f"got indices {got} for {what}; allowed are all {self.num_envs} environments, "
                "for they share it"
            )

    def _to_observation_array(self, rows: np.ndarray) -> np.ndarray:
        """Fresh array of observations from rows of flat ones."""
        space = self.observation_space
        return rows.astype(space.dtype).reshape(len(rows), *(space.shape or ()))

    def _describe_ends(
        self, rows: np.ndarray, info: dict[str, Any], infos: list[dict[str, Any]]
    ) -> None:
        """Fill the infos of the environments whose episode has just ended."""
        index = torch.from_numpy(rows).to(self._device)
        final = info["final_info"]
        names = [name for name in _metric_names(final) if not name.startswith("episode_")]
        columns = [final[name][index] for name in ("episode_return", "episode_length", *names)]
        observation = info["final_obs"][index].flatten(1)
        packed = _to_host(torch.cat([observation.double(), torch.stack(columns, 1).double()], 1))
        width = observation.shape[1]
        observations = self._to_observation_array(packed[:, :width])
        seconds = round(time.monotonic() - self._start, 6)
        for row, last, numbers in zip(rows, observations, packed[:, width:].tolist(), strict=True):
            episode_return, episode_length, *metrics = numbers
            infos[row].update(zip(names, metrics, strict=True))
            infos[row]["terminal_observation"] = last.copy()
            infos[row]["episode"] = {"r": episode_return, "l": int(episode_length), "t": seconds}

    def _add_metrics(self, info: dict[str, Any]) -> None:
        """Add the metrics of this step to their sums, without waiting for the device."""
        final, ended = info.get("final_info", {}), info.get("_final_info")
        for name in _metric_names(info):
            values: Float[Tensor, " batch"] = info[name]
            if ended is not None and name in final:
                values = torch.where(ended, final[name], values)
            if name not in self._metric_sums:
                self._metric_sums[name] = torch.zeros_like(values, dtype=torch.float64)
            self._metric_sums[name] += values
        self._metric_steps += 1


def _metric_names(info: dict[str, Any]) -> list[str]:
    """Names of the dense (num_envs,) tensors of an info."""
    return [
        name
        for name, value in info.items()
        if not name.startswith("_") and isinstance(value, Tensor) and value.ndim == 1
    ]


def _to_host(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
