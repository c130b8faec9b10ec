"""Learned dynamics: the batched network, its training, and the environment made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor, nn

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.collector import Collector
from separatrix.agents.common.dynamics.environment import learned_environment
from separatrix.agents.common.dynamics.model import DynamicsEnsemble, EnsembleConfig
from separatrix.agents.common.dynamics.network import EnsembleNetwork, Normalizer
from separatrix.agents.common.dynamics.training import (
    TrainingConfig,
    held_out_windows,
    loss,
    rollout_error,
    split,
    train_ensemble,
)
from separatrix.agents.common.projections import unit_circle
from separatrix.agents.common.replay import ReplayBuffer, Transitions
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.envs.core.batched_env import BatchedEnv
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.single_env import SingleEnv

SMALL = EnsembleConfig(members=3, elites=2, hidden=(32, 32), termination_head=True)


def linear_data(times: int = 400, environments: int = 2, seed: int = 0) -> Transitions:
    """A stable linear system, with the square of the state as cost, that ends above 1.2."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.tensor([[0.95, 0.2], [-0.2, 0.95]])
    buffer = ReplayBuffer(2, 1, capacity=times * environments, num_envs=environments)
    x = torch.randn(environments, 2, generator=generator)
    for _ in range(times):
        u = 2 * torch.rand(environments, 1, generator=generator) - 1
        following = x @ a.T + 0.3 * torch.cat((0 * u, u), 1)
        ended = following[:, 0] > 1.2
        buffer.add(Transitions(x, u, -x.square().sum(1), following, ended, ended))
        fresh = torch.randn(environments, 2, generator=generator)
        x = torch.where(ended[:, None], fresh, following)
    return buffer.ordered()


def trained(config: EnsembleConfig = SMALL, **changes: Any) -> tuple[DynamicsEnsemble, Any]:
    ensemble = DynamicsEnsemble(2, 1, config, seed=1)
    chosen: dict[str, Any] = {"max_epochs": 60, "patience": 60, "batch_size": 64, **changes}
    generator = torch.Generator().manual_seed(2)
    return ensemble, train_ensemble(ensemble, linear_data(), TrainingConfig(**chosen), generator)


@pytest.fixture(scope="module")
def fitted() -> tuple[DynamicsEnsemble, Any]:
    return trained()


def test_members_are_what_they_are_alone() -> None:
    network = EnsembleNetwork(4, 3, (8, 8), 2, torch.Generator().manual_seed(0))
    inputs = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1))
    outputs = network(inputs)
    for member in range(4):
        values = inputs[member]
        for i in range(3):
            values = values @ network.weights[i][member] + network.biases[i][member]
            if i < 2:
                values = nn.functional.silu(values)
        torch.testing.assert_close(outputs[member], values)
    some = torch.tensor([2, 0])
    torch.testing.assert_close(network(inputs[some], some), outputs[some])


def test_the_normalizer_inverts_and_leaves_constant_columns() -> None:
    values = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 5 + 100
    values[:, 2] = 7.0
    normalizer = Normalizer(3)
    normalizer.fit(values)
    normal = normalizer(values)
    torch.testing.assert_close(normal.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.tensor([1.0, 1, 0]))
    torch.testing.assert_close(normalizer.inverse(normal), values)


def test_training_learns_dynamics_reward_and_end(fitted: tuple[DynamicsEnsemble, Any]) -> None:
    ensemble, fit = fitted
    assert (fit.error < 0.15).all()  # of ten steps, in standard deviations
    data = linear_data(times=200, seed=5)
    rows = data[torch.ones_like(data.last)]
    every = [tensor.expand(3, -1, -1) for tensor in (rows.observation, rows.action)]
    with torch.no_grad():
        predicted = ensemble.predict(*every)
    error = (predicted.next_observation - rows.next_observation).square().mean().sqrt()
    assert error < 0.05
    right = ((predicted.termination > 0.5) == rows.terminated).double().mean()
    assert right > 0.97 and rows.terminated.any()


def test_noise_of_the_data_is_learned_as_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 1, 1, generator=generator)
    noise = 0.3 * torch.randn(2000, 1, 1, generator=generator)
    no = torch.zeros(2000, 1, dtype=torch.bool)
    data = Transitions(x, torch.zeros_like(x), no.float(), x.sin() + noise, no, no)
    config = EnsembleConfig(members=2, elites=2, hidden=(16,), reward_head=False)
    ensemble = DynamicsEnsemble(1, 1, config, seed=0)
    train_ensemble(ensemble, data, TrainingConfig(rollout=1, batch_size=32, patience=40), generator)
    with torch.no_grad():
        predicted = ensemble.predict(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1))
    assert (predicted.observation_deviation - 0.3).abs().max() < 0.05


@pytest.mark.parametrize("probabilistic", [True, False])
@pytest.mark.parametrize("termination", [True, False])
def test_the_loss_of_the_ensemble_is_the_sum_of_its_members(
    probabilistic: bool, termination: bool
) -> None:
    config = EnsembleConfig(3, 3, (8,), probabilistic, True, termination)
    ensemble = DynamicsEnsemble(2, 1, config, seed=0)
    generator = torch.Generator().manual_seed(0)
    observation, action, target = (torch.randn(3, 9, n, generator=generator) for n in (2, 1, 3))
    terminated = (torch.rand(3, 9, generator=generator) > 0.5).float()
    whole = loss(ensemble, observation, action, target, terminated)
    whole.backward()
    used = [p for p in ensemble.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used)
    mean, log_variance, logit = ensemble.outputs(observation, action)
    assert (log_variance is None) == (not probabilistic) and (logit is None) == (not termination)
    total = torch.zeros(())
    for member in range(3):
        terms = (mean[member] - target[member]) ** 2
        if log_variance is not None:
            deviation = (log_variance[member] / 2).exp()
            normal = torch.distributions.Normal(mean[member, :, :2], deviation)
            constant = torch.log(torch.tensor(2 * torch.pi))
            likelihood = -2 * normal.log_prob(target[member, :, :2]) - constant
            terms = torch.cat((likelihood * deviation, terms[:, 2:]), 1)
            total = total + 0.01 * 2 * 10.5  # the bounds where they start
        total = total + terms.mean()
        if logit is not None:
            p = logit[member].sigmoid()
            y = terminated[member]
            total = total - (y * p.log() + (1 - y) * (1 - p).log()).mean()
    torch.testing.assert_close(whole, total)


def test_the_same_seeds_train_the_same_ensemble() -> None:
    (one, _), (other, _) = (trained(max_epochs=3) for _ in range(2))
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_members_keep_their_best_weights() -> None:
    ensemble, fit = trained(max_epochs=25, patience=25, learning_rate=0.05)
    _, starts = split(linear_data().last, TrainingConfig())
    held_out = held_out_windows(linear_data(), starts, 10)
    torch.testing.assert_close(rollout_error(ensemble, held_out), fit.error)
    assert set(ensemble.elites.tolist()) == set(fit.error.argsort()[:2].tolist())


def test_training_stops_when_nothing_improves() -> None:
    _, fit = trained(max_epochs=500, patience=2, improvement=0.9)
    assert 2 <= fit.epochs <= 20


def test_nothing_held_out_is_trained_on_as_data_grow() -> None:
    config = TrainingConfig(rollout=5, holdout=0.25)
    last = torch.zeros((400, 3), dtype=torch.bool)
    last[37::61] = True
    training, starts = split(last, config)
    number = torch.arange(400.0)[:, None].expand(-1, 3)
    column = number[..., None]
    data = Transitions(column, column, number, column, last, last)
    times = held_out_windows(data, starts, 5).reward.long()
    assert not training[times, starts[:, 1].expand(5, -1)].any()
    assert not last[times[:-1], starts[:, 1].expand(4, -1)].any()
    assert abs(training.double().mean() - 0.75) < 0.03
    earlier, _ = split(last[:200], config)
    assert torch.equal(training[:200], earlier)


def test_the_error_of_a_perfect_model_is_zero_and_of_a_broken_one_infinite() -> None:
    ensemble, _ = trained(max_epochs=1)
    data = linear_data()
    held_out = held_out_windows(data, split(data.last, TrainingConfig())[1], 10)

    class Perfect(DynamicsEnsemble):
        def predict(self, observation: Tensor, action: Tensor, members: Any = None) -> Any:
            a = torch.tensor([[0.95, 0.2], [-0.2, 0.95]])
            following = observation @ a.T + 0.3 * torch.cat((0 * action, action), -1)
            zero = torch.zeros_like(following)
            return following, zero, -observation.square().sum(-1), zero[..., 0]

    from separatrix.agents.common.dynamics.model import Prediction

    perfect = Perfect(2, 1, SMALL, 0)
    exact = perfect.predict
    perfect.predict = lambda *a: Prediction(*exact(*a))  # type: ignore[method-assign]
    assert rollout_error(perfect, held_out).max() < 1e-5
    with torch.no_grad():
        ensemble.network.weights[0][1] = torch.nan
    error = rollout_error(ensemble, held_out)
    assert error[1] == torch.inf and error[[0, 2]].isfinite().all()


@pytest.fixture(scope="module")
def lorenz() -> tuple[DynamicsEnsemble, Any, Tensor]:
    environment = make_environment("Lorenz-v0", 8, horizon=50)
    buffer = ReplayBuffer(3, 1, capacity=8000, num_envs=8)
    Collector(environment, buffer, 0).collect(RandomController(environment, 0), 1000)
    config = EnsembleConfig(members=3, elites=2, hidden=(64, 64))
    ensemble = DynamicsEnsemble(3, 1, config, seed=0)
    fit = TrainingConfig(max_epochs=30, patience=30)
    train_ensemble(ensemble, buffer.ordered(), fit, torch.Generator().manual_seed(0))
    return ensemble, environment, buffer.ordered().observation.flatten(0, 1)


@pytest.mark.parametrize("propagation", ["mean", "members", "sampled"])
def test_the_environment_follows_what_it_learned(
    lorenz: tuple[DynamicsEnsemble, Any, Tensor], propagation: Any
) -> None:
    ensemble, true, starts = lorenz
    model = learned_environment(ensemble, true, starts=starts, propagation=propagation)
    state, observation = true.reset(torch.arange(1000, 1256))
    believed = model.state_from(observation, state)
    action = torch.zeros(256, 1)
    for _ in range(5):
        state, observation, reward, *_ = true.step(state, action)
        believed, guess, guessed_reward, terminated, _ = model.step(believed, action)
        assert not terminated.any()
    assert (guess - observation).square().mean().sqrt() < 0.1
    assert (guessed_reward - reward).abs().mean() < 0.05


@pytest.mark.parametrize("propagation", ["mean", "members", "sampled"])
def test_rows_do_not_depend_on_their_neighbours(
    lorenz: tuple[DynamicsEnsemble, Any, Tensor], propagation: Any
) -> None:
    ensemble, true, starts = lorenz
    model = learned_environment(ensemble, true, starts=starts, propagation=propagation)
    seeds = torch.arange(6)
    action = torch.rand(6, 1, generator=torch.Generator().manual_seed(0))

    def run(rows: Tensor) -> Tensor:
        state, _ = model.reset(seeds[rows])
        for _ in range(3):
            state, observation, *_ = model.step(state, action[rows])
        return observation

    together = run(seeds)
    for row in (0, 4):
        alone = run(torch.tensor([row]))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_sampled_rollouts_are_seeded_and_spread_as_predicted(
    lorenz: tuple[DynamicsEnsemble, Any, Tensor],
) -> None:
    ensemble, true, starts = lorenz
    model = learned_environment(
        ensemble, true, starts=starts[:1], num_envs=20_000, propagation="sampled"
    )
    state, observation = model.reset(0)
    action = torch.zeros(20_000, 1)
    following = model.step(state, action).observation
    assert torch.equal(following, model.step(state, action).observation)
    elites = ensemble.elites
    with torch.no_grad():
        every = observation[:1].expand(2, 1, -1), action[:1].expand(2, 1, -1)
        predicted = ensemble.predict(*every, elites)
    mean = predicted.next_observation[:, 0]
    variance = predicted.observation_deviation[:, 0].square().mean(0) + mean.var(0, correction=0)
    torch.testing.assert_close(following.var(0), variance, rtol=0.05, atol=0)
    near = (following.mean(0) - mean.mean(0)).abs() < 4 * (variance / 20_000).sqrt()
    assert near.all()


def test_gradients_pass_through_a_rollout(lorenz: tuple[DynamicsEnsemble, Any, Tensor]) -> None:
    ensemble, true, starts = lorenz

    def reward(before: Tensor, action: Tensor, after: Tensor) -> Tensor:
        return -after.square().sum(1)  # the learned one is clipped, against its gradient

    model = learned_environment(ensemble, true, starts=starts, reward=reward)
    action = torch.zeros(5, 8, 1, dtype=torch.float32, requires_grad=True)
    state, _ = model.reset(0)
    total = torch.zeros(8)
    for each in action:
        state, _, gained, *_ = model.step(state, each)
        total = total + gained
    (gradient,) = torch.autograd.grad(total.sum(), action)
    for where in ((0, 2), (3, 5)):
        totals = []
        for side in (1, -1):
            moved = action.detach().clone()
            moved[where] += side * 1e-2
            state, _ = model.reset(0)
            sums = torch.zeros(8)
            for each in moved:
                state, _, gained, *_ = model.step(state, each)
                sums = sums + gained
            totals.append(sums.sum())
        difference = (totals[0] - totals[1]) / 2e-2
        torch.testing.assert_close(gradient[where][0], difference, rtol=0.05, atol=2e-3)


def test_controllers_can_be_evaluated_in_it(lorenz: tuple[DynamicsEnsemble, Any, Tensor]) -> None:
    ensemble, true, starts = lorenz
    model = learned_environment(ensemble, true, starts=starts, horizon=20)
    evaluation = evaluate(model, ZeroController(model), torch.arange(16))
    assert evaluation.returns.isfinite().all() and (evaluation.lengths <= 20).all()


def test_the_shells_take_it(lorenz: tuple[DynamicsEnsemble, Any, Tensor]) -> None:
    ensemble, true, starts = lorenz
    model = learned_environment(ensemble, true, starts=starts, num_envs=4)
    envs = BatchedEnv(model, 4, max_episode_steps=5)
    first, _ = envs.reset(seed=3)
    for _ in range(5):
        observation, _, terminated, truncated, infos = envs.step(np.zeros((4, 1)))
    assert truncated.all() and not terminated.any() and model.horizon == true.horizon
    assert envs.observation_space.contains(observation)
    np.testing.assert_array_equal(infos["final_info"]["episode_length"], [5] * 4)
    single = SingleEnv(learned_environment(ensemble, true, starts=starts, num_envs=1))
    np.testing.assert_array_equal(single.reset(seed=3)[0], first[0])
    check_env(single, skip_render_check=True)
    for arguments, message in (
        ((model, 5), "num_envs: got 5; allowed: 4, as made"),
        ((3.0, 4), "unknown environment 3.0; allowed: an id or an Environment"),
    ):
        with pytest.raises(ValueError, match=message):
            make_environment(*arguments)
    with pytest.raises(ValueError, match="'rho' comes too late"):
        make_environment(model, 4, rho=20.0)


def test_rewards_stay_in_the_range_and_functions_take_their_place(
    lorenz: tuple[DynamicsEnsemble, Any, Tensor],
) -> None:
    ensemble, true, starts = lorenz

    def reward(before: Tensor, action: Tensor, after: Tensor) -> Tensor:
        return after[:, 0] - before[:, 0] + 0 * action[:, 0]

    def ended(observation: Tensor) -> Tensor:
        return observation[:, 0] > 0

    given = learned_environment(
        ensemble, true, starts=starts, propagation="mean", reward=reward, terminated=ended
    )
    state, observation = given.reset(0)
    step = given.step(state, torch.zeros(8, 1))
    torch.testing.assert_close(step.reward, step.observation[:, 0] - observation[:, 0])
    assert torch.equal(step.terminated, step.observation[:, 0] > 0)
    learned = learned_environment(ensemble, true, starts=starts)
    ensemble.targets.mean[-1] += 5.0
    try:
        assert torch.equal(
            learned.step(learned.reset(0)[0], torch.zeros(8, 1)).reward, torch.ones(8)
        )
    finally:
        ensemble.targets.mean[-1] -= 5.0


def test_a_model_that_leaves_its_box_diverges_alone(
    lorenz: tuple[DynamicsEnsemble, Any, Tensor],
) -> None:
    ensemble, true, starts = lorenz

    def explode(observation: Tensor) -> Tensor:
        return torch.where(observation[:, :1] > 0, torch.inf, observation)

    model = learned_environment(
        ensemble, true, starts=starts, propagation="mean", project=explode, num_envs=64
    )
    state, observation = model.reset(0)
    step = model.step(state, torch.zeros(64, 1))
    lost = step.info["diverged"]
    assert lost.any() and (~lost).any() and torch.equal(lost, step.terminated)
    assert torch.equal(step.observation[lost], observation[lost])
    assert (step.reward[lost] == true.reward_range[0]).all()


def test_the_projection_puts_angles_on_the_circle() -> None:
    project = unit_circle((1, 2))
    values = torch.tensor([[3.0, 3.0, 4.0], [1.0, 0.0, 0.0]], requires_grad=True)
    projected = project(values)
    torch.testing.assert_close(projected[0], torch.tensor([3.0, 0.6, 0.8]))
    projected.sum().backward()
    assert values.grad is not None and values.grad.isfinite().all()


def test_bad_input_is_refused(lorenz: tuple[DynamicsEnsemble, Any, Tensor]) -> None:
    ensemble, true, starts = lorenz
    with pytest.raises(ValueError, match="elites: got 3; allowed: 1 to 2 members"):
        EnsembleConfig(members=2, elites=3)
    for changes in ({"holdout": 0.7}, {"learning_rate": 0.0}, {"patience": 0}, {"improvement": 1}):
        with pytest.raises(ValueError, match="allowed"):
            TrainingConfig(**changes)
    with pytest.raises(ValueError, match="propagation: got 'median'; allowed: mean"):
        learned_environment(ensemble, true, starts=starts, propagation="median")
    with pytest.raises(ValueError, match="sizes"):
        learned_environment(ensemble, make_environment("Duffing-v0", 2), starts=starts)
    with pytest.raises(ValueError, match="starts"):
        learned_environment(ensemble, true, starts=starts[:0])
    short = linear_data(times=40)
    with pytest.raises(ValueError, match="got 40 times"):
        train_ensemble(DynamicsEnsemble(2, 1, SMALL, 0), short, TrainingConfig(), torch.Generator())
    data = linear_data()
    data.reward[3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        train_ensemble(DynamicsEnsemble(2, 1, SMALL, 0), data, TrainingConfig(), torch.Generator())
