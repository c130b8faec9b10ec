"""Which task it is, and when it changes, told by the errors of the known tasks' models.

Nothing here looks at a model: what enters is how wrong each one was at a step, in units of how
wrong it usually is in its own task, see `standardised_errors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.registration import check_count

LEAST = 1e-12
"""Standardised errors below count as this, so that a perfect prediction has a logarithm."""

PATHS = 2000
"""Resampled runs from which a threshold is taken."""

TYPICAL = 3.0
"""Errors explain a change if their mean is at most so many standard deviations too high."""


def standardised_errors(
    residuals: Float[Tensor, "rows tasks outputs"], deviations: Float[Tensor, "tasks outputs"]
) -> Float[Tensor, "rows tasks"]:
    """Root mean square of one-step errors in units of each task's own held-out errors.

    Args:
        residuals: What the model of each task predicted less what happened.
        deviations: Root mean square of the residuals of each task's model on held-out data of that
            task, positive.

    Returns:
        About one for the true task.
    """
    return (residuals / deviations).square().mean(-1).sqrt()


class TaskInference:
    """How likely each known task is, for each environment, from the errors of the last steps.

    Errors are taken for normal with the variances of the task's held-out errors, so that a step
    with the standardised error z_k has, for task k with the deviations s_kd of its D outputs, the
    log-likelihood

        l_k = -D z_k^2 / 2 - sum_d log s_kd

    but for a constant that all tasks share. The evidence forgets exponentially, L_k <- (1 - 1 /
    memory) L_k + l_k, and probabilities are its softmax: those of Bayes' rule with tasks that were
    equally likely at first, if nothing is forgotten. Errors of neighbouring steps resemble one
    another, which the formula does not know: the order of tasks is more reliable than the
    probabilities, which are too sure.

    A row with an error that is not finite learns nothing from that step.

    Args:
        deviations: Root mean square of the held-out errors of each task's model, positive; they fix
            the device.
        rows: Number of environments.
        memory: Steps after which evidence has faded to 1 / e, above 1; infinite for never.

    Raises:
        ValueError: A deviation is not a positive number, or the memory is too short.
    """

    def __init__(
        self, deviations: Float[Tensor, "tasks outputs"], rows: int, *, memory: float = 20.0
    ) -> None:
        if not ((deviations > 0) & deviations.isfinite()).all():
            raise ValueError(f"deviations: got {deviations.tolist()}; allowed: positive numbers")
        if not memory > 1:
            raise ValueError(f"memory: got {memory}; allowed: above 1")
        self._kept = 1 - 1 / memory
        self._deviations = deviations.double()
        tasks = len(deviations)
        self._evidence = torch.zeros((rows, tasks), dtype=torch.float64, device=deviations.device)

    def update(self, errors: Float[Tensor, "rows tasks"]) -> None:
        """Takes in the standardised errors of one step."""
        seen = errors.isfinite().all(1, keepdim=True)
        outputs = self._deviations.shape[1]
        likelihood = -0.5 * outputs * errors.double().square() - self._deviations.log().sum(1)
        updated = self._kept * self._evidence + likelihood
        self._evidence = torch.where(seen, updated, self._evidence)

    @property
    def evidence(self) -> Float[Tensor, "rows tasks"]:
        """Log-evidence L of each task."""
        return self._evidence

    @property
    def probabilities(self) -> Float[Tensor, "rows tasks"]:
        """Probability of each task."""
        return self._evidence.softmax(1)

    @property
    def tasks(self) -> Int64[Tensor, " rows"]:
        """The most likely task, the first one where nothing is known."""
        return self._evidence.argmax(1)

    def reset(self, rows: Bool[Tensor, " rows"]) -> None:
        """Forgets everything about some environments."""
        self._evidence = self._evidence.masked_fill(rows[:, None], 0.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything but the memory."""
        return {"evidence": self._evidence, "deviations": self._deviations}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned, with the tasks that were known then."""
        self._evidence, self._deviations = state["evidence"], state["deviations"]


@dataclass(frozen=True)
class Calibration:
    """What is usual for the logarithm of the standardised errors of one task, in that task."""

    mean: float
    """Mean."""

    deviation: float
    """Standard deviation."""

    correlation: float
    """Steps that tell as much as one independent step, 1 or more."""

    threshold: float
    """Sum at which an alarm is raised, in standard deviations."""


def calibrate(
    errors: Float[Tensor, "steps sequences"],
    *,
    run_length: float = 10_000.0,
    shift: float = 1.0,
    block: int = 50,
    seed: int = 0,
) -> Calibration:
    """Chooses when to raise an alarm by the errors in a task that did not change.

    Sums of `BoundaryDetector` are formed over runs that are put together from blocks of successive
    errors, drawn with replacement (the moving block bootstrap, H. R. Künsch, Annals of Statistics
    17, 1989), which keep the resemblance of neighbours within a block. The time to a false alarm is
    taken for exponential with the mean `run_length`; hence a run of n steps stays below the
    threshold with probability exp(-n / run_length), and the threshold is that quantile of its
    maxima.

    Args:
        errors: Standardised errors of the task's model in its task, in the order of time; they
            should be held out. All that is known of rare errors is in them: where a false alarm is
            to be much rarer than their number, the threshold is an extrapolation.
        run_length: Mean number of steps of one environment to a false alarm, at least 100.
        shift: Smallest change to be detected soon, in standard deviations of the logarithm.
        block: Steps of a block; many more than errors resemble one another for, or false alarms
            become more frequent than asked.
        seed: Seed of the drawing.

    Raises:
        ValueError: There are too few errors for a block, some are not finite, all are the same, or
            an argument is out of its range.
    """
    if not run_length >= 100:
        raise ValueError(f"run_length: got {run_length}; allowed: 100 or more")
    if not shift > 0:
        raise ValueError(f"shift: got {shift}; allowed: above 0")
    if not 1 <= block <= len(errors):
        raise ValueError(f"block: got {block}; allowed: 1 to {len(errors)} steps of the errors")
    if not errors.isfinite().all():
        raise ValueError("errors: got NaN or infinite numbers; allowed: finite numbers")
    logarithms = errors.double().cpu().clamp_min(LEAST).log()
    mean, deviation = logarithms.mean(), logarithms.std(correction=0)
    if deviation == 0:
        raise ValueError("errors: got the same number everywhere; allowed: numbers that differ")
    blocks = ((logarithms - mean) / deviation).unfold(0, block, 1).flatten(0, 1)
    correlation = (block * blocks.mean(1).square().mean()).clamp_min(1.0)

    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(max(run_length / 10, 100.0))
    total, largest = torch.zeros((2, PATHS), dtype=torch.float64)
    for _ in range(math.ceil(steps / block)):
        drawn = blocks[torch.randint(len(blocks), (PATHS,), generator=generator)]
        for value in drawn.unbind(1):
            total = _sum(total, value, shift)
            largest = torch.maximum(largest, total)
    taken = block * math.ceil(steps / block)
    threshold = largest.quantile(math.exp(-taken / run_length))
    return Calibration(mean.item(), deviation.item(), correlation.item(), threshold.item())


class Change(NamedTuple):
    """What a step told about each environment."""

    alarm: Bool[Tensor, " rows"]
    """Whether the errors of the current task have become too large; what it is comes later."""

    detected: Bool[Tensor, " rows"]
    """Whether an earlier alarm has turned out to be another task than the current one."""

    task: Int64[Tensor, " rows"]
    """That task; -1 where none that is known explains the errors, which is a new task, and where
    nothing was detected."""

    steps: Int64[Tensor, " rows"]
    """Where an alarm was raised, the steps since the sum was last zero, which are estimated to be
    of another task (M. Basseville and I. V. Nikiforov, Detection of abrupt changes, 1993, section
    2.2); elsewhere it has no meaning."""


class BoundaryDetector:
    """Tells when the task changes, and whether to one that is known, for each environment.

    With x the logarithm of the current task's standardised error less its usual mean, in units of
    its usual deviation, the sum S <- max(0, S + x - shift / 2) raises an alarm where it exceeds the
    threshold (E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954). The steps that
    follow, `confirmation` of them, are all of the task that is to be told. Those tasks explain them
    whose mean x is not above zero by more than `TYPICAL` standard deviations of such a mean. The
    one with the most evidence among these, see `TaskInference`, is the task; if it is the current
    one, the alarm was false and nothing is detected.

    A row starts anew after that. A row with an error that is not finite learns nothing from that
    step.

    Args:
        calibrations: What is usual in each task.
        deviations: See `TaskInference`.
        rows: Number of environments.
        shift: The one that the calibrations were made with.
        confirmation: Steps after an alarm; few cannot tell tasks apart, and the more the errors
            resemble their neighbours the more are needed.

    Raises:
        ValueError: There are not as many calibrations as tasks, or no steps after an alarm.
    """

    def __init__(
        self,
        calibrations: Sequence[Calibration],
        deviations: Float[Tensor, "tasks outputs"],
        rows: int,
        *,
        shift: float = 1.0,
        confirmation: int = 20,
    ) -> None:
        if len(calibrations) != len(deviations):
            raise ValueError(
                f"calibrations: got {len(calibrations)}; allowed: one for each of "
                f"{len(deviations)} tasks"
            )
        check_count("confirmation", confirmation)
        self._since = TaskInference(deviations, rows, memory=math.inf)
        evidence = self._since.evidence
        usual = [astuple(calibration) for calibration in calibrations]
        self._usual = torch.tensor(usual, dtype=evidence.dtype, device=evidence.device)
        self._shift, self._confirmation = shift, confirmation
        self._sum, self._excess = evidence.new_zeros(rows), torch.zeros_like(evidence)
        self._left = torch.zeros(rows, dtype=torch.int64, device=evidence.device)
        self._steps = torch.zeros_like(self._left)

    @property
    def confirming(self) -> Bool[Tensor, " rows"]:
        """Where an alarm was raised and it is not yet told what it is."""
        return self._left > 0

    def update(
        self, errors: Float[Tensor, "rows tasks"], current: Int64[Tensor, " rows"]
    ) -> Change:
        """Takes in one step.

        Args:
            errors: Standardised errors of the model of every known task.
            current: The task that each environment is thought to be in.
        """
        mean, deviation, correlation, threshold = self._usual.T
        excess = (errors.double().clamp_min(LEAST).log() - mean) / deviation
        seen = errors.isfinite().all(1)
        confirming, watching = seen & self.confirming, seen & ~self.confirming

        own = _sum(self._sum, excess.gather(1, current[:, None])[:, 0], self._shift)
        self._sum = torch.where(watching, own, self._sum)
        steps_above = self._steps = torch.where(self._sum > 0, self._steps + 1, 0)
        alarm = watching & (self._sum > threshold[current])

        self._since.update(errors.masked_fill(~confirming[:, None], math.nan))
        self._excess = torch.where(confirming[:, None], self._excess + excess, self._excess)
        self._left = self._left - confirming.long()
        decided = confirming & (self._left == 0)
        # The variance of a sum: of equal terms if it is short, of independent ones if it is long.
        steps = float(self._confirmation)
        explained = self._excess <= TYPICAL * (steps * correlation.clamp_max(steps)).sqrt()
        best = self._since.evidence.masked_fill(~explained, -math.inf).argmax(1)
        task = torch.where(explained.any(1), best, -1)
        detected = decided & (task != current)
        self.reset(alarm | decided)
        self._left = self._left.masked_fill(alarm, self._confirmation)
        return Change(alarm, detected, torch.where(detected, task, -1), steps_above)

    def reset(self, rows: Bool[Tensor, " rows"]) -> None:
        """Starts anew in some environments, for instance where the task is told to change."""
        self._since.reset(rows)
        self._sum = self._sum.masked_fill(rows, 0.0)
        self._left = self._left.masked_fill(rows, 0)
        self._steps = self._steps.masked_fill(rows, 0)
        self._excess = self._excess.masked_fill(rows[:, None], 0.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything but the shift and the steps of a confirmation."""
        own = {"sum": self._sum, "left": self._left, "excess": self._excess, "usual": self._usual}
        return own | {"steps": self._steps} | self._since.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned, with the tasks that were known then."""
        self._sum, self._left, self._steps = state["sum"], state["left"], state["steps"]
        self._excess, self._usual = state["excess"], state["usual"]
        self._since.load_state_dict(state)


def _sum(
    total: Float[Tensor, " rows"], excess: Float[Tensor, " rows"], shift: float
) -> Float[Tensor, " rows"]:
    """One step of the cumulative sum."""
    return (total + excess - 0.5 * shift).clamp_min(0.0)
