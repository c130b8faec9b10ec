"""How well a learner of one task after another learns, keeps and transfers.

Everything is computed from the scores of a run, `scores[i, j]`: the normalised performance on task
j after training on the tasks 0, ..., i, zero for random actions and one for the reference, not
clipped. The diagonal is the performance at the end of a task's own training, what is left of it
tells what was kept, what is right of it tasks not met yet. A run that has not ended has fewer rows
than columns; its last row is the latest. NaN stands for what was not measured and is left out of
means, which are NaN where nothing is left; what was measured and failed needs a number.

Every function takes one run or a batch of runs, for instance one for each seed, and gives a number
for each; `interval` sums these up.

Sources: M. Wołczyk et al., "Continual World: a robotic benchmark for continual reinforcement
learning", NeurIPS 2021 (average performance, forgetting, forward transfer); N. Díaz-Rodríguez et
al., "Don't forget, there is more than forgetting: new metrics for continual learning",
arXiv:1810.13166 (2018) (accuracy, backward and zero-shot transfer, REM, BWT+).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.controllers.evaluation import bootstrap_interval

RETENTION_FLOOR = 0.1
"""A task that was not learned beyond this score has nothing to retain."""

AREA_MARGIN = 0.05
"""How far the area under the baseline's curve must stay below 1 for a forward transfer."""

Scores = Float[Tensor, "*seeds trained tasks"]
"""Score of each task after each training."""


def own_scores(scores: Scores) -> Float[Tensor, "*seeds trained"]:
    """Returns the score of each task at the end of its own training, the diagonal.

    Args:
        scores: Rows are the tasks trained so far, columns all tasks.

    Raises:
        ValueError: There is no row, or there are more rows than columns.
    """
    trained, tasks = scores.shape[-2:]
    if not 0 < trained <= tasks:
        raise ValueError(f"scores: got {trained} rows for {tasks} tasks; allowed: 1 to {tasks}")
    return scores.diagonal(dim1=-2, dim2=-1)


def final_scores(scores: Scores) -> Float[Tensor, "*seeds trained"]:
    """Returns the latest score of each task that has been trained."""
    return scores[..., -1, : own_scores(scores).shape[-1]]


def average_performance(scores: Scores) -> Float[Tensor, "*seeds"]:
    """Mean of the latest scores of the tasks trained (Continual World, P)."""
    return final_scores(scores).nanmean(-1)


def forgetting(scores: Scores) -> Float[Tensor, "*seeds trained"]:
    """What each task lost since its own training, F_j = own - final (Continual World).

    Negative where a task got better by what came later. The mean counts the last task, whose
    forgetting is zero by definition, as Continual World does.
    """
    return own_scores(scores) - final_scores(scores)


def retention(scores: Scores, floor: float = RETENTION_FLOOR) -> Float[Tensor, "*seeds trained"]:
    """The share of each task that was kept, final / own.

    Args:
        scores: Rows are the tasks trained so far, columns all tasks.
        floor: A task whose own score is not above has NaN: there is nothing to keep, and the ratio
            of two small numbers tells nothing.

    Raises:
        ValueError: The floor is negative, so that the ratio could turn its sign.
    """
    if floor < 0:
        raise ValueError(f"floor: got {floor}; allowed: 0 or more")
    own = own_scores(scores)
    return torch.where(own > floor, final_scores(scores) / own, torch.nan)


def accuracy(scores: Scores) -> Float[Tensor, "*seeds"]:
    """ACC: mean over all pairs of a training and a task met by then, i >= j."""
    return _mean(scores, _before_or_at(scores))


def backward_transfer(scores: Scores) -> Float[Tensor, "*seeds"]:
    """BWT: mean of `scores[i, j] - scores[j, j]` over all i > j; NaN for a single task."""
    own = own_scores(scores)
    change = scores[..., : own.shape[-1]] - own[..., None, :]
    return _mean(change, _before_or_at(change).tril(-1))


def remembering(scores: Scores) -> Float[Tensor, "*seeds"]:
    """REM = 1 - |min(BWT, 0)|: one where nothing was lost on the whole."""
    return 1 + backward_transfer(scores).clamp_max(0)


def positive_backward_transfer(scores: Scores) -> Float[Tensor, "*seeds"]:
    """BWT+ = max(BWT, 0): what was gained by later tasks on the whole."""
    return backward_transfer(scores).clamp_min(0)


def zero_shot_transfer(scores: Scores) -> Float[Tensor, "*seeds"]:
    """Mean score of tasks not met yet, over all i < j; zero is what random actions reach.

    This is FWT of Díaz-Rodríguez et al.; NaN for a single task.
    """
    return _mean(scores, ~_before_or_at(scores))


def curve_area(
    steps: Float[Tensor, " points"], scores: Float[Tensor, "*seeds points"]
) -> Float[Tensor, "*seeds"]:
    """Mean height of a learning curve over a task's own training, by the trapezoidal rule.

    Areas are compared with one another, so measure all curves of a task over the same steps.

    Args:
        steps: Environment steps since the task began, increasing.
        scores: Scores of the task there. A NaN makes the area NaN.

    Raises:
        ValueError: There are no points, or the steps do not increase.
    """
    if len(steps) == 0 or not (steps.diff() > 0).all():
        raise ValueError(f"steps: got {steps.tolist()}; allowed: one or more, increasing")
    if len(steps) == 1:
        return scores[..., 0]
    return torch.trapezoid(scores, steps.to(scores), dim=-1) / (steps[-1] - steps[0]).to(scores)


def forward_transfer(
    areas: Float[Tensor, "*seeds tasks"], baseline: Float[Tensor, " tasks"]
) -> Float[Tensor, "*seeds tasks"]:
    """How much faster each task was learned than alone, (A - A_b) / (1 - A_b) (Continual World).

    Args:
        areas: Areas A under the curves, see `curve_area`.
        baseline: Areas A_b under those of learners that met nothing but the task, means over
            seeds.

    Returns:
        One if the task could be done from its first step on, zero if it took as long as alone,
        negative if longer. NaN for a task whose baseline's area is above 1 - `AREA_MARGIN`: alone
        it is learned at once or beyond the reference, and the quotient blows up or turns its sign.
    """
    room = 1 - baseline
    return torch.where(room >= AREA_MARGIN, (areas - baseline) / room, torch.nan)


def summary(scores: Scores) -> dict[str, Float[Tensor, "*seeds"]]:
    """Returns every number of a run that its scores alone determine, by name."""
    return {
        "average_performance": average_performance(scores),
        "own_performance": own_scores(scores).nanmean(-1),
        "forgetting": forgetting(scores).nanmean(-1),
        "retention": retention(scores).nanmean(-1),
        "accuracy": accuracy(scores),
        "backward_transfer": backward_transfer(scores),
        "remembering": remembering(scores),
        "positive_backward_transfer": positive_backward_transfer(scores),
        "zero_shot_transfer": zero_shot_transfer(scores),
    }


class Interval(NamedTuple):
    """A mean over seeds and what it may have been."""

    mean: float
    """Mean of the values that are not NaN; NaN if all are."""

    low: float
    """Lower end of the interval."""

    high: float
    """Upper end of the interval."""

    seeds: int
    """Number of values that are not NaN."""


def interval(values: Float[Tensor, " seeds"], level: float = 0.95) -> Interval:
    """Mean over seeds with its bootstrap interval.

    Args:
        values: A number for each seed; NaN is left out, which `seeds` tells.
        level: Probability with which the interval is to hold the mean.

    Returns:
        The interval. Of a single value it is that value: one seed tells nothing of the spread.
    """
    known = values[~values.isnan()]
    if len(known) == 0:
        return Interval(torch.nan, torch.nan, torch.nan, 0)
    return Interval(known.mean().item(), *bootstrap_interval(known, level=level), len(known))


def _before_or_at(scores: Scores) -> Bool[Tensor, "trained tasks"]:
    """Tells which tasks had been met by which training."""
    own_scores(scores)  # checks the shape
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()


def _mean(values: Scores, where: Bool[Tensor, "trained tasks"]) -> Float[Tensor, "*seeds"]:
    """Mean over rows and columns where told."""
    return torch.where(where, values, torch.nan).flatten(-2).nanmean(-1)
