"""Acting with the learned dynamics: planners for the environments of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int64
from torch import Tensor

from separatrix.agents.hypercrl.config import HyperCRLConfig, PlannerConfig
from separatrix.agents.hypercrl.model import TaskModel
from separatrix.controllers.planning.cem import CEM
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.planning.planner import Planner
from separatrix.envs.core.environment import Environment

if TYPE_CHECKING:
    from separatrix.agents.hypercrl.learner import Learner


def tasks_of(environment: Environment) -> Int64[Tensor, " rows"]:
    """Returns the task of each environment of a stream, or of all if they share their parameters.

    Raises:
        ValueError: The environment is not that of a stream.
    """
    tasks = getattr(environment, "tasks", None)
    if tasks is None:
        raise ValueError(
            "the environment belongs to no stream of tasks; allowed: ids such as "
            "separatrix/LorenzStream-v0, without wrappers"
        )
    found: Tensor = tasks
    shared = environment.select(torch.arange(1, device=environment.device)) is environment
    return found[:1] if shared else found


def learned_tasks(
    tasks: Int64[Tensor, " rows"], networks: Sequence[int] | None
) -> Int64[Tensor, " rows"]:
    """Returns the learner's task for tasks of the stream.

    Args:
        tasks: Tasks of the stream.
        networks: The learner's task of each, see `Record.networks`; tasks beyond have that of the
            last. None if the learner counts as the stream does.
    """
    if networks is None:
        return tasks
    return torch.tensor(networks, device=tasks.device)[tasks.clamp_max(len(networks) - 1)]


def make_planner(config: PlannerConfig, model: Environment, seed: int) -> Planner:
    """Makes the planner of a configuration, which executes the mean of its last elites."""
    if config.kind == "cem":
        return CEM(
            model,
            horizon=config.horizon,
            population=config.population,
            elites=config.elites,
            iterations=config.iterations,
            standard_deviation=config.standard_deviation,
            min_standard_deviation=0.0,
            smoothing=0.0,
            warm_start=config.warm_start,
            seed=seed,
        )
    return ICEM(
        model,
        horizon=config.horizon,
        population=config.population,
        elites=config.elites,
        iterations=config.iterations,
        standard_deviation=config.standard_deviation,
        noise_exponent=config.noise_exponent,
        execute="mean",
        warm_start=config.warm_start,
        seed=seed,
    )


def learned_planner(
    config: HyperCRLConfig,
    learner: Learner,
    environment: Environment,
    seed: int,
    networks: Sequence[int] | None = None,
) -> Planner:
    """Makes a planner in the learned dynamics, as they are now.

    Args:
        config: The hyper-parameters.
        learner: Has the dynamics.
        environment: Where it is to act: an environment of a stream.
        seed: Seed of the planner's random stream.
        networks: See `learned_tasks`.

    Raises:
        ValueError: The environment is not that of a stream, or its reward is not known.
    """
    dynamics = learner.dynamics(learned_tasks(tasks_of(environment), networks))
    model = TaskModel(dynamics, environment, known_reward=config.reward == "known")
    return make_planner(config.planner, model, seed)
