"""The Kuramoto-Sivashinsky environment beside controlgym's, at errors that are no larger."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from harness import Run
from spectral_numpy import NumpySolver, attractor, resample
from spectral_peers import Others
from spectral_timing import Ways, show, stepping, timed

import separatrix  # noqa: F401
from separatrix.envs.core.registration import find, make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.fluid.kuramoto_sivashinsky import kuramoto_sivashinsky, start
from separatrix.envs.steppers.spectral_system import FieldState, SpectralSystem

KS = "separatrix/KuramotoSivashinsky-v0"
LENGTH, POINTS, INTERVAL, HATS = 32 * math.pi, 256, 0.5, 8
SETTING: dict[str, Any] = {
    "task": "regulate",
    "length": LENGTH,
    "control_interval": INTERVAL,
    "actuators": tuple(15 / POINTS + i / HATS for i in range(HATS)),  # where controlgym's are
    "actuator_shape": "top_hat",
    "actuator_width": 0.1,
    "sensors": 10,
}
REACHED = 99 * 0.005
FINE_POINTS = 400
SUBSTEPS = (1, 2, 3, 4, 5, 6, 8, 10, 20, 40, 60, 70, 80, 100)
STATES = 8
BATCHES = (1, 16, 64, 256, 1024)
DTYPES = ("float32", "float64")


def ks_environment(batch: int, dtype: str, substeps: int, points: int = POINTS, **more: Any) -> Any:
    """The environment in controlgym's setting."""
    options = {**SETTING, "substeps": substeps, "points": points, **more}
    return make_environment(KS, batch, dtype=dtype, **options)


def shell(batch: int, dtype: str, substeps: int) -> Run:
    """A step through Gymnasium."""
    options = {**SETTING, "substeps": substeps, "points": POINTS, "dtype": dtype}
    options["max_episode_steps"] = 10**9  # no resets among the steps
    env: Any
    if batch == 1:
        env = gymnasium.make(KS, **options)
    else:
        env = gymnasium.make_vec(KS, num_envs=batch, **options)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    return lambda: env.step(action)


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of a difference over that of what is exact."""
    return float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean()))


def errors(others: Others) -> dict[str, Any]:
    """Measures errors of one control interval and chooses the settings that will be timed."""
    fields = attractor(LENGTH, POINTS, STATES)
    actions = np.random.default_rng(1).uniform(-1, 1, (STATES, HATS))
    actions -= actions.mean(1, keepdims=True)  # forces of mean zero: ours have no other
    actions /= np.abs(actions).max(1, keepdims=True)
    hats = ks_environment(1, "float64", 1).system.actuators[:, 0].numpy()

    def solved(duration: float, steps: int) -> np.ndarray:
        solver = NumpySolver(LENGTH, 2 * POINTS, duration / steps)
        doubled = resample(fields, 2 * POINTS), resample(actions @ hats, 2 * POINTS)
        return resample(solver(*doubled, steps), POINTS)

    def ours(points: int, dtype: str, substeps: int) -> np.ndarray:
        system = SpectralSystem(
            kuramoto_sivashinsky,
            {"length": LENGTH},
            start,
            torch.from_numpy(resample(hats, points))[:, None],
            points=points,
            num_envs=STATES,
            control_interval=INTERVAL,
            substeps=substeps,
            device=torch.device("cpu"),
            dtype=getattr(torch, dtype),
        )
        stream = Stream.start(torch.arange(STATES))
        field = torch.from_numpy(resample(fields, points))[:, None].to(system.dtype)
        state = FieldState(stream, torch.zeros_like(stream.seed), field)
        moved = system.advance(state, torch.from_numpy(actions).to(system.dtype))
        return resample(moved.field[:, 0].double().numpy(), POINTS)

    exact, reached = solved(INTERVAL, 2000), solved(REACHED, 1980)
    ways = [(POINTS, "float32"), (POINTS, "float64"), (FINE_POINTS, "float64")]
    table = {
        f"{points} points, {dtype}": {n: error(ours(points, dtype, n), exact) for n in SUBSTEPS}
        for points, dtype in ways
    }
    result: dict[str, Any] = {
        "reference_of_half_the_steps": error(solved(INTERVAL, 1000), exact),
        "ours": table,
    }
    settings = {"default": (find(KS).options["substeps"], POINTS)}
    theirs = others.ask(
        "controlgym", "advance", "controlgym", fields, actions=actions.tolist(), dtype="float64"
    )
    if theirs is not None:
        shipped, best = error(theirs, exact), error(theirs, reached)
        result["controlgym"] = {"as_shipped": shipped, "at_the_time_it_reaches": best}
        _, usual, more = table.values()
        settings["coarse"] = (next(n for n, e in usual.items() if e <= shipped), POINTS)
        settings["fine"] = (next(n for n, e in more.items() if e <= best), FINE_POINTS)
    print("\nrelative error after one control interval\ntime steps", end="")
    print("".join(f"{name:>22s}" for name in table))
    for n in SUBSTEPS:
        print(f"{n:10d}" + "".join(f"{column[n]:22.2e}" for column in table.values()))
    print(f"controlgym: {result.get('controlgym', 'missing')}\ntime steps, points: {settings}")
    return {**result, "settings": settings}


def agreement(others: Others) -> dict[str, float]:
    """Largest differences after a free control interval between ours and those of equal scheme."""
    environment = ks_environment(4, "float64", substeps=find(KS).options["substeps"])
    state, _ = environment.reset(0)
    system, fields = environment.system, state.field[:, 0].numpy()
    ours = stepping(environment)().state.field[:, 0].numpy()
    step = INTERVAL / system.substeps
    found = {"numpy": NumpySolver(LENGTH, POINTS, step)(fields, 0 * fields, system.substeps)}
    setting = {"length": LENGTH, "points": POINTS, "step": step, "substeps": system.substeps}
    theirs = others.ask("jax", "advance", "exponax_ks", fields, **setting, dtype="float64")
    if theirs is not None:
        found["exponax"] = theirs
    return {name: float(np.abs(values - ours).max()) for name, values in found.items()}


def ks(others: Others, rounds: int, duration: float) -> dict[str, Any]:
    """Times environments beside controlgym's."""
    result: dict[str, Any] = {"errors": errors(others), "agreement": agreement(others)}
    print(f"largest difference from ours, float64: {result['agreement']}")
    settings = result["errors"]["settings"]
    substeps, _ = settings["default"]
    setting = {
        "length": LENGTH,
        "points": POINTS,
        "step": INTERVAL / substeps,
        "substeps": substeps,
    }
    field = attractor(LENGTH, POINTS, 1)
    for dtype in DTYPES:
        columns = {}
        for batch in BATCHES:
            ways: Ways = {}
            for name, (count, points) in settings.items():
                if name == "fine" and dtype == "float32":
                    continue  # its error is beyond single precision
                environment = ks_environment(batch, dtype, count, points)
                ways[f"ours, {name} ({count})"] = stepping(environment), 1
                if name != "fine":
                    ways[f"ours in a shell, {name} ({count})"] = shell(batch, dtype, count), 1
            environment = ks_environment(batch, dtype, substeps, backend="torch")
            ways[f"torch ({substeps})"] = stepping(environment), 1
            fields = field.repeat(batch, 0).astype(dtype)
            solver = NumpySolver(LENGTH, POINTS, INTERVAL / substeps, dtype)
            ways[f"numpy ({substeps})"] = partial(solver, fields, 0 * fields, substeps), 1
            given = {**setting, "fields": field.tolist(), "batch": batch, "dtype": dtype}
            others.add(ways, f"exponax ({substeps})", "jax", "exponax_ks", **given)
            given = {"batch": 1, "dtype": "float64"}
            others.add(ways, "controlgym", "controlgym", "controlgym_step", **given)
            columns[batch] = timed(ways, batch, rounds, duration, over="controlgym")
        show(f"KS env steps/s, {dtype}", columns)
        result[dtype] = columns
    others.close()
    return result
