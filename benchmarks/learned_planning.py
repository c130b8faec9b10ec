"""Cart-pole swing-up by planning in an ensemble that was learned from 5000 steps.

    python benchmarks/learned_planning.py --output docs/results/learned_planning.json

Five environments run side by side for 1000 steps of 0.04 s each, the first 200 with random actions
and the rest with iCEM in the ensemble learned so far, which is trained again every 50 steps. Then
each planner plans in the last ensemble for 50 episodes of 10 s that were never seen. Dynamics and
reward are both learned; that cosine and sine lie on the circle is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import tyro
from harness import origin, save, use_threads

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.collector import Collector
from separatrix.agents.common.dynamics.environment import LearnedEnvironment, learned_environment
from separatrix.agents.common.dynamics.model import DynamicsEnsemble, EnsembleConfig
from separatrix.agents.common.dynamics.training import TrainingConfig, train_ensemble
from separatrix.agents.common.projections import unit_circle
from separatrix.agents.common.replay import ReplayBuffer
from separatrix.controllers.evaluation import bootstrap_interval
from separatrix.controllers.open_loop import RandomController
from separatrix.controllers.planning.gradient_mpc import GradientMPC
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.planning.mppi import MPPI
from separatrix.controllers.planning.planner import Planner
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment

OPTIONS = {"control_interval": 0.04, "substeps": 4, "horizon": 250}
ENVIRONMENTS, RANDOM, ROUND, ROUNDS = 5, 200, 50, 16
ENSEMBLE = EnsembleConfig(members=5, elites=5, hidden=(64, 64))
TRAINING = TrainingConfig(max_epochs=60, patience=5)
COSINE, SINE = 1, 2

PLANNERS: dict[str, Callable[[Environment, int], Planner]] = {
    "ICEM": lambda model, seed: ICEM(
        model, horizon=25, population=40, iterations=3, execute="mean", seed=seed
    ),
    "MPPI": lambda model, seed: MPPI(
        model, horizon=25, population=100, noise_exponent=2.0, standard_deviation=0.7, seed=seed
    ),
    "GradientMPC": lambda model, seed: GradientMPC(model, horizon=25, starts=4, seed=seed),
}


def make(num_envs: int) -> Environment:
    """The true environment."""
    return make_environment("CartPoleSwingUp-v0", num_envs, **OPTIONS)


def learn(seed: int) -> tuple[LearnedEnvironment, list[dict[str, Any]]]:
    """Learns an ensemble while planning in it.

    Returns:
        The ensemble as an environment, and what each round came to.
    """
    true = make(ENVIRONMENTS)
    capacity = ENVIRONMENTS * (RANDOM + ROUND * ROUNDS)
    buffer = ReplayBuffer(5, 1, capacity=capacity, num_envs=ENVIRONMENTS)
    collector = Collector(true, buffer, 10_000 * (seed + 1))
    ensemble = DynamicsEnsemble(5, 1, ENSEMBLE, seed)
    generator = torch.Generator().manual_seed(seed)
    history = []

    def train() -> LearnedEnvironment:
        begin = time.perf_counter()
        trained = train_ensemble(ensemble, buffer.ordered(), TRAINING, generator)
        data = buffer.ordered()
        history.append(
            {
                "steps": len(buffer),
                "mean_reward": data.reward[-ROUND:].mean().item(),
                "held_out_error": trained.error.mean().item(),
                "epochs": trained.epochs,
                "training_seconds": time.perf_counter() - begin,
            }
        )
        print("  ".join(f"{k} {v:.4g}" for k, v in history[-1].items()), flush=True)
        starts = data.observation.flatten(0, 1)
        return learned_environment(
            ensemble, true, starts=starts, project=unit_circle((COSINE, SINE))
        )

    collector.collect(RandomController(true, seed), RANDOM)
    model = train()
    for _ in range(ROUNDS):
        collector.collect(PLANNERS["ICEM"](model, seed), ROUND)
        model = train()
    return model, history


def judge(planner: Planner, true: Environment, episodes: int) -> dict[str, Any]:
    """Runs a planner in the true environment and measures returns and time."""
    returns = torch.zeros(episodes)
    begin, steps, upright = time.perf_counter(), 0, torch.zeros(episodes)
    for step in rollout(true, planner, torch.arange(episodes)):
        returns += step.transition.reward * step.alive
        upright = (step.transition.observation[:, COSINE] > 0.9).float()
        steps += 1
    seconds = time.perf_counter() - begin
    return {
        "return": returns.mean().item(),
        "interval": bootstrap_interval(returns),
        "least": returns.min().item(),
        "upright_at_the_end": upright.mean().item(),
        "milliseconds_per_action": 1e3 * seconds / steps / episodes,
    }


def main(episodes: int = 50, seeds: int = 1, threads: int = 2, output: Path | None = None) -> None:
    """Learns ensembles and plans in them.

    Args:
        episodes: Episodes of each planner, planned for as one batch.
        seeds: Ensembles, each learned from its own 5000 steps.
        threads: Threads of torch and numba.
        output: JSON file for the results.
    """
    use_threads(threads)
    true, results = make(episodes), []
    for seed in range(seeds):
        model, history = learn(seed)
        found = {}
        for name, planner in PLANNERS.items():
            found[name] = judge(planner(model, seed), true, episodes)
            print(name, found[name], flush=True)
        results.append({"seed": seed, "history": history, "planners": found})
    save(output, {**origin(), "episodes": episodes, "results": results})


if __name__ == "__main__":
    tyro.cli(main)
