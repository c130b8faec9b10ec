"""Gradient steps and rollout transitions per second, beside OfflineRL-Kit.

Data of the size of the half-cheetah's are made up: nothing here depends on what they say. Networks,
ensembles and batches are the same on both sides; each side draws its own batches. All ways are
timed in turn, in rounds, of which the median counts.

    git clone https://github.com/yihaosun1124/OfflineRL-Kit
    python benchmarks/offline_speed.py --peer OfflineRL-Kit --output docs/results/offline_speed.json

Without `--peer` ours alone is timed. OfflineRL-Kit names types of gym, of which no version runs
beside ours; a mock stands in, as nothing of it is called here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from harness import measure, origin, save, use_threads

from separatrix.agents.offline.config import (
    DiverseCriticsConfig,
    MethodConfig,
    MopoConfig,
    OfflineConfig,
    TD3BehaviourCloningConfig,
)
from separatrix.agents.offline.data.dataset import Dataset, numbered
from separatrix.agents.offline.experience import RecordedExperience
from separatrix.agents.offline.learner import OfflineLearner
from separatrix.agents.offline.methods import make_experience, make_learner
from separatrix.agents.offline.model_config import ModelConfig, RolloutsConfig
from separatrix.envs.core.registration import make_environment

OBSERVATION, ACTION, ROWS, BATCH = 17, 6, 100_000, 256
STARTS, LENGTH = 2000, 5
METHODS: dict[str, tuple[MethodConfig, tuple[int, ...]]] = {
    "TD3+BC": (TD3BehaviourCloningConfig(), (256, 256)),
    "SAC of MOPO": (MopoConfig(), (256, 256)),
    "EDAC": (DiverseCriticsConfig(), (256, 256, 256)),
}
ROLLOUTS = f"rollouts, {STARTS} x {LENGTH}"
Runs = dict[str, Callable[[], Any]]


def made_up() -> Dataset:
    """Makes episodes of 1000 steps up."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn((ROWS + 1, OBSERVATION), generator=generator)
    action = 2 * torch.rand((ROWS, ACTION), generator=generator) - 1
    last = torch.arange(1, ROWS + 1) % 1000 == 0
    return Dataset(
        observation[:-1],
        action,
        action.mean(1),
        observation[1:],
        torch.zeros_like(last),
        last,
        *numbered(last),
    )


def ours(dataset: Dataset) -> Runs:
    """Ways of our own: a gradient step with its batch, and rollouts."""
    runs: Runs = {}
    for name, (method, layers) in METHODS.items():
        config = OfflineConfig("none", method=method, layers=layers, batch_size=BATCH)
        learner = make_learner(config, OBSERVATION, ACTION, 0, "cpu", 10**6, 0.0)
        experience = RecordedExperience(dataset, BATCH, 0)

        def step(
            learner: OfflineLearner = learner, experience: RecordedExperience = experience
        ) -> None:
            learner.update(experience.batch(learner)[0])

        runs[name] = step
    rollouts = RolloutsConfig(every=1, starts=STARTS, length=LENGTH)
    method = replace(MopoConfig(), model=ModelConfig(max_epochs=1), rollouts=rollouts)
    config = OfflineConfig("none", method=method, batch_size=BATCH)
    environment = make_environment("HalfCheetah-v0")
    model = make_experience(dataset, environment, config, 0)
    model.prepare()
    learner = make_learner(config, OBSERVATION, ACTION, 0, "cpu", 10**6, 0.0)
    runs[ROLLOUTS] = lambda: model.batch(learner)
    return runs


def theirs(dataset: Dataset) -> Runs:
    """The same ways of OfflineRL-Kit, put together as its examples do."""
    from offlinerlkit.buffer import ReplayBuffer
    from offlinerlkit.dynamics import EnsembleDynamics
    from offlinerlkit.modules import (
        Actor,
        ActorProb,
        Critic,
        EnsembleCritic,
        EnsembleDynamicsModel,
        TanhDiagGaussian,
    )
    from offlinerlkit.nets import MLP
    from offlinerlkit.policy import EDACPolicy, MOPOPolicy, SACPolicy, TD3BCPolicy
    from offlinerlkit.utils.scaler import StandardScaler

    adam = torch.optim.Adam
    buffer = ReplayBuffer(ROWS, (OBSERVATION,), np.float32, ACTION, np.float32)
    arrays = {name: tensor.numpy() for name, tensor in dataset.tensors().items()}
    buffer.load_dataset(
        {
            "observations": arrays["observation"],
            "actions": arrays["action"],
            "rewards": arrays["reward"],
            "next_observations": arrays["next_observation"],
            "terminals": arrays["terminated"],
        }
    )

    def actor(layers: tuple[int, ...]) -> Any:
        trunk = MLP(OBSERVATION, layers)
        head = TanhDiagGaussian(layers[-1], ACTION, unbounded=True, conditioned_sigma=True)
        return ActorProb(trunk, head)

    def critics(layers: tuple[int, ...]) -> tuple[Any, Any]:
        return tuple(Critic(MLP(OBSERVATION + ACTION, layers)) for _ in range(2))  # type: ignore

    def entropy() -> tuple[float, torch.Tensor, torch.optim.Optimizer]:
        logarithm = torch.zeros(1, requires_grad=True)
        return -float(ACTION), logarithm, adam([logarithm], 1e-4)

    def optimizers(networks: tuple[Any, ...]) -> list[torch.optim.Optimizer]:
        return [adam(network.parameters(), 3e-4) for network in networks]

    layers = METHODS["TD3+BC"][1]
    networks = (Actor(MLP(OBSERVATION, layers), ACTION), *critics(layers))
    td3_bc = TD3BCPolicy(*networks, *optimizers(networks))
    networks = (actor(layers), *critics(layers))
    sac = SACPolicy(*networks, *optimizers(networks), alpha=entropy())
    layers = METHODS["EDAC"][1]
    networks = (actor(layers), EnsembleCritic(OBSERVATION, ACTION, layers, num_ensemble=10))
    edac = EDACPolicy(*networks, *optimizers(networks), alpha=entropy(), deterministic_backup=False)
    model = EnsembleDynamicsModel(OBSERVATION, ACTION, [200] * 4, weight_decays=[0.0] * 5)
    scaler = StandardScaler()
    scaler.fit(np.concatenate((arrays["observation"], arrays["action"]), 1))

    def never(observation: Any, action: Any, following: Any) -> np.ndarray:
        return np.zeros((len(following), 1), dtype=bool)

    dynamics = EnsembleDynamics(model, adam(model.parameters(), 1e-3), scaler, never, 1.0)
    networks = (actor((256, 256)), *critics((256, 256)))
    mopo = MOPOPolicy(dynamics, *networks, *optimizers(networks), alpha=entropy())
    imagined = ReplayBuffer(5 * STARTS * LENGTH, (OBSERVATION,), np.float32, ACTION, np.float32)

    def roll_out() -> None:
        starts = buffer.sample(STARTS)["observations"].numpy()
        found, _ = mopo.rollout(starts, LENGTH)
        imagined.add_batch(**found)

    return {
        "TD3+BC": lambda: td3_bc.learn(buffer.sample(BATCH)),
        "SAC of MOPO": lambda: sac.learn(buffer.sample(BATCH)),
        "EDAC": lambda: edac.learn(buffer.sample(BATCH)),
        ROLLOUTS: roll_out,
    }


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, help="a clone of OfflineRL-Kit")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    dataset, peer = made_up(), None
    runs = {("ours", name): run for name, run in ours(dataset).items()}
    if arguments.peer is not None:
        sys.path.insert(0, str(arguments.peer.resolve()))
        for name in ("gym", "gym.envs", "gym.envs.mujoco", "gym.spaces"):
            sys.modules.setdefault(name, MagicMock())
        runs |= {("OfflineRL-Kit", name): run for name, run in theirs(dataset).items()}
        command = ["git", "-C", str(arguments.peer), "rev-parse", "HEAD"]
        peer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    # Turn by turn: of each way ours and theirs follow each other.
    ordered = sorted(runs, key=lambda key: key[1])
    found = measure(
        {f"{side}: {name}": runs[side, name] for side, name in ordered}, arguments.rounds, 0.5
    )
    rows = []
    for name in (*METHODS, ROLLOUTS):
        count = STARTS * LENGTH if name == ROLLOUTS else 1
        row: dict[str, Any] = {"what": name, "per_call": count}
        for side in dict.fromkeys(side for side, _ in ordered):
            row[side] = count / found[f"{side}: {name}"]["median"]
        rows.append(row)
        print(
            name,
            *(
                f"{side} {row[side]:,.0f} per second"
                for side in row
                if side in ("ours", "OfflineRL-Kit")
            ),
        )
    save(arguments.output, {**origin(), "peer": peer, "rows": rows})


if __name__ == "__main__":
    main()
