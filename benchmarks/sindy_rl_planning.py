"""Cart-pole swing-up by iCEM in a model that is learned while it plans: neural or sparse.

    python benchmarks/sindy_rl_planning.py --model neural --seed 0

Two environments side by side take random actions for an episode each and then plan, episode after
episode, in a model that is fitted to all that was seen. The plan is made every 0.04 s, so that an
episode of 10 s has 250 steps; the curve counts steps of 0.01 s and returns of at most 1000, as the
registered environment has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import tyro
from harness import origin, save, use_threads

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.collector import Collector
from separatrix.agents.common.projections import unit_circle
from separatrix.agents.common.replay import ReplayBuffer
from separatrix.agents.sindy_rl.config import NeuralModelConfig, SparseModelConfig
from separatrix.agents.sindy_rl.forecast import Dynamics
from separatrix.agents.sindy_rl.neural_dynamics import fit_neural_dynamics
from separatrix.agents.sindy_rl.sparse_dynamics import fit_sparse_dynamics
from separatrix.agents.sindy_rl.surrogate import Starts, SurrogateEnvironment
from separatrix.controllers.open_loop import RandomController
from separatrix.controllers.planning.icem import ICEM
from separatrix.envs.core.registration import make_environment

OPTIONS = {"control_interval": 0.04, "substeps": 4, "horizon": 250}
ENVIRONMENTS, REPEAT = 2, 4
CIRCLE = (1, 2)


def fit(kind: str, buffer: ReplayBuffer, seed: int) -> Dynamics:
    """Fits a model of either kind from scratch."""
    data, project = buffer.ordered(), unit_circle(CIRCLE)
    if kind == "neural":
        config = NeuralModelConfig(reward="known")
        return fit_neural_dynamics(data, config, project=project, seed=seed)
    config = SparseModelConfig(degree=3, threshold=0.003)
    rows = data[torch.ones_like(data.last)]
    dynamics, _ = fit_sparse_dynamics(
        rows, config, interval=0.04, project=project, circles=(CIRCLE,), seed=seed
    )
    return dynamics


def main(
    model: Literal["neural", "sparse"],
    seed: int = 0,
    rounds: int = 8,
    output: Path | None = None,
) -> None:
    """Plans and learns.

    Args:
        model: Kind of the model.
        seed: Seed of the environments, the model and the planner.
        rounds: Episodes of each environment after the random ones.
        output: JSON file for the results.
    """
    use_threads(1)
    real = make_environment("CartPoleSwingUp-v0", ENVIRONMENTS, **OPTIONS)
    steps = OPTIONS["horizon"]
    capacity = ENVIRONMENTS * int(steps) * (rounds + 1)
    buffer = ReplayBuffer(5, 1, capacity=capacity, num_envs=ENVIRONMENTS)
    collector = Collector(real, buffer, 10_000 * (seed + 1))
    collector.collect(RandomController(real, seed, hold=3), int(steps))
    curve = []
    for number in range(rounds):
        dynamics = fit(model, buffer, seed * 1000 + number)
        observation = buffer.ordered().observation.flatten(0, 1)
        limits = torch.tensor([0.99, 2.0, 2.0, 7.0, 30.0])
        surrogate = SurrogateEnvironment(
            dynamics,
            real,
            Starts(observation, observation, 0.0),
            num_envs=ENVIRONMENTS,
            horizon=int(steps),
            limits=limits,
        )
        planner = ICEM(
            surrogate, horizon=25, population=40, iterations=3, execute="mean", seed=seed
        )
        returns = collector.collect(planner, int(steps))
        curve.append((len(buffer) * REPEAT, REPEAT * returns.mean().item()))
        print(f"{model}, seed {seed}: {curve[-1]}", flush=True)
    save(output, {**origin(), "curve": curve})


if __name__ == "__main__":
    tyro.cli(main)
