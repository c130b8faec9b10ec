"""Training of PPO, SAC and TD3 on a task small enough to be solved in seconds."""

import copy
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, Int64
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from separatrix.agents.baselines.train import train
from separatrix.agents.catalog import load_policy
from separatrix.agents.common.checkpoint import Checkpoint, CheckpointError, with_prefix
from separatrix.agents.common.run import Run
from separatrix.agents.common.seeding import training_seed
from separatrix.agents.common.stable_baselines3.algorithm import make_algorithm
from separatrix.agents.common.stable_baselines3.config import (
    ModelFreeConfig,
    PPOConfig,
    SACConfig,
    TD3Config,
)
from separatrix.agents.common.stable_baselines3.snapshot import load_snapshot, save_snapshot
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv
from separatrix.agents.common.training import TrainingResult
from separatrix.agents.experiment import EnvironmentConfig, EvaluationConfig, ExperimentConfig
from separatrix.envs.core.actions import action_box
from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.core.registration import REGISTRY, make_environment, register
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import INITIAL_STATE, PROCESS_NOISE, Stream
from separatrix.envs.core.system import System
from separatrix.envs.core.task import Task
from tests.agents.training_runs import last_checkpoint, rows, train_in

ID = "separatrix/TestTarget-v0"
HORIZON = 20


@dataclass(frozen=True)
class TargetState(State):
    target: Float[Tensor, "batch 1"]


class TargetSystem(System):
    """A target in [-1, 1] that jumps in every interval."""

    control_interval = 1.0

    def __init__(self, num_envs: int, device: torch.device, dtype: torch.dtype) -> None:
        self.num_envs, self.device, self.dtype = num_envs, device, dtype

    def initial_state(self, stream: Stream) -> TargetState:
        value, stream = stream.uniform(1, self.dtype, INITIAL_STATE)
        return TargetState(stream, torch.zeros_like(stream.seed), 2 * value - 1)

    def advance(self, state: TargetState, control: Tensor) -> TargetState:
        value, stream = state.stream.uniform(1, self.dtype, PROCESS_NOISE)
        return TargetState(stream, state.interval + 1, 2 * value - 1)

    def inside(self, state: TargetState) -> Bool[Tensor, " batch"]:
        return torch.ones_like(state.interval, dtype=torch.bool)

    def select(self, rows: Int64[Tensor, " rows"]) -> "TargetSystem":
        return self


class HitTarget(Task):
    """Hit the target that is seen; a target above 0.95 ends the episode."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = action_box(1)
    metric_names = ("miss",)

    def control(self, action: Tensor) -> Tensor:
        return action

    def observe(self, state: TargetState) -> Tensor:
        return state.target.clone()

    def reward(self, state: TargetState, control: Tensor, next_state: TargetState) -> Tensor:
        return 1 - ((control - state.target)[:, 0] / 2) ** 2

    def terminated(self, state: TargetState) -> Tensor:
        return state.target[:, 0] > 0.95

    def metrics(
        self, state: TargetState, control: Tensor, next_state: TargetState
    ) -> dict[str, Tensor]:
        return {"miss": (control - state.target)[:, 0].abs()}


def build_target(
    *,
    num_envs: int,
    device: torch.device,
    dtype: torch.dtype,
    backend: str,
    horizon: int,
    options: Mapping[str, Any],
) -> ComposedEnvironment:
    return ComposedEnvironment(TargetSystem(num_envs, device, dtype), HitTarget(), horizon)


@pytest.fixture(autouse=True, scope="module")
def target_environment() -> Iterator[None]:
    register(
        ID.rpartition("/")[2],
        build_target,
        horizon=HORIZON,
        summary="Hit a target.",
        options={},
        documented=HitTarget,
        states=1,
        controls=1,
    )
    yield
    del REGISTRY[ID], gym.registry[ID]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of threads come in an order that depends on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SMALL: dict[str, Any] = {"actor_layers": (16,), "critic_layers": (16,), "log_every": 300}
SMALL |= {"learning_starts": 100, "batch_size": 32, "buffer_size": 1200}
AGENTS: list[ModelFreeConfig] = [
    PPOConfig(rollout_steps=25, batch_size=40, epochs=2, learning_rate_schedule="linear"),
    # Their buffers are full after 1,200 steps: not yet when the run is killed, but at its end.
    SACConfig(**SMALL, learning_rate_schedule="linear", train_every=5, gradient_steps=2),
    TD3Config(**SMALL, train_every=5, gradient_steps=3),
]
each_agent = pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.algorithm)


def experiment(agent: ModelFreeConfig, **changes: Any) -> ExperimentConfig:
    """Eight environments for 2,000 steps, evaluated every 500, saved every 1,000."""
    config = ExperimentConfig(
        EnvironmentConfig(ID, num_envs=8),
        agent,
        total_steps=2000,
        checkpoint_every=1000,
        evaluation=EvaluationConfig(episodes=8, every=500),
    )
    return replace(config, **changes)


def assert_same_checkpoint(left: Checkpoint, right: Checkpoint) -> None:
    assert left.step == right.step
    assert left.tensors.keys() == right.tensors.keys()
    different = [n for n, t in left.tensors.items() if not torch.equal(t, right.tensors[n])]
    assert different == []
    assert reproducible(left.state) == reproducible(right.state)


def reproducible(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's state without what two equal runs do not share.

    That is the wall-clock time of the last episodes, and Python's own generator: nothing here draws
    from it, except the type checker that the tests install, to pick the items that it checks.
    """
    algorithm = copy.deepcopy(state["algorithm"])
    algorithm["episodes"] = [(episode["r"], episode["l"]) for episode in algorithm["episodes"]]
    del algorithm["random"]["python"]
    return {**state, "algorithm": algorithm}


class Killed(Exception):
    """The process ends here."""


class KilledRun(Run):
    """A run whose process dies some steps after its first checkpoint."""

    def log(self, scalars: Mapping[str, SupportsFloat], step: int) -> None:
        if self.latest_checkpoint() is not None:
            raise Killed
        super().log(scalars, step)


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    config: ExperimentConfig
    result: TrainingResult
    run: Run
    checkpoint: Checkpoint

    @property
    def agent(self) -> ModelFreeConfig:
        """Its hyper-parameters."""
        assert isinstance(self.config.agent, ModelFreeConfig)
        return self.config.agent


@pytest.fixture(scope="module", params=AGENTS, ids=lambda agent: agent.algorithm)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = experiment(request.param)
    result, run = train_in(tmp_path_factory.mktemp("trained"), config)
    return Trained(config, result, run, last_checkpoint(run))


def restored(trained: Trained) -> BaseAlgorithm:
    """A new algorithm of another seed, in the state of the run's last checkpoint."""
    env = BatchedVecEnv(gym.make_vec(ID, num_envs=8, output="torch"))
    algorithm = make_algorithm(trained.agent, env, seed=3, device="cpu")
    networks = algorithm.policy.state_dict()
    saved = with_prefix("policy", trained.checkpoint.tensors)
    assert any(not torch.equal(saved[name], networks[name]) for name in networks)
    load_snapshot(algorithm, trained.checkpoint.tensors, trained.checkpoint.state["algorithm"])
    return algorithm


def test_a_killed_run_resumes_bit_for_bit(trained: Trained, tmp_path: Path) -> None:
    config = trained.config
    with KilledRun.create(tmp_path, ID, config.agent.algorithm, 0, config) as cut:
        with pytest.raises(Killed):
            train(config, cut)
    assert last_checkpoint(cut).step == 1000
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    with Run.resume(cut.folder) as resumed:
        assert train(config, resumed) == trained.result
    assert_same_checkpoint(trained.checkpoint, last_checkpoint(resumed))
    assert rows(trained.run) == rows(resumed)


@each_agent
def test_a_seed_determines_a_run(agent: ModelFreeConfig, tmp_path: Path) -> None:
    config = experiment(agent, total_steps=400)
    (_, first), (_, second) = (train_in(tmp_path / name, config) for name in ("a", "b"))
    _, other = train_in(tmp_path / "c", replace(config, seed=1))
    assert_same_checkpoint(last_checkpoint(first), last_checkpoint(second))
    assert rows(first) == rows(second)
    assert rows(first) != rows(other)


@each_agent
def test_training_episodes_come_from_the_training_seed(agent: ModelFreeConfig) -> None:
    env = BatchedVecEnv(gym.make_vec(ID, num_envs=8, output="torch"))
    make_algorithm(agent, env, seed=3, device="cpu")
    env.reset()
    assert env.get_attr("state")[0].stream.seed.tolist() == [training_seed(3) + i for i in range(8)]


def test_snapshots_survive_the_round_trip(trained: Trained) -> None:
    algorithm = restored(trained)
    tensors, state = save_snapshot(algorithm)
    again = {**trained.checkpoint.state, "algorithm": json.loads(json.dumps(state))}
    assert_same_checkpoint(trained.checkpoint, Checkpoint(2000, tensors, again))
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    algorithm.learn(200, reset_num_timesteps=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())


def test_a_snapshot_of_another_network_is_refused(trained: Trained) -> None:
    agent = trained.agent
    name = "policy_layers" if isinstance(agent, PPOConfig) else "actor_layers"
    layers: dict[str, Any] = {name: (3,)}
    env = BatchedVecEnv(gym.make_vec(ID, num_envs=8, output="torch"))
    algorithm = make_algorithm(replace(agent, **layers), env, seed=0, device="cpu")
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_snapshot(algorithm, trained.checkpoint.tensors, trained.checkpoint.state["algorithm"])


def test_a_loaded_policy_acts_as_stable_baselines3_does(trained: Trained) -> None:
    # Far from the training data, so that PPO's unbounded mean has to be clipped.
    observation = torch.linspace(-40, 40, 33)[:, None]
    expected, _ = restored(trained).predict(observation.numpy(), deterministic=True)
    controller = load_policy(trained.config, trained.checkpoint, make_environment(ID))
    action = controller.act(observation, state=None).numpy()
    # stable-baselines3 maps [-1, 1] to [low, high] even where they are equal, with two roundings.
    np.testing.assert_allclose(action, expected, rtol=0, atol=2**-23)


def test_what_a_run_leaves_behind(trained: Trained) -> None:
    logged, result = rows(trained.run), trained.result
    tags = {tag for _, tag, _ in logged}
    assert {"rollout/ep_rew_mean", "env/miss", "env/diverged", "eval/return", "eval/miss"} <= tags
    assert "train/learning_rate" in tags
    assert len(logged) == len({(step, tag) for step, tag, _ in logged})
    # Evaluations come with the first whole round of training after every 500 steps.
    ppo = isinstance(trained.agent, PPOConfig)
    evaluated = [step for step, tag, _ in logged if tag == "eval/return"]
    assert evaluated == [600 if ppo else 520, 1000, 1600 if ppo else 1520, 2000]

    assert result.steps == trained.checkpoint.step == 2000
    assert 4 * 8 <= result.evaluation_steps <= 4 * 8 * HORIZON
    final = {tag: float(value) for step, tag, value in logged if step == 2000}
    assert result.evaluation == {tag: v for tag, v in final.items() if tag.startswith("eval/")}
    assert result.evaluation["eval/steps"] == result.evaluation_steps
    files = [path for path in trained.run.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".zip", ".pkl", ".pt")]


def test_a_finished_run_is_left_alone(trained: Trained) -> None:
    before = (trained.run.folder / "metrics.csv").read_bytes()
    with Run.resume(trained.run.folder) as resumed:
        assert train(trained.config, resumed) == trained.result
    assert (trained.run.folder / "metrics.csv").read_bytes() == before


def test_a_changed_configuration_is_told(trained: Trained, tmp_path: Path) -> None:
    """Whether it was edited or damaged, the run does not go on silently as another one."""
    folder = tmp_path / "run"
    shutil.copytree(trained.run.folder, folder)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("gamma: 0.99", "gamma: 0.95"))
    with Run.resume(folder) as run:
        changed = run.config
        message = r"changed since the checkpoint of step 2000.*: agent.gamma: 0.99, now 0.95$"
        with pytest.warns(RuntimeWarning, match=message):
            train(changed, run)


def test_a_checkpoint_of_another_experiment_is_one_clear_error(
    trained: Trained, tmp_path: Path
) -> None:
    agent = trained.agent
    name = "policy_layers" if isinstance(agent, PPOConfig) else "actor_layers"
    layers: dict[str, Any] = {name: (3,)}
    other = replace(agent, **layers)
    another = SACConfig(**SMALL) if isinstance(agent, PPOConfig) else AGENTS[0]
    for config in (experiment(other), experiment(another)):
        with Run.create(tmp_path, ID, "other", 0, config) as run:
            saved = trained.checkpoint
            run.save_checkpoint(saved.step, saved.tensors, saved.state)
            with pytest.raises(CheckpointError, match="checkpoint of step 2000 does not fit"):
                train(config, run)
            with pytest.raises(CheckpointError, match="checkpoint of step 2000 does not fit"):
                load_policy(config, last_checkpoint(run), make_environment(ID))


def test_a_linear_schedule_spans_the_run(tmp_path: Path) -> None:
    _, run = train_in(tmp_path, experiment(AGENTS[0], total_steps=800))
    rates = {step: float(value) for step, tag, value in rows(run) if tag == "train/learning_rate"}
    assert rates == {step: pytest.approx(3e-4 * (1 - step / 800)) for step in (200, 400, 600, 800)}


@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_learns(seed: int, tmp_path: Path) -> None:
    """The best return misses nothing; doing nothing misses by 0.5 on average."""
    agent = PPOConfig(
        rollout_steps=32, batch_size=256, epochs=10, learning_rate=3e-3, gamma=0.5,
        policy_layers=(16,), value_layers=(16,),
    )  # fmt: skip
    config = experiment(
        agent,
        environment=EnvironmentConfig(ID, num_envs=32),
        evaluation=EvaluationConfig(episodes=32),
        seed=seed,
        total_steps=8192,
        checkpoint_every=8192,
    )
    result, _ = train_in(tmp_path, config)
    assert result.evaluation["eval/miss"] < 0.2


@each_agent
def test_observations_are_scaled_before_the_networks(agent: ModelFreeConfig) -> None:
    env = BatchedVecEnv(gym.make_vec(ID, num_envs=8, output="torch"))
    scaled = make_algorithm(replace(agent, observation_scale=(2.0,)), env, 0, "cpu").policy
    plain = make_algorithm(agent, env, 0, "cpu").policy
    weights = {n: t for n, t in scaled.state_dict().items() if not n.endswith("extractor.scale")}
    plain.load_state_dict(weights)
    observation = torch.randn((5, 1), generator=torch.Generator().manual_seed(0))
    expected = plain._predict(2.0 * observation, deterministic=True)
    torch.testing.assert_close(scaled._predict(observation, deterministic=True), expected)
    with pytest.raises(ValueError, match="observation_scale: got 2 factors; allowed: 1 or none"):
        make_algorithm(replace(agent, observation_scale=(2.0, 3.0)), env, 0, "cpu")
