"""The learner: fits what it sees, keeps what it should, forgets what it must, resumes exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from separatrix.agents.common.checkpoint import read_latest, write_checkpoint
from separatrix.agents.common.dynamics.network import stacked_network
from separatrix.agents.common.replay import Transitions
from separatrix.agents.hypercrl.config import (
    CoresetConfig,
    ElasticWeightsConfig,
    FinetuneConfig,
    HyperCRLConfig,
    HypernetworkConfig,
    MethodConfig,
    SingleConfig,
    SynapticIntelligenceConfig,
)
from separatrix.agents.hypercrl.learner import LOG_VARIANCE, Learner
from separatrix.agents.hypercrl.memory import Memory, samples
from separatrix.agents.hypercrl.networks import SharedNetworks

HYPERNETWORK = HypernetworkConfig(embedding_size=4, layers=(16,), learning_rate=3e-3)
CONFIG = HyperCRLConfig(method=HYPERNETWORK, layers=(16,), batch_size=32)
FEATURES = torch.tensor([-1.0, 1.0, 0.0, 0.5, -0.5], dtype=torch.float64)[:, None]
MATRIX = torch.tensor([[0.1, 0.3], [-0.2, 0.05], [0.0, 0.5]])
"""From two observations and an action to the change of the observations."""

METHODS: dict[str, MethodConfig] = {
    "hypernetwork": HYPERNETWORK,
    "look-ahead": replace(HYPERNETWORK, look_ahead=True),
    "one task drawn": replace(HYPERNETWORK, regularized_tasks=1),
    "chunked": replace(HYPERNETWORK, chunk_size=20, plastic_embeddings=True),
    "base": replace(
        HYPERNETWORK, base_weights="frozen", initialization="fan_out", encoding="constant_norm"
    ),
    "learned base": replace(HYPERNETWORK, base_weights="learned", initialization="hyperfan"),
    "single": SingleConfig(),
    "finetune": FinetuneConfig(),
    "one head": FinetuneConfig(heads=False),
    "ewc": ElasticWeightsConfig(strength=10.0),
    "si": SynapticIntelligenceConfig(),
    "coreset": CoresetConfig(transitions=10),
    "multitask": CoresetConfig(transitions=0),
    "context": CoresetConfig(transitions=0, heads=False, context=True),
}


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def data(sign: float = 1.0, seed: int = 0, noise: tuple[float, float] = (0.0, 0.0)) -> Transitions:
    """Steps of a linear system, (80, 4)."""
    observation, action = normal(seed, 80, 4, 2), normal(seed + 1, 80, 4, 1)
    change = sign * torch.cat((observation, action), -1) @ MATRIX
    change = change + normal(seed + 2, 80, 4, 2) * torch.tensor(noise)
    reward, never = 1 - observation[..., 0] ** 2, torch.zeros((80, 4), dtype=torch.bool)
    return Transitions(observation, action, reward, observation + change, never, never)


def learner(method: MethodConfig = HYPERNETWORK, seed: int = 0, **changes: Any) -> Learner:
    config = replace(CONFIG, method=method, **changes)
    return Learner(config, 2, 1, FEATURES, seed, torch.device("cpu"))


def learn(found: Learner, tasks: list[Transitions], steps: int = 300) -> list[dict[str, float]]:
    results = []
    for transitions in tasks:
        found.begin_task()
        results.append(found.train(transitions, steps))
        found.end_task(transitions)
    return results


def error(found: Learner, task: int, transitions: Transitions) -> float:
    """Root mean square error of predicted changes, in units of the changes."""
    rows = torch.tensor([task])
    observation = transitions.observation.flatten(0, 1)
    change = transitions.next_observation.flatten(0, 1) - observation
    members = found.config.members
    predicted = found.dynamics(rows).predict(
        observation.expand(members, -1, -1),
        transitions.action.flatten(0, 1).expand(members, -1, -1),
    )
    wrong = predicted.next_observation.mean(0) - observation - change
    return (wrong.square().mean() / change.square().mean()).sqrt().item()


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.mark.parametrize(
    ("name", "members"),
    [("hypernetwork", 2), ("chunked", 1), ("base", 1), ("single", 2), ("context", 1)],
)
def test_a_linear_system_is_learned(name: str, members: int) -> None:
    found = learner(METHODS[name], members=members)
    found.begin_task()
    losses = [found.train(data(), 150)["train/loss"] for _ in range(3)]
    assert losses[2] < 0.1 * losses[0]
    assert error(found, 0, data(seed=10)) < 0.15


def test_held_out_errors_are_of_transitions_that_were_not_trained_on() -> None:
    found = learner()
    found.begin_task()
    transitions = data()
    wrong = data(sign=-1.0)
    later = transitions.next_observation.clone()
    later[3::4] = wrong.next_observation[3::4]  # what is held out contradicts the rest
    broken = replace(transitions, next_observation=later)
    result = found.train(broken, 400)
    assert result["train/held_out_error"] > 1.5
    assert error(found, 0, transitions) < 0.2
    # Of each component in the units of the data: twice the change, which is predicted well.
    change = (wrong.next_observation - wrong.observation)[3::4].flatten(0, 1)
    expected = 2 * change.square().mean(0).sqrt()
    torch.testing.assert_close(found.errors[0], expected, rtol=0.1, atol=0.0)


def test_samples_are_changes_and_rewards() -> None:
    transitions = data()
    training, held_out = samples(transitions, True)
    assert (len(training), len(held_out)) == (240, 80)
    torch.testing.assert_close(training.inputs[4 * 3], inputs_at(transitions, 4, 0))
    torch.testing.assert_close(held_out.inputs[5], inputs_at(transitions, 7, 1))
    change = transitions.next_observation[7, 1] - transitions.observation[7, 1]
    expected = torch.cat((change, transitions.reward[7, 1][None]))
    torch.testing.assert_close(held_out.targets[5], expected)
    assert samples(transitions, False)[0].targets.shape == (240, 2)


def inputs_at(transitions: Transitions, time: int, row: int) -> Tensor:
    return torch.cat((transitions.observation[time, row], transitions.action[time, row]))


def test_the_noise_is_found() -> None:
    noise = (0.3, 0.1)
    found = learner(gaussian=True, batch_size=64, max_gradient_norm=50.0)
    found.begin_task()
    transitions = data(noise=noise)
    for _ in range(2):
        found.train(transitions, 400)
    normalizers = found.normalizers[0]
    inputs = samples(data(seed=5), False)[0].inputs
    with torch.no_grad():
        layers = found.networks.shape.layers(found.networks([0])[0])
        raw = stacked_network(layers, normalizers.inputs(inputs)[None])[0, :, 2:]
    low, high = LOG_VARIANCE
    bounded = high - nn.functional.softplus(high - raw)
    variance = (low + nn.functional.softplus(bounded - low)).exp()
    deviation = variance.sqrt().mean(0) * normalizers.targets.deviation
    torch.testing.assert_close(deviation, torch.tensor(noise), rtol=0.15, atol=0.0)
    assert error(found, 0, data(seed=5)) < 0.3


def test_normalizers_of_each_task_or_of_the_first() -> None:
    small = data()
    large = replace(small, observation=10 * small.observation + 3)
    large = replace(large, next_observation=large.observation + small.next_observation)
    own, first = learner(), learner(normalizers="first_task")
    for found in (own, first):
        learn(found, [small, large], steps=2)
    for found, transitions in ((own, large), (first, small)):
        training, _ = samples(transitions, False)
        normalizers = found.normalizers[1]
        torch.testing.assert_close(normalizers.inputs.mean, training.inputs.mean(0))
        deviation = training.targets.std(0, correction=0)
        torch.testing.assert_close(normalizers.targets.deviation, deviation)
    torch.testing.assert_close(own.normalizers[0].inputs.mean, first.normalizers[0].inputs.mean)


def waves(sign: float, seed: int) -> Transitions:
    """Steps of a system that is not linear, and of its contrary."""
    mixed = torch.tensor([[1.5, 0.5], [-0.5, 1.0], [0.2, 1.0]])
    found = data(seed=seed)
    change = sign * torch.cat((found.observation, found.action), -1).matmul(mixed).sin()
    return replace(found, next_observation=found.observation + change)


CONTRARY = replace(HYPERNETWORK, embedding_size=2, learning_rate=5e-3)


KEEP: dict[str, MethodConfig] = {
    "hypernetwork": replace(CONTRARY, beta=10.0),
    "look-ahead": replace(CONTRARY, beta=10.0, look_ahead=True),
    "chunked": replace(CONTRARY, beta=10.0, chunk_size=40, layers=(32, 32)),
    "ewc": ElasticWeightsConfig(strength=1e6),
    "si": SynapticIntelligenceConfig(strength=1e6),
    "coreset": CoresetConfig(transitions=80),
    "multitask": CoresetConfig(transitions=0),
    "context": CoresetConfig(transitions=0, heads=False, context=True),
    "single": SingleConfig(),
}
FORGET: dict[str, MethodConfig] = {
    "hypernetwork": replace(CONTRARY, beta=0.0),
    "finetune": FinetuneConfig(),
    "one head": FinetuneConfig(heads=False),
    "ewc": ElasticWeightsConfig(strength=1e-3),
    "si": SynapticIntelligenceConfig(strength=1e-3),
}


def cases(methods: dict[str, MethodConfig], keeps: bool) -> list[Any]:
    """Parameters of a test; those that resemble others are slow together."""
    slow = {"look-ahead", "multitask", "context", "si"} if keeps else {"ewc", "si"}
    return [
        pytest.param(method, keeps, id=name, marks=[pytest.mark.slow] if name in slow else [])
        for name, method in methods.items()
    ]


@pytest.mark.parametrize(("method", "keeps"), [*cases(KEEP, True), *cases(FORGET, False)])
def test_a_contrary_task_leaves_the_first_one_or_not(method: MethodConfig, keeps: bool) -> None:
    if not isinstance(method, HypernetworkConfig):
        method = replace(method, learning_rate=2e-2)
    found = learner(method, layers=(32,), max_gradient_norm=50.0)
    learn(found, [waves(1.0, 0)], steps=450)
    before = error(found, 0, waves(1.0, 50))
    learn(found, [waves(-1.0, 20)], steps=450)
    after = error(found, 0, waves(1.0, 50))
    assert before < 0.35
    assert after < before + 0.1 if keeps else after > before + 0.5, (before, after)


def test_one_network_without_context_cannot_keep_both() -> None:
    found = learner(CoresetConfig(transitions=0, heads=False))
    learn(found, [data(), data(-1.0)], steps=300)
    # Their mean, zero, is the best that it can do.
    assert all(error(found, task, data(sign)) > 0.7 for task, sign in ((0, 1.0), (1, -1.0)))


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("coreset", "multitask")])
def test_only_what_is_kept_of_earlier_tasks_is_used(name: str) -> None:
    states: list[dict[str, Tensor]] = []
    for poison in (False, True):
        found = learner(METHODS[name])
        first, second = data(), data(-1.0)
        learn(found, [first], steps=5)
        if poison:
            for tensor in (first.observation, first.action, first.next_observation, first.reward):
                tensor.fill_(torch.nan)
        learn(found, [second], steps=5)
        states.append(found.state_dict()[0])
    assert equal(*states)
    kept = [n for n in states[0] if n.startswith("memory.")]
    assert bool(kept) == (name == "context")


@pytest.mark.parametrize("count", [10, 0, 10_000])
def test_what_a_coreset_keeps(count: int) -> None:
    training, _ = samples(data(), False)
    source = torch.Generator().manual_seed(0)
    memory = Memory(count)
    for task in range(2):
        memory.keep(task, training, source)
    size = 10 if count == 10 else 240
    assert [len(kept) for kept in memory.tasks.values()] == [size, size]
    for kept in memory.tasks.values():
        same = (kept.inputs[:, None] == training.inputs).all(-1)
        place = same.int().argmax(1)
        assert same.any(1).all() and len(place.unique()) == size
        assert torch.equal(kept.targets, training.targets[place])
    assert not torch.equal(memory.tasks[0].inputs, memory.tasks[1].inputs)
    none = Memory(None)
    none.keep(0, training, source)
    assert none.tasks == {}


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_fixes_everything(name: str) -> None:
    states: list[dict[str, Tensor]] = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(states))  # the global generator has no say
        found = learner(METHODS[name], seed)
        learn(found, [data(), data(-1.0)], steps=4)
        states.append(found.state_dict()[0])
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


def test_numbers_that_are_not_finite_are_refused() -> None:
    for name in ("observation", "action", "next_observation"):
        for value in (torch.nan, torch.inf):
            found = learner()
            found.begin_task()
            transitions = data()
            getattr(transitions, name)[5, 2, 0] = value
            with pytest.raises(ValueError, match="got NaN or infinite numbers; allowed: finite"):
                found.train(transitions, 1)
            with pytest.raises(ValueError, match="transitions: got NaN"):
                found.end_task(transitions)
    transitions = data()
    transitions.reward[0, 0] = torch.nan
    found = learner()
    found.begin_task()
    found.train(transitions, 1)  # a reward that nobody learns may be anything
    found = learner(reward="learned")
    found.begin_task()
    with pytest.raises(ValueError, match="transitions: got NaN"):
        found.train(transitions, 1)


EXTRAS: dict[str, dict[str, Any]] = {
    "members": {"members": 2},
    "gaussian": {"gaussian": True},
    "reward": {"reward": "learned"},
    "first_task": {"normalizers": "first_task"},
}


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((method, {}) for method in METHODS.values()),
        *((HYPERNETWORK, changes) for changes in EXTRAS.values()),
        *((METHODS[name], EXTRAS["members"]) for name in ("ewc", "si", "coreset", "single")),
    ],
    ids=[*METHODS, *EXTRAS, *(f"{name}, members" for name in ("ewc", "si", "coreset", "single"))],
)
def test_it_goes_on_bit_for_bit_in_the_middle_of_the_third_task(
    method: MethodConfig, changes: dict[str, Any], tmp_path: Path
) -> None:
    tasks = [data(), data(-1.0), data(0.5)]
    found = learner(method, 7, **changes)
    learn(found, tasks[:2], steps=4)
    found.begin_task()
    found.train(tasks[2], 5)
    write_checkpoint(tmp_path, 0, *found.state_dict())
    saved = read_latest(tmp_path)
    assert saved is not None
    assert any(n.startswith("moments.common") and n.endswith("exp_avg_sq") for n in saved.tensors)
    resumed = learner(method, 7, **changes)
    resumed.generator.manual_seed(99)
    resumed.load_state_dict(saved.tensors, saved.state)
    assert equal(resumed.state_dict()[0], found.state_dict()[0])
    for each in (found, resumed):
        each.train(tasks[2], 5)
        each.end_task(tasks[2])
        learn(each, [data(2.0)], steps=4)
    left, right = found.state_dict(), resumed.state_dict()
    assert equal(left[0], right[0]) and left[1] == right[1] == {"task": 3}
    assert not any(torch.equal(left[0][n], saved.tensors[n]) for n in left[0] if n == "generator")
    stored = found.stored(), resumed.stored()
    assert [list(each) for each in stored] == [list(stored[0])] * 2
    observation = normal(0, found.config.members, 8, 2)
    rows = torch.arange(8) % 4
    predictions = [
        each.dynamics(rows).predict(observation, normal(1, found.config.members, 8, 1))
        for each in (found, resumed)
    ]
    assert torch.equal(predictions[0].next_observation, predictions[1].next_observation)


def test_a_learner_that_has_begun_nothing_can_be_saved() -> None:
    found, other = learner(), learner(seed=1)
    other.load_state_dict(*found.state_dict())
    for each in (found, other):
        each.networks._seed = 0
        learn(each, [data()], steps=3)
    assert equal(found.state_dict()[0], other.state_dict()[0])


def test_other_networks_are_refused() -> None:
    found = learner()
    learn(found, [data()], steps=1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        learner(layers=(17,)).load_state_dict(*found.state_dict())
    tensors, state = found.state_dict()
    del tensors["errors.0"]
    with pytest.raises(KeyError):
        learner().load_state_dict(tensors, state)


def test_a_task_that_has_not_begun_gets_the_current_networks() -> None:
    found = learner()
    learn(found, [data(), data(-1.0)], steps=5)
    observation, action = normal(0, 1, 3, 2), normal(1, 1, 3, 1)
    predicted = found.dynamics(torch.tensor([1, 2, 4])).predict(observation, action)
    same = found.dynamics(torch.tensor([1])).predict(observation, action)
    torch.testing.assert_close(predicted.next_observation, same.next_observation)


def test_earlier_tasks_rest_or_are_rehearsed() -> None:
    """Heads of earlier tasks learn where data of them are kept, and only there."""
    for name, learns in (("finetune", False), ("ewc", False), ("multitask", True)):
        found = learner(METHODS[name])
        networks = found.networks
        assert isinstance(networks, SharedNetworks) and networks.heads is not None
        learn(found, [data()], steps=3)
        head = networks.heads[0].detach().clone()
        learn(found, [data(-1.0)], steps=3)
        assert torch.equal(networks.heads[0], head) != learns, name


def test_what_is_stored_for_what() -> None:
    expected = {
        "hypernetwork": {"hypernetwork", "embeddings", "regulariser targets"},
        "single": {"networks"},
        "finetune": {"networks"},
        "ewc": {"networks", "importance"},
        "si": {"networks", "importance"},
        "coreset": {"networks", "data"},
    }
    for name, categories in expected.items():
        found = learner(METHODS[name])
        learn(found, [data(), data(-1.0)], steps=2)
        stored = found.stored()
        assert stored.keys() == categories | {"normalisers", "optimiser"}
        parameters = sum(p.numel() for p in found.networks.parameters())
        named = ("hypernetwork", "networks", "embeddings")
        assert parameters == sum(t.numel() for c in named for t in stored.get(c, {}).values())
