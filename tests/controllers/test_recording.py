import numpy as np
import pytest
import torch

from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.controllers.recording import record_fields, record_frames, record_trajectories
from separatrix.envs.core.registration import make_environment

SEEDS = torch.arange(3)


def test_trajectories_are_the_states_before_each_step() -> None:
    environment = make_environment("Lorenz-v0", 3, horizon=7)
    recorded = record_trajectories(environment, ZeroController(environment), SEEDS)
    assert recorded.names == ("x", "y", "z")
    assert recorded.target is not None
    np.testing.assert_allclose(recorded.target, [72**0.5, 72**0.5, 27], rtol=1e-12)
    state, _ = environment.reset(SEEDS)
    assert recorded.values.shape == (7, 3, 3)
    for values in recorded.values:
        np.testing.assert_array_equal(values, state.values.numpy())
        state = environment.step(state, torch.zeros(3, 1)).state


def test_fields_are_those_before_each_step() -> None:
    environment = make_environment("KuramotoSivashinsky-v0", 3, horizon=5)
    recorded = record_fields(environment, ZeroController(environment), SEEDS)
    assert recorded is not None and recorded.shape == (5, 3, 64)
    state, _ = environment.reset(SEEDS)
    for field in recorded:
        np.testing.assert_array_equal(field, state.field[:, 0].numpy())
        state = environment.step(state, torch.zeros(3, 4)).state
    lorenz = make_environment("Lorenz-v0", 3, horizon=5)
    assert record_fields(lorenz, ZeroController(lorenz), SEEDS) is None


def test_trajectories_end_with_their_episode() -> None:
    # Forces beyond all measure drive the state out of the safe box.
    environment = make_environment("Lorenz-v0", 3, horizon=50, authority=1e4)
    recorded = record_trajectories(environment, RandomController(environment, 0), SEEDS)
    alive = ~np.isnan(recorded.values).any(2)
    assert len(alive) < 50
    assert alive[0].all()
    assert not (alive[1:] & ~alive[:-1]).any()


@pytest.mark.parametrize(("horizon", "limit", "count"), [(6, 6, 6), (7, 6, 4), (13, 6, 5)])
def test_frames_are_those_of_the_episode(horizon: int, limit: int, count: int) -> None:
    environment = make_environment("Lorenz-v0", 3, horizon=horizon)
    frames = record_frames(environment, ZeroController(environment), 2, limit)
    assert frames.dtype == np.uint8
    assert len(frames) == count
    state, _ = environment.reset(SEEDS)
    np.testing.assert_array_equal(frames[0], environment.render(state, 2))
    assert not np.array_equal(frames[0], frames[1])
