"""Dynamics of offline agents: learned ones against loops over members, true ones against steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.dynamics.training import TrainingConfig, split
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.dataset import Dataset, numbered
from separatrix.agents.offline.model.learned_dynamics import HOLD_OUT, MARGIN, LearnedDynamics
from separatrix.agents.offline.model.true_dynamics import TrueDynamics
from separatrix.agents.offline.model_config import ModelConfig
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import PROCESS_NOISE
from tests.agents.linear_environments import Linear, Point, double_integrator
from tests.agents.offline_models import Seen, generator

SMALL: dict[str, Any] = {"members": 4, "elites": 3, "layers": (16, 16), "max_epochs": 3}


def recorded(environment: Environment, transitions: int = 400) -> Dataset:
    return record(environment, RandomController(environment, 0), transitions, 0)


def rows_of(data: Dataset, rows: int = 7) -> tuple[Tensor, Tensor]:
    return data.observation[:rows], data.action[:rows]


def learned(environment: Environment, data: Dataset, **changes: Any) -> LearnedDynamics:
    dynamics = LearnedDynamics(data, environment, ModelConfig(**(SMALL | changes)), 1)
    dynamics.scalars = dynamics.prepare(generator())  # type: ignore[attr-defined]
    return dynamics


@pytest.fixture(scope="module")
def fitted() -> tuple[LearnedDynamics, Dataset]:
    environment = double_integrator(4, task=Seen(2, 1))
    data = recorded(environment)
    return learned(environment, data, termination="learned"), data


def test_candidates_are_those_of_a_loop_over_elites(fitted: Any) -> None:
    dynamics, data = fitted
    observation, action = rows_of(data)
    found = dynamics.propose(observation, action, 2, generator(5))
    noise = torch.randn(3, 2, 7, 2, generator=generator(5))
    seen = torch.cat((data.observation, data.next_observation))
    margin = MARGIN * (seen.amax(0) - seen.amin(0))
    ensemble = dynamics.ensemble
    candidate = 0
    for e, elite in enumerate(ensemble.elites):
        with torch.no_grad():
            predicted = ensemble.predict(observation[None], action[None], elite[None])
        for sample in range(2):
            following = (
                predicted.next_observation[0]
                + predicted.observation_deviation[0] * noise[e, sample]
            )
            following = following.maximum(seen.amin(0) - margin).minimum(seen.amax(0) + margin)
            torch.testing.assert_close(found.next_observation[candidate], following)
            reward = predicted.reward[0].clamp(data.reward.min(), data.reward.max())
            torch.testing.assert_close(found.reward[candidate], reward)
            assert torch.equal(found.terminated[candidate], predicted.termination[0] > 0.5)
            candidate += 1
    assert candidate == len(found.reward) == 6
    members = dynamics.members(observation, action, 2, generator(5))
    assert torch.equal(members.flatten(0, 1), found.next_observation)


def test_doubt_is_the_largest_norm_of_a_loop_over_all_members(fitted: Any) -> None:
    dynamics, data = fitted
    observation, action = rows_of(data)
    largest = torch.zeros(7)
    with torch.no_grad():
        for member in range(4):
            index = torch.tensor([member])
            deviation = dynamics.ensemble.predict(
                observation[None], action[None], index
            ).observation_deviation[0]
            scaled = deviation / dynamics.ensemble.targets.deviation[:2]
            largest = largest.maximum(scaled.square().sum(1).sqrt())
    found = dynamics.propose(observation, action, 1, generator())
    torch.testing.assert_close(found.doubt, largest)
    assert largest.min() > 0


def test_predictions_stay_near_the_recorded_ones(fitted: Any) -> None:
    dynamics, data = fitted
    far = 100 * torch.ones(50, 2)
    found = dynamics.propose(far, torch.ones(50, 1), 1, generator())
    seen = torch.cat((data.observation, data.next_observation))
    size = seen.amax(0) - seen.amin(0)
    assert (found.next_observation <= seen.amax(0) + MARGIN * size + 1e-6).all()
    assert (found.next_observation >= seen.amin(0) - MARGIN * size - 1e-6).all()
    assert (found.reward >= data.reward.min()).all() and (found.reward <= data.reward.max()).all()


def test_known_rewards_and_ends_are_those_of_the_environment() -> None:
    environment = double_integrator(4, task=Seen(2, 1))
    data = recorded(environment)
    assert data.terminated.any()
    dynamics = learned(environment, data, reward="known", termination="known")
    config = dynamics.ensemble.config
    assert not config.reward_head and not config.termination_head
    observation, action = rows_of(data, 200)
    found = dynamics.propose(observation, action, 2, generator())
    for following, reward, terminated in zip(*found[:3], strict=True):
        expected = -observation.square().sum(1) - 0.1 * action.square().sum(1)
        torch.testing.assert_close(reward, expected)
        assert torch.equal(terminated, following[:, 0] > 0.5)
    assert found.terminated.any() and not found.terminated.all()
    assert dynamics.scalars["model/known_reward_error"] < 1e-6  # type: ignore[attr-defined]
    assert dynamics.scalars["model/known_termination_error"] == 0  # type: ignore[attr-defined]
    assert "functions of what is observed; that it would diverge" in dynamics.notes


def test_a_known_reward_that_is_another_than_the_recorded_one_shows() -> None:
    environment = double_integrator(4, task=Seen(2, 1))
    data = recorded(environment)
    other = replace(data, reward=data.reward + 2, metadata=data.metadata)
    dynamics = learned(environment, other, reward="known")
    error = dynamics.scalars["model/known_reward_error"]  # type: ignore[attr-defined]
    assert error == pytest.approx(2, abs=1e-5)


def test_unknown_ends_are_none_or_an_error() -> None:
    environment = double_integrator(4)  # its task has no state of an observation
    data = recorded(environment)
    assert not data.terminated.any()
    dynamics = learned(environment, data)
    assert "Nothing ends an episode" in dynamics.notes
    assert not dynamics.propose(*rows_of(data), 1, generator()).terminated.any()
    ended = replace(data, terminated=data.truncated, truncated=data.terminated)
    with pytest.raises(ValueError, match=r"model.termination: got 'known', but .*allowed: 'learn"):
        LearnedDynamics(ended, environment, ModelConfig(**SMALL), 0)
    with pytest.raises(ValueError, match=r"model.reward: got 'known', but the observation of"):
        LearnedDynamics(data, environment, ModelConfig(**SMALL, reward="known"), 0)


def test_ends_are_known_of_a_body_whose_reward_is_not() -> None:
    environment = make_environment("Hopper-v0", 2)
    data = recorded(environment, 200)
    assert data.terminated.any() and not data.terminated.all()
    dynamics = learned(environment, data, max_epochs=1)
    assert "Ends of episodes are the environment's" in dynamics.notes
    assert torch.equal(environment.known_termination(data.next_observation), data.terminated)
    assert dynamics.scalars["model/known_termination_error"] == 0  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"model.reward: got 'known'"):
        LearnedDynamics(data, environment, ModelConfig(**SMALL, reward="known"), 0)


@pytest.mark.parametrize(("length", "steps"), [(1, 1), (3, 3), (9, 9), (25, 10)])
def test_held_out_rollouts_are_no_longer_than_episodes(length: int, steps: int) -> None:
    environment = double_integrator(10, horizon=length)
    data = recorded(environment, 500)
    dynamics = learned(environment, data, max_epochs=1)
    assert dynamics.scalars["model/error_steps"] == steps  # type: ignore[attr-defined]


def test_episodes_of_different_lengths_are_held_out_whole_windows_at_a_time() -> None:
    lengths = torch.randint(1, 30, (60,), generator=generator())
    last = torch.zeros(int(lengths.sum()), dtype=torch.bool)
    last[lengths.cumsum(0) - 1] = True
    episode, step = numbered(last)
    training, starts = split(last[:, None], TrainingConfig(rollout=5, holdout=HOLD_OUT))
    assert len(starts) > 0
    for start, column in starts.tolist():
        assert column == 0
        window = slice(start, start + 5)
        assert not training[window].any()
        assert len(episode[window].unique()) == 1 and (step[window].diff() == 1).all()


@pytest.mark.parametrize("length", [50, 100, 150, 200, 250, 300, 400, 480, 500, 1000])
def test_every_step_of_episodes_of_one_length_is_trained_on(length: int) -> None:
    """And held out, in some of the episodes."""
    last = (torch.arange(60 * length) % length == length - 1)[:, None]
    training, _ = split(last, TrainingConfig(rollout=10, holdout=HOLD_OUT))
    share = training.view(60, length).double().mean(0)
    assert 0.7 < share.min() and share.max() < 1


TRUE: list[tuple[str, dict[str, Any]]] = [
    ("DampedPendulum-v0", {}),
    ("CartPoleSwingUp-v0", {}),
    ("DoublePendulum-v0", {}),
    ("Lorenz-v0", {}),
    ("Duffing-v0", {}),
    ("HenonHeiles-v0", {}),
    ("KuramotoSivashinsky-v0", {"sensor_shape": "mode", "sensors": 24}),
]


@pytest.mark.parametrize(("name", "options"), TRUE, ids=[name for name, _ in TRUE])
def test_true_dynamics_step_as_the_environment_does(name: str, options: dict[str, Any]) -> None:
    environment = make_environment(name, 8, **options)
    dynamics = TrueDynamics(environment, name)
    random = RandomController(environment, 1)
    state, observation = environment.reset(7)
    for _ in range(10):
        action = random.act(observation, state)
        found = dynamics.propose(observation, action, 3, generator())
        step = environment.step(state, action)
        change = (step.observation - observation).abs().max()
        miss = (found.next_observation[0] - step.observation).abs().max()
        assert len(found.reward) == 1 and miss < 1e-4 * change
        torch.testing.assert_close(found.reward[0], step.reward, atol=1e-6, rtol=1e-4)
        assert torch.equal(found.terminated[0], step.terminated)
        assert not found.doubt.any()
        state, observation = step.state, step.observation
    assert dynamics.members(observation, action, 3, generator()).shape[:2] == (1, 1)
    more = observation.repeat(5, 1)  # any number of rows
    assert dynamics.propose(more, action.repeat(5, 1), 1, generator()).reward.shape == (1, 40)


class Shaken(Linear):
    """The same with noise of the physics."""

    def advance(self, state: Point, control: Tensor) -> Point:
        noise, stream = state.stream.normal(len(self.a), self.dtype, PROCESS_NOISE)
        moved = super().advance(state, control)
        return replace(moved, values=moved.values + 0.1 * noise, stream=stream)


def test_noise_of_true_dynamics_is_drawn_anew_for_every_row() -> None:
    system = Shaken([[0.5]], [[1.0]], 1, torch.float32)
    dynamics = TrueDynamics(ComposedEnvironment(system, Seen(1, 1), 10), "shaken")
    observation, action = torch.full((5000, 1), 0.4), torch.zeros(5000, 1)
    first, again, other = (
        dynamics.propose(observation, action, 1, generator(seed)).next_observation[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not (first == other).any()
    assert first.mean().item() == pytest.approx(0.2, abs=0.1 * 4 / 5000**0.5)
    assert first.std().item() == pytest.approx(0.1, abs=0.1 * 4 / 10000**0.5)


class Hidden(Seen):
    """Only the position is seen, and the state it stands for is at rest."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def observe(self, state: Point) -> Tensor:
        return state.values[:, :1]

    def state_of(self, observation: Tensor) -> Point:
        return super().state_of(torch.cat((observation, 0 * observation), 1))


class Clocked(Seen):
    """The reward goes by the time."""

    def reward(self, state: Point, control: Tensor, next_state: Point) -> Tensor:
        return next_state.interval.float()


@pytest.mark.parametrize(
    ("task", "what"), [(Hidden(), "the observation"), (Clocked(2, 1), "the reward")]
)
def test_what_the_observation_does_not_tell_is_found_by_stepping(task: Seen, what: str) -> None:
    environment = double_integrator(2, task=task)
    with pytest.raises(ValueError, match=f"model.source: true dynamics of it: .* misses {what}"):
        TrueDynamics(environment, "it")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Glucose-v0", {}, "the observation of GlucoseTask does not determine the state"),
        ("KuramotoSivashinsky-v0", {}, "the sensors of this environment do not determine"),
        ("HalfCheetah-v0", {}, "the observation of this MujocoEnvironment does not determine"),
        ("DampedPendulum-v0", {"gravity": [9.0, 10.0]}, "got parameters for each environment"),
        (
            "DampedPendulum-v0",
            {"wrap": [{"kind": "rate_limit", "largest_change": 0.5}]},
            "does not determine its state",
        ),
    ],
)
def test_environments_that_do_not_show_their_state_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    environment = make_environment(name, 2, **options)
    with pytest.raises(ValueError, match=f"true dynamics of {name}: .*{message}"):
        TrueDynamics(environment, name)


def test_true_dynamics_diverge_as_the_environment_does() -> None:
    environment = double_integrator(1, task=Seen(2, 1))
    dynamics = TrueDynamics(environment, "it")
    edge = torch.tensor([[-9.95, -9.0]])
    found = dynamics.propose(edge, torch.zeros(1, 1), 1, generator())
    assert torch.equal(found.next_observation[0], edge)
    assert found.reward.item() == -400 and found.terminated.all()
