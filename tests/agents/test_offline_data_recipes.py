"""Recipes: which policies act, chosen and measured how, and the command that makes them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.common.stable_baselines3.algorithm import make_algorithm
from separatrix.agents.common.stable_baselines3.config import PPOConfig, SACConfig, TD3Config
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv
from separatrix.agents.offline.data import behaviour as behaviour_module
from separatrix.agents.offline.data.behaviour import (
    Behaviour,
    Snapshot,
    chosen,
    part_seed,
    train_behaviour,
)
from separatrix.agents.offline.data.collect import record, whole_episodes
from separatrix.agents.offline.data.config import (
    RECIPES,
    DatasetConfig,
    dataset_names,
    load_dataset_config,
)
from separatrix.agents.offline.data.dataset import DatasetError
from separatrix.agents.offline.data.files import load_dataset
from separatrix.agents.offline.data.recipes import Recorder, behaviour_in, config_data
from separatrix.agents.offline.data.sampled_policy import SampledPolicy
from separatrix.cli.main import run
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import REGISTRY, make_environment
from tests.agents.offline_datasets import assert_same

TINY = """
environment: {id: separatrix/Lorenz-v0, num_envs: 2, options: {authority: 0.2}}
agent:
  algorithm: sac
  buffer_size: 3000
  learning_starts: 100
  train_every: 10
  batch_size: 16
  actor_layers: [8]
  critic_layers: [8]
total_steps: 2000
snapshot_every: 500
snapshot_episodes: 2
recording: {num_envs: 4, random: 1600, medium: 800, medium_expert: 3200}
version: 2
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording that takes seconds, run in a folder of its own."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What policies return is made up: 0 at random, then 1, 6, 4, 10, and 9 measured again.

    Returns the seeds that were asked for.
    """
    returns, seeds = iter([1.0, 6.0, 4.0, 10.0]), []

    def mean_return(environment: Any, controller: Any, first_seed: int) -> float:
        seeds.append(first_seed)
        if isinstance(controller, RandomController):
            return 0.0
        return next(returns, 9.0)

    monkeypatch.setattr(behaviour_module, "mean_return", mean_return)
    return seeds


def known(name: str) -> bool:
    try:
        load_dataset_config(name)
    except ConfigurationError as error:
        return "environment.id" not in str(error)
    return True


def test_all_recordings_are_there() -> None:
    mujoco = {"half_cheetah", "hopper", "inverted_pendulum"}
    chaos = {"lorenz", "kuramoto_sivashinsky"}
    costs = {"refrigerator", "convection_diffusion_reaction"}
    assert set(dataset_names()) == mujoco | chaos | costs | {"pendulum", "cart_pole", "glucose"}
    unknown = {name for name in dataset_names() if not known(name)}
    assert unknown <= {"hopper", "inverted_pendulum"}


@pytest.mark.parametrize("name", [name for name in dataset_names() if known(name)])
def test_recordings_of_the_package_are_whole(name: str) -> None:
    config = load_dataset_config(name)
    assert config.recipes == RECIPES
    horizon = REGISTRY[config.environment.id].horizon
    assert config.recording.random // config.recording.num_envs >= horizon
    assert 1 / 3 <= config.medium_share <= 0.5


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("snapshot_every", "snapshots_every", ["unknown key", "did you mean 'snapshot_every'?"]),
        ("medium: 800", "medum: 1600", ["recording.medum", "did you mean 'medium'?"]),
        ("medium: 800", "medium: 802", ["recording", "medium = 802", "multiples of 4"]),
        ("3200", "3204", ["medium_expert = 3204", "multiples of 8, 2 * num_envs"]),
        ("buffer_size: 3000", "buffer_size: 2019", ["agent.buffer_size = 2019", "2020 or more"]),
        ("algorithm: sac", "algorithm: hypercrl", ["agent.algorithm", "'hypercrl'", "'td3'"]),
        ("Lorenz-v0", "Lorens-v0", ["environment.id", "did you mean 'separatrix/Lorenz-v0'?"]),
        ("authority", "authoritys", ["environment.options.authoritys", "did you mean"]),
        ("version: 2", "medium_share: 1.0", ["medium_share", "got 1.0", "less than 1"]),
        ("version: 2", "version: 2\nversion: 3", ["'version' is repeated"]),
        ("total_steps: 2000\n", "", ["total_steps: missing"]),
    ],
)
def test_mistakes_name_file_key_and_what_is_allowed(
    old: str, new: str, parts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TINY.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        load_dataset_config(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'pendulum'\?"):
        load_dataset_config("pendulun")


def snapshots(*returns: float) -> list[Snapshot]:
    return [Snapshot(10 * i, mean, {}) for i, mean in enumerate(returns)]


def test_medium_is_the_first_that_is_far_enough_and_the_expert_the_best() -> None:
    medium, expert = chosen(snapshots(-9, -6, -5, -7, 0, -1), -10.0, 0.5)
    assert (medium.mean_return, expert.mean_return) == (-5, 0)
    medium, _ = chosen(snapshots(-9, -6, -5, -7, 0, -1), -10.0, 0.4)
    assert medium.mean_return == -6
    with pytest.raises(DatasetError, match=r"the best policy returns -10.* random actions do"):
        chosen(snapshots(-11, -10), -10.0, 0.5)
    with pytest.raises(DatasetError, match="no medium policy: the first that returns -5"):
        chosen(snapshots(-9, 0, -1), -10.0, 0.5)


@pytest.mark.parametrize("config", [SACConfig(), TD3Config(exploration_noise=0.3), PPOConfig()])
def test_policies_act_with_the_noise_of_their_training(config: Any) -> None:
    made = gymnasium.make_vec("separatrix/DampedPendulum-v0", num_envs=2, output="torch")
    policy = make_algorithm(config, BatchedVecEnv(made), 3, "cpu").policy
    observation = torch.tensor([[0.5, 0.8, -1.0]]).expand(40_000, 3)

    def draw(seed: int) -> Tensor:
        with torch.no_grad():
            return SampledPolicy(config, policy, seed).act(observation, None)

    ours = draw(0)
    assert torch.equal(ours, draw(0)) and not torch.equal(ours, draw(1))
    assert ours.abs().max() <= 1
    torch.manual_seed(0)
    if isinstance(config, TD3Config):
        mean = policy._predict(observation, deterministic=True)
        theirs = mean + config.exploration_noise * torch.randn(mean.shape)
    else:
        theirs = policy._predict(observation, deterministic=False)
    theirs = theirs.clamp(-1, 1).detach()
    for moment in (ours.mean() - theirs.mean(), ours.std() - theirs.std()):
        assert abs(moment) < 5 / math.sqrt(40_000)
    made.close()


def trained(scripted: list[int], seed: int = 0) -> tuple[DatasetConfig, Behaviour]:
    config = load_dataset_config("tiny.yaml")
    return config, train_behaviour(config, seed)


def test_a_training_leaves_two_policies_and_what_it_saw(tiny: Path, scripted: list[int]) -> None:
    config, behaviour = trained(scripted)
    # A round is 20 steps, so that 500 is passed at 500 exactly.
    assert behaviour.curve == [(500, 1.0), (1000, 6.0), (1500, 4.0), (2000, 10.0)]
    assert (behaviour.medium.steps, behaviour.expert.steps) == (1000, 2000)
    references = behaviour.references
    assert (references.random, references.expert, references.episodes) == (0.0, 9.0, 100)
    assert references.policy == "sac after 2000 steps, with its noise"
    assert scripted == [part_seed(0, "choice")] * 4 + [part_seed(0, "references")] * 2
    assert behaviour.medium.policy.keys() == behaviour.expert.policy.keys()
    name = "actor.mu.weight"
    assert not torch.equal(behaviour.medium.policy[name], behaviour.expert.policy[name])
    replay = Recorder(config, behaviour, 0).make("medium-replay")
    assert replay.episode.bincount().tolist() == [400, 100] * 2
    assert whole_episodes(replay, 400).tolist() == [True, False] * 2
    environment = make_environment("Lorenz-v0", 1, authority=0.2)
    rows = replay.observation, replay.action, replay.next_observation
    reward, terminated = environment.known_outcome(*rows)
    assert torch.allclose(reward, replay.reward, atol=1e-5)
    assert torch.equal(terminated, replay.terminated)


def test_what_a_training_leaves_survives_a_checkpoint(tiny: Path, scripted: list[int]) -> None:
    config = load_dataset_config(tiny)
    made, again = (behaviour_in(Path("set"), config, 0) for _ in range(2))
    assert len(scripted) == 6  # trained once
    assert made.references == again.references and made.curve == again.curve
    for name in ("medium", "expert"):
        one, other = getattr(made, name), getattr(again, name)
        assert (one.steps, one.mean_return) == (other.steps, other.mean_return)
        assert all(torch.equal(one.policy[key], other.policy[key]) for key in one.policy)
    for recipe in config.recipes:
        datasets = [Recorder(config, behaviour, 0).make(recipe) for behaviour in (made, again)]
        assert_same(*datasets)
    changed = dataclasses.replace(config, snapshot_every=400)
    with pytest.raises(DatasetError, match="snapshot_every: 500, now 400"):
        behaviour_in(Path("set"), changed, 0)
    with pytest.raises(DatasetError, match="seed: 0, now 1"):
        behaviour_in(Path("set"), config, 1)


def test_recipes_have_their_policies(tiny: Path, scripted: list[int]) -> None:
    config, behaviour = trained(scripted)
    recorder = Recorder(config, behaviour, 0)
    found = {recipe: recorder.make(recipe) for recipe in RECIPES}
    sizes = {recipe: len(dataset) for recipe, dataset in found.items()}
    assert sizes == dict(zip(RECIPES, (1600, 800, 1000, 3200), strict=True))
    environment = make_environment("Lorenz-v0", 4, authority=0.2)
    seed = part_seed(0, "random")
    again = record(environment, RandomController(environment, seed), 1600, seed)
    assert torch.equal(again.action, found["random"].action)
    starts = torch.cat([dataset.observation[dataset.step == 0] for dataset in found.values()])
    assert len(starts.unique(dim=0)) == len(starts)  # no episode is recorded twice
    for recipe, dataset in found.items():
        metadata = dataset.metadata
        assert (metadata.environment, metadata.recipe) == ("separatrix/Lorenz-v0", recipe)
        assert metadata.options == {"authority": 0.2} and metadata.version == 2
        assert metadata.references == behaviour.references
        origin = json.loads(json.dumps(metadata.origin))
        assert origin["policies"]["medium"] == {"training_steps": 1000, "return": 6.0}
        assert origin["configuration"] == config_data(config)
        assert origin["seed"] == 0 and "torch" in origin["versions"]


def test_on_policy_training_has_no_replay(tiny: Path, scripted: list[int]) -> None:
    config = load_dataset_config(tiny)
    agent = PPOConfig(rollout_steps=250, batch_size=250, epochs=1)
    config = dataclasses.replace(config, agent=agent)
    assert config.recipes == ("random", "medium", "medium-expert")
    behaviour = train_behaviour(config, 0)
    assert behaviour.replay is None and behaviour.medium.steps == 1000
    assert len(Recorder(config, behaviour, 0).make("medium-expert")) == 3200


def test_the_command_makes_what_is_missing(
    tiny: Path, scripted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["collect", "tiny.yaml", "--recipes", "random", "medium"]) == 0
    output = capsys.readouterr().out
    assert "wrote datasets/tiny/random" in output and "seed 0" in output
    random = load_dataset("datasets/tiny/random")
    mean = random.returns.mean().item()  # the expert's is 9, that of random actions 0
    rows = [line.replace("│", " ").split() for line in output.splitlines()]
    assert ["random", "1600", "4", "0", f"{mean:.4g}", f"{100 * mean / 9:.1f}"] in rows
    assert ["medium", "800", "4", "4", "-", "-"] in rows  # no episode is whole
    assert run(["collect", "tiny.yaml", "--format", "minari"]) == 0
    assert len(scripted) == 6  # no second training
    assert run(["collect", "tiny.yaml", "--output", "datasets"]) == 0
    output = capsys.readouterr().out
    assert "left datasets/tiny/random, which exists" in output
    assert "wrote datasets/tiny/medium-replay" in output
    for recipe in RECIPES:
        dataset = load_dataset(f"datasets/tiny/{recipe}")
        assert_same(dataset, load_dataset(f"datasets/tiny/{recipe}-v2"))


def test_the_command_leaves_the_data_of_another_recording(
    tiny: Path, scripted: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["collect", "tiny.yaml", "--recipes", "random"]) == 0
    capsys.readouterr()
    for recipe, place in {"random": "random", "medium": "behaviour"}.items():
        assert run(["collect", "tiny.yaml", "--seed", "1", "--recipes", recipe]) == 2
        error = capsys.readouterr().err
        assert f"datasets/tiny/{place} comes from another recording: seed: 0, now 1" in error
        assert len(error.splitlines()) == 1
    assert sorted(path.name for path in Path("datasets/tiny").iterdir()) == ["behaviour", "random"]


def test_a_training_that_learns_nothing_is_told(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(behaviour_module, "mean_return", lambda *arguments: 1.0)
    assert run(["collect", "tiny.yaml"]) == 2
    assert "train for more total_steps" in capsys.readouterr().err
    assert not [path for path in Path("datasets").rglob("*") if path.is_file()]
