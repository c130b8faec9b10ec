"""Batches with rows of a model: their order, resumption, and what is learned from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.agents.offline.config import (
    MobileConfig,
    MopoConfig,
    OfflineConfig,
    RavlConfig,
)
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.learner import OfflineLearner
from separatrix.agents.offline.methods import make_learner
from separatrix.agents.offline.model.experience import ModelExperience
from separatrix.agents.offline.model_config import (
    DynamicsRewardConfig,
    FilterConfig,
    ModelConfig,
    RolloutsConfig,
)
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController, ZeroController
from tests.agents.offline_models import (
    LOWEST,
    BelievesNothing,
    configured,
    learner_of,
    small_environment,
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    environment = small_environment()
    return record(environment, RandomController(environment, 0), 2000, 0)


QUICK = ModelConfig(members=3, elites=2, layers=(16, 16), max_epochs=2)


@pytest.mark.parametrize("source", ["learned", "true"])
def test_batches_hold_recorded_rows_first_and_rollouts_come_in_time(
    data: Dataset, source: Any
) -> None:
    rollouts = RolloutsConfig(every=3, starts=10, length=2, kept=2, recorded_share=0.25)
    model = ModelConfig(**{**vars(QUICK), "source": source})
    config = configured(MopoConfig(model=model, rollouts=rollouts))
    experience = ModelExperience(data, small_environment(1), config, 0)
    experience.prepare()
    assert experience.notes
    learner = learner_of(config.method)
    rows = {tuple(row) for row in torch.cat((data.observation, data.action), 1).tolist()}
    sizes = []
    for update in range(8):
        batch, scalars = experience.batch(learner)
        assert ("model/rollout_length" in scalars) == (update % 3 == 0)
        sizes.append(len(experience.buffer))
        assert batch.recorded == 5 and len(batch.reward) == 20
        first = torch.cat((batch.observation, batch.action), 1)[:5].tolist()
        assert {tuple(row) for row in first} <= rows
        assert all(value.isfinite() for value in learner.update(batch).values())
    assert sizes == [20, 20, 20, 40, 40, 40, 40, 40]
    assert (experience.buffer.ordered().position < 2).all()


FILTER = FilterConfig(
    on_cut="drop", reward=DynamicsRewardConfig(layers=(16,), updates=20, snapshots=3)
)


@pytest.mark.parametrize("kind", [MopoConfig, MobileConfig, RavlConfig])
@pytest.mark.parametrize("source", ["learned", "true"])
@pytest.mark.parametrize("chosen", [None, FILTER], ids=["all", "filtered"])
def test_resumption_goes_on_bit_for_bit(
    data: Dataset, kind: Any, source: Any, chosen: FilterConfig | None
) -> None:
    rollouts = RolloutsConfig(every=4, starts=12, length=2, kept=2)
    model = ModelConfig(**{**vars(QUICK), "source": source})
    config = configured(kind(model=model, rollouts=rollouts, filter=chosen))

    def make(seed: int) -> tuple[ModelExperience, OfflineLearner]:
        experience = ModelExperience(data, small_environment(1), config, seed)
        learner = make_learner(config, 1, 1, seed, "cpu", 100, LOWEST, experience.dynamics)
        return experience, learner

    def run(experience: ModelExperience, learner: OfflineLearner, updates: int) -> list[Any]:
        found = []
        for _ in range(updates):
            batch, scalars = experience.batch(learner)
            found.append((scalars, {n: v.item() for n, v in learner.update(batch).items()}))
        return found

    one, other = make(0), make(1)
    scalars = one[0].prepare()
    assert ("morec/rank_correlation" in scalars) == (chosen is not None)
    one[1].normalizer.fit(data.observation)
    run(*one, 10)
    experience, learner = (part.state_dict() for part in one)
    expected = run(*one, 10)
    other[0].load_state_dict(*experience)
    other[1].load_state_dict(*learner)
    assert run(*other, 10) == expected
    for found, truth in (
        (other[0].state_dict()[0], one[0].state_dict()[0]),
        (other[1].state_dict()[0], one[1].state_dict()[0]),
    ):
        assert found.keys() == truth.keys()
        assert all(torch.equal(found[name], truth[name]) for name in truth)


def test_a_filter_that_believes_nothing_and_drops_is_an_error(data: Dataset) -> None:
    experience = ModelExperience(data, small_environment(1), configured(MopoConfig(model=QUICK)), 0)
    experience.transition_filter = BelievesNothing("drop")  # type: ignore[assignment]
    learner = learner_of(MopoConfig())
    with pytest.raises(ValueError, match=r"filter.threshold: no transition .* is believed"):
        experience.batch(learner)


LEARNS: dict[str, Any] = {
    "mopo": MopoConfig(penalty=0.02),
    "mobile": MobileConfig(penalty=0.1, samples=2),
    "ravl": RavlConfig(critics=4, diversity=0.1),
}


UPDATES = 400


@pytest.fixture(scope="module")
def learned_state(data: Dataset) -> Any:
    """Dynamics that are learned once."""
    experience = ModelExperience(data, small_environment(1), learning("mopo"), 0)
    assert experience.prepare()["model/error"] < 0.02
    return experience.state_dict()


def learning(name: str) -> OfflineConfig:
    model = ModelConfig(
        members=3, elites=2, layers=(32, 32), max_epochs=80, learning_rate=3e-3, reward="known"
    )
    method = replace(
        LEARNS[name],
        model=model,
        rollouts=RolloutsConfig(every=50, starts=100, length=3),
        policy_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        policy_schedule="cosine",
        entropy_learning_rate=0.0,
        initial_entropy_weight=0.01,
    )
    return configured(method, layers=(32, 32), batch_size=128, target_rate=0.02)


@pytest.mark.parametrize("name", LEARNS)
def test_random_data_teach_nearly_the_best_control(
    data: Dataset, learned_state: Any, name: str
) -> None:
    """Of x' = x + u / 2, whose best linear control follows from a Riccati equation."""
    price = gain = 1.0
    for _ in range(200):
        gain = 0.9 * price * 0.5 / (0.1 + 0.9 * price * 0.25)
        price = 1 + 0.1 * gain**2 + 0.9 * price * (1 - 0.5 * gain) ** 2

    class Best(Controller):
        def act(self, observation: Tensor, state: Any) -> Tensor:
            return (-gain * observation).clamp(-1, 1)

    environment, seeds = small_environment(), torch.arange(1000, 1064)
    best, nothing = (
        evaluate(environment, controller, seeds).returns.mean().item()
        for controller in (Best(), ZeroController(environment))
    )
    config = learning(name)
    experience = ModelExperience(data, small_environment(1), config, 0)
    experience.load_state_dict(*learned_state)
    learner = make_learner(config, 1, 1, 0, "cpu", UPDATES, LOWEST, experience.dynamics)
    for _ in range(UPDATES):
        learner.update(experience.batch(learner)[0])
    found = evaluate(environment, learner.controller(), seeds).returns.mean().item()
    assert data.returns.mean() < 4 * nothing  # what is learned from is far worse than doing nothing
    assert found > 0.8 * best + 0.2 * nothing
