"""Networks of offline agents: ensembles against single networks, densities against torch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from separatrix.agents.common.dynamics.network import Normalizer
from separatrix.agents.offline.learner import PolicyController
from separatrix.agents.offline.networks import (
    LAST,
    LOG_STD,
    Critics,
    DeterministicPolicy,
    GaussianPolicy,
    SquashedPolicy,
)
from tests.agents.offline_learners import generator, normal, single


@settings(max_examples=20)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.lists(st.integers(1, 9), max_size=3)
)
def test_an_ensemble_is_its_members(
    members: int, observations: int, actions: int, layers: list[int]
) -> None:
    critics = Critics(members, observations, actions, layers, generator())
    observation, action = normal(1, 6, observations), normal(2, members, 6, actions)
    values = critics(observation, action if actions else None)
    assert values.shape == (members, 6)
    weights = normal(3, members, 6)
    found = torch.autograd.grad((weights * values).sum(), list(critics.parameters()))
    for member in range(members):
        network = single(critics, member)
        inputs = torch.cat((observation, action[member]), 1) if actions else observation
        expected = network(inputs)[:, 0]
        torch.testing.assert_close(values[member], expected)
        gradients = torch.autograd.grad(
            (weights[member] * expected).sum(), list(network.parameters())
        )
        layer = len(critics.weights)
        for i in range(layer):
            torch.testing.assert_close(found[i][member].T, gradients[2 * i])
            torch.testing.assert_close(found[layer + i][member, 0], gradients[2 * i + 1])


def test_members_share_an_action_or_have_their_own() -> None:
    critics = Critics(3, 2, 1, (8,), generator())
    observation, action = normal(1, 5, 2), normal(2, 5, 1)
    shared = critics(observation, action)
    assert torch.equal(shared, critics(observation, action[None]))
    assert torch.equal(shared, critics(observation, action.expand(3, -1, -1)))
    torch.testing.assert_close(critics(observation, action, first=2), shared[:2])


def test_frozen_critics_pass_gradients_to_actions_alone() -> None:
    critics = Critics(3, 2, 1, (8, 8), generator())
    observation = normal(1, 5, 2)
    actions = [normal(2, 5, 1).requires_grad_() for _ in range(2)]
    for action, frozen in zip(actions, (False, True), strict=True):
        critics.zero_grad()
        critics(observation, action, frozen=frozen).amin(0).sum().backward()
        assert all((p.grad is None) == frozen for p in critics.parameters())
    assert actions[0].grad is not None and actions[1].grad is not None
    assert torch.equal(actions[0].grad, actions[1].grad)


def test_members_start_apart_and_near_zero() -> None:
    critics = Critics(5, 4, 2, (64,), generator())
    values = critics(normal(1, 100, 4), normal(2, 100, 2))
    assert values.std(0).min() > 0
    # A hidden unit is at most 1 + the sum of |inputs| / sqrt(6).
    largest = 1 + torch.cat((normal(1, 100, 4), normal(2, 100, 2)), 1).abs().sum(1)
    assert (values.abs() <= LAST * (1 + 64 * largest)).all()


def squashed(scale: float = 1.0) -> SquashedPolicy:
    policy = SquashedPolicy(3, 2, (16,), generator()).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(scale)
    return policy


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_density_of_squashed_actions_is_that_of_torch(scale: float) -> None:
    policy, observation = squashed(scale), normal(1, 50, 3).double()
    action, log_probability = policy.samples(observation, 4, generator(7))
    mean, log_std = policy.network(observation).chunk(2, -1)
    reference = TransformedDistribution(
        Normal(mean, log_std.clamp(*LOG_STD).exp()), [TanhTransform()]
    )
    inside = (action.abs() < 1 - 1e-9).all(-1)  # atanh is exact there
    assert inside.double().mean() > 0.95
    expected = reference.log_prob(action.clamp(-1 + 1e-12, 1 - 1e-12)).sum(-1)
    torch.testing.assert_close(log_probability[inside], expected[inside], rtol=1e-5, atol=1e-5)
    assert log_probability.isfinite().all()


def test_densities_stay_finite_where_tanh_saturates() -> None:
    policy, observation = squashed().float(), normal(1, 200, 3)
    with torch.no_grad():
        policy.get_parameter("network.2.bias")[:2] = torch.tensor([30.0, -30.0])
    action, log_probability = policy.sample(observation, generator())
    assert (action.abs() == 1).any()
    assert log_probability.isfinite().all()
    gradients = torch.autograd.grad(log_probability.sum(), list(policy.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_samples_are_drawn_from_the_same_distribution_as_one() -> None:
    policy, observation = squashed(), normal(1, 5, 3).double()
    one, log_one = policy.sample(observation, generator(3))
    first, log_first = policy.samples(observation, 1, generator(3))
    assert torch.equal(one, first[0]) and torch.equal(log_one, log_first[0])
    many, _ = policy.samples(observation, 4000, generator(4))
    mean, log_std = policy.network(observation).chunk(2, -1)
    z = torch.atanh(many)
    deviation = log_std.exp() / 4000**0.5
    assert ((z.mean(0) - mean).abs() < 5 * deviation).all()
    assert torch.equal(policy.mode(observation), torch.tanh(mean))


def test_sampled_actions_are_differentiable() -> None:
    policy, observation = squashed(), normal(1, 5, 3).double()

    def loss() -> Tensor:
        action, log_probability = policy.sample(observation, generator(3))
        return (action.square().sum(-1) + 0.1 * log_probability).sum()

    parameter = next(policy.parameters())
    (gradient,) = torch.autograd.grad(loss(), [parameter])
    step = 1e-6
    with torch.no_grad():
        parameter[0, 0] += step
        above = loss()
        parameter[0, 0] -= 2 * step
        below = loss()
    assert ((above - below) / (2 * step)).item() == pytest.approx(gradient[0, 0].item(), rel=1e-5)


def test_a_gaussian_policy_has_a_normal_density() -> None:
    policy = GaussianPolicy(3, 2, (16,), generator())
    observation, action = normal(1, 8, 3), torch.tanh(normal(2, 8, 2))
    with torch.no_grad():
        policy.log_std.copy_(torch.tensor([-1.0, -30.0]))
    deviation = torch.tensor([-1.0, LOG_STD[0]]).exp()
    expected = Normal(policy.mode(observation), deviation).log_prob(action).sum(-1)
    torch.testing.assert_close(policy.log_probability(observation, action), expected)


@pytest.mark.parametrize("kind", [DeterministicPolicy, GaussianPolicy, SquashedPolicy])
def test_a_controller_normalises_and_keeps_types(
    kind: type[DeterministicPolicy | GaussianPolicy | SquashedPolicy],
) -> None:
    policy, normalizer = kind(3, 2, (16,), generator()), Normalizer(3)
    data = 5 + 3 * normal(1, 100, 3)
    normalizer.fit(data)
    controller = PolicyController(normalizer, policy)
    observation = data[:4].double()
    action = controller.act(observation, None)
    assert action.dtype == torch.float64 and not action.requires_grad
    expected = policy.mode((data[:4] - data.mean(0)) / data.std(0, correction=0))
    torch.testing.assert_close(action, expected.double(), rtol=1e-5, atol=1e-6)
    assert action.abs().max() <= 1
