"""Planning by gradients through a differentiable model."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.planning.planner import Planner, check, check_whole
from separatrix.controllers.planning.sequences import Best
from separatrix.envs.core.environment import Environment


class GradientMPC(Planner):
    """Improves several sequences by Adam, with gradients through the model, and takes the best.

    The sequences are the last plan one step later, the zero action, and random ones, uniform in
    [-1, 1]. Each is clipped to [-1, 1] after every step, and its gradient to a norm. A gradient
    that is not finite moves nothing and touches no other sequence.

    Args:
        model: See `Planner`; its step must be differentiable.
        horizon: Steps of a plan.
        starts: Number of sequences of each environment, at least 2.
        iterations: Number of steps of Adam.
        learning_rate: Of Adam, in units of actions.
        max_gradient_norm: Largest norm of a sequence's gradient.
        discount: See `Planner`.
        warm_start: See `Planner`.
        seed: See `Planner`.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        model: Environment,
        *,
        horizon: int = 30,
        starts: int = 8,
        iterations: int = 10,
        learning_rate: float = 0.02,
        max_gradient_norm: float = 1.0,
        discount: float = 1.0,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model, horizon=horizon, discount=discount, warm_start=warm_start, seed=seed
        )
        if not model.differentiable:
            raise ValueError(
                f"model: got a {type(model.system).__name__}, which has no derivatives; allowed: "
                "differentiable models"
            )
        check_whole(starts=starts, iterations=iterations)
        check("starts", starts, starts >= 2, "an integer >= 2")
        check("learning_rate", learning_rate, learning_rate > 0, "a number > 0")
        check("max_gradient_norm", max_gradient_norm, max_gradient_norm > 0, "a number > 0")
        self.starts, self.iterations = starts, iterations
        self.learning_rate, self.max_gradient_norm = learning_rate, max_gradient_norm

    def search(
        self, state: Any, memory: Float[Tensor, "batch 1 horizon action"]
    ) -> tuple[Float[Tensor, "batch horizon action"], Float[Tensor, "batch 1 horizon action"]]:
        """Returns the best sequence ever evaluated, and keeps it."""
        shape = (len(memory), self.starts - 2, self.horizon, self.num_actions)
        drawn = memory.new_empty(shape).uniform_(-1.0, 1.0, generator=self.generator)
        actions = torch.cat((memory, torch.zeros_like(memory), drawn), 1)
        optimizer = torch.optim.Adam([actions], lr=self.learning_rate, maximize=True)
        best = Best.before(memory[:, 0])
        for _ in range(self.iterations):
            with torch.enable_grad():
                actions.requires_grad_()
                returns = self.returns(state, actions)
                (gradient,) = torch.autograd.grad(returns.sum(), actions)
            best = best.update(actions.detach(), returns.detach())
            actions.grad = self._clipped(gradient)
            optimizer.step()
            actions.detach().clamp_(-1.0, 1.0)
        actions = actions.detach()
        best = best.update(actions, self.returns(state, actions))
        return best.sequence, best.sequence[:, None]

    def _clipped(
        self, gradient: Float[Tensor, "batch start horizon action"]
    ) -> Float[Tensor, "batch start horizon action"]:
        """Limits the norm of each sequence's gradient; one that is not finite becomes zero."""
        norm = gradient.flatten(2).norm(dim=2)[:, :, None, None]
        factor = (self.max_gradient_norm / norm).clamp(max=1.0)
        return torch.where(norm.isfinite(), gradient * factor, 0.0)
