"""Keeping one diverged environment from spoiling the gradients of all."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class GradientGuard:
    """Zeroes the gradients of diverged environments at the inputs of a step.

    Backward through a step that overflowed gives NaN, and a policy shared by the batch would sum
    it with the gradients of its neighbours. Inputs are passed through the guard before the step,
    and the mask is given once it is known, before any gradient flows.
    """

    inside: Bool[Tensor, " batch"]

    def __call__(self, tensor: Float[Tensor, ...], batch_axis: int = 0) -> Float[Tensor, ...]:
        """Returns the tensor, whose gradient will be zero where the step diverged.

        Args:
            tensor: An input with one row, or column, an environment.
            batch_axis: The axis of environments.
        """
        if not tensor.requires_grad:
            return tensor
        shape = [1] * tensor.ndim
        shape[batch_axis] = -1

        def keep(gradient: Tensor | None) -> Tensor | None:
            if gradient is None:  # nothing downstream asked for one
                return None
            return torch.where(self.inside.view(shape), gradient, 0.0)

        guarded = tensor.view_as(tensor)
        guarded.register_hook(keep)
        return guarded
