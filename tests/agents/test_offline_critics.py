"""Terms that methods add to the critics' loss, against plain loops over networks and rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from separatrix.agents.offline.config import ConservativeConfig, DiverseCriticsConfig, MopoConfig
from separatrix.agents.offline.cql import conservative_gap
from separatrix.agents.offline.edac import DiverseCritics, mean_cosine
from separatrix.agents.offline.networks import Critics, SquashedPolicy
from tests.agents.offline_learners import (
    assert_equal,
    batch_of,
    generator,
    learner_of,
    normal,
    single,
    state,
)


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**31))
def test_the_mean_cosine_is_that_of_all_pairs(
    members: int, rows: int, actions: int, seed: int
) -> None:
    gradient = normal(seed, members, rows, actions).double()
    total = 0.0
    for row in range(rows):
        for i in range(members):
            for j in range(members):
                if i != j:
                    one, other = gradient[i, row], gradient[j, row]
                    total += (one @ other / (one.norm() * other.norm())).item()
    expected = total / rows / (members - 1)
    assert mean_cosine(gradient).item() == pytest.approx(expected, abs=1e-6)
    same = gradient[:1].expand(members, -1, -1)
    assert mean_cosine(same).item() == pytest.approx(members)


def test_diversity_is_that_of_single_networks() -> None:
    learner, batch = learner_of(DiverseCriticsConfig(critics=4, diversity=0.8)), batch_of()
    assert isinstance(learner, DiverseCritics)
    values, penalty, scalars = learner._critic_terms(batch)
    torch.testing.assert_close(values, learner.critics(batch.observation, batch.action))
    assert isinstance(penalty, torch.Tensor)
    found = torch.autograd.grad(penalty, list(learner.critics.weights))
    networks, gradients = [single(learner.critics, member) for member in range(4)], []
    for network in networks:
        action = batch.action.clone().requires_grad_()
        value = network(torch.cat((batch.observation, action), 1))
        gradients.append(torch.autograd.grad(value.sum(), action, create_graph=True)[0])
    cosine = torch.zeros(())
    for i in range(4):
        for j in range(4):
            if i != j:
                pair = nn.functional.cosine_similarity(gradients[i], gradients[j], 1)
                cosine = cosine + pair.mean() / 3
    assert scalars["cosine"].item() == pytest.approx(cosine.item(), rel=1e-4)
    torch.testing.assert_close(penalty, 0.8 * cosine, rtol=1e-4, atol=1e-5)
    for member, network in enumerate(networks):
        weights = [module.weight for module in network if isinstance(module, nn.Linear)]
        expected = torch.autograd.grad(0.8 * cosine, weights, retain_graph=True)
        for layer, gradient in enumerate(expected):
            torch.testing.assert_close(found[layer][member].T, gradient, rtol=1e-3, atol=1e-4)


def test_without_diversity_edac_is_soft_actor_critic() -> None:
    one = learner_of(DiverseCriticsConfig(critics=3, diversity=0.0))
    other = learner_of(MopoConfig(critics=3))
    for seed in range(3):
        assert "cosine" not in one.update(batch_of(seed))
        other.update(batch_of(seed))
    assert_equal(state(one), state(other))


def test_critics_learn_as_if_each_were_alone() -> None:
    learner = learner_of(MopoConfig(critics=3))
    networks = [single(learner.critics, member) for member in range(3)]
    optimizers = [torch.optim.Adam(network.parameters(), 3e-4) for network in networks]
    for seed in range(4):
        batch, target = batch_of(seed), normal(10 + seed, 12)
        values = learner.critics(batch.observation, batch.action)
        learner._improve_critics(values, target)
        inputs = torch.cat((batch.observation, batch.action), 1)
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(inputs)[:, 0], target).backward()
            optimizer.step()
    for member, network in enumerate(networks):
        expected = network(torch.cat((batch.observation, batch.action), 1))[:, 0]
        found = learner.critics(batch.observation, batch.action)[member]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_the_conservative_gap_row_by_row() -> None:
    critics, policy = Critics(2, 3, 2, (8,), generator()), SquashedPolicy(3, 2, (8,), generator(1))
    batch, recorded = batch_of(rows=5), normal(9, 2, 4)
    found = conservative_gap(
        critics, policy, batch.observation, batch.next_observation, recorded, 6, generator(2)
    )
    drawn = generator(2)
    both = torch.cat((batch.observation, batch.next_observation))
    action, log_probability = policy.samples(both, 6, drawn)
    uniform = 2 * torch.rand((6, 5, 2), generator=drawn) - 1
    for member in range(2):
        network, logarithms = single(critics, member), []
        for row in range(5):
            terms = []
            for draw in range(6):
                candidates = [
                    (uniform[draw, row], torch.tensor(0.25).log()),
                    (action[draw, row], log_probability[draw, row]),
                    (action[draw, row + 5], log_probability[draw, row + 5]),
                ]
                for chosen, density in candidates:
                    value = network(torch.cat((batch.observation[row], chosen)))[0]
                    terms.append((value - density).exp())
            logarithms.append(torch.stack(terms).mean().log())
        expected = torch.stack(logarithms).mean() - recorded[member].mean()
        assert found[member].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


def test_the_conservative_gap_estimates_an_integral() -> None:
    """Over one action, where the midpoint rule has it; within 5 standard errors."""
    critics, policy = Critics(1, 3, 1, (8,), generator()), SquashedPolicy(3, 1, (8,), generator(1))
    with torch.no_grad():
        critics.weights[-1].mul_(1500)
    observation, recorded, n = normal(1, 1, 3), torch.zeros((1, 1)), 20_000
    found = conservative_gap(critics, policy, observation, observation, recorded, n, generator(2))
    grid = (torch.arange(20_000) + 0.5)[:, None] / 10_000 - 1
    values = critics(observation.expand(20_000, -1), grid)[0].double()
    assert values.std() > 0.3
    exact = 2 * values.exp().mean()
    action, log_probability = policy.samples(observation, n, generator(3))
    ratio = (critics(observation.expand(n, -1), action[:, 0])[0] - log_probability[:, 0]).exp()
    error = max(ratio.std().item(), 2 * values.exp().std().item()) / (3 * n) ** 0.5 / exact.item()
    assert found.item() == pytest.approx(exact.log().item(), abs=5 * error)
    assert error < 0.01


def test_cql_adds_the_weighted_gap_of_recorded_rows() -> None:
    learner, batch = learner_of(ConservativeConfig(weight=3.0, actions=4)), batch_of()
    before = learner.generator.get_state()
    values, penalty, scalars = learner._critic_terms(batch)
    learner.generator.set_state(before)
    observations = batch.observation, batch.next_observation
    gap = conservative_gap(
        learner.critics, learner.policy, *observations, values, 4, learner.generator
    )
    torch.testing.assert_close(penalty, 3 * gap.sum())
    torch.testing.assert_close(scalars["gap"], gap.mean())
    parameters = list(learner.policy.parameters())
    gradients = torch.autograd.grad(penalty, parameters, allow_unused=True)
    assert gradients == (None,) * len(parameters)
