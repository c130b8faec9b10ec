"""Training an ensemble on replayed transitions, stopped by the error of held-out rollouts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from separatrix.agents.common.dynamics.model import DynamicsEnsemble
from separatrix.agents.common.replay import Transitions, windows
from separatrix.envs.core.registration import check_count, is_positive

BETA = 0.5
"""Power of the variance by which the likelihood is weighted (Seitzer et al., ICLR 2022). Without it
(0), components that are predicted well outweigh all others, and errors that are large pass for
noise; with 1 the means are trained by the squared error."""
MOST_WINDOWS = 512
"""Held-out rollouts that are looked at after an epoch."""


@dataclass(frozen=True)
class TrainingConfig:
    """How an ensemble is trained.

    Attributes:
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        batch_size: Transitions in a step of each member.
        max_epochs: Passes over the data, at most.
        patience: Passes without any improvement after which training stops.
        improvement: Relative decrease of a member's held-out error that lets training go on.
        rollout: Steps of the held-out rollouts.
        holdout: Fraction of the data that is held out.

    Raises:
        ValueError: A number is not allowed; the message says what is.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    batch_size: int = 256
    max_epochs: int = 200
    patience: int = 10
    improvement: float = 0.01
    rollout: int = 10
    holdout: float = 0.2

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_epochs", "patience", "rollout"):
            check_count(name, getattr(self, name))
        if not is_positive(self.learning_rate):
            raise ValueError(f"learning_rate: got {self.learning_rate!r}; allowed: a number > 0")
        for name in ("weight_decay", "improvement"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name}: got {value!r}; allowed: a number from 0 to below 1")
        if not 0 < self.holdout <= 0.5:
            raise ValueError(f"holdout: got {self.holdout!r}; allowed: above 0, at most 0.5")


@dataclass(frozen=True)
class Training:
    """What training came to."""

    epochs: int
    """Passes over the data."""

    steps: int
    """Gradient steps of each member."""

    error: Float[Tensor, " members"]
    """Held-out error of each member at its best, see `rollout_error`; the members keep those
    weights."""


def train_ensemble(
    ensemble: DynamicsEnsemble,
    transitions: Transitions,
    config: TrainingConfig,
    generator: torch.Generator,
) -> Training:
    """Trains an ensemble, from the weights that it has.

    The normalisers are taken from the training data. Members differ by their initial weights and
    by the order in which they see the data (Lakshminarayanan et al., NeurIPS 2017). After each
    pass every member rolls out on held-out windows; it ends with its best weights, and the members
    with the lowest errors become the elites.

    Args:
        ensemble: What is trained, in place.
        transitions: (times, environments, ...) in the order of time, as `ReplayBuffer.ordered`
            gives them.
        config: How.
        generator: Source of the order of the data, on the device of the data.

    Raises:
        ValueError: There are too few transitions for a held-out window, or some are not finite.
    """
    training, starts = split(transitions.last, config)
    kept = transitions[training]
    held_out = held_out_windows(transitions, starts, config.rollout)
    inputs = torch.cat((kept.observation, kept.action), -1)
    targets = kept.next_observation - kept.observation
    if ensemble.config.reward_head:
        targets = torch.cat((targets, kept.reward[:, None]), -1)
    if not (inputs.isfinite().all() and targets.isfinite().all()):
        raise ValueError("transitions: got NaN or infinite numbers; allowed: finite numbers")
    ensemble.inputs.fit(inputs)
    ensemble.targets.fit(targets)
    targets = ensemble.targets(targets)
    terminated = kept.terminated.to(targets)

    weights = [parameter for parameter in ensemble.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay)
    best_error = rollout_error(ensemble, held_out)
    best = [weight.detach().clone() for weight in weights]
    members, rows = ensemble.config.members, len(inputs)
    since, epoch, steps = 0, 0, 0
    while epoch < config.max_epochs and since < config.patience:
        order = torch.rand((members, rows), generator=generator, device=inputs.device).argsort(1)
        for batch in order.split(config.batch_size, dim=1):
            observation, action = kept.observation[batch], kept.action[batch]
            value = loss(ensemble, observation, action, targets[batch], terminated[batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            steps += 1
        epoch += 1
        error = rollout_error(ensemble, held_out)
        improved = error < best_error * (1 - config.improvement)
        since = 0 if improved.any() else since + 1
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        for kept_weight, weight in zip(best, weights, strict=True):
            kept_weight[better] = weight.detach()[better]
    with torch.no_grad():
        for kept_weight, weight in zip(best, weights, strict=True):
            weight.copy_(kept_weight)
    ensemble.elites = best_error.argsort()[: ensemble.config.elites].sort().values
    return Training(epoch, steps, best_error)


def loss(
    ensemble: DynamicsEnsemble,
    observation: Float[Tensor, "members rows observation"],
    action: Float[Tensor, "members rows action"],
    target: Float[Tensor, "members rows target"],
    terminated: Float[Tensor, "members rows"],
) -> Float[Tensor, ""]:
    """Sum over the members of the mean loss over rows and targets.

    For the observation the negative log-likelihood of normal distributions, without its constant,
    doubled, and weighted with the power `BETA` of the variance, or the squared error; for the
    reward the squared error; for termination the cross-entropy. The bounds of the log-variance are
    drawn together with the weight 0.01 (Chua et al., NeurIPS 2018, appendix A.1).
    """
    mean, log_variance, logit = ensemble.outputs(observation, action)
    square = (mean - target).square()
    if log_variance is not None:
        size = ensemble.observation_size
        likelihood = square[..., :size] * (-log_variance).exp() + log_variance
        likelihood = likelihood * (BETA * log_variance.detach()).exp()
        square = torch.cat((likelihood, square[..., size:]), -1)
    total = square.mean((1, 2)).sum()
    if log_variance is not None:
        width = ensemble.log_variance_high - ensemble.log_variance_low
        total = total + 0.01 * width.sum()
    if logit is not None:
        entropy = nn.functional.binary_cross_entropy_with_logits
        total = total + entropy(logit, terminated, reduction="none").mean(1).sum()
    return total


def split(
    last: Bool[Tensor, "times environments"], config: TrainingConfig
) -> tuple[Bool[Tensor, "times environments"], Int64[Tensor, "windows 2"]]:
    """Tells which transitions are trained on, and where the held-out windows start.

    Time is cut into blocks of twice the length of a rollout, and of every 1 / holdout blocks one is
    held out, in each environment another. So windows are whole, they are spread over all times,
    and while a buffer grows what was held out stays so.

    Raises:
        ValueError: There is no held-out window.
    """
    times, environments = last.shape
    period = round(1 / config.holdout)
    block = torch.arange(times, device=last.device)[:, None] // (2 * config.rollout)
    column = torch.arange(environments, device=last.device)
    held_out = (block + column) % period == period - 1
    starts = windows(last, config.rollout)
    ends = starts + starts.new_tensor([config.rollout - 1, 0])
    starts = starts[held_out[tuple(starts.T)] & held_out[tuple(ends.T)]]
    if len(starts) == 0:
        needed = 2 * config.rollout * period
        raise ValueError(
            f"got {times} times of {environments} environments; at least one episode must go on "
            f"for {config.rollout} steps among the held-out ones: allowed are {needed} times or "
            "more, or a shorter `rollout`"
        )
    step = -(-len(starts) // MOST_WINDOWS)
    return ~held_out, starts[::step]


def held_out_windows(
    transitions: Transitions, starts: Int64[Tensor, "windows 2"], length: int
) -> Transitions:
    """Cuts windows, (length, windows, ...)."""
    offsets = torch.arange(length, device=starts.device)[:, None]
    return transitions[starts[:, 0] + offsets, starts[:, 1].expand(length, -1)]


@torch.no_grad()
def rollout_error(ensemble: DynamicsEnsemble, held_out: Transitions) -> Float[Tensor, " members"]:
    """How far rollouts of each member, under the recorded actions, end up from the truth.

    Args:
        ensemble: The ensemble.
        held_out: Windows, (length, windows, ...).

    Returns:
        Root mean square over steps, windows and components of the observation (and the reward, with
        a head), each in units of its standard deviation in the windows; infinite where it is not
        finite.
    """
    members = ensemble.config.members

    def scale(values: Tensor) -> Tensor:
        deviation = values.flatten(0, 1).std(0, correction=0)
        return torch.where(deviation > 1e-6, deviation, 1.0)

    truth = held_out.next_observation
    unit, reward_unit = scale(truth), scale(held_out.reward)
    observation = held_out.observation[0].expand(members, -1, -1)
    squares = []
    for action, expected, reward in zip(held_out.action, truth, held_out.reward, strict=True):
        predicted = ensemble.predict(observation, action.expand(members, -1, -1))
        observation = predicted.next_observation
        errors = (observation - expected) / unit
        if ensemble.config.reward_head:
            wrong = (predicted.reward - reward) / reward_unit
            errors = torch.cat((errors, wrong[..., None]), -1)
        squares.append(errors.square().mean((1, 2)))
    return torch.stack(squares).mean(0).sqrt().nan_to_num(torch.inf, torch.inf)
