"""Actuators that change by a limited amount in a step."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.wrappers.wrapped_environment import RememberingEnvironment, WrappedState


class LimitedAction(RememberingEnvironment):
    """See `separatrix.envs.core.wrappers.RateLimit`; remembers the action applied last."""

    def __init__(self, inner: Environment, largest_change: float) -> None:
        require_continuous(inner, type(self).__name__)
        super().__init__(inner)
        self._largest_change = largest_change

    def initial_memory(
        self, observation: Float[Tensor, "batch observation"]
    ) -> Float[Tensor, "batch action"]:
        """Returns the action applied before the start, which is zero."""
        shape = (observation.shape[0], *self.action_shape)
        return observation.new_zeros(shape, dtype=self.dtype)

    def step(self, state: WrappedState, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval."""
        # Clipped first: the actuator does not run ahead of what it can reach.
        wanted = action.to(self.dtype).clamp(-1.0, 1.0)
        low, high = state.memory - self._largest_change, state.memory + self._largest_change
        applied = wanted.clamp(low, high)
        result = self.inner.step(state.inner, applied)
        return result._replace(state=WrappedState(result.state, applied))
