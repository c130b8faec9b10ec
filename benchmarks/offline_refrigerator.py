"""Does MOREC's filter help a model where there are no data? A refrigerator tells, for it is linear.

    python benchmarks/offline_refrigerator.py --output docs/results/offline_refrigerator.json

A thermostat at 4 degrees, a tenth of whose actions are uniform, gives the data. Thermostats at 4,
-12 and 12 degrees give the tests, far below and above the recorded temperatures. The set-point that
networks see is 4 throughout and the door is closed, so that the temperature alone is new. The
experiment is that of F. Luo et al. (ICLR 2024, arXiv:2310.05422), of which no numbers are public.

All ways choose among the same kind of candidates, samples of each elite:

    member            a sample of an elite drawn at random, as MBPO does
    random            the filter with random choice, which should be no different
    mean              the mean of the elites' means, no candidate
    density           the candidate of the largest density under the mixture of the elites
    changes           the filter's argmax; the discriminator sees changes
    changes softmax   the same with the softmax of temperature 0.1
    next              the filter's argmax; the discriminator sees next observations

The dynamics reward is clamped as published. Errors are differences from the noise-free truth in
degrees, root mean squares, by how far the true temperature lies outside the recorded ones; after 50
steps by the farthest of them. Rollouts go on where a filter does not believe them; the share that
it believes, at every step, is shown beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import tyro
from harness import origin, save, use_threads
from torch import Tensor

from separatrix.agents.common.dynamics.model import DynamicsEnsemble
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.model.learned_dynamics import LearnedDynamics
from separatrix.agents.offline.model.true_dynamics import TrueDynamics
from separatrix.agents.offline.model_config import DynamicsRewardConfig, FilterConfig, ModelConfig
from separatrix.agents.offline.morec.calibration import area_under_curve, calibrate
from separatrix.agents.offline.morec.dynamics_reward import DynamicsReward
from separatrix.agents.offline.morec.training import train_dynamics_reward
from separatrix.agents.offline.morec.transition_filter import TransitionFilter
from separatrix.controllers.controller import Controller
from separatrix.controllers.thermostat import Thermostat
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment
from separatrix.envs.twin.refrigerator_task import SCALE

NAME = "separatrix/Refrigerator-v0"
RECORDED, TARGETS, EXPLORATION = 4.0, (4.0, -12.0, 12.0), 0.1
EPISODES, TEST_EPISODES, HORIZON = 200, 20, 200
STEPS, STRIDE = 50, 10
"""Length of a rollout, and steps between the starts of two."""
MODEL = ModelConfig(members=5, elites=3, layers=(128, 128), reward="known")
SAMPLES = 3
DISTANCES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Bounds in degrees; the first class, up to 0, is within the recorded temperatures."""
BINS = (-14, -10, -6, -2, 2, 6, 10, 14)
"""Bounds of temperatures in which true and wrong next temperatures are told apart."""
SIZES, ROWS = (0.5, 1.0, 2.0), 1000
SCORES = ("changes", "changes unclamped", "next", "density", "distance from mean")

Way = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From observation, action, candidates and means and deviations of the elites (2, elites, rows,
observation) to the next observation and whether it is believed."""


class Explorer(Controller):
    """A thermostat that wants a temperature of its own, and at times does anything.

    Args:
        environment: The refrigerator.
        target: The wanted temperature, whatever the observed set-point.
        exploration: Probability of a uniform action.
        seed: Seed of these actions.
    """

    def __init__(
        self, environment: Environment, target: float, exploration: float, seed: int
    ) -> None:
        self._thermostat, self._target = Thermostat(environment), target
        self._exploration, self._generator = exploration, torch.Generator().manual_seed(seed)

    def reset(self, mask: Tensor) -> None:
        """Begins anew."""
        self._thermostat.reset(mask)

    def act(self, observation: Tensor, state: Any) -> Tensor:
        """Returns the actions."""
        seen = observation.clone()
        seen[:, 2] = self._target / SCALE
        action = self._thermostat.act(seen, state)
        chance = torch.rand((2, *action.shape), generator=self._generator)
        return torch.where(chance[0] < self._exploration, 2 * chance[1] - 1, action)


def recorded(target: float, exploration: float, episodes: int, seed: int) -> Dataset:
    """Whole episodes of a thermostat, one after the other."""
    environment = make_environment(NAME, episodes, door="closed", set_point=RECORDED)
    controller = Explorer(environment, target, exploration, seed)
    return record(environment, controller, episodes * HORIZON, seed)


def distance(temperature: Tensor, data: Dataset) -> Tensor:
    """By how many degrees observed temperatures lie outside the recorded ones."""
    known = torch.cat((data.observation[:, 0], data.next_observation[:, 0]))
    return SCALE * torch.maximum(known.min() - temperature, temperature - known.max()).clamp_min(0)


def proposed(
    ensemble: DynamicsEnsemble, observation: Tensor, action: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Candidates, and means and deviations of the elites; door and set-point stay as they are.

    Candidates are not clipped to the recorded box, as those of `LearnedDynamics` are.
    """
    elites = ensemble.elites
    before, act = (part.expand(len(elites), -1, -1) for part in (observation, action))
    with torch.no_grad():
        found = ensemble.predict(before, act, elites)
    normal = torch.stack((found.next_observation, found.observation_deviation))
    normal[0, ..., 1:] = observation[:, 1:]
    normal[1, ..., 1:] = 0
    mean, deviation = normal[:, :, None]
    noise = torch.randn((len(elites), SAMPLES, *observation.shape), generator=generator)
    return (mean + deviation * noise).flatten(0, 1), normal


def log_density(temperature: Tensor, normal: Tensor) -> Tensor:
    """Log-density (candidates, rows) of temperatures under the mixture of the elites."""
    mean, deviation = normal[..., 0]
    mixture = torch.distributions.Normal(mean[:, None], deviation[:, None])
    return mixture.log_prob(temperature).logsumexp(0)


def ways(rewards: Mapping[str, DynamicsReward], generator: torch.Generator) -> dict[str, Way]:
    """All ways from candidates to a next observation."""

    def all_believed(following: Tensor) -> tuple[Tensor, Tensor]:
        return following, torch.ones(len(following), dtype=torch.bool)

    def member(observation: Tensor, action: Tensor, found: Tensor, normal: Tensor) -> Any:
        elite = torch.randint(normal.shape[1], (len(action),), generator=generator)
        mean, deviation = normal[:, elite, torch.arange(len(action))]
        noise = torch.randn(mean.shape, generator=generator)
        return all_believed(mean + deviation * noise)

    def mean(observation: Tensor, action: Tensor, found: Tensor, normal: Tensor) -> Any:
        return all_believed(normal[0].mean(0))

    def density(observation: Tensor, action: Tensor, found: Tensor, normal: Tensor) -> Any:
        index = log_density(found[..., 0], normal).argmax(0)
        return all_believed(found[index, torch.arange(len(action))])

    def filtered(reward: DynamicsReward, config: FilterConfig) -> Way:
        transition_filter = TransitionFilter(reward, config)

        def way(observation: Tensor, action: Tensor, found: Tensor, normal: Tensor) -> Any:
            choice = transition_filter.choose(observation, action, found, generator)
            return found[choice.index, torch.arange(len(action))], choice.believed

        return way

    changes, following = rewards["changes"], rewards["next"]
    return {
        "member": member,
        "random": filtered(changes, FilterConfig(choice="random")),
        "mean": mean,
        "density": density,
        "changes": filtered(changes, FilterConfig(choice="argmax")),
        "changes softmax": filtered(changes, FilterConfig(choice="softmax")),
        "next": filtered(following, FilterConfig(choice="argmax")),
    }


def by_distance(outside: Tensor, error: Tensor, believed: Tensor) -> list[dict[str, Any]]:
    """Root mean square errors, of all and of what is believed, in each class of distance."""
    found = []
    for low, high in pairwise((-1.0, *DISTANCES)):
        here = (outside > low) & (outside <= high)
        if not here.any():
            continue
        kept = here & believed
        found.append(
            {
                "up_to": high,
                "rows": int(here.sum()),
                "error": error[here].square().mean().sqrt().item(),
                "believed": int(kept.sum()) / int(here.sum()),
                "error_believed": error[kept].square().mean().sqrt().item() if kept.any() else None,
            }
        )
    return found


def errors(
    way: Way,
    ensemble: DynamicsEnsemble,
    truth: TrueDynamics,
    data: Dataset,
    tests: Sequence[Dataset],
    generator: torch.Generator,
) -> dict[str, list[dict[str, Any]]]:
    """Errors of one step from all test states, and of rollouts under the recorded actions."""

    def step(observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        candidates, normal = proposed(ensemble, observation, action, generator)
        return way(observation, action, candidates, normal)

    def true_step(observation: Tensor, action: Tensor) -> Tensor:
        return truth.propose(observation, action, 1, generator).next_observation[0]

    observation, action = (
        torch.cat([test.tensors()[name] for test in tests]).view(-1, HORIZON, size)
        for name, size in (("observation", 3), ("action", 1))
    )
    rows = observation.flatten(0, 1), action.flatten(0, 1)
    following, believed = step(*rows)
    error = SCALE * (following - true_step(*rows))[:, 0]
    one = by_distance(distance(rows[0][:, 0], data), error, believed)

    starts = range(0, HORIZON - STEPS + 1, STRIDE)
    imagined = true = observation[:, list(starts)].flatten(0, 1)
    actions = torch.stack([action[:, s : s + STEPS] for s in starts], 1).flatten(0, 1)
    farthest, all_believed = distance(true[:, 0], data), torch.ones(len(true), dtype=torch.bool)
    for now in actions.unbind(1):
        imagined, believed = step(imagined, now)
        true = true_step(true, now)
        farthest = torch.maximum(farthest, distance(true[:, 0], data))
        all_believed &= believed
    error = SCALE * (imagined - true)[:, 0]
    return {"1": one, str(STEPS): by_distance(farthest, error, all_believed)}


def unclamped(
    reward: DynamicsReward, observation: Tensor, action: Tensor, candidates: Tensor
) -> Tensor:
    """Mean over the snapshots that tell anything, without clamps: 0 is generated, 1 recorded."""
    tells = reward.recorded > reward.generated
    low, high = (part[tells, None, None] for part in (reward.generated, reward.recorded))
    logit = reward.logit(observation, action, candidates)[tells]
    return ((logit - low) / (high - low)).mean(0)


def told_apart(
    ensemble: DynamicsEnsemble,
    rewards: Mapping[str, DynamicsReward],
    truth: TrueDynamics,
    generator: torch.Generator,
) -> list[dict[str, Any]]:
    """How often true next temperatures score above wrong ones, over uniform actions.

    `pairs` compares those of the same observation and action, as a filter does; `pooled` all with
    all. Of the ensemble, the density of the mixture and the distance from the mean are scores; its
    disagreement is the same for all candidates, and thus 0.5 in pairs. `changes unclamped` tells
    what the clamps of the dynamics reward leave out.
    """
    found = []
    for low, high in pairwise(BINS):
        warm = low + (high - low) * torch.rand(ROWS, generator=generator)
        rest = torch.tensor([0.0, RECORDED]) / torch.tensor([1.0, SCALE])
        observation = torch.cat((warm[:, None] / SCALE, rest.expand(ROWS, -1)), 1)
        action = 2 * torch.rand((ROWS, 1), generator=generator) - 1
        right = truth.propose(observation, action, 1, generator).next_observation[0]
        sign = torch.randint(2, (ROWS,), generator=generator) * 2.0 - 1
        wrong = [right.clone() for _ in SIZES]
        for candidate, size in zip(wrong, SIZES, strict=True):
            candidate[:, 0] += sign * size / SCALE
        candidates = torch.stack((right, *wrong))
        _, normal = proposed(ensemble, observation, action, generator)
        temperature = candidates[..., 0]
        scores = {
            **{k: reward.reward(observation, action, candidates) for k, reward in rewards.items()},
            "changes unclamped": unclamped(rewards["changes"], observation, action, candidates),
            "density": log_density(temperature, normal),
            "distance from mean": -(temperature - normal[0, ..., 0].mean(0)).abs(),
        }
        for name, score in scores.items():
            true, others = score[0], score[1:]
            pairs = ((true > others).double() + 0.5 * (true == others)).mean(1)
            row = {"low": low, "high": high, "score": name, "mean_of_true": true.mean().item()}
            pooled = [area_under_curve(true, other) for other in others]
            found.append(row | {"pairs": pairs.tolist(), "pooled": pooled})
    return found


def study(seed: int, updates: int) -> dict[str, Any]:
    """Data, ensemble, dynamics rewards and all measurements of one seed."""
    begin, generator = time.perf_counter(), torch.Generator().manual_seed(seed)
    data = recorded(RECORDED, EXPLORATION, EPISODES, 1000 * seed)
    fresh = recorded(RECORDED, EXPLORATION, TEST_EPISODES, 1000 * seed + 300)
    tests = [
        recorded(target, 0.0, TEST_EPISODES, 1000 * seed + 400 + 100 * i)
        for i, target in enumerate(TARGETS)
    ]
    environment = make_environment(NAME, 1, door="closed", set_point=RECORDED)
    dynamics = LearnedDynamics(data, environment, MODEL, seed)
    scalars = {"ensemble": dynamics.prepare(generator)}
    seconds = {"ensemble": time.perf_counter() - begin}
    quiet = make_environment(NAME, 1, door="closed", set_point=RECORDED, noise=0.0)
    truth = TrueDynamics(quiet, NAME)
    rewards = {}
    before = fresh.observation, fresh.action
    candidates, _ = proposed(dynamics.ensemble, *before, generator)
    for name in ("changes", "next"):
        begin = time.perf_counter()
        config = DynamicsRewardConfig(changes=name == "changes", updates=updates, floor="generated")
        rewards[name] = DynamicsReward(3, 1, config)
        scalars[name] = train_dynamics_reward(rewards[name], data.transitions(), seed)
        scalars[name] |= calibrate(rewards[name], fresh.transitions(), candidates, generator)
        seconds[name] = time.perf_counter() - begin
    low, high = (SCALE * bound.item() for bound in data.observation[:, 0].aminmax())
    found = {
        name: errors(way, dynamics.ensemble, truth, data, tests, generator)
        for name, way in ways(rewards, generator).items()
    }
    apart = told_apart(dynamics.ensemble, rewards, truth, generator)
    print(f"seed {seed}: recorded {low:.2f} to {high:.2f} degrees, seconds {seconds}", flush=True)
    return {
        "seed": seed,
        "recorded": [low, high],
        "seconds": seconds,
        "training": scalars,
        "errors": found,
        "told_apart": apart,
    }


def table(runs: Sequence[dict[str, Any]]) -> None:
    """Prints means over the seeds and, of errors, the smallest and the largest."""
    for steps in ("1", str(STEPS)):
        print(f"\nerror after {steps} steps, share believed throughout, and range over seeds")
        print("outside, up to    " + "".join(f"{high:>16g}" for high in DISTANCES))
        for name in runs[0]["errors"]:
            means = ranges = ""
            for high in DISTANCES:
                classes = [row for run in runs for row in run["errors"][name][steps]]
                here = [row for row in classes if row["up_to"] == high]
                mean = spread = ""
                if here:
                    found = [row["error"] for row in here]
                    share = sum(row["believed"] for row in here) / len(here)
                    mean = f"{sum(found) / len(found):.3f} {share:>5.0%}"
                    spread = f"{min(found):.3f}..{max(found):.3f}"
                means, ranges = means + f"{mean:>16}", ranges + f"{spread:>16}"
            print(f"{name:<18}{means}\n{'':18}{ranges}")
    print(f"\nshare of pairs in which the true next temperature scores above one {SIZES} off")
    for low, high in pairwise(BINS):
        for name in SCORES:
            wanted = (low, name)
            rows = [
                row
                for run in runs
                for row in run["told_apart"]
                if (row["low"], row["score"]) == wanted
            ]
            pairs = torch.tensor([row["pairs"] for row in rows]).mean(0).tolist()
            true = sum(row["mean_of_true"] for row in rows) / len(rows)
            cells = "".join(f"{value:8.3f}" for value in pairs)
            print(f"{low:>5} to {high:>3}{name:>22}{cells}   mean score of the true {true:.3f}")


def main(seeds: int = 3, updates: int = 5000, threads: int = 1, output: Path | None = None) -> None:
    """Runs every seed.

    Args:
        seeds: Seeds of data, networks and everything drawn: 0, 1, ...
        updates: Updates of a dynamics reward.
        threads: Threads of torch.
        output: JSON file for the results.
    """
    use_threads(threads)
    runs = [study(seed, updates) for seed in range(seeds)]
    for run in runs:
        for name, scalars in run["training"].items():
            shown = {key: round(value, 4) for key, value in scalars.items()}
            print(f"seed {run['seed']} {name}: {shown}")
    table(runs)
    save(output, {**origin(), "settings": {"updates": updates}, "runs": runs})


if __name__ == "__main__":
    tyro.cli(main)
