"""Classical control on a model: what a policy trained in it has to be compared with.

Planners need nothing of their own, for a surrogate is an environment: `ICEM(surrogate)` plans in
it, see `separatrix.controllers.planning`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.sindy_rl.surrogate import SurrogateEnvironment
from separatrix.controllers.controller import Controller
from separatrix.controllers.lqr import design


class LinearFeedback(Controller):
    """The law a = -K (observation - target), saturated to [-1, 1].

    Args:
        gain: K, in float64.
        target: Where the law does nothing.

    Attributes:
        gain: K, in float64.
    """

    def __init__(
        self, gain: Float[Tensor, "action observation"], target: Float[Tensor, " observation"]
    ) -> None:
        self.gain, self._target = gain, target

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns -K times the deviation, saturated; the state stays unread."""
        deviation = observation - self._target.to(observation)
        return -(deviation @ self.gain.T.to(observation)).clamp(-1.0, 1.0)


def model_lqr(
    environment: SurrogateEnvironment,
    observation: Float[Tensor, " observation"],
    *,
    control_weight: float = 0.1,
) -> LinearFeedback:
    """Designs the LQR on the linearization of a model, see `separatrix.controllers.lqr.LQR`.

    The model is linearized at an observation and zero action, and taken to rest there: what it
    says of a drift at that point is error of the fit. The cost is that of `LQR`: the square of the
    deviation of the observation, and `control_weight` times that of the action. E. Kaiser, J. N.
    Kutz and S. L. Brunton, Proc. R. Soc. A 474 (2018) 20180335, design controllers on sparse models
    likewise.

    Args:
        environment: The surrogate.
        observation: What the real environment shows on target. An angle in radians among its
            components should be far from where it jumps.
        control_weight: Weight of the squared action.

    Raises:
        ValueError: The observation has the wrong size or is not finite, the weight is not
            positive, the model has no finite derivatives there, or no linear law stabilizes it.
    """
    size, actions = environment.observation_space.shape[0], environment.action_shape[0]
    if observation.shape != (size,) or not observation.isfinite().all():
        got = f"shape {tuple(observation.shape)}" if observation.ndim != 1 else observation.tolist()
        raise ValueError(f"observation: got {got}; allowed: {size} finite numbers")
    if not control_weight > 0:
        raise ValueError(f"control_weight: got {control_weight!r}; allowed: a number > 0")
    target = observation.detach().to(environment.device, environment.dtype)
    a, b = linear_model(environment, target, target.new_zeros(actions))
    try:
        gain, _ = design(a, b, np.eye(size), control_weight)
        # A mode that the actions reach by a rounding error alone may pass the Riccati equation.
        radius = np.abs(np.linalg.eigvals(a - b @ gain)).max()
        if not radius < 1:
            raise ValueError(f"the spectral radius of the closed loop is {radius:.6g}")
    except ValueError as error:
        growth = np.sort(np.abs(np.linalg.eigvals(a)))[::-1]
        raise ValueError(
            f"no linear law stabilizes the model at observation {observation.tolist()} ({error}): "
            f"of its modes, which grow by {np.array2string(growth, precision=4)} a step, the "
            "actions do not reach one that does not decay, such as the phase of a drive. Collect "
            "data in which the actions vary near the target, take a lower threshold, or plan "
            "instead: ICEM(surrogate)"
        ) from None
    return LinearFeedback(torch.from_numpy(gain), target)


def linear_model(
    environment: SurrogateEnvironment,
    observation: Float[Tensor, " observation"],
    action: Float[Tensor, " action"],
) -> tuple[np.ndarray, np.ndarray]:
    """Differentiates a surrogate's model, in its own dtype, as networks have one alone.

    Args:
        environment: The surrogate.
        observation: Where.
        action: Likewise.

    Returns:
        A and B of deviation_{k+1} = A deviation_k + B action_k, in float64.

    Raises:
        ValueError: They are not finite.
    """

    def following(values: Tensor, control: Tensor) -> Tensor:
        return environment.dynamics.forecast(values[None], control[None]).next_observation[0]

    place = environment.device, environment.dtype
    point = observation.to(*place), action.to(*place)
    a, b = torch.autograd.functional.jacobian(following, point)
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError(
            f"observation: got {observation.tolist()}, where the model has no finite derivatives; "
            "allowed: an observation near the data"
        )
    return a.double().cpu().numpy(), b.double().cpu().numpy()
