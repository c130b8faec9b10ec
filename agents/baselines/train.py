"""Training of PPO, SAC and TD3.

Tags of the log, at the number of environment steps taken:

    rollout/ep_rew_mean, ep_len_mean   return and length of the last 100 training episodes
    train/...                          losses and diagnostics of stable-baselines3's last update
    env/<metric>                       the task's metrics, mean over the training steps since the
                                       last row; env/diverged is the share of diverging steps
    eval/return, length, <metric>      means over the evaluation episodes, deterministic policy
    eval/steps                         environment steps spent on evaluations so far; they are not
                                       among the steps of the run
    time/fps, time_elapsed, ...        since training was started or resumed
"""

from typing import Any

import gymnasium as gym
from stable_baselines3.common.logger import Logger

from separatrix.agents.baselines.callback import RunWriter, TrainingCallback
from separatrix.agents.common.configuration import differences, experiment_data
from separatrix.agents.common.evaluations import Evaluations
from separatrix.agents.common.run import Run
from separatrix.agents.common.stable_baselines3.algorithm import make_algorithm
from separatrix.agents.common.stable_baselines3.config import ModelFreeConfig
from separatrix.agents.common.stable_baselines3.snapshot import load_snapshot
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv
from separatrix.agents.common.training import (
    TrainingResult,
    described_misfit,
    progress_bar,
    warn_of_changes,
)
from separatrix.agents.experiment import ExperimentConfig


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
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
    """
    environment = config.environment
    options = environment.arguments()
    made = gym.make_vec(environment.id, num_envs=environment.num_envs, output="torch", **options)
    env = BatchedVecEnv(made)
    try:
        return _train(config, run, env)
    finally:
        env.close()


def _train(config: ExperimentConfig, run: Run, env: BatchedVecEnv) -> TrainingResult:
    assert isinstance(config.agent, ModelFreeConfig)
    algorithm = make_algorithm(config.agent, env, config.seed, config.environment.device)
    algorithm.set_logger(Logger(None, [RunWriter(run)]))
    checkpoint = run.latest_checkpoint()
    evaluations = Evaluations(config)
    if checkpoint is not None:
        with described_misfit(config, checkpoint):
            load_snapshot(algorithm, checkpoint.tensors, checkpoint.state["algorithm"])
            saved = checkpoint.state["training"]
            evaluations.load_state_dict(saved)
            changes = differences(saved["config"], experiment_data(config))
        warn_of_changes(changes, checkpoint)
    with progress_bar() as progress:
        callback = TrainingCallback(config, run, evaluations, progress)
        remaining = config.total_steps - algorithm.num_timesteps
        if remaining > 0:
            # Not resetting the counter, stable-baselines3 adds it to the steps it is asked for:
            # schedules thus span the whole run, whichever part of it this is.
            # An interval of None leaves all logging to the callback.
            never: Any = None
            algorithm.learn(remaining, callback, log_interval=never, reset_num_timesteps=False)
    return TrainingResult(algorithm.num_timesteps, evaluations.steps, evaluations.last)
