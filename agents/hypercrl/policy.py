"""The policy that a run keeps: a planner in the learned dynamics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.agents.common.checkpoint import Checkpoint, CheckpointError, with_prefix
from separatrix.agents.common.training import described_misfit
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.hypercrl.learner import Learner
from separatrix.agents.hypercrl.planning import learned_planner, tasks_of
from separatrix.agents.hypercrl.unknown_task import inferring_planner
from separatrix.controllers.controller import Controller
from separatrix.envs.streams.stream import find_stream

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment


def load_learner(
    config: ExperimentConfig, checkpoint: Checkpoint, environment: Environment
) -> Learner:
    """Makes the learner of a checkpoint, without any data but what its method keeps.

    Args:
        config: The experiment that wrote the checkpoint.
        checkpoint: The checkpoint.
        environment: Gives the spaces and the device.

    Raises:
        CheckpointError: If the checkpoint does not fit.
    """
    assert isinstance(config.agent, HyperCRLConfig)
    with described_misfit(config, checkpoint):
        learner = Learner(
            config.agent,
            environment.observation_space.shape[0],
            environment.action_shape[0],
            find_stream(config.environment.id).features()[: config.agent.tasks],
            config.seed,
            environment.device,
        )
        tensors = with_prefix("learner", checkpoint.tensors)
        learner.load_state_dict(tensors, checkpoint.state["loop"]["learner"])
    return learner


def load_policy(
    config: ExperimentConfig, checkpoint: Checkpoint, environment: Environment
) -> Controller:
    """Makes the policy of a checkpoint, see `separatrix.agents.catalog.load_policy`.

    Raises:
        CheckpointError: If tasks are told, and one of the environment has not begun.
    """
    assert isinstance(config.agent, HyperCRLConfig)
    learner = load_learner(config, checkpoint, environment)
    seed = config.evaluation.seed
    with described_misfit(config, checkpoint):
        if config.agent.evaluation_tasks == "inferred":
            return inferring_planner(config.agent, learner, environment, seed)
        networks: list[int] = checkpoint.state["loop"]["record"]["networks"]
        latest = int(tasks_of(environment).max())
        if latest >= len(networks):
            raise CheckpointError(
                f"task: got {latest}; the checkpoint of step {checkpoint.step} knows tasks 0 to "
                f"{len(networks) - 1}"
            )
        return learned_planner(config.agent, learner, environment, seed, networks)
