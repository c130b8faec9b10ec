"""Environments in TorchRL: its own checks, its collectors, and the numbers of our batches."""

import sys
import warnings
from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode

pytest.importorskip("torchrl")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TorchRL uses classes of its own that it deprecates
    from torchrl.collectors import Collector

from tensordict.nn import TensorDictModule
from torchrl.data import Bounded
from torchrl.envs.utils import check_env_specs, step_mdp

from separatrix.agents.common.torchrl import TorchRLEnv
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.wrappers import ActionDelay, ObservationNoise

LORENZ = "separatrix/Lorenz-v0"


def make(num_envs: int = 3, horizon: int | None = 5, **options: Any) -> TorchRLEnv:
    return TorchRLEnv(make_environment(LORENZ, num_envs, horizon=horizon, **options))


@pytest.mark.parametrize("environment_id", list(REGISTRY))
def test_every_id_passes_the_checks_of_torchrl(environment_id: str) -> None:
    check_env_specs(TorchRLEnv(make_environment(environment_id, 2)))


def test_wrapped_and_in_float64_it_passes_too() -> None:
    check_env_specs(make(dtype="float64", wrap=[ObservationNoise(0.1), ActionDelay(2)]))


def test_specs_are_the_spaces() -> None:
    env = make(num_envs=2, rho=[20.0, 30.0])
    space = env.environment.observation_space
    assert env.batch_size == (2,) and env.batch_locked
    observation = env.observation_spec["observation"]
    assert isinstance(observation, Bounded) and observation.shape == (2, 3)
    assert torch.equal(observation.space.high[1], torch.from_numpy(space.high))
    assert env.action_spec.dtype is torch.float32 and env.action_spec.shape == (2, 1)
    assert env.action_spec.space.low.unique().item() == -1
    assert env.reward_spec.space.low.unique().item() == env.environment.reward_range[0]


def test_trajectories_are_those_of_a_batch() -> None:
    """Bit for bit, through episodes that end by time and by divergence, at different steps."""
    # Euler's method with this step leaves the safe box after 3 to 16 steps.
    options: dict[str, Any] = {"control_interval": 0.1, "substeps": 1, "integrator": "euler"}
    options |= {"rho": [26.0, 27.0, 28.0, 29.0], "wrap": [ObservationNoise(0.1)]}
    env = make(num_envs=4, horizon=7, **options)
    env.set_seed(3)
    found = env.rollout(40, break_when_any_done=False)
    batch = BatchedEnv(
        LORENZ,
        4,
        max_episode_steps=7,
        output="torch",
        autoreset_mode=AutoresetMode.DISABLED,
        **options,
    )
    observation, _ = batch.reset(seed=3)
    for step in found.unbind(1):
        assert torch.equal(step["observation"], observation)
        observation, reward, terminated, truncated, _ = batch.step(step["action"])
        result = step["next"]
        assert torch.equal(result["observation"], observation)
        assert torch.equal(result["reward"][:, 0], reward)
        assert torch.equal(result["terminated"][:, 0], terminated)
        assert torch.equal(result["truncated"][:, 0], truncated)
        ended = terminated | truncated
        assert torch.equal(result["done"][:, 0], ended)
        if ended.any():
            observation, _ = batch.reset(options={"reset_mask": ended})
    ends = found["next", "done"][..., 0]
    assert found["next", "terminated"].any() and found["next", "truncated"].any()
    assert (ends.any(0) & ~ends.all(0)).any(), "all episodes end together"


def test_a_seed_fixes_the_trajectory_and_later_resets_continue_it() -> None:
    env, other = make(), make()
    env.set_seed(5)
    first, later = env.reset()["observation"], env.reset()["observation"]
    other.set_seed(5)
    assert torch.equal(other.reset()["observation"], first)
    assert torch.equal(other.reset()["observation"], later)
    assert not torch.equal(first, later)
    env.set_seed(5)
    assert torch.equal(env.reset()["observation"], first)
    assert not torch.equal(make().reset()["observation"], make().reset()["observation"])


def test_a_partial_reset_leaves_the_others_where_they_are() -> None:
    env = make()
    stepped = step_mdp(env.rand_step(env.reset()))
    before = stepped["observation"].clone()
    stepped["_reset"] = torch.tensor([[False], [True], [False]])
    after = env.reset(stepped)["observation"]
    assert (after == before).all(1).tolist() == [True, False, True]
    assert env.state.interval.tolist() == [1, 0, 1]


def test_a_collector_runs_it() -> None:
    policy = TensorDictModule(torch.nn.Linear(3, 1), in_keys=["observation"], out_keys=["action"])
    collector = Collector(
        make(num_envs=4),
        policy,
        frames_per_batch=32,
        total_frames=96,
        auto_register_policy_transforms=True,
    )
    sizes, lengths = [], []
    for data in collector:
        sizes.append(data.batch_size)
        lengths.append(data["next", "done"].sum(1).flatten().tolist())
        trajectory = data["collector", "traj_ids"]
        assert trajectory.shape == (4, 8)
    collector.shutdown()
    assert sizes == [(4, 8)] * 3
    assert torch.tensor(lengths).sum(0).tolist() == [4] * 4  # 24 steps of episodes of 5


def test_gradients_flow_through_a_rollout() -> None:
    env = make(num_envs=2, horizon=8, dtype="float64", wrap=[ActionDelay(1)])
    gain = torch.tensor(-0.1, dtype=torch.float64, requires_grad=True)

    def total() -> torch.Tensor:
        env.set_seed(0)
        policy = TensorDictModule(
            lambda seen: (gain * seen[:, :1]).tanh(), in_keys=["observation"], out_keys=["action"]
        )
        return env.rollout(6, policy)["next", "observation"].sum()

    (gradient,) = torch.autograd.grad(total(), gain)
    with torch.no_grad():
        values = []
        for step in (1e-6, -2e-6):
            gain += step
            values.append(total().item())
    assert gradient.item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("missing", ["torchrl", "tensordict"])
def test_without_torchrl_the_error_names_the_extra(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "separatrix.agents.common.torchrl")
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'separatrix\[torchrl\]'"):
        import separatrix.agents.common.torchrl  # noqa: F401
