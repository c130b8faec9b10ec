"""The cart-pole against MuJoCo, and its task against the published definition of the reward.

MuJoCo's solver is given the tolerance 0: with its default, 1e-8, it leaves the stop's force
unconverged, and rollouts that touch a stop were seen to jump by 2e-7.
"""

from collections.abc import Callable

import mujoco
import numpy as np
import pytest
import sympy
import torch

from separatrix.envs.core.registration import make_environment
from separatrix.envs.mechanics.cart_pole import OBSERVATION_SCALE, SwingUp, cart_pole

INTERVAL = 0.01
STEPS = 1000

Gate = Callable[..., None]
NAME = "CartPoleSwingUp-v0"
MUJOCO = f"MuJoCo {mujoco.__version__}"

# Parameters that differ from the defaults, all of them at least once.
VARIANTS: dict[str, dict[str, float]] = {
    "default": {},
    "heavy, short": {"pole_mass": 0.7, "pole_length": 0.4, "pole_radius": 0.03, "rail": 1.0},
    "light, long": {
        "cart_mass": 0.4,
        "pole_length": 1.7,
        "gravity": 3.7,
        "motor_force": 4.0,
        "cart_damping": 0.3,
        "hinge_damping": 0.02,
    },
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def mujoco_model(changes: dict[str, float]) -> mujoco.MjModel:
    p = {**cart_pole.parameters, **changes}
    gravity = f"0 0 {-p['gravity']}"
    return mujoco.MjModel.from_xml_string(f"""
        <mujoco>
          <option timestep="{INTERVAL}" integrator="RK4" tolerance="0" gravity="{gravity}">
            <flag contact="disable" energy="enable"/>
          </option>
          <worldbody>
            <body>
              <joint name="slider" type="slide" axis="1 0 0" damping="{p["cart_damping"]}"
                     limited="true" range="{-p["rail"]} {p["rail"]}" solreflimit="0.08 1"/>
              <geom type="box" size="0.2 0.15 0.1" mass="{p["cart_mass"]}"/>
              <body>
                <joint type="hinge" axis="0 1 0" damping="{p["hinge_damping"]}"/>
                <geom type="capsule" fromto="0 0 0 0 0 {p["pole_length"]}"
                      size="{p["pole_radius"]}" mass="{p["pole_mass"]}"/>
              </body>
            </body>
          </worldbody>
          <actuator>
            <motor joint="slider" gear="{p["motor_force"]}" ctrllimited="true" ctrlrange="-1 1"/>
          </actuator>
        </mujoco>""")


def vector_field(changes: dict[str, float]) -> Callable[..., np.ndarray]:
    """Returns f(states (4, batch), motor (batch,)) of the definition, in float64."""
    states = sympy.symbols(" ".join(cart_pole.state_names), real=True)
    motor = sympy.Symbol("motor", real=True)
    parameters = {name: sympy.Symbol(name, real=True) for name in cart_pole.parameters}
    derivative = cart_pole.function(*states, motor, **parameters)
    compiled = sympy.lambdify(
        [states, motor, list(parameters.values())], derivative, "numpy", cse=True
    )
    values = list({**cart_pole.parameters, **changes}.values())
    return lambda x, u: np.array(np.broadcast_arrays(*compiled(x, u, values)))


def runge_kutta(
    field: Callable[..., np.ndarray], x: np.ndarray, u: np.ndarray, h: float
) -> np.ndarray:
    k1 = field(x, u)
    k2 = field(x + h / 2 * k1, u)
    k3 = field(x + h / 2 * k2, u)
    k4 = field(x + h * k3, u)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


@variants
@pytest.mark.parametrize("place", ["between the stops", "at a stop", "past a stop"])
def test_accelerations_are_those_of_mujoco(variant: str, place: str, gate: Gate) -> None:
    changes = VARIANTS[variant]
    rng = np.random.default_rng(0)
    batch = 400
    model = mujoco_model(changes)
    rail = {**cart_pole.parameters, **changes}["rail"]
    offset = {
        "between the stops": rng.uniform(-rail, 0, batch),
        "at a stop": rng.uniform(0, 0.0015, batch),  # where the impedance rises
        "past a stop": rng.uniform(0, 0.4, batch),
    }[place]
    x = np.array(
        [
            rng.choice([-1, 1], batch) * (rail + offset),
            rng.uniform(-10, 10, batch),
            rng.normal(0, 3, batch),
            rng.normal(0, 6, batch),
        ]
    )
    u = rng.uniform(-1, 1, batch)
    ours = vector_field(changes)(x, u)[2:].T

    data = mujoco.MjData(model)
    pushed, error = 0, 0.0
    for i in range(batch):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = x[:2, i], x[2:, i], u[i]
        mujoco.mj_forward(model, data)
        pushed += int(data.nefc > 0 and data.efc_force[0] > 0)
        error = max(error, *(np.abs(ours[i] - data.qacc) / (1 + np.abs(data.qacc))))
    gate(
        NAME,
        f"error of 400 accelerations, of 1 + their size; {variant} parameters, {place}",
        error,
        0.0,
        tolerance=1e-12,  # measured over eight seeds: 2e-13
        source=MUJOCO,
    )
    assert (pushed == 0) if place == "between the stops" else (batch / 4 < pushed < batch)


@variants
@pytest.mark.parametrize("motor", ["off", "random"])
def test_rollouts_are_those_of_mujoco(variant: str, motor: str, gate: Gate) -> None:
    changes = VARIANTS[variant]
    rng = np.random.default_rng(1)
    batch = 12
    model = mujoco_model(changes)
    x = rng.normal(0, [[0.5], [2.0], [1.5], [3.0]], (4, batch))
    x[2, :6] = [-3, -2.5, -2, 2, 2.5, 3]  # fast enough for a stop
    u = rng.uniform(-1, 1, (STEPS, batch)) * (motor == "random")

    field = vector_field(changes)
    ours = [x]
    for t in range(STEPS):
        ours.append(runge_kutta(field, ours[-1], u[t], INTERVAL))

    data = mujoco.MjData(model)
    theirs = np.empty((STEPS + 1, 4, batch))
    for i in range(batch):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = x[:2, i], x[2:, i]
        for t in range(STEPS + 1):
            theirs[t, :, i] = np.concatenate((data.qpos, data.qvel))
            data.ctrl[:] = u[min(t, STEPS - 1), i]
            mujoco.mj_step(model, data)

    error = np.abs(np.array(ours) - theirs).max((1, 2))
    # Rounding errors grow, as the motion is chaotic. Measured over eight seeds: at most 8e-10
    # within 5 s and 5e-8 within 10 s; with this seed 5e-11 and 9e-10.
    for end, tolerance in ((STEPS // 2, 1e-8), (STEPS, 1e-6)):
        gate(
            NAME,
            f"error of 12 rollouts within {end * INTERVAL:.0f} s; {variant} parameters, "
            f"motor {motor}",
            error[:end].max(),
            0.0,
            tolerance=tolerance,
            source=MUJOCO,
        )
    rail = {**cart_pole.parameters, **changes}["rail"]
    assert (np.abs(theirs[:, 0]) > rail).any(0).sum() >= batch / 4, "too few touch a stop"


def test_energy_and_momentum_are_conserved_to_fourth_order(gate: Gate) -> None:
    changes = {"cart_damping": 0.0, "hinge_damping": 0.0}
    model, field = mujoco_model(changes), vector_field(changes)
    inertia = model.body_inertia[2, 0] + 0.1 * 0.5**2

    def invariants(x: np.ndarray) -> np.ndarray:
        _, angle, velocity, angular_velocity = x
        exchange = 0.1 * 0.5 * np.cos(angle) * angular_velocity
        kinetic = 1.1 * velocity**2 / 2 + exchange * velocity + inertia * angular_velocity**2 / 2
        return np.array([kinetic + 0.1 * 9.81 * 0.5 * np.cos(angle), 1.1 * velocity + exchange])

    start = np.random.default_rng(2).normal(0, [[0.1], [2.0], [0.1], [3.0]], (4, 16))
    errors = []
    for steps in (100, 200, 400):
        x, error = start, np.zeros(2)
        for _ in range(steps):
            x = runge_kutta(field, x, np.zeros(16), 2.0 / steps)
            error = np.maximum(error, np.abs(invariants(x) - invariants(start)).max(1))
            assert np.abs(x[0]).max() < 1.8  # no stop, which would take energy
        errors.append(error)
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    for steps, row in zip((100, 200), orders, strict=True):
        for invariant, order in zip(("energy", "momentum"), row, strict=True):
            quantity = f"order of the error of {invariant}, {steps} to {2 * steps} steps"
            gate(NAME, quantity, order, 4.0, tolerance=0.15, source="order of RK4")


def published_reward(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The reward of arXiv:1801.00690 in its own terms, bounds, margins and values at the margin."""

    def gaussian(value: np.ndarray, margin: float) -> np.ndarray:
        scale = np.sqrt(-2 * np.log(0.1))
        return np.exp(-0.5 * (np.abs(value) / margin * scale) ** 2)

    position, angle, _, angular_velocity = x
    upright = (np.cos(angle) + 1) / 2
    centred = (1 + gaussian(position, 2)) / 2
    small_control = (4 + np.where(np.abs(u) < 1, 1 - u**2, 0)) / 5
    small_velocity = (1 + gaussian(angular_velocity, 5)) / 2
    return upright * small_control * small_velocity * centred


def test_reward_is_the_published_one(gate: Gate) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(0, [[1.0], [3.0], [2.0], [5.0]], (4, 1000))
    u = np.concatenate(([-1.0, 1.0], rng.uniform(-1, 1, 998)))
    before, after = sympy.symbols("b:4", real=True), sympy.symbols("a:4", real=True)
    motor = sympy.Symbol("motor", real=True)
    task = SwingUp()
    reward = sympy.lambdify([after, motor], task.reward(before, [motor], after, {}))
    np.testing.assert_allclose(reward(x, u), published_reward(x, u), rtol=1e-12, atol=1e-15)
    error = np.abs(reward(x, u) - published_reward(x, u)).max()
    source = "arXiv:1801.00690, cartpole swingup"
    gate(NAME, "error of 1000 rewards", error, 0.0, tolerance=1e-12, source=source)
    assert reward([0, 0, 0, 0], 0) == 1
    assert reward([0, np.pi, 0, 0], 0) == 0

    upright = sympy.lambdify(after, task.metrics(before, [motor], after, {})["upright"])
    assert [upright(0, angle, 0, 0) for angle in (0, 0.09, -0.09, 0.11, np.pi)] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_environment_follows_mujoco(backend: str, gate: Gate) -> None:
    environment = make_environment("CartPoleSwingUp-v0", 4, dtype="float64", backend=backend)
    model = mujoco_model({})
    data = [mujoco.MjData(model) for _ in range(4)]
    state, _ = environment.reset(torch.arange(4))
    for one, values in zip(data, state.values.numpy(), strict=True):
        one.qpos[:], one.qvel[:] = values[:2], values[2:]
    rng = np.random.default_rng(4)
    error = 0.0
    for _ in range(300):
        action = rng.uniform(-1, 1, (4, 1))
        transition = environment.step(state, torch.from_numpy(action))
        for one, u in zip(data, action, strict=True):
            one.ctrl[:] = u
            mujoco.mj_step(model, one)
        theirs = np.array([[*one.qpos, *one.qvel] for one in data]).T
        position, angle, velocity, angular_velocity = theirs
        observation = (position, np.cos(angle), np.sin(angle), velocity, angular_velocity)
        ours = transition.observation.numpy() * OBSERVATION_SCALE
        reward = published_reward(theirs, action[:, 0])
        for got, expected in (
            (transition.state.values.numpy().T, theirs),
            (ours.T, observation),
            (transition.reward.numpy(), reward),
        ):
            error = max(error, np.abs(got - np.array(expected)).max())
        state = transition.state
    gate(
        NAME,
        f"error of 4 episodes within 3 s: state, observation, reward; {backend}",
        error,
        0.0,
        tolerance=1e-12,  # measured over eight seeds: 6e-14, and 3e-15 for the reward
        source=MUJOCO,
    )
