from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from separatrix.agents.hypercrl.storage import (
    CATEGORIES,
    coreset_size_for,
    count_storage,
    hidden_width_for,
)


def network(inputs: int, width: int, outputs: int, layers: int) -> nn.Sequential:
    sizes = [inputs, *[width] * layers, outputs]
    return nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(sizes)))


def test_counts_are_exact() -> None:
    model = network(3, 5, 2, 1)
    found = count_storage(
        {
            "data": {"index": torch.zeros(7, dtype=torch.int64), "empty": torch.zeros(0)},
            "hypernetwork": dict(model.named_parameters()),
            "embeddings": {"first": torch.zeros((2, 10), dtype=torch.float64)},
            "optimiser": {},
        }
    )
    assert found.floats == {"hypernetwork": 32, "embeddings": 20, "data": 7}
    assert list(found.floats) == ["hypernetwork", "embeddings", "data"]
    assert found.bytes == {"hypernetwork": 128, "embeddings": 160, "data": 56}
    assert (found.total_floats, found.total_bytes) == (59, 344)
    first, *rows = [line.split() for line in found.table().splitlines()]
    assert first == ["category", "floats", "bytes"]
    assert rows[0] == ["hypernetwork", "32", "128"]
    assert rows[-1] == ["total", "59", "344"]
    assert len({len(line) for line in found.table().splitlines()}) == 1


def test_nothing_is_counted_twice() -> None:
    targets = torch.zeros((4, 6))
    halves = {"old": targets[:2], "new": targets[2:]}
    assert count_storage({"regulariser targets": halves}).total_floats == 24
    with pytest.raises(ValueError, match="'data: all' again as 'networks: first'; allowed: once"):
        count_storage({"data": {"all": targets}, "networks": {"first": targets[0]}})
    with pytest.raises(ValueError, match="got category 'weights'; allowed: hypernetwork, "):
        count_storage({"weights": {}})
    assert count_storage({name: {} for name in CATEGORIES}).total_bytes == 0


def test_coreset_of_equal_bytes() -> None:
    # Two observations of 10, an action of 2: 22 numbers of 4 bytes.
    assert coreset_size_for(880, 10, 2, tasks=1) == 10
    assert coreset_size_for(879, 10, 2, tasks=1) == 9
    assert coreset_size_for(880, 10, 2, tasks=5) == 2
    assert coreset_size_for(920, 10, 2, tasks=1, reward=True) == 10
    assert coreset_size_for(880, 10, 2, tasks=1, number_bytes=8) == 5
    with pytest.raises(ValueError, match="got 439 bytes; allowed: 440 or more"):
        coreset_size_for(439, 10, 2, tasks=5)
    with pytest.raises(ValueError, match="tasks: got 0"):
        coreset_size_for(880, 10, 2, tasks=0)


def test_a_coreset_fills_its_bytes() -> None:
    size = coreset_size_for(10_000, 3, 1, tasks=2, reward=True)
    widths = {"observation": 3, "action": 1, "next_observation": 3, "reward": 1}
    parts = {name: torch.zeros((2, size, width)) for name, width in widths.items()}
    stored = count_storage({"data": parts}).total_bytes
    assert stored <= 10_000 < stored + 2 * 8 * 4


@settings(max_examples=50)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(1, 12))
def test_the_widest_network_within_a_number(
    inputs: int, outputs: int, layers: int, width: int
) -> None:
    exact = sum(p.numel() for p in network(inputs, width, outputs, layers).parameters())
    assert hidden_width_for(exact, inputs, outputs, layers) == width
    if width > 1:
        assert hidden_width_for(exact - 1, inputs, outputs, layers) == width - 1
    else:
        with pytest.raises(ValueError, match=f"got {exact - 1}; allowed: {exact} or more"):
            hidden_width_for(exact - 1, inputs, outputs, layers)


def test_width_of_the_pushers_network() -> None:
    # 12 inputs, 200 x 2, 10 outputs: (12 + 1) 200 + 201 * 200 + 201 * 10 = 44,810.
    assert hidden_width_for(44_810, 12, 10, 2) == 200
    assert hidden_width_for(44_809, 12, 10, 2) == 199
