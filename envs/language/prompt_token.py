"""Prompts that are written token by token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import register
from separatrix.envs.language.building import (
    INSTANCES,
    PROMPT,
    TERMS,
    make_prompt_system,
    make_terms,
)

if TYPE_CHECKING:
    from separatrix.envs.language.prompt_environment import TokenEnvironment


class PromptToken:
    """Make a language model continue a text with a given token, by words in front of it.

    ## Description
    The plant is a frozen language model that says how likely each token is to follow a text. In
    each step one token is written: in front of the prompt that stands before the text, as one
    writes a system prompt backwards, or at the end of one that stands after it. The prompt is
    right as soon as the model's likeliest next token is the target. Greedy back-generation, which
    always writes the token that makes the target likeliest, is a policy of this environment.

    The default plant is a transformer over characters with 350 thousand parameters, so small that
    all prompts of one or two characters can be tried. It is deterministic.

    ## Action space
    One of the candidates, by default all tokens of the vocabulary. A token that may not be written,
    which is one of the target, or no text, writes nothing; `allowed_actions` of the environment
    tells which may.

    ## Observation space
    | Num | Name            | Min   | Max  | Unit                                         |
    |-----|-----------------|-------|------|----------------------------------------------|
    | 0   | log probability | -10   | 0.01 | 10 nats, of the target                       |
    | 1   | log rank        | 0     | 2.2  | 5 nats, of the target among all tokens       |
    | 2   | entropy         | -0.01 | 5.4  | 2 nats, of the next token                    |
    | 3   | margin          | -10   | 0.01 | 10 nats, target against the likeliest token  |
    | 4   | divergence      | 0     | 50   | 2 nats, from the next token without control  |
    | 5   | left            | 0     | 1    | share of the prompt that is not written yet  |

    The bounds of 1 and 2 are those of a vocabulary of 49,152; they go with its logarithm. With
    `observation="tokens"` text, prompt and target follow, each token divided by the size of the
    vocabulary, below 0 where there is none.

    ## Reward
    `gain`: the gain in the logarithm of the target's probability in nats, taken as 0 once the
    target is hit, and 1 for the hit, less the `price` of a written token; so a hit returns 1 less
    the logarithm at the start, whatever the way. `hit`: 1 for the hit, less the price.

    ## Starting state
    A text that begins anywhere in the source, its target, and no prompt.

    ## Episode end
    Terminated when the model's likeliest token is the target's, of each token of it. Truncated
    after 4 steps. A prompt of `prompt_length` tokens grows no longer.

    ## Metrics
    `hit` (1 on a hit), `log_probability`, `log_rank`, `entropy`, `margin`, `divergence` (as
    observed, in nats), `written` (1 if a token was), `forward_tokens` (that the model read).

    ## Arguments
    Plant: `model` ("character", or "smollm2", or the folder or name of a model of transformers),
    `sink` (token in front of everything: "auto" for the one that the model is used to, None, or a
    token).
    Texts: `texts` ("sentences" of our own, "python" for the documentation of Python's topics, or
    the path of a text file), `text_length` (16 tokens), `fixed_text` (one text for all; None),
    `target` ("top": one of the `target_rank` (20) likeliest but the likeliest; "truth": what
    follows in the source; "uniform": a rank drawn from all; "random": any token; "distribution":
    what the model says behind another text, from which its divergence then takes the place of the
    negative logarithm of the target's probability, with a hit up to `tolerance` (0.1 nats)),
    `target_length` (1; more for "truth" and "random"), `fixed_target` (None).
    Prompt: `prompt_length` (4 tokens, at most), `place` ("before" the text, or "after" it).
    Terms: `candidates` (how many tokens may be written, drawn once; None for the whole
    vocabulary), `forbid_target` (True: nobody writes the target), `observation` ("features", or
    "tokens" to see the tokens as well), `reward` ("gain", or "hit"), `price` (0, to 1000: reward
    that a written token costs).

    ## References
    A. Bhargava, C. Witkowski, S.-Z. Looi, M. Thomson, What's the magic word? A control theory of
    LLM prompting, arXiv:2310.04444: the plant, reachable outputs, and prompts of up to k tokens.
    Their experiments put prompts before texts of 8 to 32 tokens.

    ## Version history
    - v0: first version.
    """


def build(
    *,
    num_envs: int,
    device: Any,
    dtype: Any,
    backend: str,
    horizon: int,
    options: Mapping[str, Any],
) -> TokenEnvironment:
    """Makes the environment, see `Registration`."""
    from separatrix.envs.language.prompt_environment import TokenEnvironment

    system = make_prompt_system(options, num_envs, device, dtype, backend, appends=True)
    return TokenEnvironment(system, make_terms(options), horizon)


register(
    "PromptToken-v0",
    build,
    horizon=4,
    summary="Write a prompt token by token until a language model says the target",
    options={**INSTANCES, **PROMPT, **TERMS},
    documented=PromptToken,
    states=1,
    controls=1,
    backends=("torch",),
)
