"""The surrogate as an environment: rewards, ends of episodes, starts, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.agents.common.projections import unit_circle, wrap_angles
from separatrix.agents.sindy_rl.forecast import Dynamics, Forecast
from separatrix.agents.sindy_rl.surrogate import Starts, SurrogateEnvironment
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment


class Drift(Dynamics):
    """Every component moves by the action; deviation and leverage are its magnitude."""

    def __init__(self, reward: float | None = None) -> None:
        self.reward = reward

    def forecast(self, observation: Tensor, action: Tensor) -> Forecast:
        size = action.abs().amax(1)
        reward = None if self.reward is None else torch.full_like(size, self.reward)
        return Forecast(observation + action[:, :1], reward, size, 2 * size)


@pytest.fixture(scope="module")
def like() -> Environment:
    return make_environment("Lorenz-v0", 4)


def starts(like: Environment, share: float = 0.5) -> Starts:
    size = like.observation_space.shape[0]
    return Starts(torch.zeros((1, size)), torch.full((5, size), 0.1), share)


def step(environment: SurrogateEnvironment, action: float) -> tuple[Tensor, ...]:
    state, _ = environment.reset(0)
    size = environment.action_shape[0]
    found = environment.step(state, torch.full((environment.num_envs, size), action))
    return found.observation, found.reward, found.terminated, found.state.interval, state.values


def test_episodes_start_from_real_starts_and_from_anywhere_in_their_shares(
    like: Environment,
) -> None:
    environment = SurrogateEnvironment(Drift(), like, starts(like, 0.25), num_envs=4000)
    state, observation = environment.reset(7)
    assert torch.equal(state.values, observation)
    share = (observation[:, 0] == 0).float().mean().item()
    assert abs(share - 0.25) < 0.03
    for share, value in ((1.0, 0.0), (0.0, 0.1)):
        _, observation = SurrogateEnvironment(Drift(), like, starts(like, share)).reset(0)
        assert (observation == value).all()


def test_the_known_reward_is_that_of_the_real_environment() -> None:
    real = make_environment("CartPoleSwingUp-v0", 8, dtype="float64")
    state, observation = real.reset(3)
    action = torch.linspace(-1.5, 1.5, 8, dtype=torch.float64)[:, None]
    found = real.step(state, action)

    class Oracle(Dynamics):
        def forecast(self, observation: Tensor, action: Tensor) -> Forecast:
            zero = action[:, 0] * 0
            return Forecast(found.observation, None, zero, zero)

    model = SurrogateEnvironment(Oracle(), real, Starts(observation, observation, 0.0))
    mine = model.step(model.state_from(observation, state), action)
    torch.testing.assert_close(mine.reward, found.reward, rtol=1e-12, atol=1e-12)
    assert torch.equal(mine.observation, found.observation)


def test_leaving_the_limits_ends_the_episode_and_never_pays(like: Environment) -> None:
    limits = torch.full((like.observation_space.shape[0],), 0.5)
    environment = SurrogateEnvironment(
        Drift(0.7), like, starts(like, 1.0), num_envs=3, limits=limits, discount=0.9
    )
    observation, reward, terminated, _, before = step(environment, 1.0)
    assert terminated.all() and (reward == 0).all()  # the lowest reward is 0, for ever
    assert torch.equal(observation, before)
    _, reward, terminated, _, _ = step(environment, 0.4)
    assert not terminated.any() and torch.allclose(reward, torch.tensor(0.7))


def test_with_negative_rewards_leaving_costs_as_much_as_staying_at_the_worst(
    like: Environment,
) -> None:
    environment = SurrogateEnvironment(
        Drift(0.5),
        like,
        starts(like, 1.0),
        num_envs=2,
        limits=torch.full((3,), 0.5),
        lowest_reward=-2.0,
        discount=0.9,
    )
    _, reward, terminated, _, _ = step(environment, 1.0)
    assert terminated.all()
    torch.testing.assert_close(reward, torch.full((2,), -20.0))


def test_the_penalty_is_the_deviation_and_bounded_by_the_range(like: Environment) -> None:
    for penalty, expected in ((0.0, 0.9), (0.5, 0.9 - 0.2), (100.0, 0.9 - 1.0)):
        environment = SurrogateEnvironment(Drift(0.9), like, starts(like), penalty=penalty)
        _, reward, _, _, _ = step(environment, 0.4)
        torch.testing.assert_close(reward, torch.full_like(reward, expected))


@pytest.mark.parametrize(
    ("limit", "truncated"),
    [({"deviation_limit": 0.3}, True), ({"leverage_limit": 0.7}, True), ({}, False)],
)
def test_where_the_model_is_unsure_the_episode_is_truncated_and_not_terminated(
    like: Environment, limit: dict[str, Any], truncated: bool
) -> None:
    environment = SurrogateEnvironment(Drift(0.5), like, starts(like), horizon=50, **limit)
    _, _, terminated, interval, _ = step(environment, 0.4)
    assert not terminated.any()
    assert (interval == (50 if truncated else 1)).all()
    env = BatchedEnv(environment, environment.num_envs, output="torch")
    env.reset(seed=0)
    _, _, terminated, ended, _ = env.step(torch.full((environment.num_envs, 1), 0.4))
    assert bool(ended.all()) is truncated and not terminated.any()


def test_gradients_flow_and_a_row_that_leaves_spoils_none(like: Environment) -> None:
    environment = SurrogateEnvironment(
        Drift(), like, starts(like, 1.0), num_envs=3, limits=torch.full((3,), 0.5)
    )
    state, _ = environment.reset(0)
    action = torch.tensor([[0.1], [0.9], [float("nan")]], requires_grad=True)
    found = environment.step(state, action)
    found.reward.sum().backward()
    assert action.grad is not None and action.grad.isfinite().all()
    assert action.grad[0] != 0 and (action.grad[1:] == 0).all()
    assert found.terminated.tolist() == [False, True, True]


def test_every_shell_and_controller_takes_it(like: Environment) -> None:
    environment = SurrogateEnvironment(Drift(0.5), like, starts(like), num_envs=4, horizon=20)
    env = BatchedEnv(environment, 4)
    env.reset(seed=0)
    for _ in range(25):
        observation, _, _, _, infos = env.step(env.action_space.sample())
        assert observation in env.observation_space
    assert {"deviation", "leverage"} <= set(infos)
    found = evaluate(environment, RandomController(environment), torch.arange(4))
    assert (found.lengths <= 20).all() and set(found.metrics) == {"deviation", "leverage"}


def test_no_episode_starts_outside_the_limits(like: Environment) -> None:
    spread = Starts(torch.zeros((1, 3)), torch.linspace(-1, 1, 201)[:, None].expand(-1, 3), 0.0)
    environment = SurrogateEnvironment(
        Drift(), like, spread, num_envs=500, limits=torch.full((3,), 0.25)
    )
    _, observation = environment.reset(0)
    assert 0.2 < observation.abs().max() <= 0.25
    with pytest.raises(ValueError, match=r"limits: got .* hold a start"):
        outside = Starts(torch.ones((1, 3)), torch.ones((1, 3)), 0.5)
        SurrogateEnvironment(Drift(), like, outside, limits=torch.full((3,), 0.25))


def test_bad_arguments_are_refused(like: Environment) -> None:
    with pytest.raises(ValueError, match="discount: got 1"):
        SurrogateEnvironment(Drift(), like, starts(like), discount=1.0)
    with pytest.raises(ValueError, match="horizon: got 0"):
        SurrogateEnvironment(Drift(), like, starts(like), horizon=0)
    with pytest.raises(ValueError, match=r"starts\.any: got no observation"):
        Starts(torch.zeros((1, 3)), torch.zeros((0, 3)), 0.5)


def test_projections() -> None:
    observation = torch.tensor([[3.0, 4.0, 3.5], [0.6, 0.8, -9.5]], requires_grad=True)
    circle = unit_circle((0, 1))(observation)
    torch.testing.assert_close(circle[:, :2], torch.tensor([[0.6, 0.8], [0.6, 0.8]]))
    wrapped = wrap_angles(2)(observation)
    torch.testing.assert_close(wrapped[:, 2].cos(), observation[:, 2].cos())
    assert (wrapped[:, 2].abs() <= torch.pi + 1e-6).all()
    (gradient,) = torch.autograd.grad(wrapped[:, 2].sum(), observation)
    assert torch.equal(gradient[:, 2], torch.ones(2))
