"""Controllers of language environments: one token ahead, and as written before."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.language.feedback import GreedyPrompt, WrittenPrompt
from separatrix.controllers.language.problem import Problem
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment
from separatrix.envs.language import language_model
from separatrix.envs.language.dialogue import DialogueEnvironment
from separatrix.envs.language.prompt_environment import EditEnvironment, TokenEnvironment


def made(name: str, num_envs: int, **options: Any) -> Any:
    environment = make_environment(name, num_envs, **options)
    return environment, *environment.reset(0)


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_greedy_token_is_the_best_of_all_that_are_allowed(place: str) -> None:
    environment, state, observation = made("PromptToken-v0", 3, place=place)
    assert isinstance(environment, TokenEnvironment)
    for _ in range(2):  # with nothing written, and behind one token
        action = GreedyPrompt(environment).act(observation, state)
        step = environment.step(state, action)
        asked = Problem(environment.system.instances.arrangement, state.text, state.target)
        tokens = torch.arange(environment.system.model.vocabulary)[None, :, None].expand(3, -1, 1)
        length = int(state.length[0])
        known = state.prompt[:, None, :length].expand(-1, tokens.shape[1], -1)
        parts = (tokens, known) if place == "before" else (known, tokens)
        value, _ = asked.evaluate(torch.cat(parts, 2), torch.arange(3))
        best = value.masked_fill(~asked.allowed, -torch.inf).amax(1)
        torch.testing.assert_close(step.state.features[:, 0], best)
        state, observation = step.state, step.observation


def test_greedy_edits_never_make_it_worse() -> None:
    environment, state, observation = made("PromptEdit-v0", 2, prompt_length=2, candidates=12)
    assert isinstance(environment, EditEnvironment)
    greedy = GreedyPrompt(environment)
    for _ in range(3):
        step = environment.step(state, greedy.act(observation, state))
        assert (step.state.features[:, 0] >= state.features[:, 0] - 1e-6).all()
        state, observation = step.state, step.observation


def test_the_greedy_speaker_yields_unless_it_helps_enough() -> None:
    environment, state, observation = made("PromptDialogue-v0", 4)
    assert isinstance(environment, DialogueEnvironment)
    last = len(environment.candidates)
    assert (GreedyPrompt(environment, patience=1e30).act(observation, state) == last).all()
    writes = GreedyPrompt(environment, patience=1.0).act(observation, state)
    assert (writes < last).any()
    step = environment.step(state, writes)
    assert (step.state.features[:, 0] >= state.features[:, 0])[writes < last].all()


def test_looking_ahead_is_better_than_chance() -> None:
    environment, *_ = made("PromptToken-v0", 8)
    controllers = GreedyPrompt(environment), RandomController(environment)
    greedy, random = (evaluate(environment, c, torch.arange(8)) for c in controllers)
    assert greedy.returns.mean() > random.returns.mean() + 1


def test_written_prompts_are_written_and_begin_anew() -> None:
    environment, state, observation = made("PromptToken-v0", 2, place="after", prompt_length=3)
    choices = torch.tensor([[40, 41], [50, 51]])
    controller = WrittenPrompt(choices, after=60)
    for _ in range(2):
        controller.reset(torch.ones(2, dtype=torch.bool))
        following = state
        for _ in range(3):
            action = controller.act(observation, following)
            following = environment.step(following, action).state
        assert following.prompt.tolist() == [[40, 41, 60], [50, 51, 60]]


def test_what_is_read_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    environment, state, observation = made("PromptToken-v0", 2)
    whole = GreedyPrompt(environment).act(observation, state)
    monkeypatch.setattr(language_model, "ROWS", 7)
    assert GreedyPrompt(environment).act(observation, state).tolist() == whole.tolist()


def test_other_environments_and_patiences_are_refused() -> None:
    with pytest.raises(ValueError, match=r"greedy_prompt: got .*; allowed: PromptToken"):
        GreedyPrompt(make_environment("Lorenz-v0", 1))
    for patience in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"patience: got .*; allowed: positive numbers"):
            GreedyPrompt(make_environment("PromptToken-v0", 1), patience)
