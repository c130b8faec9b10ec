"""Jumps at the start of a sub-step: of a definition whose result is known."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.functions import where
from separatrix.envs.steppers.ode import OdeDefinition, ode
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem
from separatrix.envs.steppers.symbolic import trace

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KERNEL = "triton" if INTERPRETED else "numba"
backends = pytest.mark.parametrize("backend", ["torch", KERNEL])
SUBSTEPS, INTERVAL = 4, 0.4


class Anywhere:
    """Tests set the states themselves."""

    def sample(self, stream: Any) -> Any:
        raise TypeError("no start")


def _pay_in(x, saved, u, *, rate, gift):  # type: ignore[no-untyped-def]
    """Adds what is saved, and a gift to those who have little; counts in `saved`."""
    return x + saved + where(x < 1, gift, 0), saved + u


@ode("x saved", "u", start=Anywhere(), box=(-1e3, 1e3), jump=_pay_in)
def account(x, saved, u, *, rate=-0.5, gift=0.25):  # type: ignore[no-untyped-def]
    return rate * x, 0


def make(definition: OdeDefinition, backend: str, rows: int, **parameters: Any) -> OdeSystem:
    return OdeSystem(
        definition,
        parameters,
        num_envs=rows,
        control_interval=INTERVAL,
        substeps=SUBSTEPS,
        device=torch.device("cpu"),
        dtype=torch.float64,
        backend=backend,
    )


def state_of(values: Tensor) -> OdeState:
    stream = Stream.start(torch.arange(len(values)))
    return OdeState(stream, torch.zeros(len(values), dtype=torch.int64), values)


def expected(values: Tensor, control: Tensor, rate: Tensor, gift: float) -> Tensor:
    """Four jumps, and between them what RK4 makes of exponential growth."""
    x, saved = values.unbind(1)
    z = rate * INTERVAL / SUBSTEPS
    growth = 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24
    for _ in range(SUBSTEPS):
        x = (x + saved + gift * (x < 1)) * growth
        saved = saved + control[:, 0]
    return torch.stack((x, saved), 1)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Values on both sides of the threshold, controls and rates of 70 accounts."""
    generator = torch.Generator().manual_seed(3)
    values = 2 * torch.rand((70, 2), generator=generator, dtype=torch.float64)
    control = torch.randn((70, 1), generator=generator, dtype=torch.float64)
    return values, control, -torch.rand(70, generator=generator, dtype=torch.float64)


@backends
def test_a_jump_before_every_substep(backend: str) -> None:
    values, control, rate = batch()
    system = make(account, backend, 70, rate=rate)
    found = system.advance(state_of(values), control).values
    assert 0 < int((values[:, 0] < 1).sum()) < 70
    torch.testing.assert_close(found, expected(values, control, rate, 0.25), rtol=1e-14, atol=1e-14)


@backends
def test_gradients_pass_through_jumps(backend: str) -> None:
    values, control, rate = (tensor.requires_grad_() for tensor in batch())
    system = make(account, backend, 70).with_parameters({"rate": rate}, 70)
    found = system.advance(state_of(values), control).values.square().sum()
    reference = expected(values, control, rate, 0.25).square().sum()
    ours = torch.autograd.grad(found, (values, control, rate))
    for got, wanted in zip(
        ours, torch.autograd.grad(reference, (values, control, rate)), strict=True
    ):
        assert wanted.abs().min() > 0
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_a_jump_of_the_wrong_length() -> None:
    def lost(x, saved, u, *, rate, gift):  # type: ignore[no-untyped-def]
        return (x,)

    @ode("x saved", "u", start=Anywhere(), box=(-1e3, 1e3), jump=lost)
    def short(x, saved, u, *, rate=-0.5, gift=0.25):  # type: ignore[no-untyped-def]
        return rate * x, 0

    with pytest.raises(ValueError, match="lost returns 1 values for 2 states"):
        trace(short)
