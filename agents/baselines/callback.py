"""What happens between two rounds of training: evaluation, a row of the log, a checkpoint.

stable-baselines3 alternates collecting steps with updates. The callback acts where a round begins,
when the last update is done and no step of the next rollout is taken: there the state is small.
"""

from typing import Any

from rich.progress import Progress
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from separatrix.agents.common.configuration import experiment_data
from separatrix.agents.common.evaluations import Evaluations
from separatrix.agents.common.run import Run
from separatrix.agents.common.stable_baselines3.config import ModelFreeConfig, PPOConfig
from separatrix.agents.common.stable_baselines3.policy import PolicyController
from separatrix.agents.common.stable_baselines3.snapshot import save_snapshot
from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv
from separatrix.agents.common.training import hyper_parameters
from separatrix.agents.experiment import ExperimentConfig


class RunWriter(KVWriter):
    """Passes everything that stable-baselines3 logs on to the run."""

    def __init__(self, run: Run) -> None:
        """Write to a run."""
        self.run = run

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Write scalars; the exclusion of formats does not concern a run."""
        self.run.log(key_values, step)

    def close(self) -> None:
        """Leave the run open: it belongs to the caller."""


class TrainingCallback(BaseCallback):
    """Evaluates, logs and saves between rounds, and moves the progress bar."""

    def __init__(
        self,
        config: ExperimentConfig,
        run: Run,
        evaluations: Evaluations,
        progress: Progress,
    ) -> None:
        """Prepare a training that starts, or goes on.

        Args:
            config: The experiment.
            run: Where to log and save.
            evaluations: Evaluates the policy.
            progress: Progress bar that is showing.
        """
        super().__init__()
        self.config = config
        self.run = run
        self.evaluations = evaluations
        self.progress = progress

    def _on_training_start(self) -> None:
        self._last_step = self.model.num_timesteps
        name = f"{self.config.agent.algorithm} on {self.config.environment.id}"
        self._task = self.progress.add_task(
            name, total=self.config.total_steps, completed=self._last_step
        )

    def _on_rollout_start(self) -> None:
        step = self.model.num_timesteps
        if step == self._last_step:  # the first round, or the first after a resumption
            return
        every = self.config.evaluation.every
        evaluates = every > 0 and self._passed(every)
        saves = self._passed(self.config.checkpoint_every)
        agent = self.config.agent
        assert isinstance(agent, ModelFreeConfig)
        logs = isinstance(agent, PPOConfig) or self._passed(agent.log_every)
        if evaluates:
            self._evaluate()
            for tag, value in self.evaluations.last.items():
                self.logger.record(tag, value)
        if evaluates or saves or logs:
            self._log()
        if saves:
            self._save()
        self._last_step = step

    def _on_step(self) -> bool:
        self.progress.update(self._task, completed=self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        """Evaluate, log and save once more; the last evaluation is the outcome of the run."""
        self._evaluate()
        self._log()
        self.run.log_hparams(hyper_parameters(self.config), self.evaluations.last)
        self._save()

    def _passed(self, every: int) -> bool:
        """Whether a multiple of `every` was reached in the last round."""
        return self.model.num_timesteps // every > self._last_step // every

    def _evaluate(self) -> None:
        controller = PolicyController(self.model.policy, self.evaluations.environment)
        self.evaluations.run(controller)

    def _log(self) -> None:
        env = self.model.get_env()
        assert isinstance(env, BatchedVecEnv)
        for name, mean in env.pop_metrics().items():
            self.logger.record(f"env/{name}", mean)
        # Adds stable-baselines3's own rollout/ and time/ to the train/ of the last update.
        self.model.dump_logs()

    def _save(self) -> None:
        tensors, state = save_snapshot(self.model)
        training = self.evaluations.state_dict() | {"config": experiment_data(self.config)}
        state = {"algorithm": state, "training": training}
        self.run.save_checkpoint(self.model.num_timesteps, tensors, state)
