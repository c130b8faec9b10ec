"""Searches for prompts beside the exact answers of a plant that can be enumerated."""

import itertools
import math

import pytest
import torch

from separatrix.controllers.language.coordinate_gradient import (
    CoordinateGradientConfig,
    coordinate_gradient,
    lengthen,
)
from separatrix.controllers.language.problem import Problem
from separatrix.controllers.language.reachable import (
    common_outputs,
    needed_prompts,
    sample_outputs,
)
from separatrix.controllers.language.searches import enumerate_outputs, grow, random_search
from separatrix.controllers.language.soft_search import soft_search
from separatrix.envs.language.models import find_model
from separatrix.envs.language.prompts import Arrangement

MODEL = find_model("character")
TEXTS = ("The value of the ", "is not a number, ", "in the same way, ")


def problem(targets: str = "bbb", place: str = "before") -> Problem:
    text = torch.tensor([MODEL.encode(text) for text in TEXTS])
    target = torch.tensor([MODEL.encode(letter) for letter in targets])
    return Problem(Arrangement(MODEL, place, 0), text, target)


@pytest.fixture(scope="module")
def exact() -> tuple[torch.Tensor, torch.Tensor]:
    """First choices under every prompt of one token, and the largest log-probabilities."""
    return enumerate_outputs(problem(), 1)


@pytest.mark.parametrize("place", ["before", "after"])
def test_one_greedy_token_is_the_best_of_all(place: str) -> None:
    asked = problem(place=place)
    _, largest = enumerate_outputs(asked, 1)
    found = grow(asked, 1)
    for row in range(3):
        target = asked.target[row, 0]
        if not found.hit[row]:
            # The target's own token may not be written, which enumeration allows.
            assert found.log_probability[row] <= largest[row, target] + 1e-6
            tokens = asked.allowed[row].nonzero()[:, 0]
            each, _ = asked.evaluate(tokens[None, :, None], torch.tensor([row]))
            assert found.log_probability[row] == each.max()
            assert len(found.prompts[row]) == 1


def test_texts_that_are_read_once_give_what_whole_texts_do() -> None:
    asked = problem(place="after")
    prompts = torch.randint(1, 90, (3, 5, 2), generator=torch.Generator().manual_seed(0))
    rows = torch.arange(3)
    value, hit = asked.evaluate(prompts, rows)
    length = torch.full((15,), 2)
    each = rows.repeat_interleave(5)
    whole, *_ = asked.arrangement.read(
        prompts.flatten(0, 1), length, asked.text[each], asked.goal[each]
    )
    torch.testing.assert_close(value.flatten(), whole.log_probability)
    assert torch.equal(hit.flatten(), whole.hit)
    assert asked.meter.tokens.tolist() == [1 + asked.text.shape[1] + 10] * 3
    asked.evaluate(prompts, rows)
    assert asked.meter.tokens.tolist() == [1 + asked.text.shape[1] + 20] * 3


def test_a_hit_is_found_where_there_is_one(exact: tuple[torch.Tensor, torch.Tensor]) -> None:
    tokens, wanted, expected = MODEL.writable.nonzero()[:, 0], "", []
    for choices in exact[0]:
        counts = torch.bincount(choices, minlength=MODEL.vocabulary)
        rarest = counts.masked_fill(counts == 0, 10**6).argmin()
        wanted += MODEL.decode([int(rarest)])
        # A prompt that is the target itself is forbidden.
        expected.append(bool(((choices == rarest) & (tokens != rarest)).any()))
    assert grow(problem(wanted), 1).hit.tolist() == expected and any(expected)


def test_enumeration_of_one_token_is_the_model_itself(
    exact: tuple[torch.Tensor, torch.Tensor],
) -> None:
    choices, largest = exact
    asked = problem()
    tokens = MODEL.writable.nonzero()[:, 0]
    assert choices.shape == (3, len(tokens)) and largest.shape == (3, MODEL.vocabulary)
    whole = [torch.tensor([0, int(tokens[7]), *MODEL.encode(text)]) for text in TEXTS]
    rows = torch.stack(whole)
    found = MODEL.log_probabilities(rows, torch.full((3,), rows.shape[1]))
    assert torch.equal(choices[:, 7], found.argmax(1))
    assert (largest >= found - 1e-6).all() and asked.instances == 3


def test_a_wider_beam_does_no_worse() -> None:
    narrow, wide = grow(problem("zqj"), 2), grow(problem("zqj"), 2, width=8)
    better = wide.log_probability >= narrow.log_probability - 1e-6
    assert (better | wide.hit).all()


def test_nothing_is_searched_where_the_model_says_the_target_already() -> None:
    asked = problem()
    length = torch.zeros(3, dtype=torch.int64)
    _, said, _ = asked.arrangement.read(asked.text[:, :0], length, asked.text, asked.goal)
    same = Problem(asked.arrangement, asked.text, said[:, 0].argmax(1, keepdim=True))
    found = coordinate_gradient(same, 2)
    assert found.hit.all() and all(len(prompt) == 0 for prompt in found.prompts)


@pytest.mark.parametrize("place", ["before", "after"])
def test_distributions_are_approached(place: str) -> None:
    asked = problem(place=place)
    prompt = torch.tensor([[40, 41]] * 3)
    length = torch.full((3,), 2)
    # What the model says under a prompt is what another search is to find again.
    _, said, _ = asked.arrangement.read(prompt, length, asked.text, asked.goal)
    wanted = said[:, 0]
    same = Problem(asked.arrangement, asked.text, wanted.argmax(1, keepdim=True), False, wanted)
    value, hit = same.evaluate(prompt[:, None], torch.arange(3))
    assert hit.all() and (value > -1e-5).all()
    bare, _ = same.evaluate(prompt[:, None, :0], torch.arange(3))
    same.tolerance = 1e-3
    found = coordinate_gradient(same, 2, CoordinateGradientConfig(iterations=4))
    assert (found.log_probability >= bare[:, 0]).all()
    assert (found.hit == (found.log_probability >= -1e-3)).all()


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_gradient_is_that_of_one_hot_rows(place: str) -> None:
    model = find_model("character", "cpu", torch.float64)
    asked = Problem(Arrangement(model, place, 0), problem().text, problem().target)
    prompts = torch.tensor([[5, 9], [20, 3], [40, 41]])
    found = asked.gradient(prompts, torch.arange(3))
    each = torch.full((3,), 2)
    tokens, lengths = asked.arrangement.tokens(prompts, each, asked.text, asked.target)
    one_hot = torch.nn.functional.one_hot(tokens, model.vocabulary).double().requires_grad_()
    log_probabilities = model.log_probabilities_of(one_hot @ model.embedding, lengths)
    chosen = log_probabilities.gather(2, asked.target[..., None])
    (slope,) = torch.autograd.grad(chosen.sum(), one_hot)
    first = 1 if place == "before" else 1 + asked.text.shape[1]
    torch.testing.assert_close(found, slope[:, first : first + 2], atol=1e-12, rtol=1e-9)


def test_coordinate_gradients_never_lose_what_was_reached() -> None:
    values = []
    for iterations in (0, 2, 4, 8):
        config = CoordinateGradientConfig(iterations=iterations, candidates=16, proposed=32)
        found = coordinate_gradient(problem("zqj"), 3, config)
        values.append(torch.where(found.hit, 0.0, found.log_probability))
    for before, after in itertools.pairwise(values):
        assert (after >= before).all()
    assert (values[-1] > values[0]).any()


def test_a_hit_is_confirmed_by_itself() -> None:
    found = coordinate_gradient(problem("nsc"), 2)
    asked = problem("nsc")
    for row in range(3):
        if found.hit[row]:
            rows = torch.tensor([row])
            assert asked.confirm(found.prompts[row][None], rows)[0]
    assert found.hit.any()


def test_the_same_seed_finds_the_same_prompts() -> None:
    config = CoordinateGradientConfig(iterations=3, candidates=16)
    first, second, other = (
        coordinate_gradient(problem("zqj"), 3, config, seed=seed) for seed in (1, 1, 2)
    )
    assert all(map(torch.equal, first.prompts, second.prompts))
    assert not all(map(torch.equal, first.prompts, other.prompts))


def test_instances_do_not_depend_on_their_neighbours() -> None:
    together = grow(problem("zqj"), 2)
    for row, letter in enumerate("zqj"):
        asked = problem("zqj")
        alone = Problem(asked.arrangement, asked.text[row : row + 1], asked.target[row : row + 1])
        found = grow(alone, 2)
        assert torch.equal(found.prompts[0], together.prompts[row]), letter
        assert found.tokens[0] == together.tokens[row]


def test_what_was_asked_is_counted() -> None:
    asked = problem("zqj")
    random_search(asked, 2, prompts=100)
    # The text without a prompt, and a hundred prompts: sink, prompt and text.
    expected = (1 + 17) + 100 * (1 + 2 + 17)
    assert asked.meter.tokens.tolist() == [expected] * 3
    assert asked.meter.prompts.tolist() == [101] * 3
    coordinate_gradient(asked, 2, CoordinateGradientConfig(iterations=1, candidates=8))
    assert (asked.meter.gradient_tokens == 1 + 2 + 17).all()


def test_lengths_are_searched_in_turn() -> None:
    asked = problem("nzc")
    found, needed = lengthen(asked, (1, 2), CoordinateGradientConfig(iterations=4))
    assert set(needed.tolist()) <= {-1, 0, 1, 2}
    for row in range(3):
        assert (needed[row] >= 0) == found.hit[row]
        if needed[row] > 0:
            assert len(found.prompts[row]) == needed[row]


def test_vectors_do_at_least_what_their_nearest_tokens_do() -> None:
    found = soft_search(problem("zqj"), 2, steps=40)
    assert (found.log_probability >= found.nearest.log_probability - 1e-5).all()
    assert found.hit.all()
    with pytest.raises(ValueError, match="place: got 'after'; allowed: 'before'"):
        soft_search(problem(place="after"), 2)


def test_prompts_hold_no_token_that_is_not_allowed() -> None:
    asked = problem("nsc")
    found = grow(asked, 2, width=4)
    for row in range(3):
        for token in found.prompts[row]:
            assert asked.allowed[row, token]


def test_as_many_prompts_as_are_needed_find_what_is_not_rare(
    exact: tuple[torch.Tensor, torch.Tensor],
) -> None:
    share, confidence, repeats = 0.02, 0.9, 60
    count = needed_prompts(share, confidence, MODEL.vocabulary)
    assert count == math.ceil(math.log(0.1 / 50) / math.log(0.98))
    common = [common_outputs(choices, share, MODEL.vocabulary) for choices in exact[0]]
    generator, covered = torch.Generator().manual_seed(0), 0
    for _ in range(repeats):
        sampled = sample_outputs(problem(), 1, count, generator)
        for wanted, choices in zip(common, sampled, strict=True):
            seen = torch.bincount(choices, minlength=MODEL.vocabulary) > 0
            covered += bool((seen | ~wanted).all())
    assert covered >= confidence * 3 * repeats


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1])
def test_probabilities_that_are_none_are_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"probability: got .*; allowed: above 0, below 1"):
        needed_prompts(probability, 0.9, 10)
