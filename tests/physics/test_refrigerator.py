"""The refrigerator: closed forms, statistics of noise and door, and what observations tell."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take
from separatrix.envs.core.stream import Stream

NAME = "Refrigerator-v0"


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **{"dtype": "float64", **options})


def quiet(num_envs: int = 1, **options: Any) -> Any:
    """Without chance: a closed door and no noise."""
    return make(num_envs, door="closed", noise=0.0, **options)


def held(environment: Any, power: Tensor, steps: int) -> Tensor:
    """Temperatures under constant powers, (steps + 1, batch)."""
    state, _ = environment.reset(0)
    found = [state.temperature]
    for _ in range(steps):
        state = environment.step(state, (2 * power - 1)[:, None]).state
        found.append(state.temperature)
    return torch.stack(found)


def test_temperature_goes_to_its_limit_geometrically(gate: Callable[..., None]) -> None:
    """T_n = L + 0.98^n (T_0 - L), L = 15 - 50 u."""
    power = torch.linspace(0.0, 0.75, 16, dtype=torch.float64)
    found = held(quiet(16), power, 100)
    limit = 15 - 50 * power
    kept = 0.98 ** torch.arange(101, dtype=torch.float64)[:, None]
    assert found.abs().max() < 25.0, "something was cut off"
    gate(
        NAME,
        "largest deviation from the solution in 100 steps, degrees",
        (found - limit - kept * (found[0] - limit)).abs().max().item(),
        0.0,
        tolerance=1e-12,
        source="15 - 50 u, approached at the rate 0.98",
    )


def test_parameters_of_each_row_enter_the_closed_form() -> None:
    leak = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)
    cooling = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    ambient = torch.tensor([20.0, 10.0, 0.0], dtype=torch.float64)
    environment = quiet(3, leak_closed=leak, cooling=cooling, ambient=ambient)
    power = torch.full((3,), 0.25, dtype=torch.float64)
    found = held(environment, power, 100)
    limit = ambient - cooling * power / leak
    torch.testing.assert_close(
        found[-1], limit + (1 - leak) ** 100 * (found[0] - limit), rtol=0, atol=1e-12
    )
    # Where the door stands open from the first step, the other leak counts.
    state, _ = environment.reset(0)
    opened = replace(state, door=torch.ones(3, dtype=torch.float64))
    after = environment.step(opened, (2 * power - 1)[:, None]).state.temperature
    expected = state.temperature - cooling * power - 0.08 * (state.temperature - ambient)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-14)


def test_full_power_ends_at_the_coldest() -> None:
    """The limit, -35, is beyond; -25 is the state of any power from 0.8 on."""
    power = torch.tensor([0.79, 0.81, 1.0], dtype=torch.float64)
    found = held(quiet(3, start=(-24.0, -24.0)), power, 80)
    assert found[-1, 0].item() == pytest.approx(-24.5 + 0.5 * 0.98**80)
    assert found[-1, 1:].tolist() == [-25.0, -25.0]
    hot = held(quiet(1, ambient=25.0, start=(25.0, 25.0)), torch.zeros(1).double(), 5)
    assert hot.unique().tolist() == [25.0]


def test_noise_is_normal_and_as_large_as_told() -> None:
    environment = make(20_000, door="closed", noise=0.5)
    state, _ = environment.reset(0)
    action = torch.zeros(20_000, 1, dtype=torch.float64)
    first = environment.step(state, action)
    second = environment.step(first.state, action)
    expected = quiet(20_000).step(state, action).state.temperature
    noise = (first.state.temperature - expected) / 0.5
    after = quiet(20_000).step(first.state, action).state.temperature
    other = (second.state.temperature - after) / 0.5
    assert abs(noise.mean().item()) < 0.03 and noise.std().item() == pytest.approx(1, abs=0.02)
    assert (noise.abs() > 1.96).double().mean().item() == pytest.approx(0.05, abs=0.006)
    assert abs(torch.corrcoef(torch.stack((noise, other)))[0, 1].item()) < 0.03


def test_the_door_is_a_markov_chain_at_its_stationary_share() -> None:
    rows, steps = 2000, 100
    environment = make(rows)
    state, _ = environment.reset(0)
    action, doors = torch.zeros(rows, 1, dtype=torch.float64), [state.door]
    for _ in range(steps):
        found = environment.step(state, action)
        assert torch.equal(found.info["door_open"], state.door)
        state = found.state
        doors.append(state.door)
    assert torch.stack(doors).unique().tolist() == [0.0, 1.0]
    door = torch.stack(doors) > 0.5
    was, now = door[:-1], door[1:]
    # Some 166,000 steps of closed doors and 33,000 of open ones; a door stays for ten steps.
    assert now[~was].double().mean().item() == pytest.approx(0.02, abs=0.0012)
    assert (~now[was]).double().mean().item() == pytest.approx(0.1, abs=0.006)
    assert door.double().mean().item() == pytest.approx(1 / 6, abs=0.012)
    for part in door.chunk(4):  # from the start on
        assert part.double().mean().item() == pytest.approx(1 / 6, abs=0.02)
    assert not make(rows, door="closed").reset(0)[0].door.any()


def test_starts_are_uniform_in_their_range_whatever_is_wanted() -> None:
    for start in ((2.0, 8.0), (-20.0, -19.0)):
        state, _ = make(4000, start=start, set_point=12.0).reset(0)
        low, high = start
        warm = state.temperature
        assert low <= warm.min() and warm.max() <= high
        width = high - low
        assert warm.mean().item() == pytest.approx((low + high) / 2, abs=0.02 * width)
        assert warm.std().item() == pytest.approx(width / 12**0.5, rel=0.03)
    assert (state.set_point == 12.0).all()


def test_set_points_of_rows() -> None:
    wanted = torch.tensor([-12.0, 4.0, 12.0], dtype=torch.float64)
    environment = quiet(3, set_point=wanted)
    state, observation = environment.reset(torch.zeros(3, dtype=torch.int64))
    assert torch.equal(observation[:, 2], wanted / 10)
    assert (observation[0, :2] == observation[1:, :2]).all()
    found = environment.step(state, torch.zeros(3, 1, dtype=torch.float64))
    deviation = (found.state.temperature - wanted).abs()
    torch.testing.assert_close(found.reward, -(0.1 * deviation + 0.005))
    assert torch.equal(found.info["deviation"], deviation)
    assert found.info["power"].tolist() == [0.5] * 3
    assert environment.reward_range == pytest.approx((-3.71, 0.0))
    alone = environment.select(torch.tensor([2]))
    assert alone.num_envs == 1
    single = alone.step(take(state, torch.tensor([2])), torch.zeros(1, 1, dtype=torch.float64))
    assert torch.equal(single.reward, found.reward[2:])
    shared = make(3)
    assert shared.select(torch.tensor([1])) is shared


@pytest.mark.parametrize("set_point", [-25.0, 4.0, 25.0])
def test_rewards_are_in_their_range(set_point: float) -> None:
    environment = quiet(2, set_point=set_point, leak_closed=0.0, power_weight=0.5)
    low, high = environment.reward_range
    state, _ = environment.reset(0)
    rewards = []
    for warm in np.linspace(-25.0, 25.0, 51):
        there = replace(state, temperature=torch.full((2,), warm, dtype=torch.float64))
        action = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
        rewards.append(environment.step(there, action).reward)
    found = torch.stack(rewards)
    assert low <= found.min() and found.max() <= high == 0.0
    assert found.min() < 0.9 * low


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
def test_outcome_of_observations_is_that_of_the_step(dtype: str, tolerance: float) -> None:
    environment = make(6, dtype=dtype, set_point=[4.0, -12.0, 12.0, 4.0, 0.0, 25.0])
    state, observation = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    order = torch.tensor([3, 0, 5, 5])
    for _ in range(30):
        action = (2.6 * torch.rand(6, 1, generator=generator) - 1.3).to(environment.dtype)
        found = environment.step(state, action)
        seen = (observation, action, found.observation)
        reward, ended = environment.known_outcome(*seen)
        assert reward.dtype == environment.dtype and not ended.any()
        assert reward.tolist() == pytest.approx(found.reward.tolist(), abs=tolerance)
        # Rows of any number and order: the set-point is seen.
        chosen, _ = environment.known_outcome(*(rows[order] for rows in seen))
        assert torch.equal(chosen, reward[order])
        state, observation = found.state, found.observation


def test_an_observation_is_the_state() -> None:
    environment = make(5, set_point=[4.0, -12.0, 12.0, 4.0, 0.0])
    state, _ = environment.reset(3)
    action = torch.full((5, 1), 0.2, dtype=torch.float64)
    for _ in range(20):
        state = environment.step(state, action).state
    stream = Stream.start(torch.arange(5))
    found = environment.state_of(environment.observe(state), stream)
    torch.testing.assert_close(found.temperature, state.temperature)
    torch.testing.assert_close(found.set_point, state.set_point)
    assert torch.equal(found.door, state.door) and torch.equal(found.stream.seed, stream.seed)
    same = replace(state, stream=stream)
    ours, theirs = environment.step(found, action), environment.step(same, action)
    torch.testing.assert_close(ours.observation, theirs.observation)


def test_gradients_flow_through_steps_and_parameters() -> None:
    environment = make(2)
    state, _ = environment.reset(0)
    action = torch.tensor([[0.3], [-0.4]], dtype=torch.float64, requires_grad=True)
    leak = torch.tensor([0.03, 0.05], dtype=torch.float64, requires_grad=True)

    def total(push: Tensor, leaks: Tensor) -> Tensor:
        changed = environment.with_parameters({"leak_closed": leaks}, 2)
        moving, rewards = state, []
        for _ in range(4):
            found = changed.step(moving, push)
            moving = found.state
            rewards.append(found.reward)
        return torch.stack(rewards).sum(0)

    assert torch.autograd.gradcheck(total, (action, leak))


def test_other_parameters_and_other_values() -> None:
    environment = make(3, set_point=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="num_envs: got 4; allowed: 3, one for each set-point"):
        environment.with_parameters({}, 4)
    with pytest.raises(ValueError, match="unknown parameter 'leak'; did you mean"):
        environment.with_parameters({"leak": torch.tensor([0.1])}, 3)
    system = environment.system
    state, _ = environment.reset(0)
    moved = system.with_values(state, system.values(state) + 1)
    torch.testing.assert_close(moved.temperature, state.temperature + 1)
    assert torch.equal(moved.door, state.door)


def test_no_number_is_divergence() -> None:
    environment = make(2)
    state, _ = environment.reset(0)
    action = torch.tensor([[torch.nan], [0.0]], dtype=torch.float64)
    found = environment.step(state, action)
    assert found.info["diverged"].tolist() == found.terminated.tolist() == [True, False]
    assert found.reward[0] == environment.reward_range[0]
    assert found.state.temperature[0] == state.temperature[0]


def test_a_seed_is_the_same_episode_in_both_dtypes() -> None:
    """And in a batch; doors bit for bit, temperatures to rounding."""
    single, double = make(8, dtype="float32"), make(8)
    s, d = single.reset(5)[0], double.reset(5)[0]
    for _ in range(50):
        s = single.step(s, torch.full((8, 1), -0.5)).state
        d = double.step(d, torch.full((8, 1), -0.5, dtype=torch.float64)).state
        assert torch.equal(s.door.double(), d.door)
    torch.testing.assert_close(s.temperature.double(), d.temperature, rtol=0, atol=1e-4)
    assert s.temperature.dtype == torch.float32 and d.door.any()


def test_vector_environments_of_set_points_keep_the_contract() -> None:
    check_vector_env(f"separatrix/{NAME}", num_envs=3, parameters={"set_point": [4.0, -12.0, 12.0]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"door": "open"}, "door: got 'open'; .*allowed: random, closed"),
        ({"door": ["closed"]}, "door: got .*closed.*; .*allowed: random, closed"),
        ({"set_point": 26.0}, "set_point: got 26; allowed: a number from -25 to 25, or one for"),
        ({"set_point": [1.0] * 3}, "parameter 'set_point': got shape .*allowed: one number, or"),
        ({"leak_open": -0.1}, "leak_open: got -0.1; allowed: a number from 0 to 1, or one for"),
        ({"ambient": "warm"}, "parameter 'ambient': got 'warm'; allowed: real numbers"),
        ({"start": (8.0, 2.0)}, "start: got .*; allowed: two numbers from -25 to 25, the lower"),
        ({"start": 5.0}, "start: got 5.0; allowed: two numbers"),
        ({"start": (float("nan"), 2.0)}, "start: got .*nan.*; allowed: two numbers"),
        ({"power_weight": -1.0}, "power_weight: got -1.0; allowed: a number from 0 to 100"),
        ({"backend": "numba"}, "unknown backend 'numba'; .*allowed: auto, torch"),
        ({"sensor": 1}, "unknown option 'sensor'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(2, **options)


def test_pictures_show_temperature_set_point_and_door() -> None:
    environment = quiet(2)
    state, _ = environment.reset(0)
    frame = environment.render(state, 0)
    assert frame.shape == (320, 240, 3) and frame.dtype == np.uint8
    for changed in (
        replace(state, temperature=state.temperature + 5),
        replace(state, set_point=state.set_point - 5),
        replace(state, door=1 - state.door),
    ):
        assert not np.array_equal(environment.render(changed, 0), frame)
