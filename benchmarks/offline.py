"""Offline methods on data sets, seed by seed; also with the true model in place of the learned one.

Every run is an experiment as `separatrix train` takes it, in a process of its own on one thread.
What counts is the last checkpoint. Nothing is tuned here: hyper-parameters are the same for all
data sets, so that no evaluation in the environment chooses anything. Runs stay in `--folder`; a
study that was interrupted goes on where it was.

    separatrix collect pendulum && separatrix collect cart_pole   # and whatever else a study takes
    python benchmarks/offline.py short --output docs/results/offline_short.json

Studies:
    short         two data sets, seven methods, 20,000 updates
    full          ten data sets, all methods, five seeds, the papers' networks and updates
    true          the environment itself in place of the learned model
    signed        what becomes of transitions that are not believed, where rewards are costs
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from harness import origin, save

from separatrix.agents.catalog import train
from separatrix.agents.common.configuration import differences, experiment_data
from separatrix.agents.common.run import Run
from separatrix.agents.experiment import EnvironmentConfig, EvaluationConfig, ExperimentConfig
from separatrix.agents.offline.config import (
    BehaviourCloningConfig,
    ComboConfig,
    ConservativeConfig,
    DiverseCriticsConfig,
    ImplicitQLearningConfig,
    MethodConfig,
    MobileConfig,
    ModelBasedConfig,
    MopoConfig,
    OfflineConfig,
    RavlConfig,
    TD3BehaviourCloningConfig,
)
from separatrix.agents.offline.data.files import load_dataset
from separatrix.agents.offline.model_config import (
    DynamicsRewardConfig,
    FilterConfig,
    ModelConfig,
    RolloutsConfig,
)

Methods = dict[str, MethodConfig]

SMALL_MODEL = ModelConfig(members=5, elites=3, layers=(128, 128), max_epochs=60)
SMALL_ROLLOUTS = RolloutsConfig(starts=1000, length=5)
LONG_ROLLOUTS = RolloutsConfig(starts=200, length=25)
"""As many transitions, in rollouts as long as MOREC's filter is for."""
SMALL_FILTER = FilterConfig(samples=3, reward=DynamicsRewardConfig(updates=10_000))

SMALL: Methods = {
    "BC": BehaviourCloningConfig(),
    "TD3+BC": TD3BehaviourCloningConfig(),
    "IQL": ImplicitQLearningConfig(),
    "CQL": ConservativeConfig(),
    "EDAC": DiverseCriticsConfig(critics=5),
    "MOPO": MopoConfig(model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS),
    "MOBILE": MobileConfig(model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS),
    "COMBO": ComboConfig(model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS, actions=4),
    "RAVL": RavlConfig(critics=5, model=SMALL_MODEL, rollouts=SMALL_ROLLOUTS),
    "MOREC-MOPO": MopoConfig(model=SMALL_MODEL, rollouts=LONG_ROLLOUTS, filter=SMALL_FILTER),
    "MOREC-MOBILE": MobileConfig(model=SMALL_MODEL, rollouts=LONG_ROLLOUTS, filter=SMALL_FILTER),
    "MOREC-RAVL": RavlConfig(
        critics=5, model=SMALL_MODEL, rollouts=LONG_ROLLOUTS, filter=SMALL_FILTER
    ),
}
"""Ensembles, models and rollouts small enough for two CPU cores."""


@dataclass(frozen=True)
class Study:
    """What is compared."""

    datasets: tuple[str, ...]
    """Folders below `--datasets`."""

    methods: Methods
    """By name."""

    updates: int
    """Gradient updates of a run."""

    layers: tuple[int, ...]
    """Hidden units of policy and critics."""

    seeds: int
    """Seeds, from 0."""


def as_published() -> MethodConfig:
    """Returns MOREC-MOPO with the published clamp."""
    method = SMALL["MOREC-MOPO"]
    assert isinstance(method, MopoConfig)
    clamped = replace(SMALL_FILTER, reward=replace(SMALL_FILTER.reward, floor="generated"))
    return replace(method, filter=clamped)


def chosen(*names: str) -> Methods:
    """Returns some of the small methods."""
    return {name: as_published() if name == PUBLISHED else SMALL[name] for name in names}


def full() -> Methods:
    """Returns all methods with the papers' ensembles, models and rollouts."""
    found: Methods = {}
    for name, method in SMALL.items():
        if isinstance(method, DiverseCriticsConfig | RavlConfig):
            method = replace(method, critics=10)
        if isinstance(method, ComboConfig):
            method = replace(method, actions=10)
        if isinstance(method, ModelBasedConfig):
            rollouts = RolloutsConfig(starts=50_000, length=5)
            if method.filter is not None:
                rollouts = RolloutsConfig(starts=2000, length=100)
                reward = DynamicsRewardConfig(snapshots=40, updates=100_000)
                method = replace(method, filter=FilterConfig(reward=reward))
            method = replace(method, model=ModelConfig(), rollouts=rollouts)
        found[name] = method
    return found


def with_true_model() -> Methods:
    """Returns the model-based methods on the environment itself, MOPO's penalty being 0 there.

    All policies learn at RAVL's rate, three times that of the others: over so few updates the rate
    would decide otherwise.
    """
    found: Methods = {}
    for name, method in chosen("MOPO", "MOBILE", "COMBO", "RAVL", "MOREC-MOPO").items():
        assert isinstance(method, ModelBasedConfig)
        model = replace(method.model, source="true")
        rate = RavlConfig().policy_learning_rate
        found[name] = replace(
            method, model=model, rollouts=SMALL_ROLLOUTS, policy_learning_rate=rate
        )
    return found


def with_cuts() -> Methods:
    """Returns MOREC-MOPO with each rule for cuts, and MOBILE with each bound of its targets."""
    base, mobile = SMALL["MOREC-MOPO"], SMALL["MOBILE"]
    assert isinstance(base, MopoConfig) and isinstance(mobile, MobileConfig)
    return {
        "MOREC-MOPO, terminate": replace(base, filter=replace(SMALL_FILTER, on_cut="terminate")),
        "MOREC-MOPO, drop": replace(base, filter=replace(SMALL_FILTER, on_cut="drop")),
        "MOREC-MOPO, lowest value": base,
        "MOBILE, targets from 0": replace(mobile, clamp_at_zero=True),
        "MOBILE, targets from the lowest value": mobile,
    }


PUBLISHED = "MOREC-MOPO as published"
"""Whose dynamics reward is clamped as in the authors' code."""
SHORT = ("BC", "TD3+BC", "EDAC", "MOPO", "RAVL", "MOREC-MOPO", PUBLISHED, "MOREC-RAVL")
TEN = tuple(
    f"{task}/{recipe}"
    for task in ("pendulum", "lorenz", "cart_pole", "hopper", "half_cheetah")
    for recipe in ("medium-replay", "medium")
)
COSTS = ("refrigerator/medium", "convection_diffusion_reaction/medium")
"""Tasks whose rewards are at most 0."""
STUDIES = {
    "short": Study(("pendulum/medium", "cart_pole/medium"), chosen(*SHORT), 20_000, (64, 64), 3),
    "full": Study(TEN, full(), 1_000_000, (256, 256), 5),
    "true": Study(
        ("pendulum/medium", "cart_pole/medium", "lorenz/medium"),
        with_true_model(),
        10_000,
        (64, 64),
        3,
    ),
    "signed": Study(COSTS, with_cuts(), 10_000, (64, 64), 1),
}


def experiment(study: Study, folder: Path, name: str, seed: int) -> ExperimentConfig:
    """Makes the experiment of a run.

    Args:
        study: The study.
        folder: Folder of the data set.
        name: Name of the method.
        seed: Seed of the run.
    """
    metadata = load_dataset(folder).metadata
    return ExperimentConfig(
        environment=EnvironmentConfig(metadata.environment, options=dict(metadata.options)),
        agent=OfflineConfig(str(folder), method=study.methods[name], layers=study.layers),
        total_steps=study.updates,
        seed=seed,
        checkpoint_every=max(1, study.updates // 4),
        evaluation=EvaluationConfig(episodes=32),
    )


def written(config: Path) -> Any:
    """Reads the configuration of a run as it was written, with no default of today filled in."""
    return yaml.safe_load(config.read_text(encoding="utf-8"))


def run(config: ExperimentConfig, folder: Path) -> dict[str, Any]:
    """Trains, or goes on training, or finds that all is done; returns what was measured."""
    done, started = folder / "result.json", sorted(folder.glob("*/*/*/config.yaml"))
    if started and (changes := differences(written(started[-1]), experiment_data(config))):
        raise ValueError(f"{folder}: was begun with {'; '.join(changes)}; allowed: another folder")
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return found
    torch.set_num_threads(1)
    begin = time.perf_counter()
    if started:
        training = Run.resume(started[-1].parent)
    else:
        training = Run.create(folder, config.environment.id, "offline", config.seed, config)
    with training:
        result = train(config, training)
    with (training.folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["tag"] == "train/largest_value"]
    content = {
        "seed": config.seed,
        "evaluation": result.evaluation,
        "evaluation_steps": result.evaluation_steps,
        "largest_values": [[int(row["step"]), float(row["value"])] for row in rows],
        "seconds": time.perf_counter() - begin,
    }
    done.write_text(json.dumps(content), encoding="utf-8")
    return content


def main() -> None:
    """Runs what is missing of a study and writes it down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--datasets", type=Path, default=Path("datasets"))
    parser.add_argument("--folder", type=Path, default=Path("runs/offline_study"))
    parser.add_argument("--methods", nargs="+", help="run these alone, and write no table")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    study = STUDIES[arguments.study]
    methods = arguments.methods or list(study.methods)
    keys = [(d, m, s) for s in range(study.seeds) for d in study.datasets for m in methods]
    context, found = multiprocessing.get_context("spawn"), dict[tuple[str, str, int], Any]()
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        futures = {}
        for dataset, method, seed in keys:
            config = experiment(study, arguments.datasets / dataset, method, seed)
            name = f"{dataset.replace('/', '_')}_{method.replace(' ', '_')}_s{seed}"
            place = arguments.folder / arguments.study / name
            place.mkdir(parents=True, exist_ok=True)
            futures[pool.submit(run, config, place)] = (dataset, method, seed)
        for future in as_completed(futures):
            result = found[futures[future]] = future.result()
            dataset, method, seed = futures[future]
            score, seconds = result["evaluation"]["eval/score"], result["seconds"]
            print(f"{dataset}, {method}, seed {seed}: {score:.1f} in {seconds:.0f} s", flush=True)
    if arguments.methods:
        return
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "runs": [found[dataset, method, seed] for seed in range(study.seeds)],
        }
        for dataset in study.datasets
        for method in methods
    ]
    settings = {"updates": study.updates, "layers": study.layers, "seeds": study.seeds}
    save(arguments.output, {**origin(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
