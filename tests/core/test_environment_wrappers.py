"""Wrappers of environments: what each does, and that every family stays an environment."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from torch import Tensor

import separatrix  # noqa: F401
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.wrappers import (
    ActionDelay,
    FrameStack,
    ObservationNoise,
    PartialObservation,
    RateLimit,
    Wrapper,
)

LORENZ = "separatrix/Lorenz-v0"
EACH: list[Wrapper] = [
    ObservationNoise(0.1),
    PartialObservation([1, 0]),
    ActionDelay(2),
    RateLimit(0.3),
    FrameStack(3),
]
ALL = tuple(EACH)
EULER: dict[str, Any] = {"control_interval": 0.1, "substeps": 1, "integrator": "euler"}
"""With this step Euler's method leaves the safe box after 3 to 16 steps."""

FAST = (LORENZ, "separatrix/CartPoleSwingUp-v0")
every_id = pytest.mark.parametrize(
    "environment_id",
    [pytest.param(id, marks=() if id in FAST else pytest.mark.slow) for id in REGISTRY],
)


def name(wrapper: Any) -> str:
    return type(wrapper).__name__


def make(*wrap: Any, num_envs: int = 4, environment_id: str = LORENZ, **options: Any) -> Any:
    return make_environment(environment_id, num_envs, wrap=wrap, **options)


def run(environment: Environment, actions: Tensor, seed: int = 0) -> list[Any]:
    """The transitions under actions (time, batch, action)."""
    state, _ = environment.reset(seed)
    found = []
    for action in actions:
        found.append(environment.step(state, action))
        state = found[-1].state
    return found


def random_actions(environment: Environment, steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (steps, environment.num_envs, *environment.action_shape)
    return 2 * torch.rand(size, generator=generator) - 1


def rewards(environment: Environment, actions: Tensor) -> Tensor:
    return torch.stack([transition.reward for transition in run(environment, actions)])


# Every environment, as the shells see it


@every_id
def test_every_id_keeps_the_contract_of_batches(environment_id: str) -> None:
    """Bit for bit the singles, in every autoreset mode, inside its spaces, nothing shared."""
    check_vector_env(environment_id, num_envs=2, output="torch", max_episode_steps=4, wrap=ALL)


@pytest.mark.parametrize("wrapper", EACH, ids=name)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_wrapper_keeps_the_contract_of_batches(mode: AutoresetMode, wrapper: Wrapper) -> None:
    """With a parameter of its own in every environment, and episodes that end by divergence."""
    parameters = {"rho": torch.linspace(20.0, 40.0, 3)}
    modes = [mode]
    check_vector_env(
        LORENZ, num_envs=3, parameters=parameters, autoreset_modes=modes, wrap=[wrapper], **EULER
    )


@pytest.mark.parametrize("wrapper", EACH, ids=name)
def test_every_wrapper_passes_the_checker_of_gymnasium(wrapper: Wrapper) -> None:
    check_env(gym.make(LORENZ, wrap=[wrapper]).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_batch_goes_on_from_its_state_dict(mode: AutoresetMode) -> None:
    first, second = (
        BatchedEnv(LORENZ, 4, max_episode_steps=5, wrap=ALL, autoreset_mode=mode, output="torch")
        for _ in range(2)
    )
    actions = random_actions(first.environment, 7)
    first.reset(seed=0)
    for action in actions[:3]:
        first.step(action)
    second.load_state_dict(first.state_dict())
    for action in actions[3:5]:
        (*expected, _), (*found, _) = first.step(action), second.step(action)
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one, other)
    assert torch.equal(first.reset()[0], second.reset()[0])


def test_states_hold_all_that_the_future_depends_on() -> None:
    """A transition depends on the state alone, not on how the environment came there."""
    environment, other = make(*ALL), make(*ALL)
    actions = random_actions(environment, 8)
    path = run(environment, actions)
    again = other.step(path[3].state, actions[4])
    assert torch.equal(again.observation, path[4].observation)
    assert torch.equal(again.reward, path[4].reward)
    assert torch.equal(environment.observe(path[4].state), path[4].observation)


def test_the_environment_inside_is_reached_and_drawn() -> None:
    environment, plain = make(*ALL), make()
    assert type(environment.unwrapped) is type(plain) and plain.unwrapped is plain
    (state, _), (expected, _) = environment.reset(3), plain.reset(3)
    assert torch.equal(state.unwrapped.values, expected.values)
    assert expected.unwrapped is expected
    assert np.array_equal(environment.render(state, 1), plain.render(expected, 1))


def test_rows_have_their_own_parameters() -> None:
    rho = torch.tensor([20.0, 30.0, 40.0])
    batch = make(*ALL, num_envs=3, rho=rho)
    rows = torch.tensor([2, 0])
    selected, shared = batch.select(rows), make(*ALL)
    assert shared.select(rows) is shared and selected.num_envs == 2
    actions = random_actions(batch, 5)
    state, _ = batch.reset(torch.tensor([5, 6, 7]))
    part, _ = selected.reset(torch.tensor([7, 5]))
    for action in actions:
        result, some = batch.step(state, action), selected.step(part, action[rows])
        state, part = result.state, some.state
        assert torch.equal(some.observation, result.observation[rows])


# Noise


def test_noise_is_normal_and_independent() -> None:
    noisy, plain = make(ObservationNoise(0.5), num_envs=4096), make(num_envs=4096)
    actions = torch.zeros(2, 4096, 1)
    steps = [
        a.observation - b.observation
        for a, b in zip(run(noisy, actions), run(plain, actions), strict=True)
    ]
    noise = torch.cat(steps, 1).double() / 0.5  # (environment, step and component)
    count = noise.numel()
    assert abs(noise.mean()) < 5 / count**0.5
    assert abs(noise.var() - 1) < 5 * (2 / count) ** 0.5
    assert abs((noise**4).mean() - 3) < 5 * (96 / count) ** 0.5
    correlation = torch.corrcoef(noise.T) - torch.eye(6)
    neighbours = (noise[:-1] * noise[1:]).mean(0)
    assert correlation.abs().max() < 5 / 64 and neighbours.abs().max() < 5 / 64


@every_id
def test_noise_leaves_the_physics_alone(environment_id: str) -> None:
    noisy, plain = (
        make(*wrap, environment_id=environment_id) for wrap in ([ObservationNoise(0.3)], [])
    )
    actions = random_actions(plain, 6)
    for got, expected in zip(run(noisy, actions), run(plain, actions), strict=True):
        assert torch.equal(got.reward, expected.reward)
        assert not (got.observation == expected.observation).all(1).any()
        for key, value in expected.info.items():
            assert torch.equal(got.info[key], value)


def test_observing_twice_gives_the_same_noise_and_every_step_and_episode_another() -> None:
    noisy, plain = make(ObservationNoise(1.0)), make()
    state, first = noisy.reset(0)
    assert torch.equal(noisy.observe(state), first)
    differences = [first - plain.observe(state)]
    for episode in (0, 1):
        state, _ = noisy.reset(0, episode=episode)
        state = noisy.step(state, torch.zeros(4, 1)).state
        differences.append(noisy.observe(state) - plain.observe(state))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (differences[one] - differences[other]).abs().min() > 1e-6


def test_noise_upon_noise_is_other_noise() -> None:
    """The same noise twice would have the variance 4, two independent ones have 2."""
    plain = make(num_envs=4096)
    state, observation = plain.reset(0)
    twice = make(ObservationNoise(1.0), ObservationNoise(1.0), num_envs=4096).observe(state)
    count = observation.numel()
    assert abs((twice - observation).double().var() / 2 - 1) < 5 * (2 / count) ** 0.5


def test_noise_widens_the_space() -> None:
    noisy, plain = make(ObservationNoise(0.5)), make()
    assert noisy.observation_space.dtype == plain.observation_space.dtype
    widened = noisy.observation_space.high - plain.observation_space.high
    assert np.allclose(widened, 6.77 * 0.5, rtol=1e-5)
    assert np.array_equal(noisy.observation_space.low, -noisy.observation_space.high)


def test_no_noise_is_no_noise() -> None:
    quiet, plain = make(ObservationNoise(0)), make()
    assert torch.equal(quiet.reset(0)[1], plain.reset(0)[1])
    assert quiet.observation_space == plain.observation_space


# Which components are seen


def test_partial_observation_shows_the_components_asked_for() -> None:
    partial, plain = make(PartialObservation([2, 0])), make()
    actions = random_actions(plain, 3)
    for got, expected in zip(run(partial, actions), run(plain, actions), strict=True):
        assert torch.equal(got.observation, expected.observation[:, [2, 0]])
    space = partial.observation_space
    assert np.array_equal(space.high, plain.observation_space.high[[2, 0]])


# Actions


def test_delayed_actions_are_those_of_before() -> None:
    delayed, plain = make(ActionDelay(2)), make()
    actions = random_actions(plain, 6)
    earlier = torch.cat((torch.zeros(2, 4, 1), actions[:-2]))
    for got, expected in zip(run(delayed, actions), run(plain, earlier), strict=True):
        assert torch.equal(got.observation, expected.observation)
        assert torch.equal(got.reward, expected.reward)


def test_a_delay_of_zero_is_none() -> None:
    actions = random_actions(make(), 4)
    assert torch.equal(rewards(make(ActionDelay(0)), actions), rewards(make(), actions))


def test_limited_actions_approach_what_is_wanted() -> None:
    limited, plain = make(RateLimit(0.3), num_envs=1), make(num_envs=1)
    wanted = torch.tensor([1.0, 1.0, 1.0, 5.0, -1.0, -0.15, 0.1])
    applied = torch.tensor([0.3, 0.6, 0.9, 1.0, 0.7, 0.4, 0.1])
    got = rewards(limited, wanted.view(-1, 1, 1))
    assert torch.allclose(got, rewards(plain, applied.view(-1, 1, 1)), rtol=1e-4)
    last = run(limited, wanted.view(-1, 1, 1))[-1].state.memory
    assert last.item() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("wrapper", [ActionDelay(2), RateLimit(0.3)], ids=name)
def test_a_new_episode_knows_nothing_of_the_last(wrapper: Wrapper) -> None:
    envs = BatchedEnv(LORENZ, 2, max_episode_steps=3, wrap=[wrapper], output="torch")
    envs.reset(seed=0)
    for _ in range(3):
        envs.step(torch.ones(2, 1))
    assert envs.state.interval.tolist() == [0, 0] and not envs.state.memory.any()


# Frames


def test_stacked_frames_are_the_last_observations() -> None:
    stacked, plain = make(FrameStack(3)), make()
    actions = random_actions(plain, 4)
    seen = [plain.reset(0)[1]] * 3 + [t.observation for t in run(plain, actions)]
    assert torch.equal(stacked.reset(0)[1], torch.cat(seen[:3], 1))
    for step, transition in enumerate(run(stacked, actions)):
        assert torch.equal(transition.observation, torch.cat(seen[step + 1 : step + 4], 1))
    assert stacked.observation_space.shape == (9,)


# Order


def test_wrappers_apply_in_order() -> None:
    """Noise under a stack stays with its frame; noise over a stack is new in every frame."""
    under, over = (
        make(*wrap)
        for wrap in (
            [ObservationNoise(1.0), FrameStack(2)],
            [FrameStack(2), ObservationNoise(1.0)],
        )
    )
    for environment, kept in ((under, True), (over, False)):
        first, second = (t.observation for t in run(environment, torch.zeros(2, 4, 1)))
        assert torch.equal(first[:, 3:], second[:, :3]) is kept
    # Limited, then delayed: zero for two steps. The limit next to the agent sees no delay.
    chain = make(RateLimit(0.3), ActionDelay(2), num_envs=1)
    last = run(chain, torch.ones(3, 1, 1))[-1].state
    assert last.memory.flatten().tolist() == [1, 1]
    assert last.inner.memory.item() == pytest.approx(0.3)
    chain = make(ActionDelay(2), RateLimit(0.3), num_envs=1)
    last = run(chain, torch.ones(3, 1, 1))[-1].state
    assert last.inner.memory.flatten().tolist() == pytest.approx([0.6, 0.9])


# Gradients


def test_the_gradient_of_a_delayed_action_arrives_at_its_step() -> None:
    environment = make(ActionDelay(2), num_envs=1, dtype="float64")
    actions = 0.3 * random_actions(environment, 5).double()
    actions.requires_grad_()
    received = rewards(environment, actions)
    for step in range(5):
        (gradient,) = torch.autograd.grad(
            received[step].sum(), actions, retain_graph=True, allow_unused=True
        )
        flat = torch.zeros(5).double() if gradient is None else gradient.flatten()
        # An action given at step k acts at step k + 2, and on the reward from there on.
        assert (flat != 0).tolist() == [given + 2 <= step for given in range(5)]


@every_id
def test_gradients_equal_finite_differences(environment_id: str) -> None:
    environment = make(*ALL, environment_id=environment_id, num_envs=2, dtype="float64")
    actions = 0.2 * random_actions(environment, 5).double()  # changes below the limit and above
    actions.requires_grad_()

    def total(given: Tensor) -> Tensor:
        path = run(environment, given)
        seen = sum(t.observation.sin().sum() for t in path)
        return seen + sum(t.reward.sum() for t in path)

    if not environment.differentiable:
        with pytest.raises(ValueError, match="no derivatives"):
            total(actions)
        return
    (gradient,) = torch.autograd.grad(total(actions), actions)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(actions.shape, generator=generator, dtype=torch.float64)
        step = 1e-5
        with torch.no_grad():
            difference = total(actions + step * direction) - total(actions - step * direction)
        expected = (difference / (2 * step)).item()
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("wrapper", EACH, ids=name)
def test_a_diverged_environment_spoils_no_gradient(wrapper: Wrapper) -> None:
    environment = make(wrapper, num_envs=8, **EULER)
    actions = torch.zeros(8, 8, 1, requires_grad=True)
    path = run(environment, actions)
    ended = torch.stack([t.info["diverged"] for t in path]).any(0)
    assert ended.any() and not ended.all(), "the case shows nothing"
    total = sum((t.observation.sum() + t.reward.sum()) for t in path)
    (gradient,) = torch.autograd.grad(total, actions)
    assert gradient.isfinite().all() and gradient[0, ~ended].all()
