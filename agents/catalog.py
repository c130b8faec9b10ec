"""Every agent, by the `algorithm` of its configuration."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from separatrix.agents.experiment import ExperimentConfig

if TYPE_CHECKING:
    from separatrix.agents.common.checkpoint import Checkpoint
    from separatrix.agents.common.run import Run
    from separatrix.agents.common.training import TrainingResult
    from separatrix.controllers.controller import Controller
    from separatrix.envs.core.environment import Environment

AGENTS = {
    "ppo": "separatrix.agents.baselines",
    "maskable_ppo": "separatrix.agents.baselines",
    "sac": "separatrix.agents.baselines",
    "td3": "separatrix.agents.baselines",
    "sindy_rl": "separatrix.agents.sindy_rl",
    "analytic": "separatrix.agents.analytic_policy",
    "hypercrl": "separatrix.agents.hypercrl",
    "offline": "separatrix.agents.offline",
    "group_relative": "separatrix.agents.group_relative",
}
"""Where the package of each agent is; its modules `train` and `policy` hold the functions below."""


def train(config: ExperimentConfig, run: "Run") -> "TrainingResult":
    """Train, or go on training from the run's last checkpoint.

    Resumed on the CPU with the same number of threads, a run takes the steps it would have taken
    uninterrupted, bit for bit. A warning tells what was changed in the configuration since then.

    Args:
        config: The experiment.
        run: Where to log and to save checkpoints; may hold some already.

    Returns:
        Steps taken and the last evaluation.

    Raises:
        CheckpointError: If the last checkpoint does not fit the configuration.
        ConfigurationError: If the agent does not fit the environment.
    """
    result: TrainingResult = _module(config, "train").train(config, run)
    return result


def load_policy(
    config: ExperimentConfig, checkpoint: "Checkpoint", environment: "Environment"
) -> "Controller":
    """Make the policy of a checkpoint.

    Args:
        config: The experiment that wrote the checkpoint.
        checkpoint: The checkpoint.
        environment: Environment it is to act in; gives the spaces and the device.

    Returns:
        A controller with the policy's deterministic actions.

    Raises:
        CheckpointError: If the checkpoint's networks do not fit the environment's spaces or the
            configuration.
    """
    policy: Controller = _module(config, "policy").load_policy(config, checkpoint, environment)
    return policy


def _module(config: ExperimentConfig, name: str) -> Any:
    return import_module(f"{AGENTS[config.agent.algorithm]}.{name}")
