"""The loop: honest counts, resumption, rollback, selection, populations, and what it refuses."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.agents.catalog import load_policy, train
from separatrix.agents.common.configuration import ConfigurationError, load_experiment
from separatrix.agents.common.run import Run
from separatrix.agents.common.stable_baselines3.config import PPOConfig, SACConfig
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.sindy_rl.config import (
    NeuralModelConfig,
    PolicyConfig,
    PopulationConfig,
    SindyRLConfig,
    SparseModelConfig,
    SurrogateConfig,
    UncertaintyConfig,
)
from separatrix.agents.sindy_rl.exploration import Exploration
from separatrix.agents.sindy_rl.forecast import Dynamics, Forecast
from separatrix.agents.sindy_rl.learner import make_learner
from separatrix.agents.sindy_rl.loop import Loop
from separatrix.agents.sindy_rl.population import draw, perturb, replacements, tunable
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ObservationNoise
from tests.agents.training_runs import last_checkpoint, rows

PPO = PPOConfig(rollout_steps=8, batch_size=64, epochs=1, policy_layers=(8,), value_layers=(8,))
SAC = SACConfig(
    buffer_size=2000,
    learning_starts=16,
    gradient_steps=1,
    batch_size=16,
    actor_layers=(8,),
    critic_layers=(8,),
)


class Killed(BaseException):
    """What a kill looks like from inside."""


class KilledRun(Run):
    """Dies before its second checkpoint is written."""

    saved = 0

    def save_checkpoint(self, *arguments: Any, **others: Any) -> Path:
        self.saved += 1
        if self.saved == 2:
            raise Killed
        return super().save_checkpoint(*arguments, **others)


def experiment(**changes: Any) -> ExperimentConfig:
    """Rounds of 100 real steps in two environments, two after the first 200 random steps."""
    config = load_experiment("debug/lorenz_sindy_rl")
    agent = config.agent
    assert isinstance(agent, SindyRLConfig)
    small = replace(agent, policy=PPO, policy_steps=128, surrogate=SurrogateConfig(num_envs=16))
    return replace(config, agent=replace(small, **changes), evaluation=config.evaluation)


def train_in(folder: Path, config: ExperimentConfig, kind: type[Run] = Run) -> Run:
    with kind.create(folder, config.environment.id, "sindy_rl", config.seed, config) as run:
        train(config, run)
    return run


VARIANTS: dict[str, dict[str, Any]] = {
    "sparse_ppo": {},
    "sac": {"policy": SAC},
    "neural": {"model": NeuralModelConfig(members=2, hidden=(8,), max_epochs=2)},
    "doubts": {
        "uncertainty": UncertaintyConfig(
            penalty=0.1, deviation_limit=0.5, leverage_limit=20.0, candidates=4, refit_above=1e6
        ),
        "surrogate": SurrogateConfig(num_envs=16, tolerance=0.3, lyapunov_times=2.0),
    },
    "population": {"population": PopulationConfig(members=2, every=1, quantile=0.5)},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_killed_run_resumes_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    config = experiment(**changes)
    whole = train_in(tmp_path / "whole", config)
    with pytest.raises(Killed):
        train_in(tmp_path / "cut", config, KilledRun)
    (folder,) = (tmp_path / "cut" / "Lorenz-v0" / "sindy_rl").iterdir()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    with Run.resume(folder) as resumed:
        assert last_checkpoint(resumed).step == 300
        train(config, resumed)
    assert rows(whole) == rows(resumed)
    left, right = last_checkpoint(whole), last_checkpoint(resumed)
    assert left.step == right.step == 400
    assert [n for n, t in left.tensors.items() if not torch.equal(t, right.tensors[n])] == []


def test_real_steps_are_counted_and_evaluations_apart(tmp_path: Path) -> None:
    config = experiment()
    run = train_in(tmp_path, config)
    logged = rows(run)
    assert sorted({step for step, _, _ in logged}) == [300, 400]
    steps = {(step, tag): float(value) for step, tag, value in logged}
    # An evaluation at 400 alone, as only there a multiple of 200 is passed: 4 episodes of 400.
    assert steps[400, "eval/steps"] == 1600 and (300, "eval/steps") not in steps
    assert steps[400, "surrogate/steps"] == 256
    loop = Loop(config)
    saved = last_checkpoint(run)
    loop.load_state_dict(saved.tensors, saved.state["loop"])
    data = loop.data()
    assert loop.steps == data.reward.numel() == 400
    # Every collection ends its episodes: nothing runs on from one controller to the next.
    assert data.last.any(1).nonzero()[:, 0].tolist() == [99, 149, 199]


def test_everything_is_written(tmp_path: Path) -> None:
    run = train_in(tmp_path, experiment())
    tags = {tag for _, tag, _ in rows(run)}
    assert {
        "model/terms",
        "model/condition",
        "model/trimmed",
        "model/fitted_error_1",
        "model/new_error_1",
        "surrogate/horizon",
        "collect/return",
        "collect/best",
        "collect/rollbacks",
        "train/value_loss",
        "eval/return",
    } <= tags
    assert "change_of_x0 = " in (run.folder / "texts" / "model_equations_400.txt").read_text()
    assert (run.folder / "figures" / "surrogate_rollout_400.png").stat().st_size > 1000
    assert (run.folder / "model.json").stat().st_size > 100
    events = b"".join(file.read_bytes() for file in run.folder.glob("events.*"))
    assert b"model/equations" in events and b"change_of_x0" in events


def test_the_policy_of_a_checkpoint_is_the_one_that_was_evaluated(tmp_path: Path) -> None:
    config = experiment()
    run = train_in(tmp_path, config)
    environment = make_environment(config.environment.id, 4)
    policy = load_policy(config, last_checkpoint(run), environment)
    seeds = torch.arange(4) + 2**31
    found = evaluate(environment, policy, seeds).returns.mean().item()
    logged = {tag: float(value) for step, tag, value in rows(run) if step == 400}
    assert found == pytest.approx(logged["eval/return"], rel=1e-6)


class Scripted(Controller):
    """A policy of one constant action."""

    def act(self, observation: Tensor, state: Any) -> Tensor:
        return observation.new_full((len(observation), 1), 0.5)


@pytest.mark.parametrize(("rollback", "rolled"), [(0.5, 1), (0.0, 0)])
def test_a_policy_that_is_lost_goes_back_to_the_best(rollback: float, rolled: int) -> None:
    loop = Loop(experiment(rollback=rollback))
    loop.begin()
    loop.round()
    (member,) = loop.members
    best = {name: tensor.clone() for name, tensor in member.best[0].items()}
    member.best_return = 1e9  # whatever comes now is less than half of it
    loop.round()
    now = member.learner.state_dict()[0]
    weights = [name for name in best if name.startswith("policy.")]
    assert all(torch.equal(now[name], best[name]) for name in weights) == bool(rolled)
    assert loop.rollbacks == rolled
    assert not torch.equal(now["random.torch"], best["random.torch"])  # randomness goes on
    chosen, (tensors, _) = loop.deployed()
    assert chosen == 0 and torch.equal(tensors[weights[0]], best[weights[0]])


def test_without_selection_the_last_policy_is_kept() -> None:
    loop = Loop(experiment(select=False, rollback=0.0))
    loop.begin()
    loop.round()
    loop.members[0].best_return = 1e9
    loop.round()
    _, (tensors, _) = loop.deployed()
    now = loop.members[0].learner.state_dict()[0]
    assert all(torch.equal(tensors[n], now[n]) for n in now if n.startswith("policy."))


def test_the_model_is_refitted_only_if_new_data_ask_for_it() -> None:
    for limit, refits in ((0.0, True), (1e9, False), (1e-9, True)):
        loop = Loop(experiment(uncertainty=UncertaintyConfig(refit_above=limit)))
        loop.begin()
        loop.round()
        first = loop.modelling.dynamics
        loop.round()
        assert (loop.modelling.dynamics is not first) == refits


def test_horizons_follow_trust_and_chaos() -> None:
    short = SurrogateConfig(num_envs=16, horizon=1000, tolerance=1e-6)
    loop = Loop(experiment(surrogate=short))
    loop.begin()
    loop.round()
    assert loop.modelling.surrogate.horizon == 1000  # nothing has been held out yet
    loop.round()
    assert loop.modelling.surrogate.horizon == 1
    chaotic = SurrogateConfig(num_envs=16, horizon=1000, lyapunov_times=2.0)
    loop = Loop(experiment(surrogate=chaotic))
    loop.begin()
    loop.round()
    # Lorenz's exponent is 0.906 a unit of time, so that two Lyapunov times are 2.2.
    interval = loop.environment.control_interval
    assert 1.0 < loop.modelling.surrogate.horizon * interval < 4.0


class Unsure(Dynamics):
    """Doubts large actions."""

    def forecast(self, observation: Tensor, action: Tensor) -> Forecast:
        return Forecast(observation, None, action.abs().amax(1), action[:, 0])


def test_exploration_holds_its_noise_and_prefers_what_is_uncertain() -> None:
    observation = torch.zeros((500, 3))
    settings: dict[str, Any] = {"noise": 0.2, "hold": 3, "seed": 0}
    plain = Exploration(Scripted(), Unsure(), candidates=1, **settings)
    actions = torch.stack([plain.act(observation, None) for _ in range(6)])
    assert torch.equal(actions[0], actions[2]) and not torch.equal(actions[2], actions[3])
    assert abs(actions.std().item() - 0.2) < 0.02 and actions.abs().max() <= 1
    curious = Exploration(Scripted(), Unsure(), candidates=8, **settings)
    assert curious.act(observation, None).mean() > actions.mean() + 0.1
    quiet = Exploration(Scripted(), Unsure(), candidates=1, noise=0.0, hold=1, seed=0)
    assert (quiet.act(observation, None) == 0.5).all()


def test_the_worst_take_the_place_of_the_best() -> None:
    generator = random.Random(0)
    for _ in range(20):
        found = replacements([3.0, 1.0, 4.0, 2.0], 0.25, generator)
        assert found == {1: 2}
    assert replacements([1.0, 2.0], 0.1, generator) == {}
    assert replacements([-math.inf, -math.inf], 0.5, generator) in ({0: 1}, {1: 0})


@pytest.mark.parametrize("policy", [PPO, SAC], ids=lambda policy: policy.algorithm)
def test_hyper_parameters_stay_in_their_ranges(policy: PolicyConfig) -> None:
    generator, config = random.Random(0), PopulationConfig(members=4)
    ranges = tunable(config, policy)
    assert set(ranges) == {"learning_rate", "gamma"} | (
        {"gae_lambda"} if isinstance(policy, PPOConfig) else set()
    )
    for _ in range(100):
        policy = draw(ranges, policy, generator)
        changed = perturb(ranges, policy, 0.25, generator)
        for name, (low, high) in ranges.items():
            assert low <= getattr(policy, name) <= high
            assert low <= getattr(changed, name) <= high


def test_a_copied_policy_keeps_its_own_hyper_parameters_and_randomness() -> None:
    loop = Loop(experiment(population=PopulationConfig(members=2, every=100)))
    loop.begin()
    loop.round()
    first, second = loop.members
    assert loop.policies[0] != loop.policies[1]
    before = second.learner.state_dict()
    second.learner.take_policy(first.learner.state_dict())
    after, theirs = second.learner.state_dict()[0], first.learner.state_dict()[0]
    for name, tensor in after.items():
        source = theirs if name.startswith(("policy.", "moments.")) else before[0]
        assert torch.equal(tensor, source[name]), name


def test_a_linear_learning_rate_falls_over_all_trainings() -> None:
    loop = Loop(experiment())
    loop.begin()
    loop.round()
    config = replace(PPO, learning_rate_schedule="linear", learning_rate=1e-2)
    learner = make_learner(config, loop.modelling.surrogate, 0, 512)
    rates = [learner.train(loop.modelling.surrogate, 128)["train/learning_rate"] for _ in range(4)]
    assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surrogate": SurrogateConfig(limits=(1.0,))}, "limits: got .1.0,.; allowed: 3 or none"),
        ({"surrogate": SurrogateConfig(circles=((0, 3),))}, "circles: got .0, 3.; allowed: .* 2"),
        ({"model": SparseModelConfig(names=("a",))}, "names: got .'a',.; allowed: 3 names"),
        ({"model": SparseModelConfig(angles=(5,))}, "angles: got .5.; allowed: components 0 to 2"),
        ({"population": PopulationConfig(members=3)}, "got 2; allowed: multiples of .* 3"),
    ],
)
def test_what_does_not_fit_the_environment_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train_in(tmp_path, experiment(**changes))


def test_an_unknown_reward_is_refused_with_the_way_out(tmp_path: Path) -> None:
    config = experiment()
    noisy = replace(config.environment, wrappers=(ObservationNoise(0.1),))
    with pytest.raises(ConfigurationError, match="learn"):
        train_in(tmp_path, replace(config, environment=noisy))


@pytest.mark.parametrize(
    "changes",
    [
        {"rollback": 1.5},
        {"policy_steps": 0},
    ],
)
def test_senseless_values_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got .* allowed is"):
        SindyRLConfig(**changes)
