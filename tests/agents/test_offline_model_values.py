"""Values on transitions of a model: MOBILE, COMBO, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.agents.offline.combo import Combo
from separatrix.agents.offline.config import (
    ComboConfig,
    MobileConfig,
    MopoConfig,
    RavlConfig,
)
from separatrix.agents.offline.cql import conservative_gap
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.mobile import Mobile
from separatrix.agents.offline.model.diagnostics import (
    draw_values,
    overestimation,
    values_by_position,
)
from separatrix.agents.offline.model.rollouts import roll_out
from separatrix.agents.offline.model_config import (
    RolloutsConfig,
)
from tests.agents.offline_models import (
    LOWEST,
    Adder,
    buffer_of,
    configured,
    generator,
    learner_of,
    numbered,
    small_environment,
)


class Alone(Adder):
    """One member, as true dynamics are."""

    def members(self, *arguments: Any) -> Tensor:
        return super().members(*arguments)[:1]


@pytest.mark.parametrize("clamp", [False, True])
def test_the_target_of_mobile_is_that_of_a_loop_over_members(clamp: bool) -> None:
    learner = learner_of(MobileConfig(penalty=2.0, samples=4, clamp_at_zero=clamp))
    assert isinstance(learner, Mobile)
    learner.normalizer.fit(torch.tensor([[1.0], [5.0]]))  # (x - 3) / 2
    with torch.no_grad():  # of sizes that tell
        learner.targets.weights[-1].mul_(300)
        learner.targets.biases[-1].add_(2.0)
    rows = 6
    x = torch.linspace(-2, 2, rows)[:, None]
    action = torch.linspace(-1, 1, rows)[:, None]
    ended = torch.tensor([False, False, True, False, True, False])
    cut = torch.tensor([False, True, False, True, False, False])
    reward = torch.arange(rows).float()
    batch = Batch(x, action, reward, x + 0.5, ended, cut, 2)
    state = learner.generator.get_state()
    target = learner._target(batch)
    learner.generator.set_state(state)

    next_action, _ = learner.policy.sample(x + 0.5, learner.generator)
    value = learner.targets(x + 0.5, next_action).amin(0)
    value[cut] = LOWEST
    value[ended] = 0
    expected = reward + 0.9 * value
    raw = 2 * x[2:] + 3
    members = Adder().members(raw, action[2:], 4, learner.generator)
    seen = (members - 3) / 2
    following = learner.policy.sample(seen.flatten(0, 2), learner.generator)[0]
    following = following.view(3, 4, 4, 1)
    for row in range(4):
        of_members = []
        for member in range(3):
            values = [
                learner.targets(seen[member, s, row][None], following[member, s, row][None]).min()
                for s in range(4)
            ]
            of_members.append(sum(v.item() for v in values) / 4)
        spread = torch.tensor(of_members).std().item()
        assert spread > 0.01
        expected[2 + row] -= 2 * spread
    expected = expected.clamp_min(0.0 if clamp else LOWEST)
    torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-4)


def test_one_member_agrees_with_itself() -> None:
    config = configured(MobileConfig())
    learner = Mobile(1, 1, config, 0, "cpu", 100, LOWEST, Alone())
    assert not learner.inconsistency(torch.randn(5, 1), torch.zeros(5, 1)).any()


def test_values_by_position_are_means_of_a_loop() -> None:
    learner = learner_of(RavlConfig(critics=4))
    buffer = buffer_of(400)
    noise = generator(1)
    roll_out(
        Adder(),
        lambda x: torch.rand(len(x), 1, generator=noise) - 1,
        torch.randn(30, 1, generator=noise),
        3,
        buffer,
        generator(2),
    )
    found = values_by_position(learner, buffer.ordered(), 3)
    rows = buffer.ordered()
    for position in range(3):
        at = rows.next_observation[rows.position == position]
        values = learner.critics(at, learner.policy.mode(at))
        torch.testing.assert_close(found.value[position], values.min(0).values.mean())
        spread = torch.stack([v.std(correction=0) for v in values.T]).mean()
        torch.testing.assert_close(found.spread[position], spread)
        assert found.count[position] == 30
    scalars = found.scalars()
    assert scalars["model/edge_value"] == pytest.approx(found.value[2].item())
    assert scalars["model/inner_spread"] == pytest.approx(found.spread[:2].mean().item(), rel=1e-5)
    assert draw_values(found).axes[0].lines
    single = values_by_position(learner, rows[:30], 1).scalars()
    assert set(single) == {"model/edge_value", "model/edge_spread"}


def test_cut_and_ended_transitions_are_left_out_of_values_by_position() -> None:
    learner = learner_of(MopoConfig())
    count = values_by_position(learner, numbered([0, 1]), 2).count  # 0 is cut, 1 has ended
    assert count.tolist() == [0, 0]
    assert values_by_position(learner, numbered([0, 1]), 2).scalars() == {}


def test_overestimation_compares_with_discounted_returns() -> None:
    learner = learner_of(MopoConfig(), gamma=0.8)
    environment = small_environment(1)
    seeds = torch.arange(4)
    found = overestimation(learner, environment, seeds)
    for row in range(4):
        state, observation = environment.reset(seeds[row : row + 1])
        total = 0.0
        for step in range(20):
            action = learner.policy.mode(observation).detach()
            if step == 0:
                value = learner.critics(observation, action).min().item()
            state, observation, reward, _, _ = environment.step(state, action)
            total += 0.8**step * reward.item()
        assert found.discounted_return[row].item() == pytest.approx(total, abs=1e-5)
        assert found.value[row].item() == pytest.approx(value, abs=1e-5)
    difference = (found.value - found.discounted_return).mean().item()
    assert found.mean == pytest.approx(difference)


def test_the_gap_of_combo_is_between_all_rows_and_recorded_actions() -> None:
    learner = Combo(1, 1, configured(ComboConfig(weight=3.0, actions=4)), 0, "cpu", 100, LOWEST)
    x = torch.linspace(-1, 1, 6)[:, None]
    no = torch.zeros(6, dtype=torch.bool)
    batch = Batch(x, 0.5 * x, x[:, 0], x + 0.1, no, no, 2)
    state = learner.generator.get_state()

    def terms(changed: Batch) -> tuple[Tensor, Tensor]:
        learner.generator.set_state(state)
        values, penalty, scalars = learner._critic_terms(changed)
        assert isinstance(penalty, Tensor)
        torch.testing.assert_close(penalty, 3.0 * 2 * scalars["gap"])
        return values, penalty

    values, penalty = terms(batch)
    torch.testing.assert_close(values, learner.critics(batch.observation, batch.action))
    learner.generator.set_state(state)
    recorded = values[:, :2]
    rest = x, x + 0.1, recorded, 4, learner.generator
    expected = conservative_gap(learner.critics, learner.policy, *rest)
    torch.testing.assert_close(penalty, 3.0 * expected.sum())
    # Of actions only recorded ones count, of observations all.
    imagined = torch.cat((batch.action[:2], -batch.action[2:]))
    torch.testing.assert_close(terms(replace(batch, action=imagined))[1], penalty)
    assert (terms(replace(batch, action=-batch.action))[1] - penalty).abs() > 1e-4
    elsewhere = torch.cat((x[:2], x[2:] + 1))
    assert (terms(replace(batch, observation=elsewhere))[1] - penalty).abs() > 1e-4
    with pytest.raises(ValueError, match="recorded_share"):
        ComboConfig(rollouts=RolloutsConfig(recorded_share=0.0))
