"""Learners of offline agents: targets and losses in closed form, terms against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separatrix.agents.offline.config import MopoConfig, TD3BehaviourCloningConfig
from separatrix.agents.offline.iql import ImplicitQLearning, expectile_loss
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.networks import Critics
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic
from separatrix.agents.offline.td3_bc import TD3BehaviourCloning
from tests.agents.offline_learners import (
    LOWEST,
    METHODS,
    assert_equal,
    batch_of,
    learner_of,
    normal,
    single,
    state,
)


def answer_constants(critics: Critics, constants: Tensor) -> None:
    """Makes each member answer a constant."""
    with torch.no_grad():
        critics.weights[-1].zero_()
        critics.biases[-1][:, 0, 0] = constants


def bootstrapped(batch: Batch, next_value: Tensor, gamma: float) -> Tensor:
    """Rewards plus discounted next values, row by row."""
    found = []
    for row, reward in enumerate(batch.reward):
        following = next_value[row]
        if batch.cut[row]:
            following = torch.tensor(LOWEST)
        if batch.terminated[row]:
            following = torch.tensor(0.0)
        found.append(reward + gamma * following)
    return torch.stack(found)


@pytest.mark.parametrize("entropy", [False, True])
def test_targets_of_soft_actor_critic(entropy: bool) -> None:
    method = MopoConfig(critics=3, entropy_in_targets=entropy, initial_entropy_weight=0.3)
    learner, batch = learner_of(method, gamma=0.9), batch_of()
    answer_constants(learner.targets, torch.tensor([2.0, -1.5, 4.0]))
    drawn = torch.Generator()
    drawn.set_state(learner.generator.get_state())
    _, log_probability = learner.policy.sample(batch.next_observation, drawn)
    value = torch.full((12,), -1.5) - (0.3 * log_probability.detach() if entropy else 0.0)
    torch.testing.assert_close(learner._target(batch), bootstrapped(batch, value, 0.9))


def test_targets_of_td3_bc_are_at_noisy_actions() -> None:
    method = TD3BehaviourCloningConfig(policy_noise=3.0, noise_limit=0.5)
    learner, batch = learner_of(method), batch_of()
    drawn = torch.Generator()
    drawn.set_state(learner.generator.get_state())
    with torch.no_grad():
        noise = (3 * torch.randn((12, 2), generator=drawn)).clamp(-0.5, 0.5)
        assert (noise.abs() == 0.5).double().mean() > 0.5
        action = (learner._target_policy.mode(batch.next_observation) + noise).clamp(-1, 1)
        values = [single(learner.targets, member) for member in range(2)]
        inputs = torch.cat((batch.next_observation, action), 1)
        value = torch.minimum(*(network(inputs)[:, 0] for network in values))
    torch.testing.assert_close(learner._target(batch), bootstrapped(batch, value, 0.99))


def test_iql_learns_from_values_of_recorded_actions() -> None:
    learner, batch = learner_of(METHODS["iql"]), batch_of()
    assert isinstance(learner, ImplicitQLearning)
    answer_constants(learner.value, torch.tensor([0.7]))
    answer_constants(learner.targets, torch.tensor([1.0, 1.2]))
    with torch.no_grad():
        values = learner.critics(batch.observation, batch.action)
        likelihood = learner.policy.log_probability(batch.observation, batch.action).mean()
    scalars = learner.update(batch)
    target = bootstrapped(batch, torch.full((12,), 0.7), 0.99)
    expected = {
        "advantage": 0.3,  # of the smaller of the two
        "weight": math.exp(3 * 0.3),
        "value_loss": 0.7 * 0.3**2,
        "target": target.mean(),
        "critic_loss": (values - target).square().mean(),
        "policy_loss": -math.exp(3 * 0.3) * likelihood,
    }
    for name, value in expected.items():
        assert scalars[name].item() == pytest.approx(float(value), rel=1e-5), name


def test_weights_of_iql_are_bounded() -> None:
    learner, batch = learner_of(METHODS["iql"]), batch_of()
    answer_constants(learner.targets, torch.tensor([1e4, 1e4]))
    assert learner.update(batch)["weight"] == 100
    assert all(tensor.isfinite().all() for tensor in state(learner).values())


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95))
def test_the_expectile_loss_is_smallest_at_the_expectile(seed: int, expectile: float) -> None:
    values = normal(seed, 9).double()
    x = values.mean().requires_grad_()
    for _ in range(200):  # a fixed point: the mean with the weights of the loss
        weight = torch.where(values > x, expectile, 1 - expectile).double()
        x = ((weight * values).sum() / weight.sum()).detach().requires_grad_()
    (slope,) = torch.autograd.grad(expectile_loss(values - x, expectile), x)
    assert abs(slope.item()) < 1e-9
    least = expectile_loss(values - x, expectile)
    assert all(expectile_loss(values - x - d, expectile) > least for d in (-0.01, 0.01))
    assert expectile_loss(values, 0.5).item() == pytest.approx(0.5 * values.square().mean().item())


def test_the_policy_of_td3_bc_weighs_values_by_their_mean_size() -> None:
    learner, batch = learner_of(TD3BehaviourCloningConfig(alpha=1.7, policy_every=1)), batch_of()
    answer_constants(learner.critics, torch.tensor([-5.0, 9.0]))
    distance = (learner.policy.mode(batch.observation) - batch.action).square().mean()
    scalars = learner._improve_policy(batch)
    assert scalars["behaviour_distance"].item() == pytest.approx(distance.item())
    # The first critic says -5 everywhere: alpha * (-5) / 5 is maximised.
    assert scalars["policy_loss"].item() == pytest.approx(distance.item() + 1.7)


def test_td3_bc_moves_policy_and_targets_at_every_other_update() -> None:
    learner, batch = learner_of(METHODS["td3_bc"]), batch_of()
    assert isinstance(learner, TD3BehaviourCloning)
    before = state(learner)
    assert "policy_loss" not in learner.update(batch)
    between = state(learner)
    assert "policy_loss" in learner.update(batch)
    after = state(learner)
    for name in (n for n in before if n.startswith(("policy", "target"))):
        assert torch.equal(before[name], between[name]), name
        assert not torch.equal(between[name], after[name]), name


@pytest.mark.parametrize(("wanted", "grows"), [(2.0, True), (-9.0, False)])
def test_the_entropy_weight_grows_while_the_entropy_is_too_small(
    wanted: float, grows: bool
) -> None:
    learner, batch = learner_of(MopoConfig()), batch_of()
    # The entropy that is wanted is minus the number of actions, which is taken from here.
    learner.sizes = (3, -wanted)
    entropy = learner.update(batch)["entropy"]
    assert (entropy < wanted) == grows
    assert (learner.entropy.value > 1) == grows
    fixed = learner_of(MopoConfig(entropy_learning_rate=0.0, initial_entropy_weight=0.2))
    fixed.update(batch)
    assert fixed.entropy.value.item() == pytest.approx(0.2)


def test_the_policy_climbs_the_smallest_critic() -> None:
    learner, batch = learner_of(MopoConfig(critics=2)), batch_of()
    drawn = torch.Generator()
    drawn.set_state(learner.generator.get_state())
    action, log_probability = learner.policy.sample(batch.observation, drawn)
    inputs = torch.cat((batch.observation, action), 1)
    value = torch.minimum(*(single(learner.critics, m)(inputs)[:, 0] for m in range(2)))
    expected = (log_probability - value).mean()  # the weight of the entropy starts at 1
    gradients = torch.autograd.grad(expected, list(learner.policy.parameters()))
    assert isinstance(learner, SoftActorCritic)
    loss = learner._improve_policy(batch)["policy_loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for parameter, gradient in zip(learner.policy.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_learner_goes_on_from_a_snapshot_bit_for_bit(name: str) -> None:
    method = METHODS[name]
    whole, again = learner_of(method), learner_of(method, seed=5)
    for seed in range(3):
        whole.update(batch_of(seed))
    tensors, values = whole.state_dict()
    kept = {key: tensor.clone() for key, tensor in tensors.items()}
    for seed in range(3, 6):
        scalars = whole.update(batch_of(seed))
    assert not any(value.requires_grad for value in scalars.values())
    assert_equal(tensors, kept)  # the snapshot is no view of the learner
    again.load_state_dict(tensors, values)
    assert again.updates == 3
    for seed in range(3, 6):
        again.update(batch_of(seed))
    assert_equal(tensors, kept)
    assert_equal(state(whole), state(again))
    assert whole.updates == again.updates == 6


@pytest.mark.parametrize("name", ["iql", "sac"])
def test_a_cosine_leads_the_policys_rate_to_zero(name: str) -> None:
    learner, rates = learner_of(METHODS[name]), []
    for seed in range(10):
        learner.update(batch_of(seed))
        rates.append(learner._optimizers["policy"].param_groups[0]["lr"])
    highest = METHODS[name].policy_learning_rate  # type: ignore[union-attr]
    expected = [highest * (1 + math.cos(math.pi * i / 10)) / 2 for i in range(10)]
    assert rates == pytest.approx(expected)
    rate = METHODS[name].critic_learning_rate  # type: ignore[union-attr]
    assert learner._optimizers["critics"].param_groups[0]["lr"] == rate


def test_targets_follow_slowly() -> None:
    learner = learner_of(MopoConfig(), target_rate=0.1)
    before = [parameter.clone() for parameter in learner.targets.parameters()]
    learner.update(batch_of())
    triples = zip(before, learner.targets.parameters(), learner.critics.parameters(), strict=True)
    for old, new, critic in triples:
        torch.testing.assert_close(new, 0.9 * old + 0.1 * critic)


def test_observations_are_normalised_once_for_all_networks() -> None:
    plain, shifted = learner_of(METHODS["td3_bc"]), learner_of(METHODS["td3_bc"])
    batch = batch_of()
    shifted.normalizer.mean.fill_(5.0)
    shifted.normalizer.deviation.fill_(2.0)
    moved = replace(
        batch,
        observation=2 * batch.observation + 5,
        next_observation=2 * batch.next_observation + 5,
    )
    for one, other in ((plain, batch), (shifted, moved)):
        for _ in range(2):
            one.update(other)
    for name, parameter in plain.critics.named_parameters():
        found = shifted.critics.get_parameter(name)
        torch.testing.assert_close(found, parameter, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        shifted.controller().act(moved.observation, None),
        plain.controller().act(batch.observation, None),
        rtol=1e-4,
        atol=1e-5,
    )
