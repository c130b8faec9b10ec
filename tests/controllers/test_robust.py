"""H2 and H-infinity controllers against Riccati equations, LQG, and the frequency response."""

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers import robust
from separatrix.controllers.lqg import LQG
from separatrix.controllers.output_feedback import OutputFeedback
from separatrix.controllers.robust import H2, HInfinity, Matrices, close_loop, tustin
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ActionDelay, PartialObservation

pytest.importorskip("slycot", reason="H2 and H-infinity design need the extra `robust`")

NOISE = {"process_noise": 1e-6, "measurement_noise": 1e-6}
PROCESS, MEASUREMENT = 1e-6, 1e-6


def environment_of(name: str, num_envs: int = 1, **options: Any) -> Any:
    return make_environment(name, num_envs, dtype="float64", **options)


def matrices(controller: OutputFeedback) -> Matrices:
    found = (controller._a, controller._b, controller._c, controller._d)
    return Matrices(*(matrix[0].numpy() for matrix in found))


def plant(environment: Any) -> Matrices:
    """The generalized plant of a step, written out once more."""
    model = linearize(environment)
    seen = linearize(environment.unwrapped).c[0].numpy()
    a, b, c = (matrix[0].numpy() for matrix in (model.a, model.b, model.c))
    (n, m), p = b.shape, len(c)
    physics = seen.shape[1]
    weight = np.zeros((len(seen), n))
    weight[:, :physics] = seen
    disturbance = np.zeros((n, physics))
    disturbance[:physics] = np.sqrt(PROCESS) * np.eye(physics)
    d = np.zeros((len(seen) + m + p, physics + p + m))
    d[len(seen) : len(seen) + m, -m:] = np.sqrt(0.1) * np.eye(m)
    d[-p:, physics : physics + p] = np.sqrt(MEASUREMENT) * np.eye(p)
    return Matrices(
        a,
        np.concatenate((disturbance, np.zeros((n, p)), b), 1),
        np.concatenate((weight, np.zeros((m, n)), c)),
        d,
    )


def response(system: Matrices, angles: np.ndarray) -> np.ndarray:
    """The transfer function at points of the unit circle."""
    z = np.exp(1j * angles)[:, None, None] * np.eye(len(system.a)) - system.a
    return system.c @ np.linalg.solve(z, system.b.astype(complex)[None]) + system.d


def largest(system: Matrices) -> float:
    """The H-infinity norm, from a dense sweep of frequencies."""
    angles = np.concatenate((np.linspace(0, np.pi, 4001), np.geomspace(1e-6, 0.1, 2000)))
    return float(np.linalg.norm(response(system, angles), 2, axis=(1, 2)).max())


def mean_square(system: Matrices) -> float:
    """The squared H2 norm in discrete time: the mean square of the output under white noise."""
    assert np.abs(np.linalg.eigvals(system.a)).max() < 1
    covariance = scipy.linalg.solve_discrete_lyapunov(system.a, system.b @ system.b.T)
    return float(np.trace(system.c @ covariance @ system.c.T + system.d @ system.d.T))


@pytest.mark.parametrize("name", ["Lorenz-v0", "CartPoleSwingUp-v0"])
def test_h2_is_lqg_of_the_continuous_time_model(name: str) -> None:
    environment = environment_of(name)
    model, interval = linearize(environment, time="continuous"), environment.control_interval
    a, b, c = (matrix[0].numpy() for matrix in (model.a, model.b, model.c))
    process, measurement = PROCESS / interval, MEASUREMENT * interval
    riccati = scipy.linalg.solve_continuous_are
    gain = b.T @ riccati(a, b, c.T @ c, 0.1 * np.eye(1)) / 0.1
    error = riccati(a.T, c.T, process * np.eye(len(a)), measurement * np.eye(len(c)))
    filter_gain = error @ c.T / measurement
    expected = tustin(
        Matrices(a - b @ gain - filter_gain @ c, filter_gain, -gain, np.zeros((1, len(c)))),
        interval,
    )
    angles = np.linspace(0.01, np.pi, 200)
    found, wanted = (response(k, angles) for k in (matrices(H2(environment, **NOISE)), expected))
    assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_h2_tends_to_lqg_as_the_interval_shrinks_and_is_never_better() -> None:
    excess = []
    for interval in (0.05, 0.0125, 0.003125):
        # The same noise in continuous time, whatever the interval.
        environment = environment_of("Lorenz-v0", control_interval=interval, substeps=4)
        noises = {"process_noise": PROCESS, "measurement_noise": MEASUREMENT}
        costs = [
            mean_square(close_loop(plant(environment), matrices(kind(environment, **noises))))
            for kind in (LQG, H2)
        ]
        excess.append(costs[1] / costs[0] - 1)
    assert min(excess) > 0
    assert excess[2] < excess[1] / 3 < excess[0] / 9  # of first order in the interval


def test_the_h2_norm_of_lqg_is_its_mean_cost() -> None:
    environment = environment_of("Lorenz-v0", wrap=[PartialObservation([0])])
    controller = LQG(environment, **NOISE)
    found = mean_square(close_loop(plant(environment), matrices(controller)))
    assert found == pytest.approx(float(controller.mean_cost), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("Lorenz-v0", []),
        ("Lorenz-v0", [PartialObservation([0]), ActionDelay(1)]),
        ("CartPoleSwingUp-v0", []),
        ("Henon-v0", []),
    ],
)
def test_h_infinity_keeps_its_norm_and_lqg_does_not_beat_it(name: str, wrap: list) -> None:
    environment = environment_of(name, wrap=wrap)
    controller = HInfinity(environment, **NOISE, margin=1.05)
    closed = close_loop(plant(environment), matrices(controller))
    assert np.abs(np.linalg.eigvals(closed.a)).max() < 1
    norm, found = float(controller.norm), largest(closed)
    assert found <= norm * (1 + 1e-6)
    other = largest(close_loop(plant(environment), matrices(LQG(environment, **NOISE))))
    assert other > norm / 1.05 * (1 - 2e-3)  # the smallest attainable norm
    assert found < other


@pytest.mark.parametrize("kind", [H2, HInfinity])
@pytest.mark.parametrize(("name", "steps"), [("Lorenz-v0", 200), ("CartPoleSwingUp-v0", 600)])
def test_equilibria_are_held_by_observations(kind: Any, name: str, steps: int) -> None:
    environment = environment_of(name)
    controller = kind(environment, **NOISE)
    state, _ = environment.reset(torch.arange(8))
    generator = torch.Generator().manual_seed(0)
    target = linearize(environment).state
    noise = torch.randn(state.values.shape, generator=generator, dtype=torch.float64)
    state.values[:] = target + 1e-3 * noise
    controller.reset(torch.ones(8, dtype=torch.bool))
    observation = environment.observe(state)
    for _ in range(steps):
        state, observation, *_ = environment.step(state, controller.act(observation, state))
    assert environment.system.difference(state.values, target).abs().max() < 2e-4


def test_bad_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = environment_of("Lorenz-v0")
    with pytest.raises(ValueError, match="margin: got 1; allowed: a number > 1"):
        HInfinity(environment, **NOISE, margin=1)
    with pytest.raises(ValueError, match="time: got 'continuous' for henon"):
        H2(environment_of("Henon-v0"), **NOISE)
    blind = environment_of("DoublePendulum-v0", wrap=[PartialObservation([0])])
    for kind in (H2, HInfinity):
        with pytest.raises(ValueError, match="the linearized system cannot be stabilized"):
            kind(blind, **NOISE)
    monkeypatch.setattr(robust, "find_spec", lambda name: None)
    for kind in (H2, HInfinity):
        with pytest.raises(ImportError, match=r"pip install 'separatrix\[robust\]'"):
            kind(environment, **NOISE)
