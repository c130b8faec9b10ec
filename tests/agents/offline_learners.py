"""Small learners of offline agents, batches, and single networks, for the tests of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from separatrix.agents.offline.config import (
    BehaviourCloningConfig,
    ConservativeConfig,
    DiverseCriticsConfig,
    ImplicitQLearningConfig,
    MethodConfig,
    MopoConfig,
    OfflineConfig,
    TD3BehaviourCloningConfig,
)
from separatrix.agents.offline.learner import Batch, OfflineLearner
from separatrix.agents.offline.methods import make_learner
from separatrix.agents.offline.networks import Critics

LOWEST = -30.0
METHODS: dict[str, MethodConfig] = {
    "behaviour_cloning": BehaviourCloningConfig(),
    "td3_bc": TD3BehaviourCloningConfig(),
    "iql": ImplicitQLearningConfig(),
    "cql": ConservativeConfig(actions=3),
    "edac": DiverseCriticsConfig(critics=3),
    "sac": MopoConfig(policy_schedule="cosine"),
}
"""Methods that learn from recorded rows alone; "sac" stands for those with a model."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def single(critics: Critics, member: int) -> nn.Sequential:
    """A network of torch with the weights of a member."""
    modules = list[nn.Module]()
    for weight, bias in zip(critics.weights, critics.biases, strict=True):
        linear = nn.Linear(*weight.shape[1:])
        with torch.no_grad():
            linear.weight.copy_(weight[member].T)
            linear.bias.copy_(bias[member, 0])
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def learner_of(method: MethodConfig, seed: int = 0, **options: Any) -> Any:
    config = OfflineConfig("x", method=method, layers=(16, 16), **options)
    return make_learner(config, 3, 2, seed, "cpu", 10, LOWEST)


def batch_of(seed: int = 0, rows: int = 12) -> Batch:
    """Rows that go on, that are terminated, that are cut, and that are both."""
    index = torch.arange(rows)
    return Batch(
        normal(seed, rows, 3),
        torch.tanh(normal(seed + 1, rows, 2)),
        normal(seed + 2, rows),
        normal(seed + 3, rows, 3),
        index % 4 >= 2,
        index % 2 == 1,
        rows,
    )


def state(learner: OfflineLearner) -> dict[str, Tensor]:
    return learner.state_dict()[0]


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
