"""The Gymnasium shell of a batch: thousands of environments stepping as one tensor."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Space
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.environment import Environment
from separatrix.envs.core.inputs import (
    RENDER_MODES,
    check_options,
    check_render_mode,
    check_reset_options,
    random_seed,
    read_actions,
    read_choices,
    read_mask,
    read_seeds,
)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.single_env import FRAMES_PER_SECOND
from separatrix.envs.core.state import copied, from_tensors, put, take, tensors
from separatrix.envs.core.stream import Stream

OUTPUTS = ("numpy", "torch")


class BatchedEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """A batch of environments as a `gymnasium.vector.VectorEnv`.

    `reset(seed=s)` gives environment i the seed s + i; it then follows the trajectory that a
    single environment with this seed follows, whatever its neighbours do. Every later reset of an
    environment starts the next episode of its own random stream.

    Infos are dense arrays with boolean masks: the task's metrics and `diverged` for every
    environment that stepped, and `episode_return` and `episode_length` where an episode ended. In
    the mode SAME_STEP the latter stand in `final_info`, with the last metrics, beside `final_obs`.
    Whatever is handed out is fresh memory.

    Args:
        environment_id: Registered id; or an environment made before.
        num_envs: Size of the batch.
        max_episode_steps: Steps after which an episode is truncated.
        output: "numpy" or "torch"; torch tensors stay on the device. Actions may be either.
        autoreset_mode: What happens when an episode ends; an `AutoresetMode` or its value.
        render_mode: None or "rgb_array" (one frame an environment).
        options: As for `make_environment`.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        environment_id: str | Environment,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        output: str = "numpy",
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        check_render_mode(render_mode)
        check_options(options)
        if not isinstance(output, str) or output not in OUTPUTS:
            raise ValueError(f"output: got {reprlib.repr(output)}; allowed: {', '.join(OUTPUTS)}")
        self.environment = make_environment(
            environment_id, num_envs, horizon=max_episode_steps, **options
        )
        self.num_envs, self.output, self.render_mode = num_envs, output, render_mode
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {
            "render_modes": list(RENDER_MODES),
            "render_fps": FRAMES_PER_SECOND,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = self.environment.observation_space
        self.single_action_space = self.environment.action_space
        self.observation_space = _batch(self.single_observation_space, num_envs)
        self.action_space = _batch(self.single_action_space, num_envs)
        self.state: Any = None
        self._action_shape = (num_envs, *self.environment.action_shape)
        self._ended = self._zeros(torch.bool)
        self._return = self._zeros(self.environment.dtype)

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Starts episodes.

        Args:
            seed: s gives environment i the seed s + i; a sequence gives one seed each; None
                continues the random streams, and draws a seed the first time.
            options: `reset_mask`, a boolean array of the environments to reset; default all.

        Returns:
            The observations of all environments, and empty infos.

        Raises:
            ValueError: A seed is not a number from 0 to 2^63 - 1 or their number is wrong, the mask
                has a wrong shape or dtype or is all False, or another option was given.
        """
        rows = self._reset_rows(options)
        streams = self._streams(seed)
        super().reset(seed=int(seed) if isinstance(seed, int | np.integer) else None)
        with torch.no_grad():
            if rows is None or self.state is None:
                self.state, observation = self.environment.restart(streams)
                self._ended = self._zeros(torch.bool)
                self._return = self._zeros(self.environment.dtype)
            else:
                self._restart(rows, take(streams, rows))
                observation = self.environment.observe(self.state)
        return self._convert(observation), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advances all environments by one control interval.

        Args:
            actions: (num_envs, action), numpy or torch; clipped to [-1, 1]. Choices are integers.

        Raises:
            ValueError: The actions have another shape, something else than real numbers, a NaN,
                whose environment is named, or a choice that there is not.
            RuntimeError: The batch was not reset, or an ended environment was not (DISABLED).
        """
        if self.state is None:
            raise RuntimeError("step() before the first reset()")
        action = self._read_actions(actions)
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            first = int(self._ended.nonzero()[0])
            raise RuntimeError(f"environment {first} has ended; reset it with a reset_mask first")
        with torch.no_grad():
            return self._step(action)

    def _step(self, action: Tensor) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        waiting = None
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._ended.any():
            waiting = self._ended
        self.state, observation, reward, terminated, info = self.environment.step(
            self.state, action
        )
        self._return = self._return + reward
        truncated = self.state.interval >= self.environment.horizon
        stepped = torch.ones_like(terminated)
        if waiting is not None:
            rows = waiting.nonzero()[:, 0]
            observation = observation.index_copy(0, rows, self._restart(rows, None))
            reward = torch.where(waiting, 0.0, reward)
            terminated, truncated = terminated & ~waiting, truncated & ~waiting
            stepped = ~waiting
        ended = terminated | truncated
        if not ended.any():
            infos = self._masked(info, stepped)
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._masked(info, ~ended) | self._masked({"final_obs": observation}, ended)
            final = self._masked(info | self._statistics(), ended)
            infos |= {"final_info": final, "_final_info": self._convert(ended)}
            rows = ended.nonzero()[:, 0]
            observation = observation.index_copy(0, rows, self._restart(rows, None))
            ended = self._zeros(torch.bool)
        else:
            infos = self._masked(info, stepped) | self._masked(self._statistics(), ended)
        # A copy: whoever writes into the infos must not write into the batch.
        self._ended = ended.clone()
        return *map(self._convert, (observation, reward, terminated, truncated)), infos

    def _statistics(self) -> dict[str, Tensor]:
        """Returns copies of the returns and lengths of the episodes so far."""
        return {
            "episode_return": self._return.clone(),
            "episode_length": self.state.interval.clone(),
        }

    def action_masks(self) -> Any:
        """Returns which choices make sense in each environment, (num_envs, choices).

        Raises:
            RuntimeError: The batch was not reset, or its actions are not choices.
        """
        masks = None if self.state is None else self.environment.allowed_actions(self.state)
        if masks is None:
            raise RuntimeError("there are no masks before the first reset(), or of these actions")
        return self._convert(masks)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns one frame (height, width, 3) in uint8 an environment; None without the mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs render_mode='rgb_array' at make")
            return None
        if self.state is None:
            raise RuntimeError("render() before the first reset()")
        return tuple(self.environment.render(self.state, row) for row in range(self.num_envs))

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything that determines the future of the batch, as copies."""
        found = {
            **tensors(self.state, "state."),
            "ended": self._ended,
            "episode_return": self._return,
        }
        return {name: tensor.clone() for name, tensor in found.items()}

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned, for a batch of the same id, size and options.

        Raises:
            ValueError: A tensor is missing or has another shape.
        """
        with torch.no_grad():
            like, _ = self.environment.reset(0)
        self.state = from_tensors(like, found, "state.")
        self._ended = copied(found, "ended", self._ended)
        self._return = copied(found, "episode_return", self._return)

    def _restart(
        self, rows: Int64[Tensor, " rows"], streams: Stream | None
    ) -> Float[Tensor, "rows observation"]:
        """Starts an episode in some environments and returns their observations."""
        if streams is None:
            streams = take(self.state.stream, rows).next_episode()
        state, observation = self.environment.select(rows).restart(streams)
        self.state = put(self.state, rows, state)
        self._return = self._return.index_fill(0, rows, 0.0)
        self._ended = self._ended.index_fill(0, rows, False)
        return observation

    def _streams(self, seed: int | Sequence[int] | None) -> Stream:
        if seed is None and self.state is not None:
            return self.state.stream.next_episode()
        seeds = read_seeds(random_seed() if seed is None else seed, self.num_envs)
        return Stream.start(seeds.to(self.environment.device))

    def _reset_rows(self, options: dict[str, Any] | None) -> Int64[Tensor, " rows"] | None:
        check_reset_options(options, ("reset_mask",))
        if not options:
            return None
        mask = read_mask(options["reset_mask"], self.num_envs)
        return mask.nonzero()[:, 0].to(self.environment.device)

    def _read_actions(self, actions: Any) -> Tensor:
        environment = self.environment
        if not isinstance(environment.action_space, Box):
            choices = read_choices(actions, environment.action_space, self.num_envs)
            return choices.to(environment.device)
        action = read_actions(actions, self._action_shape, environment.dtype, environment.device)
        # One reduction tells in most cases that there is no NaN: a sum with one is NaN.
        if action.sum().isnan():
            bad = action.isnan().any(-1) & ~self._ended
            if bad.any():
                first = int(bad.nonzero()[0])
                raise ValueError(f"actions: environment {first} got NaN; allowed: numbers")
        return action

    def _convert(self, tensor: Tensor) -> Any:
        return tensor if self.output == "torch" else tensor.cpu().numpy()

    def _masked(self, values: dict[str, Tensor], mask: Bool[Tensor, " batch"]) -> dict[str, Any]:
        """Converts infos and adds the masks of their valid entries, as Gymnasium has them."""
        valid = self._convert(mask)
        infos = {key: self._convert(value) for key, value in values.items()}
        return {**infos, **{f"_{key}": valid for key in values}}

    def _zeros(self, dtype: torch.dtype) -> Tensor:
        return torch.zeros(self.num_envs, dtype=dtype, device=self.environment.device)


def _batch(single: Space[Any], num_envs: int) -> Space[Any]:
    """Returns the space of a batch; the bounds of a box are views of those of one environment.

    Gymnasium's would hold the bounds of every environment: more memory than the batch itself.
    """
    if not isinstance(single, Box):
        return batch_space(single, num_envs)
    space = batch_space(single, 1)
    assert isinstance(space, Box)
    space._shape = shape = (num_envs, *single.shape)
    for name in ("low", "high", "bounded_below", "bounded_above"):
        setattr(space, name, np.broadcast_to(getattr(single, name), shape))
    return space


def _mode(mode: Any) -> AutoresetMode:
    for member in AutoresetMode:
        if mode is member or (isinstance(mode, str) and mode == member.value):
            return member
    allowed = ", ".join(member.value for member in AutoresetMode)
    raise ValueError(f"autoreset_mode: got {reprlib.repr(mode)}; allowed: {allowed}")
