"""What keeps earlier tasks, against the same formulas written out."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separatrix.agents.common.dynamics.network import stacked_network
from separatrix.agents.hypercrl.config import HypernetworkConfig
from separatrix.agents.hypercrl.hypernetwork import Hypernetwork
from separatrix.agents.hypercrl.networks import SharedNetworks
from separatrix.agents.hypercrl.protection import (
    ElasticWeights,
    OutputRegularizer,
    Protection,
    QuadraticProtection,
    SynapticIntelligence,
)
from separatrix.agents.hypercrl.target import TargetShape

SHAPE = TargetShape((2, 4, 2))
CONFIG = HypernetworkConfig(embedding_size=3, layers=(5,))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved_hypernetwork(
    tasks: int, beta: float = 0.7, count: int = 0, look_ahead: bool = False
) -> tuple[Hypernetwork, OutputRegularizer, Tensor]:
    """A hypernetwork that has changed since the last task began, and what it generated then."""
    networks = Hypernetwork(SHAPE, 2, 0, replace(CONFIG, base_weights="learned"))
    found = OutputRegularizer(networks, beta=beta, tasks=count, look_ahead=look_ahead)
    for _ in range(tasks):
        networks.add_task()
        found.begin()
    before = networks(range(tasks)).detach()
    with torch.no_grad():
        for i, parameter in enumerate(networks.common_parameters()):
            parameter.add_(0.1 * normal(i, *parameter.shape))
    return networks, found, before


def penalty(protection: Protection, seed: int = 0) -> Tensor:
    found = protection.loss(generator(seed))
    assert found is not None
    return found


def test_no_protection_is_none() -> None:
    networks = SharedNetworks(SHAPE, 1, 0, heads=False)
    none = Protection(networks)
    assert none.loss(generator()) is None and none.state_dict() == {}


def test_the_output_regularizer_task_by_task() -> None:
    networks, found, before = moved_hypernetwork(tasks=4)
    total = torch.zeros(())
    for task in range(3):  # the fourth is learned
        change = networks([task])[0] - before[task]
        for member in change:
            for weight in member:
                total = total + weight**2
    torch.testing.assert_close(penalty(found), 0.7 * total / 3)
    # Its gradient too, to everything that the tasks share and to no embedding.
    penalty(found).backward()
    gradients = [p.grad.clone() for p in networks.common_parameters() if p.grad is not None]
    networks.zero_grad(set_to_none=True)
    (0.7 * total / 3).backward()
    for got, parameter in zip(gradients, networks.common_parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(got, parameter.grad)
    assert all(embedding.grad is None for embedding in networks.embeddings)


def test_targets_are_taken_anew_at_the_start_of_each_task() -> None:
    networks, found, _ = moved_hypernetwork(tasks=3)
    assert penalty(found) > 0
    networks.add_task()
    found.begin()
    assert penalty(found) == 0
    assert found.state_dict()["targets"].shape == (3, 2, SHAPE.parameters)
    assert not found.state_dict()["targets"].requires_grad


def test_drawn_tasks_are_different_ones_and_right_on_average() -> None:
    networks, found, before = moved_hypernetwork(tasks=5, count=2)
    with torch.no_grad():
        each = 0.7 * (networks(range(4)) - before[:4]).square().sum((1, 2))
    pairs = {(i, j): ((each[i] + each[j]) / 2).item() for i in range(4) for j in range(i)}
    source, counts = generator(), dict.fromkeys(pairs, 0)
    for _ in range(1200):
        loss = found.loss(source)
        assert loss is not None
        pair = min(pairs, key=lambda key: abs(pairs[key] - loss.item()))
        assert loss.item() == pytest.approx(pairs[pair], rel=1e-5)
        counts[pair] += 1
    # All six pairs are equally likely, so that the mean is that of all tasks.
    assert max(abs(number - 200) for number in counts.values()) < 5 * math.sqrt(200 * 5 / 6)
    mean = sum(pairs[pair] * number for pair, number in counts.items()) / 1200
    assert mean == pytest.approx(each.mean().item(), rel=0.05)
    assert len({round(value, 4) for value in pairs.values()}) == 6


def test_as_many_as_there_are_draws_nothing() -> None:
    source = generator()
    before = source.get_state()
    _, all_tasks, _ = moved_hypernetwork(tasks=4, count=0)
    for count in (3, 4, 100):
        _, found, _ = moved_hypernetwork(tasks=4, count=count)
        assert found.loss(source) == all_tasks.loss(source)
    assert torch.equal(source.get_state(), before)


def task_loss(networks: Hypernetwork) -> Tensor:
    inputs, targets = normal(10, 2, 8, 2), normal(11, 2, 8, 2)
    rows = networks([networks.tasks - 1])[0]
    return (stacked_network(SHAPE.layers(rows), inputs) - targets).square().mean()


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_look_ahead_is_the_step_that_adam_takes(steps: int) -> None:
    networks, found, before = moved_hypernetwork(tasks=3, look_ahead=True)
    optimizer = torch.optim.Adam(networks.common_parameters(), 0.02, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        task_loss(networks).backward()
        optimizer.step()
    optimizer.zero_grad()
    task_loss(networks).backward()
    ahead = copy.deepcopy(networks)
    other = torch.optim.Adam(ahead.common_parameters(), 0.02, fused=True)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    state = copy.deepcopy(optimizer.state_dict())
    for parameter, same in zip(
        ahead.common_parameters(), networks.common_parameters(), strict=True
    ):
        assert same.grad is not None
        parameter.grad = same.grad.clone()
    other.step()

    found.before_step(optimizer)
    with torch.no_grad():
        expected = 0.7 * (ahead([0, 1]) - before[:2]).square().sum((1, 2)).mean()
        now = 0.7 * (networks([0, 1]) - before[:2]).square().sum((1, 2)).mean()
    assert penalty(found).item() == pytest.approx(expected.item(), rel=1e-4)
    assert abs(now - expected) > 1e-3 * expected
    # The step is a constant: the gradient is that of the network ahead.
    networks.zero_grad(set_to_none=True)
    penalty(found).backward()
    ahead.zero_grad(set_to_none=True)
    (0.7 * (ahead([0, 1]) - before[:2]).square().sum((1, 2)).mean()).backward()
    for got, wanted in zip(networks.common_parameters(), ahead.common_parameters(), strict=True):
        assert got.grad is not None and wanted.grad is not None
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-3, atol=1e-4)
    # Looking leaves Adam and the weights as they were.
    for index, moments in optimizer.state_dict()["state"].items():
        for name, moment in moments.items():
            assert torch.equal(moment, state["state"][index][name])


def protected(networks: SharedNetworks, strength: float = 0.3) -> tuple[QuadraticProtection, Any]:
    """Three tasks' importances, and the sum of their penalties one by one."""
    found = QuadraticProtection(networks, strength)
    terms: list[tuple[list[Tensor], list[Tensor]]] = []
    for task in range(3):
        networks.add_task()
        assert (found.loss(generator()) is None) == (task == 0)
        with torch.no_grad():
            for i, parameter in enumerate(networks.common_parameters()):
                parameter.add_(normal(10 * task + i, *parameter.shape))
        weights = [p.detach().clone() for p in networks.common_parameters()]
        importance = [normal(100 + task, *w.shape).square() for w in weights]
        importance[0][..., :3] = 0  # what matters to nobody
        found.protect(importance)
        terms.append((importance, weights))
    networks.add_task()

    def explicit() -> Tensor:
        return strength * sum(
            (
                (weight * (theta - centre).square()).sum()
                for importance, centres in terms
                for theta, weight, centre in zip(
                    networks.common_parameters(), importance, centres, strict=True
                )
            ),
            start=torch.zeros(()),
        )

    return found, explicit


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_one_quadratic_is_the_sum_of_all(seed: int) -> None:
    networks = SharedNetworks(SHAPE, 2, 0, heads=True)
    found, explicit = protected(networks)
    differences, gradients = [], []
    for step in range(2):
        with torch.no_grad():
            for i, parameter in enumerate(networks.common_parameters()):
                parameter.add_(normal(seed + 10 * step + i, *parameter.shape))
        pair = []
        for function in (lambda: penalty(found), explicit):
            networks.zero_grad(set_to_none=True)
            loss = function()
            loss.backward()
            assert networks.trunk.grad is not None
            pair.append((loss.detach(), networks.trunk.grad))
        differences.append([loss for loss, _ in pair])
        gradients.append([gradient for _, gradient in pair])
    for got, expected in gradients:
        torch.testing.assert_close(got, expected)
    (one, all_one), (two, all_two) = differences
    torch.testing.assert_close(two - one, all_two - all_one, rtol=1e-4, atol=1e-3)
    assert (gradients[0][0][..., :3] == 0).all()


def sample_loss(weights: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    rows = inputs.expand(len(weights), 1, -1)
    return (stacked_network(SHAPE.layers(weights), rows)[:, 0] - targets).square().sum() / 2


@pytest.mark.parametrize("heads", [False, True])
def test_fisher_sample_by_sample(heads: bool) -> None:
    networks = SharedNetworks(SHAPE, 2, 0, heads=heads, features=normal(5, 2, 3))
    for _ in range(2):
        networks.add_task()
    found = ElasticWeights(networks, strength=3.0)
    rows = (normal(0, 120, 2), normal(1, 120, 2))  # more than are held in memory at once
    sums = [torch.zeros_like(p) for p in networks.common_parameters()]
    for inputs, targets in zip(*rows, strict=True):
        networks.zero_grad(set_to_none=True)
        sample_loss(networks([1])[0], inputs, targets).backward()
        for total, parameter in zip(sums, networks.common_parameters(), strict=True):
            assert parameter.grad is not None
            total += parameter.grad.square()
    found.end(1, rows, sample_loss)
    state = found.state_dict()
    for i, (total, parameter) in enumerate(zip(sums, networks.common_parameters(), strict=True)):
        torch.testing.assert_close(state[f"importance.{i}"], total / 120)
        assert torch.equal(state[f"centre.{i}"], parameter)
    with torch.no_grad():
        for parameter in networks.common_parameters():
            parameter.add_(0.5)
    expected = 1.5 * sum((total / 120 * 0.25).sum() for total in sums)
    assert penalty(found).item() == pytest.approx(float(expected), rel=1e-5)


def quadratic(networks: SharedNetworks) -> Tensor:
    """A loss with its minimum at 1 and another curvature for each weight."""
    curvature = torch.linspace(0.1, 2.0, networks.trunk.numel()).view_as(networks.trunk)
    return (curvature * (networks.trunk - 1).square()).sum() / 2


def descend(
    networks: SharedNetworks, found: SynapticIntelligence, steps: int, rate: float
) -> tuple[Tensor, Tensor]:
    """Gradient descent on loss and penalty; the path integral by hand and the fall of the loss."""
    path, start = torch.zeros_like(networks.trunk), quadratic(networks).detach()
    adam = torch.optim.Adam(networks.common_parameters())
    for _ in range(steps):
        networks.zero_grad(set_to_none=True)
        quadratic(networks).backward()
        gradient = networks.trunk.grad
        assert gradient is not None
        own = gradient.clone()
        found.before_step(adam)
        protection = found.loss(generator())
        if protection is not None:
            protection.backward()
        before = networks.trunk.detach().clone()
        with torch.no_grad():
            networks.trunk.sub_(rate * gradient)
        found.after_step()
        path += -own * (networks.trunk.detach() - before)
    return path, start - quadratic(networks).detach()


def test_the_path_integral_is_the_fall_of_the_loss() -> None:
    networks = SharedNetworks(SHAPE, 1, 0, heads=False)
    found = SynapticIntelligence(networks, 0.1, damping=1e-2)
    networks.add_task()
    found.begin()
    start = networks.trunk.detach().clone()
    path, fall = descend(networks, found, 2000, 1e-3)
    got = found.state_dict()["path.0"]
    torch.testing.assert_close(got, path)
    # Small steps: the rest is half the squared step times the curvature, a thousandth.
    assert got.sum().item() == pytest.approx(fall.item(), rel=2e-3)
    assert abs(found.state_dict()["start.0"] - start).max() == 0
    rows = (torch.zeros(0, 2), torch.zeros(0, 2))
    found.end(0, rows, sample_loss)
    change = networks.trunk.detach() - start
    expected = (path / (change**2 + 1e-2)).clamp_min(0)
    torch.testing.assert_close(found.state_dict()["importance.0"], expected)
    # The second task's path begins anew, and the penalty's own gradient is no part of it.
    networks.add_task()
    found.begin()
    assert not found.state_dict()["path.0"].any()
    with torch.no_grad():
        networks.trunk.add_(1.0)
    path, _ = descend(networks, found, 20, 1e-3)
    torch.testing.assert_close(found.state_dict()["path.0"], path)
    found.end(1, rows, sample_loss)
    assert (found.state_dict()["importance.0"] >= expected).all()


def test_weights_that_made_the_loss_rise_are_not_held() -> None:
    networks = SharedNetworks(SHAPE, 1, 0, heads=False)
    found = SynapticIntelligence(networks, 0.1, damping=1e-3)
    networks.add_task()
    found.begin()
    descend(networks, found, 5, -1e-2)
    assert found.state_dict()["path.0"].max() < 0
    found.end(0, (torch.zeros(0, 2), torch.zeros(0, 2)), sample_loss)
    assert not found.state_dict()["importance.0"].any()


def test_nothing_is_protected_before_the_first_task_has_ended() -> None:
    hypernetwork = Hypernetwork(SHAPE, 1, 0, CONFIG)
    shared = SharedNetworks(SHAPE, 1, 0, heads=True)
    protections: list[Protection] = [
        OutputRegularizer(hypernetwork, beta=1.0, tasks=0, look_ahead=True),
        ElasticWeights(shared, 1.0),
        SynapticIntelligence(shared, 1.0, 1e-3),
    ]
    assert [found.loss(generator()) for found in protections] == [None] * 3
    hypernetwork.add_task()
    shared.add_task()
    for found in protections:
        found.begin()
        found.before_step(torch.optim.Adam(found.networks.common_parameters()))
        assert found.loss(generator()) is None


def shared_protection(kind: str) -> Any:
    networks = SharedNetworks(SHAPE, 2, 0, heads=True)
    networks.add_task()
    if kind == "ewc":
        return networks, ElasticWeights(networks, 2.0)
    return networks, SynapticIntelligence(networks, 2.0, 1e-3)


@pytest.mark.parametrize("kind", ["ewc", "si"])
def test_the_state_of_quadratic_protections_is_whole(kind: str) -> None:
    networks, found = shared_protection(kind)
    for task in range(3):
        found.begin()
        with torch.no_grad():
            networks.trunk.add_(0.1 * normal(task, *networks.trunk.shape))
        networks.trunk.grad = normal(7, *networks.trunk.shape)
        found.before_step(torch.optim.Adam([networks.trunk]))
        with torch.no_grad():
            networks.trunk.sub_(0.1 * networks.trunk.grad)
        found.after_step()
        if task < 2:
            found.end(task, (normal(20, 60, 2), normal(21, 60, 2)), sample_loss)
            networks.add_task()
    state = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    other_networks, other = shared_protection(kind)
    for _ in range(2):
        other_networks.add_task()
    other_networks.load_state_dict(networks.state_dict())
    other.load_state_dict(state)
    assert penalty(other) == penalty(found) > 0
    for each in (found, other):
        each.end(2, (normal(20, 60, 2), normal(21, 60, 2)), sample_loss)
    after, again = found.state_dict(), other.state_dict()
    assert after.keys() == again.keys() == state.keys()
    assert all(torch.equal(after[name], again[name]) for name in after)
    # What was saved is no view of what goes on.
    assert any(not torch.equal(after[name], state[name]) for name in after)


def test_the_state_of_the_output_regularizer_is_whole() -> None:
    networks, found, _ = moved_hypernetwork(tasks=3)
    other = OutputRegularizer(networks, beta=0.7, tasks=0, look_ahead=False)
    other.load_state_dict(found.state_dict())
    assert penalty(other) == penalty(found) > 0
    other.load_state_dict({})
    assert other.loss(generator()) is None
