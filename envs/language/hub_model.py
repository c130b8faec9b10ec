"""Plants that are models of the package transformers, from a folder or from its local cache."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from separatrix.envs.language.language_model import LanguageModel, last
from separatrix.envs.language.llama import find_writable

EXTRA = "pip install 'separatrix[llm]'"


class HubModel(LanguageModel):
    """A causal language model of transformers; nothing is downloaded.

    Args:
        name: Folder of a model, or its name on the Hugging Face hub, from where it was downloaded.
        device: Where it is to be.
        dtype: Type of its real numbers.

    Raises:
        ImportError: The package transformers is missing; the message says what brings it.
        ValueError: There is no such model here; the message says what brings it.
    """

    def __init__(self, name: str, device: torch.device | str, dtype: torch.dtype) -> None:
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise ImportError(f"the package transformers is missing; {EXTRA} brings it") from error
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                name, dtype=dtype, local_files_only=True
            )
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(
                f"model: got {name!r}; allowed: character, smollm2, the folder of a model of "
                f"transformers, or the name of one that `hf download {name}` has brought here"
            ) from error
        self._model = model.to(device)
        self._model.eval().requires_grad_(False)
        self.name, self.device, self.dtype = name, torch.device(device), dtype
        self.context = model.config.max_position_embeddings
        self.sink = self._tokenizer.bos_token_id
        # Beyond the tokenizer's vocabulary there may be rows that only fill the matrix up.
        self.embedding = self._model.get_input_embeddings().weight.detach()
        known = len(self._tokenizer)
        writable = torch.zeros(len(self.embedding), dtype=torch.bool)
        writable[:known] = find_writable(self, known)
        writable[self._tokenizer.all_special_ids] = False
        self.writable = writable.to(device)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text."""
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens."""
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def log_probabilities_of(
        self,
        embeddings: Float[Tensor, "batch tokens width"],
        lengths: Int64[Tensor, " batch"],
        count: int = 1,
    ) -> Float[Tensor, "batch count vocabulary"]:
        """Returns the logarithms of the probabilities of next tokens, differentiably."""
        embeddings = embeddings[:, : int(lengths.max())]
        found = self._model.base_model(
            inputs_embeds=embeddings,
            attention_mask=_mask(lengths, embeddings.shape[1]),
            use_cache=False,
        )
        return self._heads(found.last_hidden_state, lengths, count)

    def remember(self, tokens: Int64[Tensor, " tokens"]) -> Any:
        """Reads a text once, with which others begin."""
        with torch.no_grad():
            found = self._model.base_model(input_ids=tokens[None], use_cache=True)
        return found.past_key_values

    def log_probabilities_after(
        self,
        memory: Any,
        tokens: Int64[Tensor, "batch tokens"],
        lengths: Int64[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocabulary"]:
        """Does what `log_probabilities` does for texts behind one that was read before."""
        memory, known = copy.deepcopy(memory), memory.get_seq_length()
        memory.batch_repeat_interleave(len(tokens))
        with torch.no_grad():
            found = self._model.base_model(
                input_ids=tokens,
                attention_mask=_mask(lengths + known, tokens.shape[1] + known),
                past_key_values=memory,
                use_cache=True,
            )
            return self._heads(found.last_hidden_state, lengths, 1)[:, 0]

    def begin(self, tokens: Int64[Tensor, "batch begin"], room: int) -> Int64[Tensor, "batch room"]:
        """Remembers texts as they are: models differ in what else they can remember."""
        return pad(tokens, (0, room - tokens.shape[1]))

    def go_on(
        self,
        memory: Int64[Tensor, "batch room"],
        known: Int64[Tensor, " batch"],
        tokens: Int64[Tensor, "batch tokens"],
    ) -> tuple[Float[Tensor, "batch tokens vocabulary"], Int64[Tensor, "batch room"]]:
        """Reads texts anew, with what stands behind them."""
        count = tokens.shape[1]
        place = known[:, None] + torch.arange(count, device=known.device)
        memory = memory.scatter(1, place, tokens)
        with torch.no_grad():
            found = self.log_probabilities_of(self.embedding[memory], known + count, count)
        return found, memory

    def _heads(
        self, found: Float[Tensor, "batch tokens width"], lengths: Tensor, count: int
    ) -> Float[Tensor, "batch count vocabulary"]:
        logits: Tensor = self._model.get_output_embeddings()(last(found, lengths, count))
        return logits.log_softmax(-1)


def _mask(lengths: Int64[Tensor, " batch"], tokens: int) -> Int64[Tensor, "batch tokens"]:
    return (torch.arange(tokens, device=lengths.device) < lengths[:, None]).long()
