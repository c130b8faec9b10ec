"""Parameters that differ from the nominal ones, and that move."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torch import Tensor

import separatrix  # noqa: F401
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.system import System
from separatrix.envs.core.wrappers import (
    ActionDelay,
    ObservationNoise,
    ParameterDrift,
    ParameterMismatch,
    Wrapper,
)

LORENZ = "separatrix/Lorenz-v0"
EACH: list[Wrapper] = [
    ParameterMismatch({"rho": 0.1, "sigma": 0.2}),
    ParameterMismatch({"beta": 0.3}, "uniform"),
    ParameterDrift("rho", "ramp", 0.5, 5),
    ParameterDrift("rho", "sine", 0.2, 6),
    ParameterDrift("rho", "random_walk", 0.2, 4),
    ParameterDrift("rho", "jump", -0.4, 3),
]
FAST = (LORENZ, "separatrix/CartPoleSwingUp-v0", "separatrix/KuramotoSivashinsky-v0")
every_id = pytest.mark.parametrize(
    "environment_id",
    [pytest.param(id, marks=() if id in FAST else pytest.mark.slow) for id in REGISTRY],
)
each_wrapper = pytest.mark.parametrize("wrapper", EACH, ids=repr)


def make(*wrap: Any, num_envs: int = 4, environment_id: str = LORENZ, **options: Any) -> Any:
    return make_environment(environment_id, num_envs, wrap=wrap, **options)


def run(environment: Environment, actions: Tensor, seed: int = 0, episode: int = 0) -> list[Any]:
    """The transitions under actions (time, batch, action)."""
    state, _ = environment.reset(seed, episode)
    found = []
    for action in actions:
        found.append(environment.step(state, action))
        state = found[-1].state
    return found


def truth(environment: Environment, steps: int, parameter: str = "rho", **options: Any) -> Tensor:
    """The true values of a parameter, (step, environment), in units of the nominal one."""
    actions = torch.zeros(steps, environment.num_envs, *environment.action_shape)
    found = [t.info[f"parameter_{parameter}"] for t in run(environment, actions, **options)]
    return torch.stack(found).double() / environment.system.parameters[parameter]


def random_actions(environment: Environment, steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (steps, environment.num_envs, *environment.action_shape)
    return 2 * torch.rand(size, generator=generator) - 1


# The contract


@pytest.mark.parametrize("wrapper", [EACH[0], EACH[4]], ids=repr)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_contract_of_batches_is_kept(mode: AutoresetMode, wrapper: Wrapper) -> None:
    """Bit for bit the singles, with nominal parameters of their own and another wrapper over it."""
    parameters = {"rho": torch.linspace(20.0, 40.0, 3)}
    wrap = [wrapper, ActionDelay(1)]
    check_vector_env(
        LORENZ,
        num_envs=3,
        parameters=parameters,
        autoreset_modes=[mode],
        wrap=wrap,
        max_episode_steps=4,
    )


@each_wrapper
def test_gymnasium_checks_and_writes_it_down(wrapper: Wrapper) -> None:
    env = gym.make(LORENZ, wrap=[wrapper])
    check_env(env.unwrapped, skip_render_check=True)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    action = env.action_space.sample()
    assert np.array_equal(env.reset(seed=1)[0], again.reset(seed=1)[0])
    assert np.array_equal(env.step(action)[0], again.step(action)[0])


@every_id
def test_every_id_takes_them_or_says_why_not(environment_id: str) -> None:
    plain = make(environment_id=environment_id, num_envs=2)
    if type(plain.system).with_parameters is System.with_parameters:
        with pytest.raises(ValueError, match=r"the parameters of .* cannot be changed"):
            make(ParameterMismatch({"mass": 0.1}), environment_id=environment_id)
        return
    names = [name for name, rows in plain.system.parameters.items() if (rows != 0).all()]
    options: dict[str, Any] = {"num_envs": 2, "environment_id": environment_id}
    mismatched = make(ParameterMismatch({names[0]: 0.01}), **options)
    actions = random_actions(plain, 3)
    changed, nominal = run(mismatched, actions), run(plain, actions)
    name = f"parameter_{names[0]}"
    assert set(changed[0].info) == {*nominal[0].info, name}
    assert changed[0].observation.isfinite().all()
    assert not torch.equal(changed[-1].state.unwrapped.interval, torch.zeros(2))
    drift = ParameterDrift(names[0], "ramp", 0.01, 2)
    if plain.system.quick_parameters:
        assert truth(make(drift, **options), 3, names[0])[-1].tolist() == pytest.approx([1.01] * 2)
    else:
        with pytest.raises(ValueError, match="compiled into coefficients, which takes longer"):
            make(drift, **options)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_factors_of_one_change_nothing(backend: str) -> None:
    unchanged = make(ParameterMismatch({"rho": 0.0}), backend=backend)
    plain = make(backend=backend)
    actions = random_actions(plain, 10)
    for got, expected in zip(run(unchanged, actions), run(plain, actions), strict=True):
        assert torch.equal(got.observation, expected.observation)
        assert torch.equal(got.reward, expected.reward)


@each_wrapper
def test_steps_are_those_of_an_environment_with_the_true_parameters(wrapper: Wrapper) -> None:
    """The physics follow the truth; the target and the units of the observation stay nominal."""
    changed = make(wrapper, dtype="float64")
    state, _ = changed.reset(0)
    for action in random_actions(changed, 6).double():
        result = changed.step(state, action)
        parameters = {
            name.removeprefix("parameter_"): value
            for name, value in result.info.items()
            if name.startswith("parameter_")
        }
        system = make(num_envs=4, dtype="float64", **parameters).system
        control = changed.unwrapped.control(action)
        expected = system.advance(state.unwrapped, control).values
        assert torch.allclose(result.state.unwrapped.values, expected, rtol=1e-12, atol=1e-12)
        shown = changed.unwrapped.observe(result.state.unwrapped)
        assert torch.equal(result.observation, shown)
        assert torch.equal(changed.observe(result.state), result.observation)
        state = result.state
    assert changed.system.parameters["rho"].tolist() == [28.0]  # the model knows nothing


@each_wrapper
def test_a_batch_goes_on_from_its_state_dict(wrapper: Wrapper) -> None:
    first, second = (
        BatchedEnv(LORENZ, 4, max_episode_steps=5, wrap=[wrapper], output="torch") for _ in range(2)
    )
    actions = random_actions(first.environment, 9)
    first.reset(seed=0)
    for action in actions[:3]:
        first.step(action)
    second.load_state_dict(first.state_dict())
    for action in actions[3:]:
        (*expected, _), (*found, _) = first.step(action), second.step(action)
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one, other)


@each_wrapper
def test_gradients_equal_finite_differences(wrapper: Wrapper) -> None:
    environment = make(wrapper, num_envs=2, dtype="float64")
    actions = (0.2 * random_actions(environment, 5).double()).requires_grad_()

    def total(given: Tensor) -> Tensor:
        path = run(environment, given)
        return torch.stack([t.observation.sin().sum() + t.reward.sum() for t in path]).sum()

    (gradient,) = torch.autograd.grad(total(actions), actions)
    direction = torch.randn(
        actions.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    with torch.no_grad():
        difference = total(actions + 1e-5 * direction) - total(actions - 1e-5 * direction)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item() / 2e-5, rel=1e-5)


def test_gradients_reach_the_true_parameters() -> None:
    environment = make(ParameterMismatch({"rho": 0.1}), num_envs=3, dtype="float64")
    state, _ = environment.reset(0)
    factor = state.memory.clone().requires_grad_()

    def last(factor: Tensor) -> Tensor:
        there = type(state)(state.inner, factor)
        for _ in range(3):
            there = environment.step(there, torch.zeros(3, 1, dtype=torch.float64)).state
        return there.inner.values.sum(1)

    for _ in range(2):  # a graph of its own every time
        (gradient,) = torch.autograd.grad(last(factor).sum(), factor)
    with torch.no_grad():
        difference = (last(factor + 1e-6) - last(factor - 1e-6)) / 2e-6
    assert torch.allclose(gradient[:, 0], difference, rtol=1e-6)


def test_a_diverged_environment_leaves_its_neighbours_alone() -> None:
    euler: dict[str, Any] = {"control_interval": 0.1, "substeps": 1, "integrator": "euler"}
    environment = make(EACH[0], num_envs=8, **euler)
    actions = torch.zeros(8, 8, 1, requires_grad=True)
    path = run(environment, actions)
    ended = torch.stack([t.info["diverged"] for t in path]).any(0)
    assert ended.any() and not ended.all(), "the case shows nothing"
    total = sum((t.observation.sum() + t.reward.sum()) for t in path)
    (gradient,) = torch.autograd.grad(total, actions)
    assert gradient.isfinite().all()


# Mismatch


def test_log_normal_factors_have_the_mean_one_and_the_spread_asked_for() -> None:
    count = 20_000
    environment = make(ParameterMismatch({"rho": 0.2, "sigma": 0.05}), num_envs=count)
    factors = {name: truth(environment, 2, name) for name in ("rho", "sigma")}
    for name, spread in (("rho", 0.2), ("sigma", 0.05)):
        assert torch.equal(*factors[name])  # held over the episode
        found = factors[name][0]
        assert abs(found.mean() - 1) < 5 * spread / count**0.5
        assert abs(found.std() / spread - 1) < 5 * (1 / (2 * count)) ** 0.5 * 1.5
        assert (found > 0).all()
    pairs = torch.stack([found[0] for found in factors.values()])
    assert abs(torch.corrcoef(pairs)[0, 1]) < 5 / count**0.5


def test_uniform_factors_fill_their_range() -> None:
    count = 20_000
    found = truth(make(ParameterMismatch({"rho": 0.3}, "uniform"), num_envs=count), 1)[0]
    assert abs((found - 1).abs().max() - 0.3) < 1e-3
    assert abs((found - 1).double().var() / 0.03 - 1) < 5 * (0.8 / count) ** 0.5
    assert abs(found.mean() - 1) < 5 * (0.03 / count) ** 0.5


def test_every_episode_has_its_own_truth_and_a_seed_brings_it_back() -> None:
    environment = make(EACH[0])
    first, again, other = (truth(environment, 1, episode=e)[0] for e in (0, 0, 1))
    assert torch.equal(first, again) and not (first == other).any()
    assert len(first.unique()) == 4
    assert torch.equal(truth(make(EACH[0], num_envs=2), 1, seed=2)[0], first[2:])


def test_mismatch_upon_mismatch_is_another_one() -> None:
    """And the infos tell the product, which is the truth."""
    one, two = ParameterMismatch({"rho": 0.1}), ParameterMismatch({"rho": 0.1})
    single, double = truth(make(one), 1)[0], truth(make(one, two), 1)[0]
    assert not torch.allclose(double, single**2)
    assert not torch.allclose(double, single)


def test_sensor_and_metrics_read_glucose_by_the_true_volume() -> None:
    glucose = "separatrix/Glucose-v0"
    environment = make(
        ParameterMismatch({"Vg": 0.3}), environment_id=glucose, sensor_noise=0, dtype="float64"
    )
    for transition in run(environment, torch.zeros(3, 4, 2, dtype=torch.float64)):
        reading = transition.state.unwrapped.readings[:, -1]
        assert torch.allclose(transition.info["glucose"], reading)


def test_the_numbers_of_the_physics_stay_what_they_are() -> None:
    """The start of an episode, and the noise of the sensors."""
    noise = ObservationNoise(0.5)
    changed, plain = make(noise, EACH[0]), make(noise)
    assert torch.equal(changed.reset(3)[1], plain.reset(3)[1])


# Drift


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        (EACH[2], [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.5]),
        (EACH[3], [1 + 0.2 * math.sin(math.pi * k / 3) for k in range(7)]),
        (EACH[5], [1.0, 1.0, 1.0, 0.6, 0.6, 0.6, 0.6]),
    ],
    ids=repr,
)
def test_drifts_follow_their_course(drift: Wrapper, expected: list[float]) -> None:
    environment = make(drift)
    for _ in range(2):  # from the start again in another episode
        found = truth(environment, 7)
        assert torch.allclose(found, torch.tensor(expected).double()[:, None], rtol=1e-6)


def test_random_walks_spread_with_the_root_of_time() -> None:
    count = 20_000
    found = truth(make(EACH[4], num_envs=count), 5).log()
    assert (found[0] == 0).all()
    steps = found.diff(dim=0)
    assert (steps.std(1) / 0.1 - 1).abs().max() < 5 * (1 / (2 * count)) ** 0.5
    assert abs(found[4].std() / 0.2 - 1) < 5 * (1 / (2 * count)) ** 0.5
    neighbours = torch.corrcoef(steps) - torch.eye(4)
    assert neighbours.abs().max() < 5 / count**0.5


def test_drift_and_mismatch_multiply_in_either_order() -> None:
    mismatch, drift = ParameterMismatch({"rho": 0.1}), ParameterDrift("rho", "ramp", 0.5, 2)
    start = truth(make(mismatch), 4)
    ramp = torch.tensor([1.0, 1.25, 1.5, 1.5]).double()[:, None]
    noise = ObservationNoise(0.1)
    for wrap in ((mismatch, noise, drift), (drift, noise, mismatch)):
        found = truth(make(*wrap), 4)
        assert (found / ramp - found[0]).abs().max() < 1e-6
    assert torch.allclose(truth(make(mismatch, drift), 4), start * ramp, rtol=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ParameterMismatch({}), "spread: got {}; allowed: a number for each"),
        (lambda: ParameterMismatch({"rho": -0.1}), "spread of 'rho': got -0.1; allowed: .* >= 0"),
        (lambda: ParameterMismatch({"rho": 1.0}, "uniform"), "got 1.0; allowed: a number < 1"),
        (
            lambda: ParameterMismatch({"rho": 1.0}, "normal"),
            "distribution: got 'normal'; did you mean 'log_normal'",
        ),
        (
            lambda: ParameterDrift("rho", "ram", 0.1, 2),
            "course: got 'ram'; did you mean 'ramp'",
        ),
        (lambda: ParameterDrift("rho", "jump", -1.0, 2), "size: got -1.0; allowed: a number > -1"),
        (lambda: ParameterDrift("rho", "sine", 1.0, 2), "size: got 1.0"),
        (lambda: ParameterDrift("rho", "ramp", 0.1, 0), "steps: got 0"),
        (lambda: make(ParameterMismatch({"rhoo": 0.1})), "unknown parameter 'rhoo'; did you mean"),
        (lambda: make(ParameterMismatch({"rho": 0.1}), rho=0.0), "parameter 'rho': got 0"),
        (
            lambda: make({"kind": "parameter_drift", "parameter": "rho"}),
            "parameter_drift needs course, kind, parameter, size, steps",
        ),
    ],
)
def test_wrong_settings_raise(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_mapping_may_leave_defaults_out() -> None:
    mapping = {"kind": "parameter_mismatch", "spread": {"rho": 0.1}}
    assert torch.equal(truth(make(mapping), 1), truth(make(ParameterMismatch({"rho": 0.1})), 1))
