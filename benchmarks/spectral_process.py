"""Answers what spectral_peers.py asks, in the virtual environment of the library that is asked.

It needs numpy and that library alone. What is timed runs as often at one asking as takes long
beside the asking.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

PACKAGES = {
    "controlgym": ("controlgym", "gymnasium", "numpy"),
    "jax": ("exponax", "jax-cfd", "jax"),
    "hydrogym": ("hydrogym", "gymnax", "jax"),
}
DURATION = 0.05
"""Seconds that the calls of one asking should take."""

Function = Callable[[Any], Any]
"""Advances a batch of fields (batch, *grid)."""


def controlgym(actions: Any) -> Function:
    """The environment as shipped, one after the other from given fields: it has no batches."""
    import controlgym as package

    env = package.make("kuramoto_sivashinsky", seed=0)

    def advance(fields: Any) -> Any:
        found = []
        for field, action in zip(fields, actions, strict=True):
            env.reset(state=field)
            env.step(np.array(action))
            found.append(env.state)
        return np.array(found)

    return advance


def controlgym_step() -> Function:
    """Its step alone."""
    import controlgym as package

    env = package.make("kuramoto_sivashinsky", seed=0)
    env.reset()
    action = np.zeros(env.n_action)
    return lambda fields: env.step(action)


def exponax_ks(length: float, points: int, step: float, substeps: int) -> Function:
    """ETDRK4 and the rule of two thirds, without forces."""
    import exponax as ex

    make = ex.stepper.KuramotoSivashinskyConservative
    solve = ex.repeat(make(1, length, points, step, order=4), substeps)
    return _compiled(lambda field: solve(field[None])[0])


def exponax_flow(
    length: float, points: int, step: float, substeps: int, viscosity: float
) -> Function:
    """ETDRK4 of the vorticity, the rule of two thirds, and the forcing of Kolmogorov."""
    import exponax as ex

    make = ex.stepper.KolmogorovFlowVorticity
    # Its stream function has the other sign: so it is our flow, else its mirror image.
    options = {"diffusivity": viscosity, "drag": 0.0, "convection_scale": -1.0, "order": 4}
    stepper = make(2, length, points, step, **options)
    solve = ex.repeat(stepper, substeps)
    return _compiled(lambda field: solve(field[None])[0])


def jax_cfd_flow(
    length: float, points: int, step: float, substeps: int, viscosity: float
) -> Function:
    """Its spectral solver: five explicit stages of order 4, with Crank-Nicolson for viscosity."""
    import jax
    import jax_cfd.base.funcutils as funcutils
    from jax_cfd.base import forcings, grids
    from jax_cfd.spectral import equations, time_stepping

    grid = grids.Grid((points, points), domain=((0, length), (0, length)))
    equation = equations.NavierStokes2D(
        viscosity,
        grid,
        forcing_fn=lambda grid: forcings.kolmogorov_forcing(grid, k=4, offsets=((0, 0), (0, 0))),
    )
    solve = funcutils.repeated(time_stepping.crank_nicolson_rk4(equation, step), substeps)
    return _compiled(lambda field: jax.numpy.fft.irfftn(solve(jax.numpy.fft.rfftn(field))))


def hydrogym_flow(step: float) -> Function:
    """A step of its environment, always of 10 units of time, here by our time steps."""
    import jax
    from hydrogym.jax.envs.kolmogorov import KolmogorovFlow

    env = KolmogorovFlow(env_config={"dt": step})
    parameters, key = env.default_params, jax.random.PRNGKey(0)
    _, state = env.reset_env(key, parameters)
    action = jax.numpy.zeros(4)
    advance = jax.jit(lambda state: env.step_env(key, state, action, parameters)[:3])
    return lambda fields: jax.block_until_ready(advance(state))


def _compiled(solve: Function) -> Function:
    """Returns a solver of one field as one of batches, compiled, that waits for its result."""
    import jax

    advance = jax.jit(jax.vmap(solve))
    return lambda fields: advance(fields).block_until_ready()


KINDS: dict[str, Callable[..., Function]] = {
    "controlgym": controlgym,
    "controlgym_step": controlgym_step,
    "exponax_ks": exponax_ks,
    "exponax_flow": exponax_flow,
    "jax_cfd_flow": jax_cfd_flow,
    "hydrogym_flow": hydrogym_flow,
}


class Server:
    """What runs in the peer's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made: list[Callable[[], Any]] = []

    def answer(self, request: dict[str, Any]) -> Any:
        """Does what a line asks for."""
        if "versions" in request:
            return {package: metadata.version(package) for package in PACKAGES[self.name]}
        if "run" in request:
            return self.made[request["run"]]()
        if "advance" in request:
            fields, function = self._prepare(request.pop("advance"), request)
            return np.asarray(function(fields)).tolist()
        kind, batch = request.pop("make"), request.pop("batch")
        fields, function = self._prepare(kind, request)
        fields = fields.repeat(batch, 0)
        function(fields)
        begin = time.perf_counter()
        function(fields)
        calls = max(1, int(DURATION / (time.perf_counter() - begin)))

        def run() -> None:
            for _ in range(calls):
                function(fields)

        self.made.append(run)
        return len(self.made) - 1, calls

    def _prepare(self, kind: str, setting: dict[str, Any]) -> tuple[Any, Function]:
        """Returns the fields that are asked about, on the side of the library, and the solver."""
        fields = np.array(setting.pop("fields", [0.0]))
        function = KINDS[kind](**setting)
        if self.name == "controlgym":
            return fields, function
        import jax

        return jax.numpy.asarray(fields), function


def serve(name: str, threads: int) -> None:
    """Answers line after line, with what libraries print kept apart."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(name)
    for line in sys.stdin:
        try:
            content = {"value": server.answer(json.loads(line))}
        except Exception as error:
            traceback.print_exc()
            content = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(content) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
