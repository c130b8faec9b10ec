"""The argument `wrap`: what is refused, and that Gymnasium can write it down."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import separatrix  # noqa: F401
from separatrix.envs.core.wrappers import (
    ActionDelay,
    FrameStack,
    ObservationNoise,
    PartialObservation,
    RateLimit,
    Wrapper,
)

LORENZ = "separatrix/Lorenz-v0"


@pytest.mark.parametrize(
    "wrapper",
    [
        ObservationNoise(0.1),
        PartialObservation([1, 0]),
        ActionDelay(2),
        RateLimit(0.3),
        FrameStack(3),
    ],
    ids=lambda wrapper: type(wrapper).__name__,
)
def test_the_spec_survives_json(wrapper: Wrapper) -> None:
    env = gym.make(LORENZ, wrap=[wrapper])
    assert env.spec is not None and repr(wrapper) in repr(env.spec)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    action = env.action_space.sample()
    assert np.array_equal(env.reset(seed=1)[0], again.reset(seed=1)[0])
    assert np.array_equal(env.step(action)[0], again.step(action)[0])


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (ObservationNoise, -0.1, "standard_deviation: got -0.1; allowed: a finite number >= 0"),
        (ObservationNoise, float("nan"), "standard_deviation: got nan"),
        (ObservationNoise, True, "standard_deviation: got True"),
        (PartialObservation, [], r"indices: got \(\); allowed: distinct integers >= 0"),
        (PartialObservation, [0, 0], r"indices: got \(0, 0\)"),
        (PartialObservation, [-1], r"indices: got \(-1,\)"),
        (ActionDelay, -1, "steps: got -1; allowed: an integer >= 0"),
        (ActionDelay, True, "steps: got True"),
        (RateLimit, 0.0, "largest_change: got 0.0; allowed: a finite number > 0"),
        (FrameStack, 0, "frames: got 0; allowed: an integer >= 1"),
    ],
)
def test_numbers_outside_their_range_raise(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(value)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (ActionDelay(1), r"wrap: got ActionDelay\(steps=1\); allowed: a list of wrappers"),
        ("noise", "wrap: got 'noise'; allowed: a list of wrappers"),
        (["noise"], "wrap: got 'noise'; allowed: ObservationNoise, PartialObservation, "),
        ([{"kind": "delay"}], "wrap: got kind 'delay'; .*allowed: observation_noise, "),
        ([{"kind": "action_delay"}], "wrap: got kind; action_delay needs kind, steps"),
        ([{"kind": "action_delay", "steps": 1, "n": 2}], "wrap: got kind, steps, n"),
        ([PartialObservation([3])], r"indices: got \(3,\); allowed: 0 to 2"),
    ],
)
def test_wrong_wrappers_raise(wrap: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make_vec(LORENZ, num_envs=2, wrap=wrap)
