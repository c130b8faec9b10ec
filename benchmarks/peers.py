"""The Lorenz system over one control interval by other solvers, from a batch to a batch.

Each takes ten steps of equal length in float32, compiled where the library can be. torchdiffeq has
the classical RK4; torchode and diffrax do not, and take Tsit5, of six new slopes a step for four.
A library that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Way = tuple[Callable[[], Any], Callable[[], np.ndarray]]
"""What to time, and what reads its result."""


def torchdiffeq(values: Tensor, interval: float, steps: int, field: Any) -> Way:
    """`odeint` with RK4 at a fixed step."""
    odeint = importlib.import_module("torchdiffeq").odeint
    times = torch.tensor([0.0, interval])
    options = {"step_size": interval / steps}

    def run() -> Any:
        return odeint(lambda t, x: field(x), values, times, method="rk4", options=options)[-1]

    return run, lambda: run().numpy()


def torchode(values: Tensor, interval: float, steps: int, field: Any) -> Way:
    """Tsit5 with a fixed step; compiling the solver compiles nothing, so `solve` is."""
    to = importlib.import_module("torchode")
    term = to.ODETerm(lambda t, x: field(x))
    controller = to.FixedStepController()
    solver = to.AutoDiffAdjoint(to.Tsit5(term=term), controller)
    count = len(values)
    times = torch.tensor([[0.0, interval]]).repeat(count, 1)
    problem = to.InitialValueProblem(y0=values, t_eval=times)
    first = torch.full((count,), interval / steps)
    torch._dynamo.reset()  # each size compiles anew, and only so often without falling back
    solve = torch.compile(solver.solve)

    def run() -> Any:
        return solve(problem, dt0=first)

    return run, lambda: run().ys[:, -1].numpy()


def diffrax(values: Tensor, interval: float, steps: int, field: Any) -> Way:
    """`diffeqsolve` with Tsit5 at a constant step, under jit, on the CPU.

    The batch is one state, as all step alike: a third of the time of vmap. `ForwardMode`
    halves it again, as it keeps nothing for a reverse pass.
    """
    jax = importlib.import_module("jax")
    dfx = importlib.import_module("diffrax")

    def advance(start: Any) -> Any:
        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, x, _: jax.numpy.stack(field.components(*x.T), -1)),
            dfx.Tsit5(),
            0.0,
            interval,
            interval / steps,
            start,
            stepsize_controller=dfx.ConstantStepSize(),
            saveat=dfx.SaveAt(t1=True),
            adjoint=dfx.ForwardMode(),
            max_steps=steps + 1,
        )
        return solution.ys[0]

    solve = jax.jit(advance)
    start = jax.numpy.asarray(values.numpy())
    return lambda: solve(start).block_until_ready(), lambda: np.array(solve(start))


class LorenzField:
    """The free Lorenz system for libraries that take any array.

    Args:
        sigma, rho, beta: Parameters.
    """

    def __init__(self, sigma: float, rho: float, beta: float) -> None:
        self.sigma, self.rho, self.beta = sigma, rho, beta

    def components(self, x: Any, y: Any, z: Any) -> list[Any]:
        """The time derivatives of the three components."""
        return [self.sigma * (y - x), x * (self.rho - z) - y, x * y - self.beta * z]

    def __call__(self, state: Tensor) -> Tensor:
        """The time derivative of a batch of states, (batch, 3)."""
        return torch.stack(self.components(*state.unbind(-1)), -1)


PEERS = {"torchdiffeq": torchdiffeq, "torchode": torchode, "diffrax": diffrax}


def installed() -> dict[str, Callable[..., Way]]:
    """The peers that can be imported."""
    return {name: way for name, way in PEERS.items() if importlib.util.find_spec(name)}
