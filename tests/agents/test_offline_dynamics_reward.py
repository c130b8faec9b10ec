"""MOREC's dynamics reward: formula, stacked snapshots, what training finds, and its calibration."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from separatrix.agents.common.replay import Transitions
from separatrix.agents.offline.model_config import DynamicsRewardConfig
from separatrix.agents.offline.morec.calibration import (
    area_under_curve,
    calibrate,
    rank_correlation,
    ranks,
)
from separatrix.agents.offline.morec.dynamics_reward import DynamicsReward, reward_of_logits
from separatrix.agents.offline.morec.training import snapshot_updates, train_dynamics_reward

SMALL = DynamicsRewardConfig(layers=(32, 32), updates=600, batch_size=128, snapshots=5)
A = torch.tensor([[0.95, 0.2], [-0.2, 0.95]])
B = torch.tensor([[0.0, 0.3]])


def linear(rows: int, seed: int) -> Transitions:
    """Transitions of a deterministic linear system from uniform points of the square [-1, 1]^2."""
    generator = torch.Generator().manual_seed(seed)
    observation = 2 * torch.rand(rows, 2, generator=generator) - 1
    action = 2 * torch.rand(rows, 1, generator=generator) - 1
    following = observation @ A.T + action @ B
    never = torch.zeros(rows, dtype=torch.bool)
    return Transitions(observation, action, torch.zeros(rows), following, never, never)


def train(
    config: DynamicsRewardConfig = SMALL, seed: int = 0
) -> tuple[DynamicsReward, dict[str, float]]:
    reward = DynamicsReward(2, 1, config)
    return reward, train_dynamics_reward(reward, linear(2000, 0), seed)


@pytest.fixture(scope="module")
def trained() -> tuple[DynamicsReward, dict[str, float]]:
    return train()


def untrained(seed: int = 0, **changes: Any) -> DynamicsReward:
    """A reward with random weights and scalars, some of whose snapshots tell nothing."""
    chosen: dict[str, Any] = {"layers": (16, 8), "snapshots": 6, **changes}
    config = DynamicsRewardConfig(**chosen)
    reward, generator = DynamicsReward(2, 1, config), torch.Generator().manual_seed(seed)
    for tensor in reward.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator))
    reward.inputs.deviation.copy_(0.5 + torch.rand(5, generator=generator))
    return reward


class Oracle(DynamicsReward):
    """Falls with the distance from the next observation of the linear system."""

    def reward(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
        truth = observation @ A.T + action @ B
        unit = (truth - observation).std(0, correction=0)
        return (-((next_observation - truth) / unit).square().mean(-1)).exp()


def test_range_and_thresholds() -> None:
    # A logit at or above the mean of recorded transitions has p = sigmoid(1), and so on.
    logit = torch.tensor([[-9.0, -2.0, -0.5, 1.0, 9.0]])
    found = reward_of_logits(logit, torch.tensor([1.0]), torch.tensor([-2.0]))
    sigmoid = [1 / (1 + math.exp(-x)) for x in (-1, -1, 0, 1, 1)]
    assert found.tolist() == pytest.approx([-math.log(1 - p) for p in sigmoid], rel=1e-6)
    assert found[[0, 2, 4]].tolist() == pytest.approx([0.3133, 0.6931, 1.3133], abs=5e-5)
    # The authors' threshold of 0.6 stands for p = 1 - exp(-0.6) = 0.4512.
    p = 1 - math.exp(-0.6)
    assert p == pytest.approx(0.4512, abs=5e-5)
    at = torch.tensor([[math.log(p / (1 - p))]])
    assert reward_of_logits(at, torch.ones(1), -torch.ones(1)).item() == pytest.approx(0.6)


@given(
    st.lists(st.tuples(*[st.floats(-5, 5, width=32)] * 3), min_size=1, max_size=5),
)
def test_formula_against_scalars(snapshots: list[tuple[float, float, float]]) -> None:
    mean = 0.0
    for logit, recorded, generated in snapshots:
        p = 0.5
        if recorded > generated:
            clamped = min(max(logit, generated), recorded)
            p = 1 / (1 + math.exp(1 - 2 * (clamped - generated) / (recorded - generated)))
        mean += p / len(snapshots)
    logit, recorded, generated = torch.tensor(snapshots).T
    found = reward_of_logits(logit[:, None], recorded, generated).item()
    assert found == pytest.approx(-math.log(1 - mean + 1e-9), rel=1e-4)


def test_a_snapshot_that_tells_nothing_is_undecided() -> None:
    logit = torch.linspace(-5, 5, 7).expand(2, -1)
    same, worse = torch.tensor([0.3, 0.3]), torch.tensor([0.3, 0.4])
    found = reward_of_logits(logit, same, worse)
    assert torch.equal(found, torch.full((7,), -math.log(0.5 + 1e-9)))
    # One of the two tells: between it alone and no verdict.
    one = reward_of_logits(logit, torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]))
    p = (logit[0].clamp(-1, 1).sigmoid() + 0.5) / 2
    torch.testing.assert_close(one, -(1 - p).log())


def test_what_is_not_finite_has_the_lowest_reward() -> None:
    logit = torch.tensor([[math.nan, math.inf, -math.inf, -3.0]])
    found = reward_of_logits(logit, torch.ones(1), -torch.ones(1))
    assert torch.equal(found, found[-1:].expand(4))
    reward = untrained()
    reward.recorded.fill_(1.0)
    reward.lowest.fill_(-1.0)
    rows = linear(3, 1)
    far = torch.stack([torch.full((3, 2), value) for value in (math.inf, -math.inf, math.nan)])
    found = reward.reward(rows.observation, rows.action, far)
    assert found.flatten().tolist() == pytest.approx([0.3133] * 9, abs=5e-5)


@pytest.mark.parametrize("changes", [True, False])
def test_the_stack_equals_snapshots_one_by_one(changes: bool) -> None:
    reward, rows = untrained(changes=changes), linear(5, 1)
    assert 0 < int((reward.recorded > reward.lowest).sum()) < 6
    candidates = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(3))
    found = reward.reward(rows.observation, rows.action, candidates)
    assert found.shape == (4, 5) and found.dtype == torch.float32
    for candidate, values in zip(candidates, found, strict=True):
        last = candidate - rows.observation if changes else candidate
        seen = torch.cat((rows.observation, rows.action, last), 1)
        seen = (seen - reward.inputs.mean) / reward.inputs.deviation
        logits = []
        for i in range(6):
            hidden = seen
            for j, (weight, bias) in enumerate(
                zip(reward.snapshots.weights, reward.snapshots.biases, strict=True)
            ):
                hidden = hidden if j == 0 else torch.nn.functional.silu(hidden)
                hidden = hidden @ weight[i] + bias[i]
            logits.append(hidden[:, 0])
        expected = reward_of_logits(torch.stack(logits), reward.recorded, reward.lowest)
        torch.testing.assert_close(values, expected)
        alone = reward.reward(rows.observation, rows.action, candidate[None])
        torch.testing.assert_close(alone[0], values)


def test_state_survives_a_file(
    trained: tuple[DynamicsReward, dict[str, float]], tmp_path: Path
) -> None:
    reward, rows = trained[0], linear(50, 1)
    safetensors.torch.save_file(reward.state_dict(), tmp_path / "reward.safetensors")
    other = DynamicsReward(2, 1, SMALL)
    candidates = rows.next_observation + 0.1 * torch.randn(
        3, 50, 2, generator=torch.Generator().manual_seed(0)
    )
    before = other.reward(rows.observation, rows.action, candidates)
    assert torch.equal(before, torch.full_like(before, math.log(2)))  # nothing learned
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "reward.safetensors"))
    found = other.reward(rows.observation, rows.action, candidates)
    assert torch.equal(found, reward.reward(rows.observation, rows.action, candidates))
    assert not torch.equal(found, before)
    with pytest.raises(RuntimeError):
        untrained().load_state_dict(reward.state_dict())


def test_training_is_reproducible() -> None:
    config = DynamicsRewardConfig(layers=(8,), updates=20, batch_size=16, snapshots=3)
    (first, scalars), (second, same), (third, _) = (train(config, seed) for seed in (4, 4, 5))
    assert scalars == same
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.recorded, third.recorded)


def test_snapshots_differ_and_hold_their_own_mean_logits(
    trained: tuple[DynamicsReward, dict[str, float]],
) -> None:
    reward, scalars = trained
    rows = linear(2000, 0)
    seen = reward.inputs(reward.seen(rows.observation, rows.action, rows.next_observation))
    logit = reward.snapshots(seen.expand(5, -1, -1))[..., 0]
    # The means were taken over 10,000 draws of these rows.
    tolerance = 5 * logit.std(1) / math.sqrt(10_000)
    assert ((logit.mean(1) - reward.recorded).abs() <= tolerance).all()
    assert len(reward.recorded.unique()) == 5
    assert scalars["morec/logit_recorded"] == reward.recorded[-1].item()
    assert scalars["morec/logit_generated"] == reward.generated[-1].item()
    assert scalars["morec/telling"] == (reward.recorded > reward.generated).double().mean().item()


def test_few_recorded_transitions_lie_below_the_floor(
    trained: tuple[DynamicsReward, dict[str, float]],
) -> None:
    reward, _ = trained
    rows = linear(2000, 0)
    seen = reward.inputs(reward.seen(rows.observation, rows.action, rows.next_observation))
    logit = reward.snapshots(seen.expand(5, -1, -1))[..., 0]
    assert (reward.lowest <= reward.generated).all()
    below = (logit < reward.lowest[:, None]).double().mean(1)
    assert (below <= 0.02).all()
    # Of which the mean on generated transitions is none.
    assert ((logit < reward.generated[:, None]).double().mean(1) > 0.02).any()


def test_the_published_floor_is_the_mean_on_generated_transitions() -> None:
    config = DynamicsRewardConfig(layers=(8,), updates=40, snapshots=3, floor="generated")
    reward = DynamicsReward(2, 1, config)
    train_dynamics_reward(reward, linear(300, 0), 0)
    assert torch.equal(reward.lowest, reward.generated)
    assert not torch.equal(reward.generated, torch.zeros(3))


def test_the_reward_ranks_true_next_observations_above_others(
    trained: tuple[DynamicsReward, dict[str, float]],
) -> None:
    reward, _ = trained
    true, other = linear(1000, 1), linear(1000, 2)
    deviation = (true.next_observation - true.observation).std(0)
    # Were the reward the same for true and others, the area would be 0.5 with this deviation
    # (H. Mann and D. Whitney, 1947).
    chance = math.sqrt((1000 + 1000 + 1) / (12 * 1000 * 1000))
    noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(3))
    for size in (0.5, 1.0):
        wrong = (other.next_observation + size * deviation * noise)[None]
        above = reward.reward(true.observation, true.action, true.next_observation[None])[0]
        below = reward.reward(other.observation, other.action, wrong)[0]
        assert area_under_curve(above, below) > 0.5 + 5 * chance


def test_the_generator_learns_from_the_reward_alone(
    trained: tuple[DynamicsReward, dict[str, float]],
) -> None:
    # The mean change, which it knows from the start, has an error of 1.
    assert trained[1]["morec/generator_error"] < 0.5
    config = DynamicsRewardConfig(layers=(8,), updates=2, batch_size=16, snapshots=1)
    assert train(config)[1]["morec/generator_error"] > 0.8


def test_the_gradient_penalty_flattens_the_discriminator() -> None:
    def slope(penalty: float) -> float:
        config = DynamicsRewardConfig(
            layers=(16,), updates=100, batch_size=64, snapshots=1, gradient_penalty=penalty
        )
        reward, rows = train(config)[0], linear(500, 1)
        seen = reward.inputs(reward.seen(rows.observation, rows.action, rows.next_observation))
        seen.requires_grad_()
        (gradient,) = torch.autograd.grad(reward.snapshots(seen[None]).sum(), seen)
        return gradient.square().sum(1).mean().item()

    assert slope(30.0) < 0.5 * slope(0.0)


def test_a_reward_of_next_observations_does_not_see_changes() -> None:
    rows = linear(4, 0)
    for changes in (True, False):
        reward = untrained(changes=changes)
        seen = reward.seen(rows.observation, rows.action, rows.next_observation)
        last = rows.next_observation - rows.observation if changes else rows.next_observation
        assert torch.equal(seen[:, -2:], last)


@given(st.integers(2, 3000), st.floats(0.001, 0.95), st.data())
def test_snapshots_are_taken_at_distinct_times(
    updates: int, first_share: float, data: st.DataObject
) -> None:
    room = int((1 - first_share) * updates)
    if room == 0:
        return
    count = data.draw(st.integers(1, min(room, 200)))
    config = DynamicsRewardConfig(updates=updates, snapshots=count, first_share=first_share)
    times = snapshot_updates(config)
    assert len(times) == count and times[-1] == updates
    assert all(before < after for before, after in pairwise(times))
    assert times[0] >= max(1, round(first_share * updates))


def test_snapshots_are_taken_at_equal_ratios() -> None:
    config = DynamicsRewardConfig(updates=10_000, snapshots=4, first_share=0.0001)
    assert snapshot_updates(config) == [10, 100, 1000, 10_000]


@pytest.mark.parametrize(
    ("name", "value"),
    [("first_share", 0.0), ("first_share", 1.0), ("snapshots", 4901), ("smooth_label", 0.5)],
)
def test_configuration_errors(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        DynamicsRewardConfig(**{name: value})
    if name == "snapshots":
        DynamicsRewardConfig(snapshots=4900)


numbers = st.lists(st.integers(-4, 4), min_size=2, max_size=40)


@given(numbers)
def test_ranks_with_ties(values: list[int]) -> None:
    found = ranks(torch.tensor(values, dtype=torch.float32))
    assert found.tolist() == scipy.stats.rankdata(values).tolist()


@given(st.data(), numbers)
def test_rank_correlation_with_ties(data: st.DataObject, first: list[int]) -> None:
    size = len(first)
    second = data.draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
    found = rank_correlation(torch.tensor(first).float(), torch.tensor(second).float())
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found == 0.0
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(first, second).statistic, abs=1e-12)


@given(numbers, numbers)
def test_area_under_curve_with_ties(above: list[int], below: list[int]) -> None:
    found = area_under_curve(torch.tensor(above).float(), torch.tensor(below).float())
    wins = sum((a > b) + 0.5 * (a == b) for a in above for b in below)
    assert found == pytest.approx(wins / len(above) / len(below), abs=1e-12)


def test_area_of_an_empty_set_tells_nothing() -> None:
    assert area_under_curve(torch.ones(3), torch.ones(0)) == 0.5


def test_calibration_of_the_truth() -> None:
    rows, generator = linear(400, 1), torch.Generator().manual_seed(2)
    unit = (rows.next_observation - rows.observation).std(0, correction=0)
    wrong = torch.randn(6, 400, 2, generator=generator) * torch.rand(6, 1, 1, generator=generator)
    found = calibrate(Oracle(2, 1, SMALL), rows, rows.next_observation + unit * wrong, generator)
    assert found["morec/rank_correlation"] == pytest.approx(1, abs=1e-5)
    assert found["morec/auc_error"] == found["morec/auc_perturbed"] == 1
    assert found["morec/reward_recorded"] == pytest.approx(1)
    error = wrong.square().mean(-1).sqrt()
    assert found["morec/chosen_error"] == pytest.approx(
        (error.amin(0).mean() / error.mean()).item()
    )
    assert found["morec/reward_proposed"] == pytest.approx((-error.square()).exp().mean().item())


def test_calibration_of_a_reward_that_tells_nothing() -> None:
    rows, generator = linear(400, 1), torch.Generator().manual_seed(2)
    wrong = rows.next_observation + torch.randn(3, 400, 2, generator=generator)
    found = calibrate(DynamicsReward(2, 1, SMALL), rows, wrong, generator)
    assert found["morec/rank_correlation"] == 0
    assert found["morec/auc_error"] == found["morec/auc_perturbed"] == 0.5
    # Of equal rewards the first candidate is chosen.
    changes = (rows.next_observation - rows.observation).std(0, correction=0)
    error = ((wrong - rows.next_observation) / changes).square().mean(-1).sqrt()
    assert found["morec/chosen_error"] == pytest.approx((error[0].mean() / error.mean()).item())


def test_nothing_is_learned_of_a_component_that_never_changes() -> None:
    rows, constant = linear(50, 1), torch.full((50, 1), 0.4)
    rows = Transitions(
        torch.cat((rows.observation, constant), 1),
        rows.action,
        rows.reward,
        torch.cat((rows.next_observation, constant), 1),
        rows.terminated,
        rows.last,
    )
    config = DynamicsRewardConfig(layers=(8,), updates=50, snapshots=2, gradient_penalty=0.0)
    reward = DynamicsReward(3, 1, config)
    scalars = train_dynamics_reward(reward, rows, 0)
    scalars |= calibrate(reward, rows, rows.next_observation[None], torch.Generator())
    assert all(math.isfinite(value) for value in scalars.values())
    assert scalars["morec/chosen_error"] == 1
    # Recorded and generated transitions are the same there, so that its weights stay as they began.
    first, second = reward.snapshots.weights[0]
    assert (first == second).all(1).tolist() == [i in (2, 6) for i in range(7)]
