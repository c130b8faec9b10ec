"""The shell of a batch; that it does what single environments do is the checker's business."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import separatrix  # noqa: F401
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.registration import REGISTRY

LORENZ = "separatrix/Lorenz-v0"


def make(**options: Any) -> BatchedEnv:
    return BatchedEnv(LORENZ, 4, **{"max_episode_steps": 5, **options})


@pytest.fixture
def batch() -> BatchedEnv:
    return make()


def actions(value: float = 0.5, num_envs: int = 4) -> np.ndarray:
    return np.full((num_envs, 1), value, np.float32)


def flat(output: Any) -> list[np.ndarray]:
    """The arrays of what reset or step returned, in order."""
    if isinstance(output, dict):
        return [array for key in sorted(output) for array in flat(output[key])]
    if isinstance(output, tuple):
        return [array for item in output for array in flat(item)]
    return [np.asarray(output)]


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(flat(one), flat(other), strict=True))
    return all(np.array_equal(a, b) for a, b in pairs)


def test_defaults() -> None:
    envs = gym.make_vec(LORENZ, num_envs=2)
    assert isinstance(envs, BatchedEnv) and envs.metadata["autoreset_mode"] is (
        AutoresetMode.SAME_STEP
    )
    assert envs.output == "numpy" and envs.environment.horizon == REGISTRY[LORENZ].horizon == 400
    assert envs.spec is not None and envs.spec.id == LORENZ
    other = gym.make_vec(LORENZ, num_envs=2, autoreset_mode=AutoresetMode.DISABLED)
    assert other.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP, "metadata are shared"


def test_reset_with_a_mask_starts_only_those(batch: BatchedEnv) -> None:
    batch.reset(seed=0)
    before = batch.step(actions())[0]
    mask = np.array([False, True, False, True])
    after, infos = batch.reset(options={"reset_mask": mask})
    assert infos == {} and mask.tolist() == [False, True, False, True]
    assert ((after == before).all(1) == ~mask).all()
    assert batch.state_dict()["state.interval"].tolist() == [1, 0, 1, 0]
    assert batch.state_dict()["state.stream.episode"].tolist() == [0, 1, 0, 1]


def test_reset_with_a_mask_and_a_seed_seeds_only_those(batch: BatchedEnv) -> None:
    start, _ = batch.reset(seed=10)
    batch.step(actions())
    mask = torch.tensor([False, False, True, False])
    again, _ = batch.reset(seed=10, options={"reset_mask": mask})
    assert np.array_equal(again[2], start[2]) and not np.array_equal(again[1], start[1])


def test_a_list_gives_every_environment_its_seed(batch: BatchedEnv) -> None:
    start, _ = batch.reset(seed=[3, 1, 3, 2**63 - 1])
    counted, _ = batch.reset(seed=1)
    assert np.array_equal(start[0], start[2]) and np.array_equal(start[0], counted[2])
    assert np.array_equal(start[1], counted[0]) and not np.array_equal(start[3], start[0])


def test_without_a_seed_every_batch_is_another() -> None:
    assert not np.array_equal(make().reset()[0], make().reset()[0])


@pytest.mark.parametrize("seed", [-1, 2**63 - 3, [1, 2], [1, 2, 3, -4]])
def test_bad_seeds_raise_and_change_nothing(seed: Any, batch: BatchedEnv) -> None:
    batch.reset(seed=0)
    expected = make()
    expected.reset(seed=0)
    with pytest.raises(ValueError, match=r"seed: got .*; allowed: "):
        batch.reset(seed=seed)
    assert same(batch.step(actions()), expected.step(actions()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 1}, r"reset options: got \['speed'\]; allowed: reset_mask"),
        ({"reset_mask": np.zeros(4, bool)}, "got torch.bool of shape .*, one of them True"),
        ({"reset_mask": np.ones(3, bool)}, r"got torch.bool of shape \(3,\); allowed: booleans"),
        ({"reset_mask": np.ones(4)}, r"got float64 of shape \(4,\); allowed: booleans"),
        ({"reset_mask": torch.ones(4)}, r"got torch.float32 of shape \(4,\); allowed: booleans"),
        ({"reset_mask": "all"}, r"got <U3 of shape \(\); allowed: booleans"),
        ({"reset_mask": None}, r"got object of shape \(\); allowed: booleans"),
    ],
)
def test_bad_options_of_reset_raise(
    options: dict[str, Any], message: str, batch: BatchedEnv
) -> None:
    batch.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        batch.reset(options=options)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_state_dict_continues_bit_for_bit(output: str, mode: AutoresetMode) -> None:
    first, second = (make(output=output, autoreset_mode=mode) for _ in range(2))
    first.reset(seed=0)
    first.step(actions())
    first.reset(options={"reset_mask": np.array([True, False, False, True])})
    for _ in range(4):  # environments 1 and 2 have just ended, which DISABLED remembers
        first.step(actions())
    saved = first.state_dict()
    second.load_state_dict(saved)
    for tensor in saved.values():
        tensor.zero_()  # it is a copy, for the one and for the other
    for _ in range(8):
        if mode is AutoresetMode.DISABLED and (ended := first._ended).any():
            assert torch.equal(ended, second._ended)
            options = {"reset_mask": ended}
            assert same(first.reset(options=options), second.reset(options=options))
        assert same(first.step(actions()), second.step(actions()))
    assert same(first.reset(), second.reset())


def test_state_dict_of_another_size_raises(batch: BatchedEnv) -> None:
    other = BatchedEnv(LORENZ, 3)
    other.reset(seed=0)
    with pytest.raises(ValueError, match=r"state.stream.seed: got shape \(3,\); allowed: \(4,\)"):
        batch.load_state_dict(other.state_dict())
    batch.reset(seed=0)
    saved = batch.state_dict()
    del saved["episode_return"]
    with pytest.raises(ValueError, match=r"episode_return: got shape None; allowed: \(4,\)"):
        batch.load_state_dict(saved)


def test_disabled_names_the_ended_environment_and_waits_for_its_reset() -> None:
    batch = make(autoreset_mode="Disabled")
    batch.reset(seed=0)
    batch.step(actions())
    batch.reset(options={"reset_mask": np.array([True, True, False, False])})
    for _ in range(4):
        output = batch.step(actions())
    assert output[3].tolist() == [False, False, True, True]
    before = batch.state_dict()
    with pytest.raises(RuntimeError, match="environment 2 has ended; reset it with a reset_mask"):
        batch.step(actions())
    assert all(torch.equal(value, before[name]) for name, value in batch.state_dict().items())
    batch.reset(options={"reset_mask": np.array([False, False, True, False])})
    with pytest.raises(RuntimeError, match="environment 3 has ended"):
        batch.step(actions())
    batch.reset(options={"reset_mask": np.array([False, False, False, True])})
    assert batch.step(actions())[3].tolist() == [True, True, False, False]


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_actions_may_be_of_either_kind(output: str) -> None:
    found = []
    for given in (
        actions(),
        torch.from_numpy(actions()),
        torch.from_numpy(actions()).requires_grad_(),
        actions().astype(np.float64),
        actions().tolist(),
        actions()[::-1],
        np.broadcast_to(actions()[:1], (4, 1)),  # read-only, and of one number
    ):
        batch = make(output=output)
        batch.reset(seed=0)
        found.append(batch.step(given))
    assert all(same(found[0], other) for other in found[1:])
    if output == "torch":
        assert not any(output[0].requires_grad for output in found)


@pytest.mark.parametrize(("given", "limit"), [(7.0, 1.0), (np.inf, 1.0), (-np.inf, -1.0)])
def test_actions_outside_the_box_are_clipped(given: float, limit: float, batch: BatchedEnv) -> None:
    batch.reset(seed=0)
    found = batch.step(actions(given))
    batch.reset(seed=0)
    assert same(found, batch.step(actions(limit)))


@pytest.mark.parametrize("row", [0, 2])
def test_nan_names_its_environment_and_changes_nothing(row: int, batch: BatchedEnv) -> None:
    batch.reset(seed=0)
    given = actions()
    given[row] = np.nan
    given[3] = np.inf
    before = batch.state_dict()
    with pytest.raises(ValueError, match=f"actions: environment {row} got NaN; allowed: numbers"):
        batch.step(given)
    assert all(torch.equal(value, before[name]) for name, value in batch.state_dict().items())
    given[row] = -np.inf  # opposite infinities add up to NaN, but are numbers
    assert np.isfinite(batch.step(given)[0]).all()


def test_nan_is_ignored_where_the_action_is() -> None:
    """In the mode NEXT_STEP, environments that start anew take no action."""
    batch, twin = (make(autoreset_mode=AutoresetMode.NEXT_STEP) for _ in range(2))
    for env in (batch, twin):
        env.reset(seed=0)
        env.step(actions())
        env.reset(options={"reset_mask": np.array([True, True, True, False])})
        for _ in range(4):
            output = env.step(actions())
        assert output[3].tolist() == [False, False, False, True]
    given = actions()
    given[3] = np.nan
    found, expected = batch.step(given), twin.step(actions())
    assert same(found[:4], expected[:4])
    assert same(batch.step(actions()), twin.step(actions()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((3, 1)), r"actions: got shape \(3, 1\); allowed: \(4, 1\)"),
        (np.zeros(4), r"actions: got shape \(4,\); allowed: \(4, 1\)"),
        (np.zeros((4, 2)), r"actions: got shape \(4, 2\); allowed: \(4, 1\)"),
        (torch.zeros(1, 1), r"actions: got shape \(1, 1\); allowed: \(4, 1\)"),
        (0.5, r"actions: got shape \(\); allowed: \(4, 1\)"),
        ([["left"]] * 4, r"actions: got \[\['left'\], .*; allowed: real numbers"),
        (None, "actions: got None; allowed: real numbers"),
        (np.zeros((4, 1), complex), r"actions: got array\(.*; allowed: real numbers"),
    ],
)
def test_bad_actions_raise(given: Any, message: str, batch: BatchedEnv) -> None:
    batch.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        batch.step(given)


def test_order_of_calls_is_told() -> None:
    batch = make(render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"step\(\) before the first reset\(\)"):
        batch.step(actions())
    with pytest.raises(RuntimeError, match=r"render\(\) before the first reset\(\)"):
        batch.render()


def test_frames_show_every_environment() -> None:
    batch = make(render_mode="rgb_array", rho=[28.0, 28.0, 20.0, 28.0])
    batch.reset(seed=[1, 2, 1, 1])
    frames = batch.render()
    assert frames is not None and len(frames) == 4
    assert {(frame.dtype, frame.shape) for frame in frames} == {
        (np.dtype(np.uint8), frames[0].shape)
    }
    assert np.array_equal(frames[0], frames[3])
    assert not np.array_equal(frames[0], frames[1]), "another state looks the same"
    assert not np.array_equal(frames[0], frames[2]), "another fixed point looks the same"


def test_render_without_a_mode_warns(batch: BatchedEnv) -> None:
    batch.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert batch.render() is None


def test_close(batch: BatchedEnv) -> None:
    batch.reset(seed=0)
    batch.close()
    batch.close()
    assert batch.closed


def test_statistics_of_episodes() -> None:
    for mode in AutoresetMode:
        batch = make(autoreset_mode=mode)
        batch.reset(seed=0)
        total = np.zeros(4, np.float32)
        for _ in range(5):
            *_, infos = output = batch.step(actions())
            total = total + output[1]
        if mode is AutoresetMode.SAME_STEP:
            assert infos["_final_info"].all() and not infos["_distance"].any()
            infos = infos["final_info"]
        assert infos["episode_return"].tolist() == total.tolist()
        assert infos["episode_length"].tolist() == [5] * 4 and infos["_episode_length"].all()


def test_tensors_stay_tensors() -> None:
    batch = make(output="torch", dtype="float64")
    observation, _ = batch.reset(seed=0)
    found = batch.step(actions())
    assert observation.dtype == found[0].dtype == found[1].dtype == torch.float64
    assert found[2].dtype == found[3].dtype == torch.bool
    assert all(isinstance(value, torch.Tensor) for value in found[4].values())


def test_large_batch_follows_the_small_one() -> None:
    """A batch of 4096 takes the threaded kernel, with blocks of another size."""
    large, small = gym.make_vec(LORENZ, num_envs=4096), gym.make_vec(LORENZ, num_envs=3)
    start, _ = large.reset(seed=5)
    expected, _ = small.reset(seed=4098)
    assert np.array_equal(start[-3:], expected)
    for step in range(60):
        value = np.sin(step)
        found = large.step(actions(value, 4096))
        for got, alone in zip(found[:4], small.step(actions(value, 3))[:4], strict=True):
            assert np.array_equal(got[-3:], alone)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_on_a_gpu(output: str) -> None:
    batch, host = make(device="cuda", output=output), make(backend="torch")
    found, expected = batch.reset(seed=0)[0], host.reset(seed=0)[0]
    for _ in range(8):
        observation = found.cpu() if output == "torch" else found
        assert output == "numpy" or found.is_cuda
        assert np.allclose(observation, expected, rtol=1e-3, atol=1e-3)
        found, expected = batch.step(actions())[0], host.step(actions())[0]
