"""What all fused steppers share: a kernel forward, torch operations backward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from separatrix.envs.steppers.torch_backend import StepResult, TorchStepper


class FusedStepper(ABC):
    """Advances a batch by one kernel call; gradients come from torch operations.

    Attributes:
        reference: The torch stepper of the same program.
    """

    reference: TorchStepper

    @property
    def differentiable(self) -> TorchStepper:
        """What gradients come from: the reference, or something faster with its derivatives."""
        return self.reference

    @abstractmethod
    def _observe(self, values: Tensor, parameters: Tensor) -> Tensor:
        """Observes by the kernel, without gradients."""

    @abstractmethod
    def _step(self, values: Tensor, action: Tensor, parameters: Tensor) -> StepResult:
        """Advances by the kernel, without gradients."""

    def observe(
        self, values: Float[Tensor, "batch state"], parameters: Float[Tensor, "parameter rows"]
    ) -> Float[Tensor, "batch observation"]:
        """Observes states without advancing them, in the kernel's own arithmetic."""
        found: Tensor = recomputed(self._observe, self.reference.observe, values, parameters)
        return found

    def __call__(
        self,
        values: Float[Tensor, "batch state"],
        action: Float[Tensor, "batch action"],
        parameters: Float[Tensor, "parameter rows"],
    ) -> StepResult:
        """Advances every environment by one control interval, as `TorchStepper` does."""

        # Not before it is asked for: making what gradients come from may compile a kernel.
        def reference(*inputs: Tensor) -> StepResult:
            return self.differentiable(*inputs)

        return StepResult(*recomputed(self._step, reference, values, action, parameters))


def recomputed(fused: Any, reference: Any, *inputs: Float[Tensor, ...]) -> Any:
    """Calls a function whose gradients, if any are asked for, come from another.

    Args:
        fused: Takes the inputs; gradients need not flow through it.
        reference: The same in torch operations. It is called anew in the backward pass, so that
            nothing but the inputs is remembered until then.
        inputs: Tensors.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        found = _Differentiable.apply(fused, reference, *inputs)
        return found[0] if len(found) == 1 else found
    return fused(*inputs)


class _Differentiable(torch.autograd.Function):
    """The kernel forward, torch backward: asking for a gradient changes no trajectory."""

    @staticmethod
    def forward(ctx: Any, fused: Any, reference: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.reference = reference
        ctx.save_for_backward(*inputs)
        # What nobody used gets None: a zero would be NaN after, say, the infinite slope of sqrt(0).
        ctx.set_materialize_grads(False)
        results = _tuple(fused(*inputs))
        ctx.mark_non_differentiable(*(r for r in results if not r.is_floating_point()))
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = [
            tensor.detach().requires_grad_(needed)
            for tensor, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[2:], strict=True)
        ]
        with torch.enable_grad():
            results = _tuple(ctx.reference(*inputs))
        pairs = [
            (result, gradient)
            for result, gradient in zip(results, gradients, strict=True)
            if gradient is not None and result.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [result for result, _ in pairs],
                [tensor for tensor in inputs if tensor.requires_grad],
                [gradient for _, gradient in pairs],
                allow_unused=True,
            )
        )
        return (None, None, *(next(found) if tensor.requires_grad else None for tensor in inputs))


def _tuple(results: Tensor | StepResult) -> tuple[Tensor, ...]:
    return (results,) if isinstance(results, Tensor) else tuple(results)
