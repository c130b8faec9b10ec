from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.agents.common.analytic_policy.window import (
    Window,
    critic_targets,
    play_window,
)
from tests.agents.linear_environments import (
    GAMMA,
    Overflow,
    Quadratic,
    Sum,
    Trap,
    double_integrator,
    episodes_of,
    integrator,
    learner_of,
)


def constant_actions(actions: Tensor) -> Any:
    """A policy that plays given actions, (steps, batch, 1), one after the other."""
    step = iter(actions.clone().requires_grad_())
    return lambda observation, noise: next(step)


# The gradient of a window


def test_the_gradient_of_a_window_is_that_of_a_rollout_by_hand() -> None:
    learner = learner_of(max_gradient_norm=1e9, gamma=GAMMA)
    for module in learner._modules.values():
        module.double()
    environment = double_integrator(6, torch.float64)
    episodes = episodes_of(environment, 1000)
    start = episodes.observation.clone()
    system: Any = environment.system
    noise = torch.randn((8, 6, 1), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def objective() -> Tensor:
        x, total = start, torch.zeros(6, dtype=torch.float64)
        for k in range(8):
            u = torch.tanh(learner.policy.mean(x) + learner.policy.log_std.exp() * noise[k])
            reward = -x.square().sum(1) - 0.1 * u.square().sum(1)
            total = total + GAMMA**k * reward
            x = x @ system.a.T + u @ system.b.T
        return (total + GAMMA**8 * learner._target(x)[:, 0] / (1 - GAMMA)).mean() / 8

    weights = list(learner.policy.parameters())
    expected = torch.autograd.grad(objective(), weights)
    step, values = 1e-5, []
    with torch.no_grad():
        for shift in (step, -2 * step, step):  # to one side, to the other, and back
            for weight in weights:
                weight.add_(shift)
            values.append(objective())
    slope = (values[0] - values[1]) / (2 * step)
    assert slope == pytest.approx(sum(g.sum().item() for g in expected), rel=1e-6)

    window = play_window(learner.policy, learner._value, episodes, noise, GAMMA)
    learner._improve_policy(window)
    for weight, gradient in zip(weights, expected, strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(-weight.grad, gradient, rtol=1e-9, atol=1e-15)


def test_a_truncated_episode_is_worth_its_final_observation_and_a_terminated_one_nothing() -> None:
    """Row 0 is truncated after two steps, row 1 terminated: it passes 1."""
    environment = integrator(2, Sum(1, 1))
    episodes = episodes_of(environment)
    episodes._limit[:] = torch.tensor([2, 1000])
    episodes.state = replace(episodes.state, values=torch.zeros(2, 1, dtype=torch.float64))
    actions = torch.tensor([[0.1, 0.8], [0.2, 0.9], [0.1, -0.2], [0.3, -0.1]]).double()[..., None]

    def value(observation: Tensor) -> Tensor:
        return 3 * observation[:, 0]

    window = play_window(constant_actions(actions), value, episodes, 0 * actions, GAMMA)

    bootstrap = 3 * GAMMA**2
    truncated = [1 + bootstrap, GAMMA + bootstrap] * 2
    terminated = [1, GAMMA, 1 + bootstrap, GAMMA + bootstrap]
    expected = torch.tensor([truncated, terminated], dtype=torch.float64)
    torch.testing.assert_close(window.gradient[..., 0].T, expected)
    assert window.ended.T.tolist() == [[False, True, False, False]] * 2
    assert window.terminated.T.tolist() == [[False] * 4, [False, True, False, False]]
    torch.testing.assert_close(window.next_observation[1, :, 0], torch.tensor([0.3, 1.7]).double())
    assert episodes.state.interval.tolist() == [2, 2]
    assert episodes.state.stream.episode.tolist() == [1, 1]


def test_the_graph_is_cut_between_windows() -> None:
    episodes = episodes_of(double_integrator(3), 1000)
    learner = learner_of()
    for _ in range(2):
        window = play_window(learner.policy, learner._value, episodes, torch.zeros(4, 3, 1), GAMMA)
        assert not any(tensor.requires_grad for tensor in window)
        episodes.detach()
        assert not episodes.observation.requires_grad


def test_an_environment_without_gradients_is_refused() -> None:
    environment = double_integrator(3)
    environment.system.advance = lambda state, control: replace(  # type: ignore[method-assign]
        state, values=state.values.detach(), interval=state.interval + 1
    )
    environment.task.reward = lambda *_: torch.zeros(3)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="differentiable"):
        learner_of().train(environment, 1)


# The critic's targets


def window_of(reward: Tensor, terminated: Tensor, ended: Tensor) -> Window:
    nothing = torch.zeros((*reward.shape, 1), dtype=reward.dtype)
    return Window(nothing, nothing, nothing, reward, nothing, terminated, ended)


def test_targets_are_the_weighted_sum_of_the_returns_of_all_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.randn((2, 5, 3), generator=generator, dtype=torch.float64)
    never = torch.zeros((5, 3), dtype=torch.bool)
    found = critic_targets(window_of(reward, never, never), value, GAMMA, 0.7)
    for start in range(5):
        longest = 5 - start
        returns = []
        for length in range(1, longest + 1):
            rewards = sum(GAMMA**k * reward[start + k] for k in range(length))
            returns.append(rewards + GAMMA**length * value[start + length - 1])
        expected = 0.7 ** (longest - 1) * returns[-1]
        for length in range(1, longest):
            expected = expected + (1 - 0.7) * 0.7 ** (length - 1) * returns[length - 1]
        torch.testing.assert_close(found[start], expected)


def test_targets_at_the_ends_of_episodes() -> None:
    """With lambda 1: rows that go on, are truncated and are terminated after the first step."""
    reward = torch.ones((2, 3), dtype=torch.float64)
    value = torch.tensor([[5.0] * 3, [7.0] * 3], dtype=torch.float64)
    ended = torch.tensor([[False, True, True], [False] * 3])
    terminated = torch.tensor([[False, False, True], [False] * 3])
    found = critic_targets(window_of(reward, terminated, ended), value, GAMMA, 1.0)
    last = 1 + GAMMA * 7
    expected = [[1 + GAMMA * last, 1 + GAMMA * 5, 1], [last] * 3]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


# Rows that go wrong


@pytest.mark.parametrize("task", [Trap(2, 1), Overflow(2, 1)], ids=["reward", "derivative"])
def test_a_row_that_is_not_finite_is_left_out_and_spoils_no_other(task: Quadratic) -> None:
    learner, noise = learner_of(), torch.zeros(6, 4, 1, dtype=torch.float64)
    for module in learner._modules.values():
        module.double()
    environment = double_integrator(4, torch.float64, task)
    windows = []
    for row, bad in ((2, 0.7), (2, 0.0)):
        episodes = episodes_of(environment, 1000)
        values = 0.1 * torch.ones(4, 2, dtype=torch.float64)
        values[row] = torch.tensor([bad, 0.0])
        episodes.state = replace(episodes.state, values=values)
        episodes.observation = values
        windows.append(play_window(learner.policy, learner._value, episodes, noise, GAMMA))
    spoilt, whole = windows
    assert (spoilt.reward.shape[1], whole.reward.shape[1]) == (3, 4)
    others = whole.rows(torch.tensor([True, True, False, True]))
    for one, other in zip(spoilt, others, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)
