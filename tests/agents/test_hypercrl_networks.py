"""The networks of all tasks: what they generate, at which start, and what may still learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from separatrix.agents.common.dynamics.network import stacked_network
from separatrix.agents.hypercrl.config import HypernetworkConfig
from separatrix.agents.hypercrl.hypernetwork import Hypernetwork
from separatrix.agents.hypercrl.networks import SeparateNetworks, SharedNetworks, TaskNetworks
from separatrix.agents.hypercrl.target import TargetShape, target_shape

SHAPE = TargetShape((3, 5, 4, 2))
SMALL = HypernetworkConfig(embedding_size=4, layers=(6, 7))
CHUNKED = replace(SMALL, chunk_size=13, chunk_embedding_size=3)
VARIANTS = {
    "full": SMALL,
    "chunked": CHUNKED,
    "constant_norm": replace(SMALL, encoding="constant_norm"),
    "frozen base": replace(SMALL, base_weights="frozen", initialization="fan_out"),
    "learned base": replace(SMALL, base_weights="learned", initialization="hyperfan"),
    "chunked base": replace(CHUNKED, base_weights="frozen", encoding="constant_norm"),
    "plastic": replace(CHUNKED, plastic_embeddings=True),
}


def hypernetwork(
    config: HypernetworkConfig = SMALL, tasks: int = 2, members: int = 1, seed: int = 0
) -> Hypernetwork:
    networks = Hypernetwork(SHAPE, members, seed, config)
    for _ in range(tasks):
        networks.add_task()
    return networks


def shared(members: int = 2, tasks: int = 3, **options: Any) -> SharedNetworks:
    networks = SharedNetworks(SHAPE, members, 0, **options)
    for _ in range(tasks):
        networks.add_task()
    return networks


def count(networks: nn.Module) -> int:
    return sum(parameter.numel() for parameter in networks.parameters())


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_rows_are_the_weights_of_networks_layer_by_layer() -> None:
    rows = normal(0, 2, SHAPE.parameters)
    inputs = normal(1, 2, 7, 3)
    found = stacked_network(SHAPE.layers(rows), inputs)
    for row, values, outputs in zip(rows, inputs, found, strict=True):
        network = nn.Sequential(
            nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 2)
        )
        place = 0
        for layer in network:
            if not isinstance(layer, nn.Linear):
                continue
            weight = row[place : place + layer.weight.numel()]
            layer.weight.data = weight.reshape(layer.in_features, layer.out_features).T
            place += weight.numel()
            layer.bias.data = row[place : place + layer.out_features]
            place += layer.out_features
        assert place == SHAPE.parameters == 15 + 5 + 20 + 4 + 8 + 2
        torch.testing.assert_close(outputs, network(values))
    assert SHAPE.head == 10 and target_shape(3, (5, 4), 2) == SHAPE


def test_a_network_starts_as_told() -> None:
    shape = TargetShape((50, 80, 3))
    rows = shape.initial(40, torch.Generator().manual_seed(0))
    (first, bias), (second, last_bias) = shape.layers(rows)
    assert not bias.any() and not last_bias.any()
    # A normal distribution cut at two deviations has 0.8796 of its deviation left.
    for weight, inputs in ((first, 50), (second, 80)):
        deviation = 1 / math.sqrt(2 * inputs)
        assert weight.abs().max() <= 2 * deviation
        assert weight.std().item() == pytest.approx(0.8796 * deviation, rel=0.02)


@pytest.mark.parametrize(
    ("inputs", "hidden", "outputs", "parameters"),
    [
        (10 + 2, (200, 200), 10, 44_810),  # pusher
        (18 + 2, (200, 200), 18, 48_018),  # slide
        (26 + 2 + 7, (200,) * 4, 2 * 26, 138_252),  # door; cosines and sines add two inputs
        (18 + 6, (200,) * 4, 2 * 18, 132_836),  # cheetah
        (4 + 1 + 1, (256, 256), 4, 68_612),  # cart-pole; likewise one
        (11 + 2, (256, 256), 11, 72_203),  # an arm of two links
    ],
)
def test_target_sizes_are_those_of_the_paper(
    inputs: int, hidden: tuple[int, ...], outputs: int, parameters: int
) -> None:
    shape = target_shape(inputs, hidden, outputs)
    assert shape.parameters == parameters
    assert shape.initial(1, torch.Generator()).shape == shape.deviations()[None].shape


def test_hypernetwork_sizes_are_those_of_the_paper() -> None:
    pusher = target_shape(12, (200, 200), 10)
    full = Hypernetwork(pusher, 1, 0, HypernetworkConfig())
    # Layers 10 -> 50 -> 50 -> 44,810 with biases: 2.29 million, 51 times what they generate.
    assert count(full) == 10 * 50 + 50 + 50 * 50 + 50 + 50 * 44_810 + 44_810 == 2_288_410
    full.add_task()
    assert count(full) == 2_288_420
    # With chunks the paper has 43.5 thousand: 10 + 20 -> 20 -> 20 -> 2000 with biases, and 23
    # embeddings of a chunk. Here the last layer has no bias, 2000 numbers less.
    paper = 30 * 20 + 20 + 20 * 20 + 20 + 20 * 2000 + 2000 + 23 * 20
    assert paper == 43_500
    config = HypernetworkConfig(layers=(20, 20), chunk_size=2000, chunk_embedding_size=20)
    assert count(Hypernetwork(pusher, 1, 0, config)) == paper - 2000
    with_mip = replace(config, encoding="constant_norm", base_weights="frozen")
    extra = 10 * 20 + pusher.parameters
    assert count(Hypernetwork(pusher, 1, 0, with_mip)) == paper - 2000 + extra


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("members", [1, 3])
def test_all_weights_of_all_members_are_generated(config: HypernetworkConfig, members: int) -> None:
    networks = hypernetwork(config, tasks=3, members=members)
    found = networks([0, 2, 1])
    assert found.shape == (3, members, SHAPE.parameters)
    for position, task in enumerate([0, 2, 1]):
        torch.testing.assert_close(found[position], networks([task])[0])
    assert not torch.allclose(found[0], found[1])
    if members > 1:
        assert not torch.allclose(found[:, 0], found[:, 1])


def by_hand(networks: Hypernetwork, task: int) -> Tensor:
    """Evaluates a hypernetwork chunk by chunk."""
    config = networks.config
    embedding = networks.embeddings[task]
    if config.encoding == "constant_norm":
        angle = math.pi / 2 / (1 + torch.exp(-embedding))
        embedding = torch.cat((torch.cos(angle), torch.sin(angle)))
    chunks = [None] if networks.chunk_embeddings is None else list(networks.chunk_embeddings)
    parts = []
    for chunk in chunks:
        values = embedding if chunk is None else torch.cat((embedding, chunk))
        for weight, bias in zip(networks.weights, networks.biases, strict=True):
            values = nn.functional.elu(values @ weight + bias)
        parts.append(values @ networks.output)
    total = networks.members * SHAPE.parameters
    rows = torch.cat(parts)[:total].view(networks.members, SHAPE.parameters)
    return rows if networks.base is None else rows + networks.base


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_generated_weights_by_hand(config: HypernetworkConfig) -> None:
    networks = hypernetwork(config, members=2)
    with torch.no_grad():
        for i, parameter in enumerate(networks.parameters()):
            parameter.add_(0.1 * normal(i, *parameter.shape))  # biases, too
    for task in (0, 1):
        torch.testing.assert_close(networks([task])[0], by_hand(networks, task))


@pytest.mark.parametrize("plastic", [False, True])
def test_embeddings_learn_until_their_task_ends(plastic: bool) -> None:
    networks = hypernetwork(replace(SMALL, plastic_embeddings=plastic), tasks=3)
    networks([0, 1, 2]).square().sum().backward()
    assert (networks.embeddings[0].grad is not None) == plastic
    assert (networks.embeddings[1].grad is not None) == plastic
    assert networks.embeddings[2].grad is not None
    assert all(p.grad is not None for p in networks.common_parameters())


@pytest.mark.parametrize("kind", ["none", "frozen", "learned"])
def test_base_weights_learn_as_told(kind: Any) -> None:
    networks = hypernetwork(replace(SMALL, base_weights=kind), tasks=1)
    base = networks.base
    assert base is not None
    assert bool(base.any()) == (kind != "none")

    def learns() -> bool:
        networks.zero_grad(set_to_none=True)
        networks([networks.tasks - 1]).sum().backward()
        listed = any(p is base for p in networks.common_parameters())
        assert listed == (base.grad is not None)
        return listed

    assert learns()
    networks.add_task()
    assert learns() == (kind != "frozen")
    assert hypernetwork(CHUNKED).base is None


@given(scale=st.floats(0.05, 20), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_what_enters_has_the_same_norm_for_all_tasks(scale: float, seed: int) -> None:
    config = replace(SMALL, encoding="constant_norm", layers=(6,))
    networks = hypernetwork(config, tasks=1)
    with torch.no_grad():
        networks.embeddings[0].copy_(scale * normal(seed, 4))
        # The first layer becomes the identity, so that what enters is seen behind it.
        networks.weights[0] = nn.Parameter(torch.eye(8))
        networks.biases[0] = nn.Parameter(torch.zeros(8))
        entered = networks.trunk(networks.embeddings[0][None])
    assert entered.min() > -1e-6  # elu leaves it as it is
    assert entered.norm().item() == pytest.approx(math.sqrt(4), rel=1e-5)


@given(scale=st.floats(2, 20), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_raw_embeddings_scale_what_is_generated(scale: float, seed: int) -> None:
    # ELU is not homogeneous as ReLU is, but at large arguments: from 1 on it is but for constants.
    found = {}
    for encoding in ("raw", "constant_norm"):
        networks = hypernetwork(replace(SMALL, encoding=encoding), tasks=1)
        drawn = normal(seed, 4)
        with torch.no_grad():
            rows = []
            for factor in (1e3, 1e3 * scale):
                networks.embeddings[0].copy_(factor * drawn)
                rows.append(networks([0]))
        found[encoding] = (rows[1].norm() / rows[0].norm()).item()
    assert found["raw"] == pytest.approx(scale, rel=0.02)
    assert found["constant_norm"] == pytest.approx(1.0, rel=0.3)


@pytest.mark.parametrize("encoding", ["raw", "constant_norm"])
@pytest.mark.parametrize("chunk_size", [0, 97])
def test_hyperfan_gives_the_variance_of_a_network_of_its_own(
    encoding: Any, chunk_size: int
) -> None:
    shape = TargetShape((12, 40, 30, 6))
    config = HypernetworkConfig(
        layers=(50, 50), initialization="hyperfan", encoding=encoding, chunk_size=chunk_size
    )
    networks = Hypernetwork(shape, 1, 0, config)
    for _ in range(200):
        networks.add_task()
    with torch.no_grad():
        rows = networks(range(200))[:, 0]
    variances = [part.square().mean().item() for part in rows.split(shape.counts, 1)]
    expected = [part.square().mean().item() for part in shape.deviations().split(shape.counts)]
    if chunk_size:  # one last layer for all chunks: the mean is right, whatever a chunk holds
        total = rows.square().mean().item()
        assert total == pytest.approx(shape.deviations().square().mean().item(), rel=0.15)
        return
    for variance, wanted in zip(variances, expected, strict=True):
        # Tasks share the last layer: the mean over 200 of them has about as many independent
        # terms as the tensor has numbers times hidden units that matter.
        assert variance == pytest.approx(wanted, rel=0.15)
    assert variances[1] == variances[3] == 0.0


def test_xavier_starts_as_the_paper() -> None:
    networks = Hypernetwork(target_shape(12, (200, 200), 10), 1, 0, HypernetworkConfig())
    part = networks.output[:, 12 * 200 + 200 :][:, : 200 * 200]
    assert part.std().item() == pytest.approx(math.sqrt(2 / (50 + 40_000)), rel=0.01)
    fan_out = HypernetworkConfig(initialization="fan_out")
    part = Hypernetwork(target_shape(12, (200, 200), 10), 1, 0, fan_out).output[:, : 12 * 200]
    assert part.std().item() == pytest.approx(math.sqrt(2 / 2400), rel=0.01)


@pytest.mark.parametrize("heads", [False, True])
def test_features_are_inputs_that_do_not_change(heads: bool) -> None:
    features = normal(3, 3, 2).double()
    networks = shared(heads=heads, features=features)
    with torch.no_grad():
        for i, parameter in enumerate(networks.parameters()):
            parameter.add_(0.3 * normal(i, *parameter.shape))
    inputs = normal(4, 2, 9, 3)
    assert networks.context is not None
    for task in range(3):
        layers = SHAPE.layers(networks([task])[0])
        found = stacked_network(layers, inputs)
        rows = networks.trunk
        if networks.heads is not None:
            rows = nn.Parameter(torch.cat((networks.trunk, networks.heads[task]), 1))
        (weight, bias), *rest = SHAPE.layers(rows)
        wider = [(torch.cat((weight, networks.context), 1), bias), *rest]
        told = features[task].float().expand(2, 9, 2)
        expected = stacked_network(wider, torch.cat((inputs, told), 2))
        torch.testing.assert_close(found, expected)
    learned = networks.common_parameters()
    assert [p is q for p, q in zip(learned, (networks.trunk, networks.context), strict=True)]


def test_what_shared_networks_share() -> None:
    one = shared(heads=False)
    assert torch.equal(one([0]), one([2])) and one.task_parameters(1) == []
    assert len(one.common_parameters()) == 1
    several = shared(heads=True)
    first, last = several([0, 2])
    assert torch.equal(first[:, : -SHAPE.head], last[:, : -SHAPE.head])
    assert not torch.isclose(first[:, -SHAPE.head : -2], last[:, -SHAPE.head : -2]).any()
    assert count(several) == 2 * (SHAPE.parameters + 2 * SHAPE.head)
    (own,) = several.task_parameters(2)
    assert torch.equal(own, last[:, -SHAPE.head :])


def test_separate_networks_share_nothing() -> None:
    networks = SeparateNetworks(SHAPE, 2, 0)
    for _ in range(2):
        networks.add_task()
    assert networks.common_parameters() == []
    networks([1]).sum().backward()
    assert networks.rows[0].grad is None and networks.rows[1].grad is not None
    assert not torch.allclose(networks([0]), networks([1]))


KINDS: dict[str, Callable[[int], TaskNetworks]] = {
    "separate": lambda seed: SeparateNetworks(SHAPE, 2, seed),
    "heads": lambda seed: SharedNetworks(SHAPE, 2, seed, heads=True),
    "context": lambda seed: SharedNetworks(SHAPE, 2, seed, heads=False, features=normal(0, 3, 2)),
    **{name: partial(Hypernetwork, SHAPE, 2, config=config) for name, config in VARIANTS.items()},
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_seed_fixes_all_weights_and_a_new_task_changes_no_old_one(make: Any) -> None:
    networks: list[TaskNetworks] = [make(5), make(5), make(6)]
    found: list[Tensor] = []
    for each in networks:
        torch.manual_seed(len(found))  # the global generator has no say
        each.add_task()
        each.add_task()
        before = each([0, 1]).detach()
        each.add_task()
        assert torch.equal(each([0, 1]), before)
        found.append(each([0, 1, 2]))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
    assert all(parameter.dtype == torch.float32 for parameter in networks[0].parameters())
