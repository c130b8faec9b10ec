"""The four environments: what actions do, what is rewarded, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

import separatrix  # noqa: F401
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.actions import draw_actions
from separatrix.envs.core.registration import make_environment
from separatrix.envs.language.dialogue import DialogueEnvironment
from separatrix.envs.language.prompt_environment import EditEnvironment, TokenEnvironment

PROMPTS = ("PromptToken-v0", "PromptEdit-v0", "PromptDialogue-v0")


def token_environment(num_envs: int = 4, **options: Any) -> TokenEnvironment:
    made = make_environment("PromptToken-v0", num_envs, **options)
    assert isinstance(made, TokenEnvironment)
    return made


def dialogue_environment(num_envs: int, **options: Any) -> DialogueEnvironment:
    made = make_environment("PromptDialogue-v0", num_envs, **options)
    assert isinstance(made, DialogueEnvironment)
    return made


@pytest.mark.parametrize("place", ["before", "after"])
def test_tokens_are_written_where_they_should(place: str) -> None:
    environment = token_environment(2, place=place, forbid_target=False, fixed_text="It was ")
    state, _ = environment.reset(0)
    encode = environment.system.model.encode
    for letter in "abc":
        action = torch.tensor(encode(letter)).expand(2)
        state = environment.step(state, action).state
    prompt = "cba" if place == "before" else "abc"
    parts = [(prompt, True), ("It was ", False)]
    assert environment.parts(state) == (parts if place == "before" else parts[::-1])


def test_a_prompt_grows_no_longer_than_it_may() -> None:
    environment = token_environment(3, prompt_length=2, forbid_target=False)
    state, observation = environment.reset(0)
    assert (observation[:, -1] == 1).all()
    action = torch.tensor(environment.system.model.encode("x")).expand(3)
    for expected in (1, 2, 2):
        transition = environment.step(state, action)
        state = transition.state
        assert (state.length == expected).all()
        assert (transition.observation[:, -1] == 1 - expected / 2).all()
    assert (transition.info["written"] == 0).all()


def test_what_may_not_be_written_changes_nothing() -> None:
    environment = token_environment(8)
    state, _ = environment.reset(0)
    allowed = environment.allowed_actions(state)
    rows = torch.arange(8)
    assert not allowed[rows, state.target[:, 0]].any() and not allowed[:, 0].any()
    assert (allowed.sum(1) == environment.system.model.vocabulary - 2).all()
    for action in (state.target[:, 0], torch.zeros(8, dtype=torch.int64)):
        transition = environment.step(state, action)
        assert torch.equal(transition.state.length, state.length)
        torch.testing.assert_close(transition.reward, torch.zeros(8))


@pytest.mark.parametrize("name", PROMPTS)
def test_rewards_add_up_to_the_gain(name: str) -> None:
    environment = make_environment(name, 64, price=0.25, target_rank=3)
    state, _ = environment.reset(0)
    start = state.features[:, 0]
    generator = torch.Generator().manual_seed(0)
    total, alive = torch.zeros(64), torch.ones(64, dtype=torch.bool)
    written, end, hit = torch.zeros(64), start.clone(), torch.zeros(64, dtype=torch.bool)
    space = environment.action_space
    for _ in range(environment.horizon):
        shape = (64, *environment.action_shape)
        high = torch.as_tensor(getattr(space, "nvec", getattr(space, "n", None)))
        action = (torch.rand(shape, generator=generator) * high).long()
        state, _, reward, terminated, info = environment.step(state, action)
        total += alive * reward
        written += alive * info["written"]
        end = torch.where(alive, torch.where(terminated, 0.0, state.features[:, 0]), end)
        hit |= alive & terminated
        alive &= ~terminated
    assert 0 < hit.sum() < 64
    expected = end - start + hit.float() - 0.25 * written
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-4)


def test_rewards_can_be_for_hits_alone() -> None:
    environment = make_environment("PromptToken-v0", 64, reward="hit", target_rank=2)
    found = evaluate(environment, RandomController(environment), torch.arange(64))
    assert set(found.returns.tolist()) == {0.0, 1.0}
    hits = found.metrics["hit"] * found.lengths
    torch.testing.assert_close(found.returns, hits.to(found.returns))


def test_a_hit_is_what_the_model_says_first() -> None:
    environment = token_environment(128, target_rank=2)
    state, _ = environment.reset(0)
    action = torch.arange(128) % 94 + 1
    following = environment.step(state, action).state
    arrangement = environment.system.instances.arrangement
    tokens, lengths = arrangement.tokens(
        following.prompt, following.length, following.text, following.target
    )
    first = environment.system.model.log_probabilities(tokens, lengths).argmax(1)
    assert torch.equal(following.hit, first == following.target[:, 0])
    assert 0 < following.hit.sum() < 128


def test_edits_replace_one_token() -> None:
    environment = make_environment("PromptEdit-v0", 5)
    assert isinstance(environment, EditEnvironment)
    state, _ = environment.reset(0)
    assert environment.system.model.writable[state.prompt].all()
    assert not (state.prompt == state.target).any()
    token = torch.tensor(environment.system.model.encode("#"))
    action = torch.stack((torch.arange(5) % 4, token.expand(5)), 1)
    after = environment.step(state, action).state.prompt
    rows = torch.arange(5)
    assert (after[rows, rows % 4] == token).all()
    assert (after != state.prompt).sum(1).max() <= 1


def test_a_dialogue_is_written_in_turns() -> None:
    environment = make_environment("PromptDialogue-v0", 4, fixed_text="It is ", turns=3)
    assert isinstance(environment, DialogueEnvironment)
    model, state = environment.system.model, environment.reset(0)[0]
    letter = torch.tensor(model.encode("q")).expand(4)
    state = environment.step(state, letter).state
    assert model.decode(state.text[0, :7].tolist()) == "It is q"
    assert (state.heard == -1).all()
    last = torch.full((4,), int(environment.action_space.n) - 1)
    following = environment.step(state, last).state
    assert (following.heard[:, 0] == following.text[:, 7]).all()
    assert (following.length == 8).all()


def test_the_model_draws_from_its_own_distribution() -> None:
    environment = dialogue_environment(20_000, fixed_text="The ")
    state, _ = environment.reset(0)
    expected = state.following[0].exp()
    last = torch.full((20_000,), len(environment.candidates))
    drawn = environment.step(state, last).state.heard[:, 0]
    share = torch.bincount(drawn, minlength=len(expected)) / 20_000
    deviation = (expected * (1 - expected) / 20_000).sqrt()
    assert ((share - expected).abs() <= 5 * deviation + 1e-4).all()


def test_without_temperature_the_likeliest_token_is_written() -> None:
    environment = dialogue_environment(50, temperature=0)
    state, _ = environment.reset(0)
    last = torch.full((50,), len(environment.candidates))
    assert torch.equal(environment.step(state, last).state.heard[:, 0], state.following.argmax(1))


def test_writing_the_target_oneself_is_no_hit() -> None:
    environment = make_environment("PromptDialogue-v0", 50, forbid_target=False)
    state, _ = environment.reset(0)
    transition = environment.step(state, state.target[:, 0])
    assert not transition.terminated.any()


def test_vectors_are_moved_and_differentiable() -> None:
    environment = make_environment("SoftPrompt-v0", 3, dtype="float64")
    state, _ = environment.reset(0)
    action = torch.zeros((3, *environment.action_shape), dtype=torch.float64)
    action.requires_grad_()
    transition = environment.step(state, action)
    transition.reward.sum().backward()
    gradient = action.grad
    assert gradient is not None and gradient.abs().sum() > 0
    direction = torch.randn(
        action.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    step = 1e-5
    ends = [environment.step(state, s * step * direction).reward for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(1), slope, atol=1e-6, rtol=1e-6)


def test_following_the_gradient_of_vectors_hits() -> None:
    environment = make_environment("SoftPrompt-v0", 16)
    random = evaluate(environment, RandomController(environment), torch.arange(16))
    by_chance = (random.metrics["hit"] > 0).double().mean()
    state, _ = environment.reset(0)
    hit = torch.zeros(16, dtype=torch.bool)
    for _ in range(environment.horizon):
        action = torch.zeros((16, *environment.action_shape), requires_grad=True)
        reward = environment.step(state, action).reward
        (gradient,) = torch.autograd.grad(reward.sum(), action)
        with torch.no_grad():
            state = environment.step(state, gradient.sign()).state
        hit |= state.hit
    assert hit.double().mean() > max(0.5, 2 * by_chance.item())


def test_candidates_are_a_fixed_choice() -> None:
    first, second = (token_environment(2, candidates=10) for _ in range(2))
    assert torch.equal(first.candidates, second.candidates)
    assert len(first.candidates.unique()) == 10
    assert first.system.model.writable[first.candidates].all()
    assert first.action_space.n == 10


def test_tokens_can_be_seen() -> None:
    environment = token_environment(2, observation="tokens", prompt_length=3)
    state, observation = environment.reset(0)
    vocabulary = environment.system.model.vocabulary
    tokens = observation[:, 6:] * vocabulary
    expected = torch.cat((state.text, torch.full((2, 3), -1), state.target), 1)
    torch.testing.assert_close(tokens, expected.float())


@pytest.mark.parametrize("name", ["PromptToken-v0", "PromptEdit-v0", "SoftPrompt-v0"])
def test_rewards_grow_as_a_distribution_is_approached(name: str) -> None:
    environment = make_environment(name, 8, target="distribution", tolerance=5.0)
    state, _ = environment.reset(0)
    action = draw_actions(environment, 8, torch.Generator().manual_seed(0))
    step = environment.step(state, action)
    divergence = [-each.features[:, 0] for each in (state, step.state)]
    assert (divergence[0] > 0).all()
    hit = divergence[1] <= 5.0
    assert torch.equal(step.terminated, hit)
    potential = divergence[1] if name == "SoftPrompt-v0" else divergence[1].masked_fill(hit, 0.0)
    torch.testing.assert_close(step.reward, divergence[0] - potential + hit)


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("PromptToken-v0", "place", "above", "place: got 'above'; allowed: before, after"),
        ("PromptToken-v0", "model", "no/such", "model: got 'no/such'"),
        ("PromptToken-v0", "model", 3, "model: got 3; allowed: character, smollm2"),
        ("PromptToken-v0", "candidates", 95, "allowed: None, or an integer from 1 to 94"),
        ("PromptToken-v0", "candidates", 0, "got 0; allowed: None, or an integer from 1 to 65535"),
        ("PromptToken-v0", "texts", 0.0, "texts: got 0.0; allowed: sentences, python"),
        ("PromptToken-v0", "texts", ["a"], "texts: got .*; allowed: sentences, python"),
        ("PromptToken-v0", "model", ["a"], "model: got .*; allowed: character, smollm2"),
        ("PromptToken-v0", "target", np.zeros(2), "target: got .*; allowed: truth, top"),
        ("PromptToken-v0", "sink", np.zeros(2), "sink: got .*; allowed: 'auto', None"),
        ("PromptToken-v0", "reward", "big", "reward: got 'big'; allowed: gain, hit"),
        ("PromptToken-v0", "price", -1, "price: got -1; allowed: a number from 0 to 1000"),
        ("PromptToken-v0", "observation", "all", "allowed: features, tokens"),
        ("PromptToken-v0", "prompt_length", 0, "prompt_length: got 0; allowed: an integer"),
        ("PromptToken-v0", "prompt_length", 80, "got 97 tokens of sink, text"),
        ("PromptEdit-v0", "forbid_target", 1, "forbid_target: got 1; allowed: True, False"),
        (
            "PromptDialogue-v0",
            "temperature",
            -0.5,
            "temperature: got -0.5; allowed: a number from 0",
        ),
        ("SoftPrompt-v0", "authority", 0, "authority: got 0; allowed: a number from 0.001"),
        ("PromptDialogue-v0", "target", "distribution", "target: got 'distribution'; allowed"),
        ("PromptToken-v0", "tolerance", 0, "tolerance: got 0; allowed: a number from 0.001 to 10"),
        ("SoftPrompt-v0", "backend", "numba", "unknown backend 'numba'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    name: str, option: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_environment(name, 2, **{option: value})


@pytest.mark.parametrize("name", [*PROMPTS, "SoftPrompt-v0"])
def test_pictures_show_the_text(name: str) -> None:
    environment = make_environment(name, 2)
    state, _ = environment.reset(0)
    picture = environment.render(state)
    assert picture.shape == (240, 420, 3)
    assert len({tuple(colour) for colour in picture.reshape(-1, 3).tolist()}) > 2


@pytest.mark.parametrize("target_length", [1, 2])
@pytest.mark.parametrize("name", ["PromptToken-v0", "PromptDialogue-v0"])
def test_texts_that_are_read_on_are_what_whole_texts_are(name: str, target_length: int) -> None:
    options: dict[str, Any] = {"target": "truth", "target_length": target_length}
    if name == "PromptToken-v0":
        options |= {"place": "after", "prompt_length": 3}
    environment: Any = make_environment(name, 4, **options)
    arrangement = environment.system.instances.arrangement
    state, _ = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        action = torch.randint(95, (4,), generator=generator)
        action[step % 4] = 0  # which is no text: nothing is written, or the model goes on
        state = environment.step(state, action).state
        none = state.text[:, :0]
        prompt, text = (state.prompt, state.text) if options.get("place") else (state.text, none)
        goal = environment.system.goal(state)
        whole, _, lengths = arrangement.read(prompt, state.length, text, goal, state.uncontrolled)
        torch.testing.assert_close(state.features, whole.features, atol=2e-5, rtol=1e-4)
        assert (state.forward_tokens == target_length).all() and (lengths > 16).all()


@pytest.mark.parametrize(
    "options",
    [
        {"fixed_text": "The river ", "target_rank": 3, "authority": 2.0},
        {"text_length": 3, "target_rank": 3, "authority": 2.0, "observation": "features"},
        {"target": "distribution", "tolerance": 5.0},
    ],
)
def test_rewards_of_vectors_follow_from_observations(options: dict[str, Any]) -> None:
    environment = make_environment("SoftPrompt-v0", 8, **options)
    state, observation = environment.reset(0)
    generator, hits = torch.Generator().manual_seed(0), 0
    for _ in range(10):
        action = 2 * torch.rand((8, *environment.action_shape), generator=generator) - 1
        step = environment.step(state, action)
        found = environment.known_outcome(observation, action, step.observation)
        torch.testing.assert_close(found[0], step.reward, atol=1e-4, rtol=1e-4)
        assert torch.equal(found[1], step.terminated)
        hits += int(step.terminated.sum())
        state, observation = step.state, step.observation
    assert hits
