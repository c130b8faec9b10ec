"""How texts, prompts and targets are put together, drawn and read."""

import itertools
from typing import Any

import pytest
import torch

from separatrix.envs.core.stream import Stream
from separatrix.envs.language.instances import Instances
from separatrix.envs.language.models import find_model
from separatrix.envs.language.prompts import Arrangement, read_sink
from separatrix.envs.language.reading import Goal, read
from separatrix.envs.language.texts import read_text, read_tokens

MODEL = find_model("character")


def instances(**changes: Any) -> Instances:
    options: dict[str, Any] = {
        "source": "sentences",
        "text_length": 12,
        "target": "top",
        "target_length": 1,
        "target_rank": 20,
    }
    return Instances(Arrangement(MODEL, "before", 0), **{**options, **changes})


def streams(count: int) -> Stream:
    return Stream.start(torch.arange(count))


@pytest.mark.parametrize("sink", [None, 0])
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_row_holds_what_it_should_in_its_order(place: str, sink: int | None) -> None:
    arrangement = Arrangement(MODEL, place, sink)
    prompt, length = torch.tensor([[11, 12, 13], [14, 15, 16]]), torch.tensor([2, 0])
    text, target = torch.tensor([[21, 22], [23, 24]]), torch.tensor([[31, 32], [33, 34]])
    tokens, lengths = arrangement.tokens(prompt, length, text, target)
    first = [] if sink is None else [sink]
    middle = [[11, 12, 21, 22], [23, 24]] if place == "before" else [[21, 22, 11, 12], [23, 24]]
    for row, expected in enumerate(middle):
        counted = tokens[row, : lengths[row]].tolist()
        assert counted == [*first, *expected, [31, 33][row]]


def test_a_reading_tells_what_the_model_says() -> None:
    probabilities = torch.tensor([[[0.5, 0.3, 0.2]], [[0.2, 0.2, 0.6]]]).double()
    uncontrolled = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]).double()
    found = read(probabilities.log(), Goal(torch.tensor([[1], [2]])), uncontrolled.log())
    torch.testing.assert_close(found.log_probability.exp(), torch.tensor([0.3, 0.6]).double())
    assert found.rank.tolist() == [2, 1] and found.hit.tolist() == [False, True]
    torch.testing.assert_close(found.margin.exp(), torch.tensor([0.6, 1.0]).double())
    expected = torch.distributions.Categorical(probabilities[:, 0])
    torch.testing.assert_close(found.entropy, expected.entropy())
    other = torch.distributions.Categorical(uncontrolled)
    divergence = torch.distributions.kl_divergence(expected, other)
    torch.testing.assert_close(found.divergence, divergence)


def test_a_target_of_several_tokens_is_read_token_by_token() -> None:
    probabilities = torch.tensor([[[0.7, 0.3], [0.1, 0.9]], [[0.7, 0.3], [0.9, 0.1]]]).double()
    uncontrolled = torch.full((2, 2), 0.5).double().log()
    found = read(probabilities.log(), Goal(torch.tensor([[0, 1], [0, 1]])), uncontrolled)
    torch.testing.assert_close(found.log_probability.exp(), torch.tensor([0.63, 0.07]).double())
    assert found.hit.tolist() == [True, False] and found.rank.tolist() == [1, 2]


def test_a_distribution_is_read_by_its_divergence() -> None:
    wanted = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).double()
    said = torch.tensor([[[0.4, 0.4, 0.2]], [[0.6, 0.2, 0.2]]]).double()
    goal = Goal(wanted.argmax(1, keepdim=True), wanted.log(), tolerance=0.05)
    found = read(said.log(), goal, said[:, 0].log())
    each = (torch.distributions.Categorical(part) for part in (wanted, said[:, 0]))
    divergence = torch.distributions.kl_divergence(*each)
    torch.testing.assert_close(-found.log_probability, divergence)
    assert found.hit.tolist() == [True, False]
    same = read(wanted[:, None].log(), goal, wanted.log())
    assert same.hit.all() and (same.log_probability.abs() < 1e-12).all()


@pytest.mark.parametrize("rule", ["truth", "top", "uniform", "random"])
def test_targets_follow_their_rule(rule: str) -> None:
    drawn = instances(target=rule)
    text, goal, uncontrolled, reading, _ = drawn.draw(streams(200))[0]
    rank, target = reading.rank, goal.target
    if rule == "truth":
        source = MODEL.decode(read_tokens("sentences", MODEL, 1).tolist())
        for row in range(20):
            whole = MODEL.decode([*text[row].tolist(), *target[row].tolist()])
            assert whole in source
    elif rule == "top":
        assert rank.min() == 2 and rank.max() == 20 and len(rank.unique()) == 19
    elif rule == "uniform":
        assert rank.min() >= 2 and rank.median() > 30
    assert MODEL.writable[target].all()
    index = torch.arange(200)
    torch.testing.assert_close(reading.log_probability, uncontrolled[index, target[:, 0]])


def test_pairs_are_the_same_for_the_same_seed_alone_and_in_a_batch() -> None:
    drawn = instances(target="uniform")
    together, _ = drawn.draw(streams(7))
    alone, _ = drawn.draw(Stream.start(torch.tensor([4])))
    assert torch.equal(together.text[4:5], alone.text)
    assert torch.equal(together.goal.target[4:5], alone.goal.target)
    assert torch.equal(together.uncontrolled[4:5], alone.uncontrolled)


def test_distributions_are_those_behind_other_texts() -> None:
    drawn, _ = instances(target="distribution").draw(streams(30))
    wanted = drawn.goal.wanted
    assert wanted is not None
    torch.testing.assert_close(wanted.exp().sum(1), torch.ones(30))
    assert torch.equal(wanted.argmax(1), drawn.goal.target[:, 0])
    assert not torch.equal(wanted, drawn.uncontrolled)
    divergence = (wanted.exp() * (wanted - drawn.uncontrolled)).sum(1)
    torch.testing.assert_close(-drawn.reading.log_probability, divergence, atol=1e-4, rtol=1e-4)


def test_texts_and_targets_can_be_given() -> None:
    drawn = instances(fixed_text="The sea is ", fixed_target="gr")
    text, goal, *_ = drawn.draw(streams(3))[0]
    assert MODEL.decode(text[1].tolist()) == "The sea is "
    assert MODEL.decode(goal.target[2].tolist()) == "gr"
    assert (drawn.text_tokens, drawn.target_tokens) == (11, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target": "best"},
            "target: got 'best'; allowed: truth, top, uniform, random, ",
        ),
        ({"text_length": 0}, "text_length: got 0; allowed: an integer from 1 to 65535"),
        ({"target_rank": 1}, "target_rank: got 1; allowed: an integer from 2"),
        ({"target_length": 2}, "target_length: got 2; allowed: 1, or target 'truth' or 'random'"),
        ({"source": "nowhere.txt"}, "texts: got 'nowhere.txt'; allowed: sentences, python, or"),
        ({"text_length": 60_000}, "has [0-9]+ tokens; allowed: 60001 or more"),
        ({"fixed_text": ""}, "fixed_text: got ''; allowed: None, or a text"),
        ({"fixed_target": "ä"}, "fixed_target: got the character 'ä'"),
        ({"fixed_text": "x", "target": "truth"}, "for a fixed text, which nothing follows"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        instances(**changes)


def test_a_file_of_ones_own_is_read(tmp_path: Any) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("one text of my own, which is long enough\n")
    text, *_ = instances(source=str(path)).draw(streams(5))[0]
    assert MODEL.decode(text[0].tolist()) in path.read_text()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="or the path of a text file in UTF-8"):
        read_text(str(path))


@pytest.mark.parametrize("sink", ["first", 95, -1, 1.5, True])
def test_a_sink_that_is_no_token_is_refused(sink: Any) -> None:
    with pytest.raises(ValueError, match=r"sink: got .*; allowed: 'auto', None, or a token from 0"):
        read_sink(MODEL, sink)


def test_the_sentences_are_two_hundred_of_plain_ascii() -> None:
    lines = read_text("sentences").splitlines()
    assert len(lines) == 200 and len(set(lines)) == 200
    assert all(line.isascii() and line.endswith(".") for line in lines)
    assert not any(a == b for a, b in itertools.pairwise(lines))
