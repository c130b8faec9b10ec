"""Normalisation of observations and rewards in every autoreset mode, without leaving the device.

Gymnasium's own wrappers of these names take numpy arrays only, and that of observations takes one
autoreset mode and no partial resets. These take whatever a batch hands out, arrays or tensors:

    envs = gymnasium.make_vec("separatrix/Lorenz-v0", 4096, output="torch", device="cuda")
    envs = NormalizeReward(NormalizeObservation(envs))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.core.state import copied


class RunningMoments:
    """Mean and variance of all values so far, in float64.

    Batches are merged with the formula of Chan, Golub and LeVeque (1979), Updating Formulae and a
    Pairwise Algorithm for Computing Sample Variances. One ten-thousandth of a value of mean 0 and
    variance 1 stands at the start, as in Gymnasium.

    Args:
        shape: Of one value.

    Attributes:
        mean: Mean of each component.
        variance: Variance of each component.
        count: Number of values.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self.variance = torch.ones(shape, dtype=torch.float64)
        self.count = torch.tensor(1e-4, dtype=torch.float64)

    def update(self, values: Float[Tensor, "batch ..."], rows: Bool[Tensor, " batch"]) -> None:
        """Adds the values of some rows; the moments move to their device."""
        self.mean, self.variance, self.count = (
            moment.to(values.device) for moment in (self.mean, self.variance, self.count)
        )
        # Weights, not a selection: its size would have to be known on the host.
        weights = rows.view(-1, *[1] * (values.ndim - 1)).double()
        number, total = rows.sum(), self.count + rows.sum()
        mean = (values * weights).sum(0) / number.clamp(min=1)
        squares = ((values - mean).square() * weights).sum(0)
        difference = mean - self.mean
        squares = squares + difference.square() * self.count * number / total
        self.variance = (self.variance * self.count + squares) / total
        self.mean = self.mean + difference * number / total
        self.count = total

    def state_dict(self) -> dict[str, Tensor]:
        """Returns copies of the moments."""
        found = {"mean": self.mean, "variance": self.variance, "count": self.count}
        return {name: moment.clone() for name, moment in found.items()}

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            ValueError: A moment is missing or has another shape.
        """
        self.mean = copied(found, "mean", self.mean)
        self.variance = copied(found, "variance", self.variance)
        self.count = copied(found, "count", self.count)


class _Normalization(VectorWrapper[Any, Any, Any, Any, Any]):
    """What both have in common: moments, which can be frozen, and limits.

    Attributes:
        moments: What is normalised with.
        update_running_mean: Whether the moments still change; False for evaluation.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], shape: tuple[int, ...], epsilon: float, clip: float
    ) -> None:
        super().__init__(env)
        for name, value in (("epsilon", epsilon), ("clip", clip)):
            if not value > 0:
                raise ValueError(f"{name}: got {value!r}; allowed: a number > 0")
        self.moments, self.update_running_mean = RunningMoments(shape), True
        self._epsilon, self._clip = epsilon, clip

    def _scaled(self, values: Any, centre: Tensor | float) -> Any:
        """Returns normalised values of the kind and dtype of those given."""
        given = torch.as_tensor(values)
        deviation = (self.moments.variance.to(given.device) + self._epsilon).sqrt()
        scaled = ((given - centre) / deviation).clamp(-self._clip, self._clip).to(given.dtype)
        return scaled if isinstance(values, Tensor) else scaled.numpy()


class NormalizeObservation(_Normalization):
    """Shifts and scales every component of the observations to mean 0 and variance 1.

    All observations handed out count, those of `reset` and `step`, and are normalised with the
    moments that include them; `final_obs` is normalised and does not count.

    Args:
        env: The vector environment; its observations are arrays or tensors.
        epsilon: Added to the variance.
        clip: Largest magnitude of what is returned; may be infinite.

    Raises:
        ValueError: A number is not positive.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], epsilon: float = 1e-8, clip: float = 10.0
    ) -> None:
        space: Any = env.single_observation_space
        super().__init__(env, space.shape, epsilon, clip)
        self.single_observation_space = Box(-clip, clip, space.shape, space.dtype)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts episodes; with a `reset_mask` only the new observations count."""
        rows = (options or {}).get("reset_mask")
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._normalized(observation, rows), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advances all environments."""
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        observation = self._normalized(observation, None)
        if "final_obs" in infos:
            infos = infos | {"final_obs": self._centred(infos["final_obs"])}
        return observation, reward, terminated, truncated, infos

    def _normalized(self, observation: Any, rows: Any) -> Any:
        given = torch.as_tensor(observation)
        if self.update_running_mean:
            counted = given.new_ones(len(given), dtype=torch.bool)
            if rows is not None:
                counted = torch.as_tensor(rows).to(given.device)
            self.moments.update(given, counted)
        return self._centred(observation)

    def _centred(self, observation: Any) -> Any:
        return self._scaled(observation, self.moments.mean.to(torch.as_tensor(observation).device))

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the moments, for checkpoints; the environment's state is its own affair."""
        return self.moments.state_dict()

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned; see `RunningMoments.load_state_dict`."""
        self.moments.load_state_dict(found)


class NormalizeReward(_Normalization):
    """Scales rewards so that the discounted return of the episode so far has the variance 1.

    Engstrom et al. (2020), Implementation Matters in Deep Policy Gradients, section 3.
    `episode_return` in the infos stays the sum of what the environment gave.

    Args:
        env: The vector environment; its rewards are arrays or tensors.
        gamma: Discount of a step.
        epsilon: Added to the variance.
        clip: Largest magnitude of what is returned; may be infinite.

    Raises:
        ValueError: A number is not positive, or the discount is above 1.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        gamma: float = 0.99,
        epsilon: float = 1e-8,
        clip: float = 10.0,
    ) -> None:
        super().__init__(env, (), epsilon, clip)
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma: got {gamma!r}; allowed: a number from 0 to 1")
        self._gamma = gamma
        self._return = torch.zeros(self.num_envs, dtype=torch.float64)
        self._waiting = torch.zeros(self.num_envs, dtype=torch.bool)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts episodes, whose returns start at zero."""
        rows = (options or {}).get("reset_mask")
        result = self.env.reset(seed=seed, options=options)
        kept = ~torch.as_tensor(True if rows is None else rows).to(self._return.device)
        self._return, self._waiting = self._return * kept, self._waiting & kept
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advances all environments."""
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        given = torch.as_tensor(reward)
        waiting = self._waiting.to(given.device)
        self._return = self._return.to(given.device) * self._gamma + given
        if self.update_running_mean:
            self.moments.update(self._return, ~waiting)
        ended = torch.as_tensor(terminated) | torch.as_tensor(truncated)
        self._return = torch.where(ended | waiting, 0.0, self._return)
        if self.env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            self._waiting = ended  # the next step starts their episodes and is none itself
        return observation, self._scaled(reward, 0.0), terminated, truncated, infos

    def state_dict(self) -> dict[str, Tensor]:
        """Returns moments and returns so far, for checkpoints beside the environment's state."""
        own = {"return": self._return.clone(), "waiting": self._waiting.clone()}
        return self.moments.state_dict() | own

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            ValueError: A tensor is missing or has another shape.
        """
        self.moments.load_state_dict(found)
        self._return = copied(found, "return", self._return)
        self._waiting = copied(found, "waiting", self._waiting)
