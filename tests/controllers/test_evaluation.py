"""Evaluation against a hand-written environment whose every number is known."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import bootstrap_interval, evaluate
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.stream import Stream


@dataclass(frozen=True)
class Count:
    """Seed of each row, and its number of steps so far."""

    seed: Tensor
    steps: Tensor


class Counter(Environment):
    """The row of seed s diverges at step s, unless s is 0; its reward at step n is s + n.

    What it returns after an episode's end is NaN, as nothing should depend on it.
    """

    num_envs = 4
    device = torch.device("cpu")
    dtype = torch.float32
    observation_space = Box(-np.inf, np.inf, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (2,), np.float32)
    reward_range = (0.0, 100.0)
    metric_names = ("steps", "action")
    horizon = 5

    def restart(self, stream: Stream) -> tuple[Count, Tensor]:
        state = Count(stream.seed, torch.zeros_like(stream.seed))
        return state, self.observe(state)

    def observe(self, state: Count) -> Tensor:
        return state.steps[:, None].float()

    def step(self, state: Count, action: Tensor) -> Transition:
        assert not action.isnan().any()
        state = replace(state, steps=state.steps + 1)
        over = (state.steps > state.seed) & (state.seed > 0)
        nan = torch.where(over, torch.nan, 0.0)
        info = {
            "steps": state.steps + nan,
            "action": action[:, 0] + nan,
            "diverged": state.steps == state.seed,
        }
        reward = state.seed + state.steps + nan
        observation = self.observe(state) + nan[:, None]
        return Transition(state, observation, reward, info["diverged"], info)

    def select(self, rows: Tensor) -> Self:
        return self

    def render(self, state: Any, row: int = 0) -> np.ndarray:
        return np.zeros((2, 2, 3), np.uint8)


class Echo(Controller):
    """The action is the observation over ten; counts the resets."""

    def __init__(self) -> None:
        self.resets: list[Tensor] = []

    def act(self, observation: Tensor, state: Any) -> Tensor:
        return (observation / 10).repeat(1, 2)

    def reset(self, mask: Tensor) -> None:
        self.resets.append(mask)


SEEDS = torch.tensor([0, 1, 3, 5, 7])
LENGTHS = [5, 1, 3, 5, 5]


def test_every_number_of_an_evaluation() -> None:
    controller = Echo()
    evaluation = evaluate(Counter(), controller, SEEDS)
    assert evaluation.lengths.tolist() == LENGTHS
    # Seeds 0, 1, 3, 5, 7: sum over the steps n lived of seed + n.
    assert evaluation.returns.tolist() == [15, 2, 15, 40, 50]
    assert evaluation.diverged.tolist() == [False, True, True, True, False]
    # Mean of 1, ..., length; and of the actions 0, 0.1, ...
    np.testing.assert_allclose(evaluation.metrics["steps"], [3, 1, 2, 3, 3])
    np.testing.assert_allclose(evaluation.metrics["action"], [0.2, 0, 0.1, 0.2, 0.2], rtol=1e-6)
    assert [mask.tolist() for mask in controller.resets] == [[True] * 5]
    assert evaluation.means() == pytest.approx(
        {"return": 24.4, "length": 3.8, "steps": 2.4, "action": 0.14, "diverged": 0.6}
    )


def test_an_evaluation_needs_episodes() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        evaluate(Counter(), Echo(), SEEDS[:0])


def test_rollout_stops_when_all_episodes_have_ended() -> None:
    steps = list(rollout(Counter(), Echo(), torch.tensor([1, 2])))
    assert [step.alive.tolist() for step in steps] == [[True, True], [False, True]]
    assert steps[1].action[0].tolist() == [0, 0]
    assert [step.state.steps.tolist() for step in steps] == [[0, 0], [1, 1]]


def test_rollout_leaves_the_callers_gradients_alone() -> None:
    for _ in rollout(Counter(), Echo(), SEEDS):
        assert torch.is_grad_enabled()


def test_zero_controller() -> None:
    action = ZeroController(Counter()).act(torch.ones(3, 1), None)
    assert action.tolist() == [[0, 0]] * 3


def test_random_controller_is_uniform_and_has_its_own_stream() -> None:
    controller = RandomController(Counter(), seed=1)
    state = torch.get_rng_state()
    action = controller.act(torch.ones(20_000, 1), None)
    assert torch.equal(torch.get_rng_state(), state)
    assert action.shape == (20_000, 2)
    assert action.abs().max() <= 1
    # Standard errors: 0.0041 of the mean, 0.0021 of the variance 1/3; four of each.
    assert action.mean(0).abs().max() < 0.0163
    assert (action.var(0) - 1 / 3).abs().max() < 0.0085
    again, other = RandomController(Counter(), seed=1), RandomController(Counter(), seed=2)
    assert torch.equal(again.act(torch.ones(20_000, 1), None), action)
    assert not torch.equal(other.act(torch.ones(20_000, 1), None), action)
    assert not torch.equal(controller.act(torch.ones(20_000, 1), None), action)


def test_bootstrap_interval_has_the_width_of_theory() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_interval(values, resamples=4000)
    half_width = 1.96 * values.std(correction=0).item() / 20
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * half_width, rel=0.06)
    assert bootstrap_interval(values, resamples=4000) == (low, high)
    wider = bootstrap_interval(values, level=0.99, resamples=4000)
    assert wider[0] < low
    assert wider[1] > high


def test_bootstrap_interval_holds_the_mean_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    held = 0
    for seed in range(300):
        values = torch.rand(40, generator=generator)
        low, high = bootstrap_interval(values, level=0.9, resamples=300, seed=seed)
        held += low <= 0.5 <= high
    # 0.9 within four standard errors of 300 trials.
    assert abs(held / 300 - 0.9) < 4 * (0.9 * 0.1 / 300) ** 0.5


def test_bootstrap_interval_of_equal_values_is_a_point() -> None:
    assert bootstrap_interval(torch.full((5,), 2.5)) == (2.5, 2.5)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval(torch.zeros(0))
    with pytest.raises(ValueError, match="level 1"):
        bootstrap_interval(torch.ones(2), level=1.0)
