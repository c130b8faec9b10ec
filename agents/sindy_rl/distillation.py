"""Distillation: a neural policy becomes a short formula that does as well.

    for round in 1, 2, ...:
        run episodes in the surrogate: first the teacher's, then the student's in part
        label what was seen, and disturbed copies of it, with the teacher's actions
        fit every library with every number of terms to all labels so far
        run them all in closed loop
    select the fewest terms whose return is nearly the best
    tune them by the return itself, and leave out more as long as it stays nearly the best
    if there is a real environment, try the shortest ones there until one holds what it promises

N. Zolman et al., "SINDy-RL", arXiv:2403.09110 (2024), distil from one data set and select by the
error of the regression. Errors of a student lead it to where the teacher never was; hence data of
the student's own (S. Ross, G. J. Gordon and J. A. Bagnell, "DAgger", AISTATS 2011) and selection in
closed loop.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.sparse.libraries import PolynomialLibrary
from separatrix.agents.common.sparse.library import Library
from separatrix.agents.common.sparse.model import SparseModel
from separatrix.agents.sindy_rl.distillation_config import DistillationConfig
from separatrix.agents.sindy_rl.distillation_fit import Columns, elimination_path
from separatrix.agents.sindy_rl.distillation_refine import draw_seeds, lowest_near, shorten
from separatrix.agents.sindy_rl.distillation_samples import Samples
from separatrix.agents.sindy_rl.forecast import Projection
from separatrix.agents.sindy_rl.sparse_policy import SparsePolicy, returns_of
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.environment import Environment

COLLINEAR = 1e4
"""Condition number from which on a warning says that terms are hard to tell apart."""


@dataclass(frozen=True)
class Candidate:
    """A sparse policy and how well it does."""

    policy: SparsePolicy
    """The policy."""

    round: int
    """Number of the collection after which it was fitted, from 1."""

    ridge: float
    """Weight of the squared coefficients."""

    refined: bool
    """Whether its coefficients were tuned by the return."""

    error: float
    """Root mean square of its actions minus the labels."""

    mean_return: float
    """Mean return of the episodes that select."""


@dataclass(frozen=True)
class Conditioning:
    """How well the samples tell the features of the selected library apart."""

    dropped: tuple[str, ...]
    """Features that were left out, as they are combinations of earlier ones on the samples."""

    singular_values: Float[Tensor, " kept"]
    """Of the features kept, scaled to unit mean square, descending."""

    condition: float
    """Ratio of the largest to the smallest: how much errors of labels are magnified at worst."""

    inclusion: dict[str, Float[Tensor, " action"]]
    """How often resampled data choose a feature, for each action; features never chosen are left
    out."""


@dataclass(frozen=True)
class Distillation:
    """A sparse policy, and how it came about."""

    policy: SparsePolicy
    """The policy selected."""

    teacher_return: float
    """Mean return of the teacher on episodes that selected nothing."""

    student_return: float
    """Mean return of the policy on the same episodes."""

    candidates: tuple[Candidate, ...]
    """All policies that were run, in order."""

    conditioning: Conditioning
    """Conditioning of the regression."""

    samples: int
    """Number of labelled observations in the end."""

    real_steps: int
    """Steps that were taken in the real environment."""


@torch.no_grad()
def distill(
    teacher: Controller,
    surrogate: Environment,
    judge: Environment,
    config: DistillationConfig,
    *,
    libraries: Sequence[Library] = (),
    project: Projection | None = None,
    reality: Environment | None = None,
) -> Distillation:
    """Turns a policy into a sparse one.

    Args:
        teacher: The policy, without memory. With query_noise it must not read the state.
        surrogate: Environment where data are collected, from its resets over its horizon.
        judge: Environment whose returns select, such as the surrogate with the starts and the
            horizon of the real task. Both must step batches of any size.
        config: Hyper-parameters.
        libraries: Libraries of the components of the observation to choose from, in place of the
            polynomials of the config.
        project: See `separatrix.agents.common.projections`; for disturbed observations.
        reality: The real environment, if a policy is to be taken only once it held there: of those
            nearly the best, the shortest are tried first, an episode for each row of the batch.

    Returns:
        The policy with its returns in the judge, and all that it was selected from.

    Raises:
        ValueError: The sizes do not fit, there are too few samples, or the teacher's actions are
            not finite or all zero.

    Warns:
        UserWarning: The features of the selected library are nearly dependent.
    """
    generator = torch.Generator().manual_seed(config.seed)
    libraries = libraries or _polynomials(config, surrogate)
    samples = Samples(teacher, surrogate, config, project, generator)
    judged = draw_seeds(config.judge_episodes, generator)
    candidates: list[Candidate] = []
    student = None
    for number in range(1, config.rounds + 1):
        samples.collect(student, config.teacher_share ** (number - 1))
        if not samples.labels.any():
            raise ValueError("the teacher's actions are all zero: there is nothing to distil")
        found = [
            candidate
            for library in libraries
            for candidate in _fit(library, samples, judge, judged, number, config)
        ]
        candidates += found
        student = select(found, config.tolerance).policy
    chosen = select(candidates, config.tolerance)
    if config.refine:
        candidates += _refined(chosen, candidates, samples, judge, judged, config, generator)
        chosen = select(candidates, config.tolerance)
    real_steps = 0
    if reality is not None:
        chosen, real_steps = first_to_hold(candidates, reality, config, generator)
    fresh = draw_seeds(config.judge_episodes, generator)
    returns = [evaluate(judge, one, fresh).returns.mean() for one in (teacher, chosen.policy)]
    return Distillation(
        policy=chosen.policy,
        teacher_return=returns[0].item(),
        student_return=returns[1].item(),
        candidates=tuple(candidates),
        conditioning=_conditioning(chosen, samples, config, generator),
        samples=len(samples.labels),
        real_steps=real_steps,
    )


def first_to_hold(
    candidates: Sequence[Candidate],
    reality: Environment,
    config: DistillationConfig,
    generator: torch.Generator,
) -> tuple[Candidate, int]:
    """Tries candidates in reality, the shortest first, until a return is as it was foretold.

    Args:
        candidates: One or more; those that are not nearly the best in the judge are not tried.
        reality: The real environment; each of its rows runs an episode.
        config: Hyper-parameters.
        generator: Draws the episodes.

    Returns:
        The first that misses its return in the judge by no more than twice the tolerance, or else
        the one of the highest real return; and the steps taken.
    """
    best = max(candidate.mean_return for candidate in candidates)
    lowest = lowest_near(best, config.tolerance)
    near = [candidate for candidate in candidates if candidate.mean_return >= lowest]
    near.sort(key=lambda candidate: (candidate.policy.num_terms, -candidate.mean_return))
    tried, steps = [], 0
    for candidate in near:
        found = evaluate(reality, candidate.policy, draw_seeds(reality.num_envs, generator))
        steps += int(found.lengths.sum())
        tried.append((found.returns.mean().item(), candidate))
        if tried[-1][0] >= lowest_near(candidate.mean_return, 2 * config.tolerance):
            break
    else:
        return max(tried, key=lambda one: one[0])[1], steps
    return candidate, steps


def select(candidates: Sequence[Candidate], tolerance: float) -> Candidate:
    """Returns the candidate of fewest terms whose return is nearly the best.

    Args:
        candidates: One or more.
        tolerance: By what share of its magnitude the best return may be missed. Of candidates with
            as many terms the one of the highest return is taken.

    Raises:
        ValueError: No return is finite.
    """
    best = max(candidate.mean_return for candidate in candidates)
    if best == -torch.inf:
        raise ValueError("no candidate has a finite return; look at the rewards of the judge")
    lowest = lowest_near(best, tolerance)
    near = [candidate for candidate in candidates if candidate.mean_return >= lowest]
    return min(near, key=lambda candidate: (candidate.policy.num_terms, -candidate.mean_return))


def _polynomials(config: DistillationConfig, surrogate: Environment) -> list[Library]:
    size = surrogate.observation_space.shape[0]
    names = config.names or tuple(f"x{i}" for i in range(size))
    if len(names) != size:
        raise ValueError(f"names: got {len(names)}; allowed: {size}, one for each component")
    return [PolynomialLibrary(degree, names, bias=config.bias) for degree in config.degrees]


def _numbers_of_terms(largest: int) -> list[int]:
    """Every number that is at least a tenth above the one before, from the largest to 1."""
    numbers, number = [], 1
    while number < largest:
        numbers.append(number)
        number = max(number + 1, number + number // 10)
    return [largest, *reversed(numbers)]


def _fit(
    library: Library,
    samples: Samples,
    judge: Environment,
    judged: Tensor,
    number: int,
    config: DistillationConfig,
) -> list[Candidate]:
    """Fits and runs policies of all numbers of terms over one library."""
    columns = Columns.of(library(samples.observations))
    targets, found = tuple(f"u{i}" for i in range(samples.labels.shape[1])), []
    for ridge in config.ridges:
        path = elimination_path(
            columns.values, samples.labels, ridge=ridge, saturation=config.saturation
        )
        path = path[[len(path) - n for n in _numbers_of_terms(len(path))]]
        actions = (path.flatten(0, 1) @ columns.values.T).clamp(-1.0, 1.0)
        errors = (actions.view(*path.shape[:2], -1) - samples.labels.T).square().mean((1, 2)).sqrt()
        path = columns.spread(path, library.num_features).cpu()
        returns = returns_of(judge, library, path, judged)
        for coefficients, error, value in zip(path, errors, returns, strict=True):
            policy = SparsePolicy(SparseModel(library, coefficients[None], targets))
            found.append(Candidate(policy, number, ridge, False, error.item(), value.item()))
    return found


def _refined(
    chosen: Candidate,
    candidates: Sequence[Candidate],
    samples: Samples,
    judge: Environment,
    judged: Tensor,
    config: DistillationConfig,
    generator: torch.Generator,
) -> list[Candidate]:
    """Tunes the candidate chosen, and shorter ones made of it."""
    model = chosen.policy.model
    theta = model.library(samples.observations)
    best = max(candidate.mean_return for candidate in candidates)
    found = shorten(
        judge,
        model.library,
        model.coefficients,
        (theta.T @ theta).cpu(),
        best,
        judged,
        config,
        generator,
    )
    refined = []
    for coefficients, value in found:
        policy = SparsePolicy(SparseModel(model.library, coefficients[None], model.targets))
        actions = policy.act(samples.observations, None)
        error = (actions - samples.labels).square().mean().sqrt().item()
        refined.append(Candidate(policy, chosen.round, chosen.ridge, True, error, value))
    return refined


def _conditioning(
    chosen: Candidate, samples: Samples, config: DistillationConfig, generator: torch.Generator
) -> Conditioning:
    """Looks at the regression of the selected library, and repeats it on resampled rows."""
    library, terms = chosen.policy.model.library, chosen.policy.num_terms
    columns, names = Columns.of(library(samples.observations)), library.feature_names
    if columns.condition > COLLINEAR:
        warnings.warn(
            f"the features are nearly dependent on the samples (condition number "
            f"{columns.condition:.1e}), so that others might have been chosen as well: raise "
            "query_noise, lower the degree, or pass a library of fewer, physical features",
            stacklevel=3,
        )
    rows, kept = columns.values.shape
    count = torch.zeros((len(samples.labels[0]), kept), dtype=torch.float64)
    for _ in range(config.members):
        drawn = torch.randint(rows, (rows,), generator=generator)
        weights = torch.bincount(drawn, minlength=rows).to(columns.values)
        path = elimination_path(
            columns.values,
            samples.labels,
            ridge=chosen.ridge,
            saturation=config.saturation,
            weights=weights,
        )
        count += (path[len(path) - terms] != 0).cpu()
    included = count.any(0).nonzero().flatten().tolist()
    places, share = columns.kept.tolist(), count / max(1, config.members)
    return Conditioning(
        dropped=tuple(name for j, name in enumerate(names) if j not in places),
        singular_values=columns.singular_values.cpu(),
        condition=columns.condition,
        inclusion={names[places[j]]: share[:, j] for j in included},
    )
