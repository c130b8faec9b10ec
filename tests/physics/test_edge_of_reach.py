"""The edge of reach: what rollouts reach, the reward by hand, and the true optimal values."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.mechanics.edge_of_reach import CENTRE, LIMIT, SCALE, START, edge_of_reach
from separatrix.envs.mechanics.edge_of_reach_values import OptimalValues, optimal_values

NAME = "EdgeOfReach-v0"


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **{"dtype": "float64", **options})


def state_at(environment: Any, places: Tensor) -> Any:
    state, _ = environment.reset(torch.arange(len(places)))
    state.values[:] = places
    return state


def reward_by_hand(x: float, y: float, slope: float = 0.01, width: float = 2.0) -> float:
    off = (x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2
    return math.exp(-off / (2 * width**2)) + slope * math.sqrt(1 + x**2 + y**2)


def test_a_step_adds_the_clipped_action() -> None:
    environment = make(3)
    places = torch.tensor([[1.0, -2.0], [30.0, 5.0], [5.0, 5.0]], dtype=torch.float64)
    action = torch.tensor([[0.5, -0.25], [-3.0, 1.5], [0.0, 0.0]], dtype=torch.float64)
    found = environment.step(state_at(environment, places), action)
    expected = places + action.clamp(-1, 1)
    assert torch.equal(found.state.values, expected)
    assert torch.equal(found.observation, expected / 8)
    by_hand = [reward_by_hand(*place) for place in expected.tolist()]
    assert found.reward.tolist() == pytest.approx(by_hand, rel=1e-14)
    assert found.info["reach"].tolist() == [2.25, 29.0, 5.0]
    assert not found.terminated.any()


def test_options_shape_the_reward() -> None:
    environment = make(slope=0.1, width=5.0)
    found = environment.step(state_at(environment, torch.tensor([[3.0, 2.0]])), torch.zeros(1, 2))
    assert found.reward.item() == pytest.approx(reward_by_hand(3.0, 2.0, 0.1, 5.0), rel=1e-14)
    assert environment.reward_range == pytest.approx((0.0, 1 + 0.1 * math.sqrt(3201)))
    for name, value in (("slope", 0.0), ("slope", -1.0), ("width", 0.0)):
        options: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=rf"{name}: got .*; allowed: .*> 0"):
            make(**options)


def test_starts_fill_their_square() -> None:
    state, _ = make(4000).reset(0)
    values = state.values
    assert (values.abs() <= START).all()
    assert values.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.06)
    assert values.std(0).tolist() == pytest.approx([START * 3**-0.5] * 2, rel=0.03)
    correlation = float(torch.corrcoef(values.T)[0, 1])
    assert abs(correlation) < 0.05


def test_rewards_of_the_safe_box_are_in_their_range() -> None:
    environment = make()
    axis = torch.linspace(-LIMIT, LIMIT, 401, dtype=torch.float64)
    seen = torch.cartesian_prod(axis, axis) / SCALE
    reward, ended = environment.known_outcome(seen, torch.zeros_like(seen), seen)
    low, high = environment.reward_range
    assert low < reward.min() and reward.max() < high and not ended.any()
    assert reward.max() > 1.0


def test_leaving_the_safe_box_is_divergence() -> None:
    environment = make(2)
    places = torch.tensor([[39.5, 0.0], [0.0, -39.5]])
    found = environment.step(state_at(environment, places), torch.tensor([[1.0, 0.0], [0.0, -0.4]]))
    assert found.info["diverged"].tolist() == found.terminated.tolist() == [True, False]
    assert found.reward[0] == 0.0 and found.state.values[0].tolist() == [39.5, 0.0]


def test_an_outward_step_pays_where_the_bump_is_far() -> None:
    """From most starts; from those near the bump a step towards it does."""
    environment = make(2000)
    state, seen = environment.reset(0)
    leaf = seen.clone().requires_grad_()
    reward, _ = environment.known_outcome(leaf, torch.zeros_like(leaf), leaf)
    (slope,) = torch.autograd.grad(reward.sum(), leaf)
    outward = (slope * seen).sum(1) > 0
    to_bump = (slope * (torch.tensor(CENTRE) - state.values)).sum(1) > 0
    assert outward.double().mean() > 0.6  # measured: 0.75
    near = (state.values - 5.0).norm(dim=1) < 6.0
    assert near.any() and to_bump[near].all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_reach_grows_by_one_a_step_and_is_attained(dtype: str) -> None:
    """Full steps outwards from the corners attain it; nothing else gets further."""
    environment = make(64, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    state, observation = environment.reset(0)
    corners = torch.tensor([[-START, -START], [START, START], [START, -START], [-START, START]])
    state.values[:4] = corners.to(state.values)
    drift = 2 * torch.rand(64, 2, generator=generator) - 1
    drift[:4] = corners.sign()
    for step in range(1, 31):
        action = drift + 0.5 * (2 * torch.rand(64, 2, generator=generator) - 1)
        action[:4] = drift[:4]
        state, observation, *_, info = environment.step(state, action.to(environment.dtype))
        assert (info["reach"] <= START + step).all()
        assert (info["reach"][:4] == START + step).all()
        assert edge_of_reach(observation, step)[:4].all()
        assert not edge_of_reach(observation, step + 1).any(), "reached before the last step"
    assert not info["diverged"].any()


def test_edge_of_reach_is_a_frame() -> None:
    places = torch.tensor(
        [[11.0, 0.0], [11.01, 0.0], [0.0, -11.5], [-12.0, 12.0], [12.01, 0.0], [3.0, 3.0]]
    )
    expected = [False, True, True, True, False, False]
    assert edge_of_reach(places / SCALE, 10).tolist() == expected
    shaped = (places / SCALE).view(2, 3, 2)
    assert edge_of_reach(shaped, 10).tolist() == [expected[:3], expected[3:]]
    # A part of ((24^2 - 22^2) / 80^2 = 0.01 of the box.
    box = (2 * torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0)) - 1) * LIMIT
    share = edge_of_reach(box / SCALE, 10).double().mean().item()
    assert share == pytest.approx((24**2 - 22**2) / 80**2, rel=0.1)
    with pytest.raises(ValueError, match="rollout: got 0; allowed: an integer >= 1"):
        edge_of_reach(places, 0)


def test_gradients_flow_through_an_episode() -> None:
    """The return of a plan, by its actions, against central differences."""
    environment = make(backend="torch")
    generator = torch.Generator().manual_seed(1)
    plan = 1.6 * torch.rand(10, 2, generator=generator, dtype=torch.float64) - 0.8

    def total(actions: Tensor) -> Tensor:
        state, _ = environment.reset(4)
        rewards = []
        for action in actions:
            state, _, reward, *_ = environment.step(state, action[None])
            rewards.append(reward[0])
        return torch.stack(rewards).sum()

    assert torch.autograd.gradcheck(total, plan.requires_grad_())


@pytest.fixture(scope="module")
def values() -> OptimalValues:
    return optimal_values(make())


def test_the_largest_value_is_to_stay_at_the_best_place(
    values: OptimalValues, gate: Callable[..., None]
) -> None:
    """The reward over (1 - discount) at the top of the bump, found here along the diagonal."""
    x = np.linspace(4.0, 6.0, 200_001)
    best = np.exp(-2 * (x - 5) ** 2 / 8) + 0.01 * np.sqrt(1 + 2 * x**2)
    largest = best.max() / (1 - 0.99)
    assert largest == pytest.approx(107.161, abs=1e-3)
    assert float(values.grid.max()) <= largest
    gate(
        NAME,
        "largest optimal value on the grid, discount 0.99",
        float(values.grid.max()),
        largest,
        tolerance=0.02,  # the top of the bump is 0.03 off the grid
        source="to stay at the top of the bump",
    )
    # It is the value of every state from which a step gets there.
    seen = torch.tensor([[5.0, 5.0], [5.9, 4.1], [4.2, 5.7]], dtype=torch.float64) / SCALE
    assert values.value(seen).tolist() == pytest.approx([largest] * 3, abs=0.03)
    far = torch.tensor([[7.0, 5.0]], dtype=torch.float64) / SCALE  # two steps off
    missed = best.max() - reward_by_hand(6.0, 5.0)
    assert float(values.value(far)) == pytest.approx(largest - missed, abs=0.03)


def test_values_solve_the_equation_of_optimality(values: OptimalValues) -> None:
    """At grid points, over all steps from grid point to grid point, one by one."""
    axis = torch.linspace(-LIMIT, LIMIT, len(values.grid), dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randint(len(axis), (50, 2), generator=generator)
    chosen[:2] = torch.tensor([[0, 0], [len(axis) - 1, 7]])  # at the walls, too
    seen = axis[chosen] / SCALE
    side = torch.linspace(-1.0, 1.0, 2 * values.points + 1, dtype=torch.float64)
    actions = torch.cartesian_prod(side, side)
    worth = values.action_value(
        seen.repeat_interleave(len(actions), 0), actions.repeat(len(seen), 1)
    ).view(len(seen), -1)
    torch.testing.assert_close(worth.amax(1), values.grid[chosen[:, 0], chosen[:, 1]])
    torch.testing.assert_close(values.value(seen), values.grid[chosen[:, 0], chosen[:, 1]])


def test_a_finer_grid_changes_little_and_only_adds(values: OptimalValues) -> None:
    """What can be walked on a grid can be walked on one that holds it."""
    grids = {points: optimal_values(make(), points=points).grid for points in (1, 2)}
    grids[4] = values.grid
    grids[8] = optimal_values(make(), points=8).grid
    gains = [
        grids[2 * points][:: 2 * points, :: 2 * points] - grids[points][::points, ::points]
        for points in (1, 2, 4)
    ]
    assert all(gain.min() >= -1e-9 for gain in gains)
    largest = [float(gain.max()) for gain in gains]
    assert largest[0] > 2 * largest[1] > 4 * largest[2] > 0
    assert largest[2] < 2e-3  # of values around 100


def test_the_best_actions_attain_the_values(values: OptimalValues) -> None:
    """Discounted returns in the environment, from anywhere, of 1200 steps (0.99^1200 = 6e-6)."""
    environment = make(24)
    generator = torch.Generator().manual_seed(3)
    places = (2 * torch.rand(24, 2, generator=generator, dtype=torch.float64) - 1) * 38
    places[:8] /= 19  # starts of episodes
    state = state_at(environment, places)
    promised = values.value(environment.observe(state))
    total, weight, action = torch.zeros(24, dtype=torch.float64), 1.0, None
    for step in range(1200):
        if step < 60:  # by then all are where they stay
            action = values.best_action(environment.observe(state))
        elif step == 60:
            action = torch.zeros_like(action)  # type: ignore[arg-type]
        state, _, reward, terminated, _ = environment.step(state, action)
        assert not terminated.any()
        total += weight * reward
        weight *= values.discount
    assert (total - promised).abs().max() < 0.15  # of values from 79 to 107
    assert promised.min() < 95 and promised.max() > 100


def test_values_follow_the_discount_and_end_at_the_box() -> None:
    """Without a future only the next reward counts."""
    myopic = optimal_values(make(), discount=0.0, points=2)
    seen = torch.tensor([[20.0, -20.0], [39.9, 39.9]], dtype=torch.float64) / SCALE
    action = myopic.best_action(seen)
    assert action[0].tolist() == [1.0, -1.0]
    assert float(myopic.value(seen)[0]) == pytest.approx(reward_by_hand(21.0, -21.0), rel=1e-3)
    out = myopic.action_value(seen, torch.ones(2, 2, dtype=torch.float64))
    assert out[1] == 0.0 and out[0] > 0.0
    beyond = torch.tensor([[5.01, 0.0]], dtype=torch.float64)
    assert myopic.value(beyond).item() == 0.0
    for discount in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"discount: got .*; allowed: a number >= 0 and < 1"):
            optimal_values(make(), discount=discount)
    with pytest.raises(ValueError, match="points: got 0; allowed"):
        optimal_values(make(), points=0)


def test_values_of_actions_are_differentiable(values: OptimalValues) -> None:
    seen = torch.tensor([[1.01, 0.52], [10.13, -3.34]], dtype=torch.float64) / SCALE
    action = torch.tensor([[0.3, -0.41], [0.07, 0.53]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: values.action_value(seen, a), action)
    (slope,) = torch.autograd.grad(values.action_value(seen, action).sum(), action)
    assert (slope[0] > 0).all(), "towards the bump"
    single = values.value(seen.float())
    assert single.dtype == torch.float32
    assert single.tolist() == pytest.approx(values.value(seen).tolist(), rel=1e-6)


def test_pictures_show_the_state() -> None:
    environment = make(2)
    state, _ = environment.reset(0)
    frame = environment.render(state, 0)
    assert frame.shape == (320, 320, 3) and frame.dtype == np.uint8
    assert not np.array_equal(frame, environment.render(state_at(environment, 9 + state.values), 0))
