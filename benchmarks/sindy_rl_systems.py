"""SINDy-RL on our own systems, against classical control on the same model and on the true one.

    python benchmarks/sindy_rl_systems.py --output docs/results/sindy_rl_systems.json

Each experiment is run with several seeds, and everything is evaluated on its evaluation episodes:

    SINDy-RL     the policy that the run keeps
    model LQR    the LQR on the run's last sparse model
    first LQR    the LQR on a sparse model of the run's first, random steps alone
    PPO          PPO without a model, for as many real steps
    true LQR     the LQR on the exact linearization, which needs no data
    zero         no control

Every LQR is told where the target lies, as observation, and nothing of the reward; SINDy-RL is told
the reward, and nothing of the dynamics. No LQR has been tuned: control_weight is the default.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import tyro
from harness import origin, save, use_threads

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.catalog import train
from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.run import Run
from separatrix.agents.common.seeding import evaluation_seed
from separatrix.agents.common.stable_baselines3.config import PPOConfig
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.sindy_rl.config import SindyRLConfig
from separatrix.agents.sindy_rl.loop import Loop
from separatrix.agents.sindy_rl.model_control import model_lqr
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import ZeroController
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment

EXPERIMENTS = ("henon", "van_der_pol", "lorenz", "chua", "rossler")
PPO_ENVIRONMENTS, PPO_ROLLOUT, PPO_BATCH = 4, 32, 64
COLUMNS = ("sindy_rl", "model_lqr", "first_lqr", "ppo", "true_lqr", "zero")


def judge(config: ExperimentConfig, controller: Controller) -> float:
    """Mean return of a controller over the evaluation episodes of an experiment."""
    settings, environment = config.evaluation, config.environment
    judged = make_environment(environment.id, settings.episodes, **environment.arguments())
    seeds = torch.arange(settings.episodes) + evaluation_seed(settings.seed)
    return evaluate(judged, controller, seeds).means()["return"]


def learn(config: ExperimentConfig) -> tuple[dict[str, float], Loop | None]:
    """Runs an experiment in a temporary folder.

    Returns:
        Real steps, final return and seconds; and the loop as it ended, if it is SINDy-RL's.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        algorithm = config.agent.algorithm
        run = Run.create(Path(root), config.environment.id, algorithm, config.seed, config)
        with run:
            result = train(config, run)
            checkpoint = run.latest_checkpoint()
    found = {
        "steps": float(result.steps),
        "return": result.evaluation["eval/return"],
        "seconds": time.perf_counter() - begin,
    }
    if not isinstance(config.agent, SindyRLConfig) or checkpoint is None:
        return found, None
    loop = Loop(config)
    loop.load_state_dict(checkpoint.tensors, checkpoint.state["loop"])
    return found, loop


def lqr_on(config: ExperimentConfig, loop: Loop) -> float | None:
    """Return of the LQR on a loop's model; None if no linear law stabilizes the model."""
    target = linearize(loop.environment).observation[0]
    try:
        return judge(config, model_lqr(loop.modelling.surrogate, target))
    except ValueError as error:
        print(error)
        return None


def first_model(config: ExperimentConfig) -> Loop:
    """A run after its first steps, which are random, with a model of them."""
    loop = Loop(config)
    loop.begin()
    loop.modelling.fit(loop.data(), 0)
    return loop


def model_free(config: ExperimentConfig) -> ExperimentConfig:
    """PPO with the hyper-parameters of SINDy-RL's, but for batches that fit few real steps."""
    assert isinstance(config.agent, SindyRLConfig) and isinstance(config.agent.policy, PPOConfig)
    policy = replace(
        config.agent.policy, rollout_steps=PPO_ROLLOUT, batch_size=PPO_BATCH, epochs=10
    )
    environment = replace(config.environment, num_envs=PPO_ENVIRONMENTS)
    return replace(config, agent=policy, environment=environment)


def compare(name: str, seeds: int) -> dict[str, Any]:
    """Everything that is compared on one system."""
    config = load_experiment(f"sindy_rl_{name}")
    single = make_environment(config.environment.id, **config.environment.arguments())
    rows = []
    for seed in range(seeds):
        seeded = replace(config, seed=seed)
        found, loop = learn(seeded)
        assert loop is not None
        first = first_model(seeded)
        free, _ = learn(model_free(seeded))
        rows.append(
            {
                "seed": seed,
                "steps": found["steps"],
                "seconds": found["seconds"],
                "sindy_rl": found["return"],
                "model_lqr": lqr_on(seeded, loop),
                "first_steps": first.steps,
                "first_lqr": lqr_on(seeded, first),
                "ppo_steps": free["steps"],
                "ppo": free["return"],
                "equations": loop.modelling.dynamics.equations().splitlines(),
            }
        )
        shown = {key: value for key, value in rows[-1].items() if key != "equations"}
        print(name, shown, flush=True)
    same = {"true_lqr": judge(config, LQR(single)), "zero": judge(config, ZeroController(single))}
    means = {
        key: mean(values) if None not in (values := [row[key] for row in rows]) else None
        for key in COLUMNS[:4]
    }
    return {
        "environment": config.environment.id,
        "steps": rows[0]["steps"],
        "first_steps": rows[0]["first_steps"],
        "ppo_steps": rows[0]["ppo_steps"],
        "episodes": config.evaluation.episodes,
        "means": means | same,
        "runs": rows,
    }


def table(results: dict[str, dict[str, Any]]) -> None:
    """Prints mean returns, with the smallest and the largest of the learned ones."""
    print("\n" + " ".join(f"{name:>23}" for name in ("system (steps)", *COLUMNS)))
    for name, result in results.items():
        cells = [f"{name} ({result['steps']:.0f})"]
        for column in COLUMNS:
            value = result["means"][column]
            cell = "none" if value is None else f"{value:.1f}"
            if value is not None and column in COLUMNS[:4]:
                values = [row[column] for row in result["runs"]]
                cell += f" [{min(values):.1f}, {max(values):.1f}]"
            cells.append(cell)
        print(" ".join(f"{cell:>23}" for cell in cells))


def main(
    seeds: int = 3,
    threads: int = 1,
    systems: tuple[str, ...] = EXPERIMENTS,
    output: Path | None = None,
) -> None:
    """Runs every experiment and its comparators.

    Args:
        seeds: Seeds of each experiment: 0, 1, ...; they were not those of the tuning.
        threads: Threads of torch and numba.
        systems: Which experiments, configs/experiment/sindy_rl_<system>.yaml.
        output: JSON file for the results.
    """
    use_threads(threads)
    warnings.simplefilter("ignore", RuntimeWarning)  # of supports that are empty in first fits
    results = {name: compare(name, seeds) for name in systems}
    table(results)
    save(output, {**origin(), "seeds": seeds, "results": results})


if __name__ == "__main__":
    tyro.cli(main)
