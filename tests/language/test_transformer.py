"""Our decoder beside that of transformers, and what batches and memories must not change."""

import pytest
import torch

from separatrix.envs.language import character_training
from separatrix.envs.language.character_model import load_character_model
from separatrix.envs.language.llama import LlamaModel, Tokenizer
from separatrix.envs.language.transformer import Shape, Transformer

SHAPE = Shape(
    vocabulary=50, width=32, layers=3, heads=4, key_heads=2, hidden=40, context=24, rotary_base=5e4
)


@pytest.fixture(scope="module")
def model() -> LlamaModel:
    return load_character_model()


def random_texts(model: LlamaModel, rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(model.vocabulary, (rows, tokens), generator=generator)
    return texts, torch.randint(1, tokens + 1, (rows,), generator=generator)


def test_equals_the_decoder_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.width,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.key_heads,
        intermediate_size=SHAPE.hidden,
        max_position_embeddings=SHAPE.context,
        rms_norm_eps=SHAPE.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": SHAPE.rotary_base},
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(config).double().eval()
    stored = theirs.state_dict()
    names = {
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "out": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    }

    def stacked(name: str) -> torch.Tensor:
        parts = [stored[f"model.layers.{i}.{name}.weight"] for i in range(SHAPE.layers)]
        return torch.stack([part.T if part.ndim == 2 else part for part in parts])

    ours = Transformer(SHAPE).double()
    ours.load(
        {
            "embedding": stored["model.embed_tokens.weight"],
            "last_norm": stored["model.norm.weight"],
            "norms.attention": stacked("input_layernorm"),
            "norms.feed_forward": stacked("post_attention_layernorm"),
            **{f"weights.{name}": stacked(theirs_name) for name, theirs_name in names.items()},
        }
    )
    tokens = torch.randint(SHAPE.vocabulary, (3, 17))
    with torch.no_grad():
        expected = theirs(tokens).logits
        found = ours.logits(ours(ours.embedding[tokens]))
    # Cosines and sines of theirs are in single precision.
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-6)


def test_a_text_gives_the_same_bits_in_every_batch(model: LlamaModel) -> None:
    texts, lengths = random_texts(model, 40, 20)
    together = model.log_probabilities(texts, lengths)
    for size in (1, 3, 7):
        parts = zip(texts.split(size), lengths.split(size), strict=True)
        apart = torch.cat([model.log_probabilities(*part) for part in parts])
        assert torch.equal(together, apart), size


def test_what_stands_behind_a_text_changes_nothing(model: LlamaModel) -> None:
    texts, lengths = random_texts(model, 40, 20)
    behind = torch.arange(20) >= lengths[:, None]
    other = torch.where(behind, 5, texts)
    assert not torch.equal(other, texts)
    found = model.log_probabilities(other, lengths)
    assert torch.equal(found, model.log_probabilities(texts, lengths))


def test_probabilities_add_up_to_one(model: LlamaModel) -> None:
    found = model.log_probabilities(*random_texts(model, 10, 20))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(10))


def test_earlier_positions_are_those_of_shorter_texts(model: LlamaModel) -> None:
    texts, _ = random_texts(model, 5, 12)
    lengths = torch.full((5,), 12)
    found = model.log_probabilities_of(model.embedding[texts], lengths, count=3)
    for back in range(3):
        shorter = model.log_probabilities(texts, lengths - back)
        torch.testing.assert_close(found[:, 2 - back], shorter, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("separate", [True, False])
def test_a_memory_changes_nothing(separate: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    decoder = Transformer(SHAPE, separate=separate).double()
    decoder.initialize(generator)
    with torch.no_grad():
        decoder.embedding.normal_(generator=generator)
        for weight in decoder.weights.values():
            weight.normal_(0, 0.3, generator=generator)
    writable = torch.ones(SHAPE.vocabulary, dtype=torch.bool)
    model = LlamaModel("made up", decoder, _Numbers(), writable, sink=0)
    texts, _ = random_texts(model, 6, 14)
    texts[:, :5] = texts[0, :5]
    lengths = torch.tensor([14, 6, 8, 14, 9, 11])
    whole = model.log_probabilities(texts, lengths)
    memory = model.remember(texts[0, :5])
    found = model.log_probabilities_after(memory, texts[:, 5:], lengths - 5)
    torch.testing.assert_close(found, whole, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_text_that_is_read_on_gives_the_same_bits_in_every_batch(
    model: LlamaModel, threads: int
) -> None:
    before, texts = torch.get_num_threads(), random_texts(model, 5, 20)[0]
    torch.set_num_threads(threads)
    try:
        for count in (1, 3):
            known = torch.tensor([17, 12, 15, 17, 16])
            memory = model.begin(texts[:, :17], 24)
            found, after = model.go_on(memory, known, texts[:, 17 : 17 + count])
            for i in range(5):
                row = slice(i, i + 1)
                alone = model.go_on(memory[row].clone(), known[row], texts[row, 17 : 17 + count])
                assert torch.equal(alone[0], found[row]) and torch.equal(alone[1], after[row])
    finally:
        torch.set_num_threads(before)


class _Numbers(Tokenizer):
    def encode(self, text: str) -> list[int]:
        return [int(part) for part in text.split()]

    def decode(self, tokens: object) -> str:
        return " ".join(map(str, tokens))  # type: ignore[call-overload]


def test_characters_make_the_round_trip(model: LlamaModel) -> None:
    text = "The river flows; 3 < 4!\n"
    assert model.decode(model.encode(text)) == text
    assert not model.writable[0] and model.writable[1:].all()
    with pytest.raises(ValueError, match=r"got the character 'é'; allowed: plain ASCII"):
        model.encode("café")


def test_the_shipped_model_has_learned_english(model: LlamaModel) -> None:
    # 1.07 nats a character of held-out documentation, when it was trained; log 94 is 4.54.
    text = "The return value of the function is a new object, not a copy of it."
    tokens = torch.tensor([[0, *model.encode(text)]])
    lengths = torch.tensor([tokens.shape[1] - 1])
    count = 50
    found = model.log_probabilities_of(model.embedding[tokens[:, :-1]], lengths, count)
    wanted = tokens[:, -count:, None]
    assert -found.gather(2, wanted).mean() < 1.5


def test_training_begins_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(character_training, "STEPS", 60)
    text = character_training.read_text()[:30_000]
    _, losses = character_training.train(text, "".join(sorted(set(text))), 0)
    assert losses["held_out"] < 3.2


def test_longer_texts_than_the_context_are_refused(model: LlamaModel) -> None:
    texts, lengths = random_texts(model, 2, 81)
    with pytest.raises(ValueError, match="got texts of 81 tokens; allowed for character: 80"):
        model.log_probabilities(texts, lengths)
