"""The edge of reach: critics that learn from short rollouts in the true dynamics, and go astray.

Rollouts of 10 steps in `EdgeOfReach-v0` start in the square |x|, |y| <= 2 and follow the true
dynamics, so that no model is to blame. Rewards grow outwards, so that the way there is worth going
(`--slope` 0.1; at the environment's own 0.01 two critics find the bump and nothing goes astray).
States with 11 < max(|x|, |y|) <= 12 are met as the last next observation alone: targets hold their
values, which nothing trains. Compared are

    base          soft actor-critic with two critics (MBPO; MOPO without any doubt)
    patched       the same, with the true optimal values at these states
    RAVL          five diverse critics, of which the smallest counts

at equal updates. The value of a method is the smallest over its critics, at its own action; its
largest over all states that rollouts reach stands beside the largest true optimal value there. The
AUC is that of the critics' standard deviation, at the policy's action, for states at the edge
against those within. Runs stay in `--folder`; what is there is not run again.

    python benchmarks/offline_edge_of_reach.py --output docs/results/offline_edge_of_reach.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from harness import origin, save
from scipy.stats import rankdata

from separatrix.agents.common.seeding import evaluation_seed
from separatrix.agents.offline.config import MopoConfig, OfflineConfig, RavlConfig
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.methods import make_learner
from separatrix.agents.offline.model.experience import ModelExperience
from separatrix.agents.offline.model_config import ModelConfig, RolloutsConfig
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import make_environment
from separatrix.envs.mechanics.edge_of_reach import LIMIT, SCALE, START, edge_of_reach
from separatrix.envs.mechanics.edge_of_reach_values import OptimalValues, optimal_values
from separatrix.envs.steppers.ode_environment import OdeEnvironment

ID, ROLLOUT, GAMMA = "EdgeOfReach-v0", 10, 0.99
LAYERS, BATCH = (64, 64), 256
STARTS = 10_000
EPISODES = 200

MODEL = ModelConfig(source="true", reward="known")
ROLLOUTS = RolloutsConfig(starts=2000, length=ROLLOUT, recorded_share=0.0)
METHODS: dict[str, MopoConfig | RavlConfig] = {
    "base": MopoConfig(penalty=0.0, model=MODEL, rollouts=ROLLOUTS),
    "patched": MopoConfig(penalty=0.0, model=MODEL, rollouts=ROLLOUTS),
    "RAVL": RavlConfig(critics=5, model=MODEL, rollouts=ROLLOUTS, policy_learning_rate=1e-4),
}


class Patched(SoftActorCritic):
    """Soft actor-critic whose targets hold true optimal values at the edge of reach."""

    optimum: OptimalValues

    def _bootstrap(self, batch: Batch, next_value: torch.Tensor) -> torch.Tensor:
        edge = edge_of_reach(batch.next_observation, ROLLOUT)
        true = self.optimum.value(batch.next_observation)
        return super()._bootstrap(batch, torch.where(edge, true, next_value))


def environment(num_envs: int, slope: float) -> OdeEnvironment:
    """Makes the environment."""
    made = make_environment(ID, num_envs, slope=slope)
    assert isinstance(made, OdeEnvironment)
    return made


def starts(seed: int, slope: float) -> Dataset:
    """Records one step of episodes; only the observations they start from are used."""
    made = environment(STARTS, slope)
    state, observation = made.reset(STARTS * seed)
    generator = torch.Generator().manual_seed(seed)
    action = 2 * torch.rand((STARTS, 2), generator=generator) - 1
    step = made.step(state, action)
    yes = torch.ones(STARTS, dtype=torch.bool)
    numbers = torch.arange(STARTS)
    return Dataset(
        observation,
        action,
        step.reward,
        step.observation,
        ~yes,
        yes,
        numbers,
        torch.zeros_like(numbers),
    )


def run(name: str, seed: int, updates: int, every: int, slope: float) -> dict[str, Any]:
    """Trains a method; returns what was measured every so many updates."""
    torch.set_num_threads(1)
    made, data, begin = environment(EPISODES, slope), starts(seed, slope), time.perf_counter()
    optimum = optimal_values(made, discount=GAMMA)
    config = OfflineConfig(
        "none",
        method=METHODS[name],
        layers=LAYERS,
        batch_size=BATCH,
        gamma=GAMMA,
        normalise_observations=False,
    )
    experience = ModelExperience(data, made, config, 2**31 + seed)
    if name == "patched":
        learner: Any = Patched(2, 2, config, seed, "cpu", updates, 0.0)
        learner.optimum = optimum
    else:
        learner = make_learner(config, 2, 2, seed, "cpu", updates, 0.0, experience.dynamics)
    axis = torch.arange(-START - ROLLOUT, START + ROLLOUT + 0.01, 0.25) / SCALE
    places = torch.cartesian_prod(axis, axis)
    edge = edge_of_reach(places, ROLLOUT)
    true = optimum.value(places)
    seeds = torch.arange(EPISODES) + evaluation_seed(0)
    rows = []
    for update in range(1, updates + 1):
        batch, _ = experience.batch(learner)
        learner.update(batch)
        if update % every and update != updates:
            continue
        with torch.no_grad():
            values = learner.critics(places, learner.policy.mode(places))
        smallest, spread = values.amin(0), values.std(0, correction=0)
        returns = evaluate(made, learner.controller(), seeds).returns
        rows.append(
            {
                "updates": update,
                "largest_value": smallest.max().item(),
                "mean_value_within": smallest[~edge].mean().item(),
                "spread_auc": auc(spread[edge], spread[~edge]),
                "share_edge": edge_of_reach(batch.next_observation, ROLLOUT).float().mean().item(),
                "return": returns.mean().item(),
            }
        )
    return {
        "seed": seed,
        "rows": rows,
        "largest_true_value": true.max().item(),
        "mean_true_value_within": true[~edge].mean().item(),
        "seconds": time.perf_counter() - begin,
    }


def kept_run(place: Path, *job: Any) -> dict[str, Any]:
    """Makes a run, or reads what it left before."""
    if not place.exists():
        place.write_text(json.dumps(run(*job)), encoding="utf-8")
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return found


def auc(above: torch.Tensor, below: torch.Tensor) -> float:
    """Returns the probability that a value of the first exceeds one of the second, ties half."""
    ranks = rankdata(torch.cat((above, below)).numpy())
    excess = ranks[: len(above)].sum() - len(above) * (len(above) + 1) / 2
    return float(excess / (len(above) * len(below)))


def best_return(slope: float) -> float:
    """Return of the optimal policy of the infinite horizon, over the evaluation's episodes."""
    made = environment(EPISODES, slope)
    optimum = optimal_values(made, discount=GAMMA)
    state, observation = made.reset(torch.arange(EPISODES) + evaluation_seed(0))
    total = torch.zeros(EPISODES)
    for _ in range(made.horizon):
        step = made.step(state, optimum.best_action(observation))
        state, observation, total = step.state, step.observation, total + step.reward
    return total.mean().item()


def main() -> None:
    """Measures all methods and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--updates", type=int, default=120_000)
    parser.add_argument("--every", type=int, default=5000)
    parser.add_argument("--slope", type=float, default=0.1, help="of the rewards outwards")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/offline_edge_of_reach"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder / f"{arguments.updates}_{arguments.slope:g}"
    folder.mkdir(parents=True, exist_ok=True)
    context, jobs = multiprocessing.get_context("spawn"), {}
    found: dict[str, list[Any]] = {name: [] for name in METHODS}
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        for seed in arguments.seeds:
            for name in METHODS:
                place = folder / f"{name}_s{seed}.json"
                job = (name, seed, arguments.updates, arguments.every, arguments.slope)
                jobs[pool.submit(kept_run, place, *job)] = (name, seed)
        for future, (name, seed) in jobs.items():
            result = future.result()
            found[name].append(result)
            last, true = result["rows"][-1], result["largest_true_value"]
            print(
                f"{name}, seed {seed}: largest value {last['largest_value']:.3g} of {true:.3g}, "
                f"AUC {last['spread_auc']:.3f}, return {last['return']:.2f}, "
                f"{result['seconds']:.0f} s",
                flush=True,
            )
    content = {
        "rollout": ROLLOUT,
        "updates": arguments.updates,
        "slope": arguments.slope,
        "box": LIMIT,
        "best_return": best_return(arguments.slope),
        "methods": found,
    }
    print(f"return of the optimal policy: {content['best_return']:.2f}")
    save(arguments.output, {**origin(), **content})


if __name__ == "__main__":
    main()
