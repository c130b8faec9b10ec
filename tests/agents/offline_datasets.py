"""Small data sets that are made up, for the tests of offline learning."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from separatrix.agents.offline.data.dataset import Dataset, Metadata, References, numbered

METADATA = Metadata(
    environment="separatrix/Lorenz-v0",
    options={"authority": 0.2},
    recipe="medium",
    version=3,
    references=References(random=-2.5, expert=7.5, episodes=100, policy="sac after 8 steps"),
    origin={"seed": 4, "curve": [[8, 1.5]], "commit": None},
)
LENGTHS = (3, 1, 5, 2, 4)
TERMINATED = (True, False, False, True, True)


def make_dataset(
    lengths: Sequence[int] = LENGTHS,
    terminated: Sequence[bool] = TERMINATED,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Dataset:
    """Makes episodes of given lengths, each terminated or truncated, of numbers drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(lengths)
    ends = torch.tensor(lengths).cumsum(0) - 1
    last, by_physics = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool)
    last[ends] = True
    by_physics[ends] = torch.tensor(terminated)
    observation, after = torch.randn((2, rows, 3), generator=generator, dtype=dtype)
    following = torch.cat((observation[1:], observation[:1]))
    return Dataset(
        observation,
        torch.rand((rows, 2), generator=generator, dtype=dtype) * 2 - 1,
        torch.randn(rows, generator=generator, dtype=dtype),
        torch.where(last[:, None], after, following),
        by_physics,
        last & ~by_physics,
        *numbered(last),
        METADATA,
    )


def assert_same(one: Dataset, other: Dataset) -> None:
    """Fails unless numbers, types and metadata are the same."""
    for name, tensor in one.tensors().items():
        found = other.tensors()[name]
        assert found.dtype == tensor.dtype and torch.equal(found, tensor), name
    assert one.metadata == other.metadata
