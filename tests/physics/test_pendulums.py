"""The pendulums against elliptic integrals, MuJoCo, Lagrange's equations, and their own control."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest
import scipy.special
import sympy
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import ZeroController
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment
from separatrix.envs.mechanics.double_pendulum import UPRIGHT_ENERGY, double_pendulum, energy
from separatrix.envs.steppers.ode_system import OdeState

Gate = Callable[..., None]
SINGLE, DOUBLE = "DampedPendulum-v0", "DoublePendulum-v0"
OWN: dict[str, Any] = {
    "upper_mass": 0.7,
    "lower_mass": 1.9,
    "upper_length": 1.3,
    "lower_length": 0.6,
    "gravity": 3.7,
    "shoulder_torque": 4.0,
    "elbow_torque": 2.5,
}


def environment(name: str, num_envs: int = 1, **options: Any) -> Any:
    return make_environment(name, num_envs, **{"dtype": "float64", "backend": "torch", **options})


def placed(found: Any, values: Tensor) -> OdeState:
    state = found.reset(torch.zeros(len(values), dtype=torch.int64))[0]
    return OdeState(state.stream, state.interval, values.double())


# --- one rod ------------------------------------------------------------------------------------


@pytest.mark.parametrize("amplitude", [0.1, 1.0, 2.0, 3.0])
def test_period_is_the_elliptic_integral(amplitude: float, gate: Gate) -> None:
    """A quarter of the period passes between the turning point and the lowest one."""
    found = environment(SINGLE, control_interval=0.001, substeps=1, damping=0.0)
    state = placed(found, torch.tensor([[math.pi - amplitude, 0.0]]))
    action = torch.zeros((1, 1), dtype=torch.float64)
    steps = 0
    while state.values[0, 0] < math.pi:
        before = state.values[0]
        state = found.step(state, action).state
        steps += 1
    quarter = 0.001 * (steps - 1) + float((math.pi - before[0]) / before[1])
    expected = 4 * scipy.special.ellipk(math.sin(amplitude / 2) ** 2) / math.sqrt(9.81)
    gate(
        SINGLE,
        f"period from {amplitude} rad, s",
        4 * quarter,
        expected,
        tolerance=1e-6,
        source="4 sqrt(l / g) K(sin(amplitude / 2))",
    )


def test_small_oscillations_decay_as_damped_ones(gate: Gate) -> None:
    """Hanging, growth rates are -c / (2 m l^2) +- i sqrt(g / l - (c / (2 m l^2))^2)."""
    found = environment(SINGLE, mass=0.5, length=2.0, damping=0.4)
    hanging = torch.tensor([[math.pi, 0.0]], dtype=torch.float64)
    matrix, push = found.system.jacobian(hanging, torch.zeros((1, 1), dtype=torch.float64))
    rates = np.linalg.eigvals(matrix[0].numpy())
    decay = 0.4 / (2 * 0.5 * 2**2)
    expected = complex(-decay, math.sqrt(9.81 / 2 - decay**2))
    gate(
        SINGLE,
        "error of the growth rates, hanging",
        abs(rates - expected).min() + abs(rates - expected.conjugate()).min(),
        0.0,
        tolerance=1e-12,
        source="roots of m l^2 s^2 + c s + m g l",
    )
    assert float(push[0, 1, 0]) == pytest.approx(3.0 / (0.5 * 2**2))


class SwingUp(Controller):
    """Pumps the pendulum to the energy of the upright state; near it, LQR takes over."""

    def __init__(self, found: Any) -> None:
        self._lqr = LQR(found, capture=1.0)

    def act(self, observation: Tensor, state: Any) -> Tensor:
        angle, velocity = state.values[:, :1], state.values[:, 1:]
        missing = 9.81 - (velocity**2 / 2 + 9.81 * angle.cos())
        catch = self._lqr.act(observation, state)
        return torch.where(catch != 0, catch, (5 * missing * velocity).clamp(-1, 1))


def test_pumping_energy_swings_the_weak_motor_up() -> None:
    """K. J. Astrom, K. Furuta (2000). Alone, LQR never gets up and never falls."""
    found = make_environment(SINGLE, 64)
    episodes = torch.arange(64)
    swung = evaluate(found, SwingUp(found), episodes)
    assert (swung.returns > 200).all()
    idle = evaluate(found, ZeroController(found), episodes)
    assert idle.metrics["on_target"].sum() == 0 and (idle.returns < 56).all()
    assert evaluate(found, LQR(found), episodes).metrics["on_target"].max() == 0
    held = environment(SINGLE, 64)
    # 0.3 rad, six deviations, is as far as this motor can hold the rod.
    near = 0.05 * torch.randn((64, 2), generator=torch.Generator().manual_seed(0))
    state = placed(held, near)
    regulator = LQR(held)
    for _ in range(100):
        transition = held.step(state, regulator.act(held.observe(state), state))
        state = transition.state
    assert transition.info["distance"].max() < 1e-3


# --- two rods -----------------------------------------------------------------------------------


def mujoco_model(changes: dict[str, float]) -> mujoco.MjModel:
    """Two hinges with point masses; a point must have an inertia, 1e-12 kg m^2."""
    p = {**double_pendulum.parameters, **changes}
    tiny = "1e-12 1e-12 1e-12"
    return mujoco.MjModel.from_xml_string(f"""
        <mujoco>
          <compiler angle="radian" boundinertia="1e-12" boundmass="1e-12"/>
          <option timestep="0.005" integrator="RK4" gravity="0 0 {-p["gravity"]}">
            <flag contact="disable" energy="enable"/>
          </option>
          <worldbody>
            <body>
              <joint name="shoulder" type="hinge" axis="0 1 0"/>
              <inertial pos="0 0 {p["upper_length"]}" mass="{p["upper_mass"]}"
                        diaginertia="{tiny}"/>
              <body pos="0 0 {p["upper_length"]}">
                <joint name="elbow" type="hinge" axis="0 1 0"/>
                <inertial pos="0 0 {p["lower_length"]}" mass="{p["lower_mass"]}"
                          diaginertia="{tiny}"/>
              </body>
            </body>
          </worldbody>
          <actuator>
            <motor joint="shoulder" gear="{p["shoulder_torque"]}"/>
            <motor joint="elbow" gear="{p["elbow_torque"]}"/>
          </actuator>
        </mujoco>""")


@pytest.mark.parametrize("changes", [{}, OWN], ids=["default", "own"])
def test_accelerations_are_those_of_mujoco(changes: dict[str, Any], gate: Gate) -> None:
    rng = np.random.default_rng(0)
    batch = 400
    x = rng.normal(0, [2, 2, 4, 4], (batch, 4))
    u = rng.uniform(-1, 1, (batch, 1))
    system = environment(DOUBLE, **changes).system
    ours = system.vector_field(torch.from_numpy(x), torch.from_numpy(u)).numpy()[:, 2:]
    model = mujoco_model(changes)
    data = mujoco.MjData(model)
    error = 0.0
    for i in range(batch):  # its second angle is relative
        data.qpos[:], data.qvel[:] = (x[i, 0], x[i, 1] - x[i, 0]), (x[i, 2], x[i, 3] - x[i, 2])
        data.ctrl[:] = u[i, 0]
        mujoco.mj_forward(model, data)
        theirs = np.array([data.qacc[0], data.qacc[0] + data.qacc[1]])
        error = max(error, *(np.abs(ours[i] - theirs) / (1 + np.abs(theirs))))
        mujoco.mj_energyPos(model, data)
        mujoco.mj_energyVel(model, data)
        p = {**double_pendulum.parameters, **changes}
        total = float(sympy.N(energy(x[i].tolist(), p)))
        assert total == pytest.approx(float(data.energy.sum()), rel=1e-9, abs=1e-9)
    gate(
        DOUBLE,
        f"error of 400 accelerations, of 1 + their size; parameters: {changes or 'default'}",
        error,
        0.0,
        tolerance=1e-9,  # their points have an inertia
        source=f"MuJoCo {mujoco.__version__}, two hinges",
    )


def test_rollouts_are_those_of_mujoco(gate: Gate) -> None:
    """The same scheme with the same step, so that they agree until rounding has grown."""
    found = environment(DOUBLE, 8)
    state, _ = found.reset(0)
    rng = np.random.default_rng(1)
    u = rng.uniform(-1, 1, (60, 8, 1))
    model = mujoco_model({})
    pairs = [mujoco.MjData(model) for _ in range(8)]
    for data, values in zip(pairs, state.values.numpy(), strict=True):
        data.qpos[:] = values[0], values[1] - values[0]
        data.qvel[:] = values[2], values[3] - values[2]
    error = 0.0
    for action in u:
        state = found.step(state, torch.from_numpy(action)).state
        for data, push in zip(pairs, action, strict=True):
            data.ctrl[:] = push[0], push[0]
            data.actuator_force[:] = 0
            for _ in range(10):
                mujoco.mj_step(model, data)
        theirs = np.array([[d.qpos[0], d.qpos.sum(), d.qvel[0], d.qvel.sum()] for d in pairs])
        error = max(error, np.abs(theirs - state.values.numpy()).max())
    gate(
        DOUBLE,
        "error of 8 rollouts of 3 s under random torque, rad and rad/s",
        error,
        0.0,
        tolerance=1e-6,
        source=f"MuJoCo {mujoco.__version__}, two hinges",
    )


def test_equations_are_those_of_lagrange() -> None:
    """d/dt dL/dv - dL/dq equals the generalized torques, derived from positions by sympy."""
    t = sympy.Symbol("t")
    q = [sympy.Function(name)(t) for name in ("q1", "q2")]
    p = {name: sympy.Symbol(name, positive=True) for name in double_pendulum.parameters}
    u = sympy.Symbol("u")
    x1 = p["upper_length"] * sympy.sin(q[0])
    z1 = p["upper_length"] * sympy.cos(q[0])
    x2 = x1 + p["lower_length"] * sympy.sin(q[1])
    z2 = z1 + p["lower_length"] * sympy.cos(q[1])
    kinetic = sum(
        p[mass] * (x.diff(t) ** 2 + z.diff(t) ** 2) / 2
        for mass, x, z in (("upper_mass", x1, z1), ("lower_mass", x2, z2))
    )
    height = p["upper_mass"] * z1 + p["lower_mass"] * z2
    lagrangian = kinetic - p["gravity"] * height
    torque = [(p["shoulder_torque"] - p["elbow_torque"]) * u, p["elbow_torque"] * u]
    rates = [angle.diff(t) for angle in q]
    accelerations = double_pendulum.function(*q, *rates, u, **p)[2:]
    numbers = {p[name]: value for name, value in OWN.items()} | {u: 0.3}
    for angle, rate, force in zip(q, rates, torque, strict=True):
        law = lagrangian.diff(rate).diff(t) - lagrangian.diff(angle) - force
        law = law.subs({q[i].diff(t, 2): accelerations[i] for i in range(2)})
        for place in ((0.3, -1.2, 0.7, 2.0), (2.0, 2.5, -3.0, 1.0)):
            # Rates first, or a number would be differentiated.
            at = dict(zip((*reversed(rates), *reversed(q)), reversed_pairs(place), strict=True))
            assert abs(float(law.subs(at).subs(numbers))) < 1e-12


def reversed_pairs(place: tuple[float, float, float, float]) -> tuple[float, ...]:
    q1, q2, v1, v2 = place
    return v2, v1, q2, q1


def test_normal_modes_of_small_oscillations(gate: Gate) -> None:
    """Equal masses and lengths: w^2 = (2 +- sqrt(2)) g / l, hanging; the growth rates, upright."""
    system = environment(DOUBLE).system
    for place, name in ((math.pi, "frequencies, hanging"), (0.0, "growth rates, upright")):
        values = torch.full((1, 4), place, dtype=torch.float64)
        values[:, 2:] = 0
        matrix, _ = system.jacobian(values, values.new_zeros((1, 1)))
        squares = np.sort(np.abs(np.linalg.eigvals(matrix[0].numpy())) ** 2)[::2]
        expected = 9.81 * (2 + math.sqrt(2) * np.array([-1, 1]))
        gate(
            DOUBLE,
            f"relative error of the squared {name}",
            np.abs(squares / expected - 1).max(),
            0.0,
            tolerance=1e-12,
            source="(2 +- sqrt(2)) g / l (Landau, Lifshitz, section 23)",
        )


def energies(values: Tensor) -> Tensor:
    q1, q2, v1, v2 = values.T
    kinetic = v1**2 + v2**2 / 2 + v1 * v2 * (q1 - q2).cos()
    return kinetic + 9.81 * (2 * q1.cos() + q2.cos())


def test_energy_is_conserved_to_the_order_of_the_integrator(gate: Gate) -> None:
    errors = []
    for substeps in (10, 20, 40):
        found = environment(DOUBLE, 64, substeps=substeps)
        state, _ = found.reset(0)
        assert (energies(state.values) - UPRIGHT_ENERGY).abs().max() < 1e-12
        action = torch.zeros((64, 1), dtype=torch.float64)
        for _ in range(20):
            state = found.step(state, action).state
        errors.append(float((energies(state.values) - UPRIGHT_ENERGY).abs().median()))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    gate(
        DOUBLE,
        "order at which the energy is conserved by RK4",
        orders.min(),
        5.0,
        tolerance=0.5,
        source="RK4 is of fifth order in the energy of an oscillator",
    )


def test_the_ensemble_of_starts_is_stationary() -> None:
    """The microcanonical moments stay as they are along the free flow, for 2 s of chaos."""
    found = environment(DOUBLE, 16384, backend="numba")
    state, _ = found.reset(0)
    action = torch.zeros((16384, 1), dtype=torch.float64)

    def moments(values: Tensor) -> Tensor:
        q1, q2, v1, v2 = values.T
        height = 2 * q1.cos() + q2.cos()
        parts = (q1.cos(), q2.cos(), q1.sin(), (q1 - q2).cos(), v1**2, v2**2, v1 * v2, height**2)
        return torch.stack(parts)

    before = moments(state.values)
    for _ in range(40):
        state = found.step(state, action).state
    after = moments(state.values)
    error = (before.var(1) + after.var(1)).div(16384).sqrt()
    assert ((after.mean(1) - before.mean(1)).abs() < 4.5 * error).all()


@pytest.mark.parametrize("name", [SINGLE, DOUBLE, "CartPoleSwingUp-v0"])
def test_every_environment_has_a_linearization_of_its_own(name: str) -> None:
    gravity = [3.0, 9.81, 20.0]
    batch = linearize(environment(name, 3, gravity=gravity))
    for i, value in enumerate(gravity):
        alone = linearize(environment(name, gravity=value))
        for matrix in ("a", "b", "c", "drift"):
            found, expected = getattr(batch, matrix)[i], getattr(alone, matrix)[0]
            torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_lqr_balances_the_double_pendulum_from_nearby() -> None:
    found = environment(DOUBLE, 64)
    state = placed(found, 0.01 * torch.randn((64, 4), generator=torch.Generator().manual_seed(0)))
    regulator = LQR(found)
    for _ in range(400):
        transition = found.step(state, regulator.act(found.observe(state), state))
        state = transition.state
    assert transition.info["distance"].max() < 1e-3 and transition.info["on_target"].all()
    assert transition.reward.min() > 1 - 1e-5
    found = make_environment(DOUBLE, 64)  # from the chaos, it catches those that come by
    caught = evaluate(found, LQR(found, capture=1.5), torch.arange(64)).metrics["on_target"]
    assert (caught > 0.2).sum() >= 3


class Brake(Controller):
    """Torque against the motion of the shoulder in proportion to the excess of energy."""

    def act(self, observation: Tensor, state: Any) -> Tensor:
        return (-6 * observation[:, 6:7] * observation[:, 4:5]).clamp(-1, 1)


def test_braking_holds_the_energy_of_the_double_pendulum() -> None:
    found = make_environment(DOUBLE, 64, task="energy")
    held = evaluate(found, Brake(), torch.arange(64)).means()
    assert held["on_target"] > 0.75 and held["diverged"] == 0
    assert held["total_energy"] == pytest.approx(-10, abs=3)
    idle = evaluate(found, ZeroController(found), torch.arange(64)).means()
    assert idle["on_target"] == 0
    assert idle["total_energy"] == pytest.approx(UPRIGHT_ENERGY, abs=1e-2)
    with pytest.raises(ValueError, match=r"HoldPendulumEnergy of \w+ has no equilibrium"):
        LQR(found)
