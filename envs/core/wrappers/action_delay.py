"""Actions that take effect some steps after they were given."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.wrappers.wrapped_environment import RememberingEnvironment, WrappedState


class DelayedAction(RememberingEnvironment):
    """See `separatrix.envs.core.wrappers.ActionDelay`; remembers the actions on their way."""

    def __init__(self, inner: Environment, steps: int) -> None:
        require_continuous(inner, type(self).__name__)
        super().__init__(inner)
        self._steps = steps

    def initial_memory(
        self, observation: Float[Tensor, "batch observation"]
    ) -> Float[Tensor, "batch steps action"]:
        """Returns the actions of before the start, which are zero."""
        shape = (observation.shape[0], self._steps, *self.action_shape)
        return observation.new_zeros(shape, dtype=self.dtype)

    def step(self, state: WrappedState, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval."""
        queue = torch.cat((state.memory, action[:, None].to(self.dtype)), 1)
        result = self.inner.step(state.inner, queue[:, 0])
        return result._replace(state=WrappedState(result.state, queue[:, 1:]))
