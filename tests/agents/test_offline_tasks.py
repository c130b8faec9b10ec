"""What offline agents learn of x' = x + u / 2 from random actions, against what theory promises.

The reward is -(x^2 + u^2 / 10), |u| <= 1. From |x| <= 0.6 the unconstrained optimum stays within
the bounds: it is linear, and Riccati's equation has it. Who knows no more than the mean action,
which is what behaviour cloning learns, does nothing; what that costs more than the optimum is the
unit of regret here.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from separatrix.agents.offline.config import (
    BehaviourCloningConfig,
    ConservativeConfig,
    DiverseCriticsConfig,
    ImplicitQLearningConfig,
    MethodConfig,
    OfflineConfig,
    TD3BehaviourCloningConfig,
)
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.experience import RecordedExperience
from separatrix.agents.offline.learner import OfflineLearner
from separatrix.agents.offline.methods import make_learner
from separatrix.controllers.controller import Controller
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.environment import ComposedEnvironment
from tests.agents.linear_environments import Linear, Quadratic

GAMMA, COST, UPDATES = 0.9, 0.1, 1200
TENTH = 0.1
"""Of the regret of doing nothing: what counts as near."""


def environment() -> ComposedEnvironment:
    return ComposedEnvironment(Linear([[1.0]], [[0.5]], 100, torch.float32), Quadratic(1, 1), 10)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Four hundred episodes of ten steps."""
    made = environment()
    return record(made, RandomController(made, 0), 4000, 0)


def learned(
    data: Dataset,
    method: MethodConfig,
    updates: int = UPDATES,
    watch: Callable[[OfflineLearner], None] = lambda learner: None,
) -> OfflineLearner:
    """Trains, and shows the learner after every 100 updates."""
    config = OfflineConfig(
        "x", method=method, layers=(64, 64), batch_size=128, gamma=GAMMA, target_rate=0.05
    )
    learner = make_learner(config, 1, 1, 0, "cpu", updates, -100.0)
    learner.normalizer.fit(data.observation)
    experience = RecordedExperience(data, config.batch_size, 1)
    for _ in range(updates):
        learner.update(experience.batch(learner)[0])
        if learner.updates % 100 == 0:
            watch(learner)
    return learner


def cost(policy: Callable[[Tensor], Tensor]) -> float:
    """Mean discounted cost of a policy from |x| <= 0.6."""
    x, total = torch.linspace(-0.6, 0.6, 121)[:, None], 0.0
    for step in range(150):  # 0.9^150 is 1e-7
        u = policy(x)
        total += GAMMA**step * (x.square() + COST * u.square()).mean().item()
        x = x + 0.5 * u
    return total


def linear_cost(gain: float) -> float:
    return cost(lambda x: -gain * x)


def optimal_gain() -> float:
    """Riccati's equation, iterated."""
    p = 1.0
    for _ in range(1000):
        p = 1 + GAMMA * p - (0.5 * GAMMA * p) ** 2 / (COST + 0.25 * GAMMA * p)
    return 0.5 * GAMMA * p / (COST + 0.25 * GAMMA * p)


OPTIMUM = linear_cost(optimal_gain())
UNIT = linear_cost(0.0) - OPTIMUM


def regret(learner: OfflineLearner) -> float:
    controller = learner.controller()
    return (cost(lambda x: controller.act(x, None)) - OPTIMUM) / UNIT


def test_the_optimum_is_one_and_within_the_bounds() -> None:
    assert 0.6 * optimal_gain() < 1
    assert all(linear_cost(optimal_gain() + d) > OPTIMUM for d in (-0.05, 0.05))
    assert UNIT > 5 * OPTIMUM


@pytest.mark.parametrize(
    "method",
    [
        DiverseCriticsConfig(critics=5, policy_learning_rate=1e-3, critic_learning_rate=1e-3),
        pytest.param(
            # Values are of the size of one: beside the default weight they would hardly count.
            ConservativeConfig(
                weight=0.5, policy_learning_rate=1e-3, critic_learning_rate=1e-3, actions=5
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda method: method.kind,
)
def test_critics_that_are_careful_where_data_lack_find_the_optimum(
    method: MethodConfig, data: Dataset
) -> None:
    """Data that hold all actions leave nothing to be careful of."""
    assert regret(learned(data, method)) < TENTH


def td3_bc_gain(alpha: float, data: Dataset) -> float:
    """The linear policy at which values and the distance to random actions are in balance.

    Of the gain k the cost is p x^2 with p = (1 + 0.1 k^2) / (1 - gamma (1 - k / 2)^2), the mean
    size of the values p E[x^2]; actions u minimise
    alpha / (p E[x^2]) (0.1 u^2 + gamma p (x + u / 2)^2) + u^2.
    """
    gain, size = 0.0, data.observation.square().mean().item()
    for _ in range(1000):
        p = (1 + COST * gain**2) / (1 - GAMMA * (1 - 0.5 * gain) ** 2)
        weight = alpha / (p * size)
        gain = 0.5 * weight * GAMMA * p / (weight * (COST + 0.25 * GAMMA * p) + 1)
    return gain


@pytest.mark.parametrize("alpha", [2.5, pytest.param(10.0, marks=pytest.mark.slow)])
def test_td3_bc_balances_values_and_the_recorded_actions(alpha: float, data: Dataset) -> None:
    """The gain swings with the batches about the one in balance: it is averaged over a half."""
    method = TD3BehaviourCloningConfig(
        alpha=alpha, policy_noise=0.0, policy_learning_rate=1e-3, critic_learning_rate=1e-3
    )
    x, gains = torch.linspace(-0.6, 0.6, 121)[:, None], list[float]()

    def watch(learner: OfflineLearner) -> None:
        u = learner.controller().act(x, None)
        gains.append(-((x * u).sum() / x.square().sum()).item())

    assert regret(learned(data, method, 3000, watch)) < TENTH
    assert sum(gains[15:]) / 15 == pytest.approx(td3_bc_gain(alpha, data), rel=TENTH)


def implicit_policy(method: ImplicitQLearningConfig) -> Callable[[Tensor], Tensor]:
    """What IQL's equations make of uniform actions, on a grid: the mean of weighted actions."""
    x, u = torch.linspace(-4, 4, 321), torch.linspace(-1, 1, 81)
    following = x[:, None] + 0.5 * u
    place = ((following + 4) / 8 * 320).clamp(0, 320)
    lower = place.floor().clamp_max(319).long()
    share = place - lower
    value = torch.zeros_like(x)
    for _ in range(200):
        ahead = (1 - share) * value[lower] + share * value[lower + 1]
        action_value = -x.square()[:, None] - COST * u.square() + GAMMA * ahead
        for _ in range(20):  # the expectile is the mean with the weights of its loss
            above = action_value > value[:, None]
            weight = torch.where(above, method.expectile, 1 - method.expectile)
            value = (weight * action_value).sum(1) / weight.sum(1)
    weight = (method.temperature * (action_value - value[:, None])).exp()
    mean = (weight.clamp_max(method.largest_weight) * u).sum(1)
    mean = mean / weight.clamp_max(method.largest_weight).sum(1)

    def act(observation: Tensor) -> Tensor:
        nearest = ((observation + 4) / 8 * 320).round().long().clamp(0, 320)
        return mean[nearest]

    return act


@pytest.mark.parametrize(
    ("expectile", "temperature"), [(0.7, 3.0), pytest.param(0.9, 10.0, marks=pytest.mark.slow)]
)
def test_iql_finds_what_its_equations_say(
    expectile: float, temperature: float, data: Dataset
) -> None:
    method = ImplicitQLearningConfig(
        expectile=expectile,
        temperature=temperature,
        policy_learning_rate=1e-3,
        critic_learning_rate=1e-3,
    )
    expected = (cost(implicit_policy(method)) - OPTIMUM) / UNIT
    found = regret(learned(data, method))
    assert expected < 0.5 and found < 0.5
    assert found == pytest.approx(expected, abs=TENTH)


class Wave(Controller):
    """A policy without chance."""

    def act(self, observation: Tensor, state: object) -> Tensor:
        return 0.8 * torch.sin(3 * observation)


def test_behaviour_cloning_repeats_what_it_saw() -> None:
    made = environment()
    data = record(made, Wave(), 4000, 0)
    learner = learned(data, BehaviourCloningConfig(learning_rate=1e-3))
    found = learner.controller().act(data.observation, None)
    error = (found - data.action).square().mean() / data.action.var()
    assert error < TENTH**2


def test_behaviour_cloning_learns_the_mean_of_random_actions(data: Dataset) -> None:
    learner = learned(data, BehaviourCloningConfig())
    assert regret(learner) > 0.5
