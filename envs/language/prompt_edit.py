"""Prompts of fixed length, of which one token is replaced at a time."""

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
    from separatrix.envs.language.prompt_environment import EditEnvironment


class PromptEdit:
    """Make a language model continue a text with a given token, by editing a prompt.

    ## Description
    The plant is a frozen language model that says how likely each token is to follow a text. Before
    the text stands a prompt of fixed length, at first of random tokens; each step replaces one of
    them. Greedy coordinate gradient, which looks for the best replacement among those that a
    gradient proposes, is a policy of this environment. It is deterministic but for the start.

    ## Action space
    Two choices: the position in the prompt, and one of the candidates, by default all tokens of the
    vocabulary. A token that may not be written, which is one of the target, or no text, changes
    nothing; `allowed_actions` of the environment tells which may.

    ## Observation space
    | Num | Name            | Min   | Max  | Unit                                         |
    |-----|-----------------|-------|------|----------------------------------------------|
    | 0   | log probability | -10   | 0.01 | 10 nats, of the target                       |
    | 1   | log rank        | 0     | 2.2  | 5 nats, of the target among all tokens       |
    | 2   | entropy         | -0.01 | 5.4  | 2 nats, of the next token                    |
    | 3   | margin          | -10   | 0.01 | 10 nats, target against the likeliest token  |
    | 4   | divergence      | 0     | 50   | 2 nats, from the next token without control  |

    The bounds of 1 and 2 are those of a vocabulary of 49,152; they go with its logarithm. With
    `observation="tokens"` text, prompt and target follow, each token divided by the size of the
    vocabulary, below 0 where there is none.

    ## Reward
    `gain`: the gain in the logarithm of the target's probability in nats, taken as 0 once the
    target is hit, and 1 for the hit; so a hit returns 1 less the logarithm at the start, whatever
    the way. `hit`: 1 for the hit. Replacing a token costs nothing: the prompt grows no longer.

    ## Starting state
    A text that begins anywhere in the source, its target, and a prompt of tokens that may be
    written, each drawn uniformly.

    ## Episode end
    Terminated when the model's likeliest token is the target's, of each token of it. Truncated
    after 20 steps.

    ## Metrics
    `hit` (1 on a hit), `log_probability`, `log_rank`, `entropy`, `margin`, `divergence` (as
    observed, in nats), `written` (0), `forward_tokens` (that the model read).

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
    Prompt: `prompt_length` (4 tokens), `place` ("before" the text, or "after" it).
    Terms: `candidates` (how many tokens may be written, drawn once; None for the whole
    vocabulary), `forbid_target` (True: nobody writes the target), `observation` ("features", or
    "tokens" to see the tokens as well), `reward` ("gain", or "hit"), `price` (0, to 1000: reward
    that a written token costs).

    ## References
    A. Bhargava, C. Witkowski, S.-Z. Looi, M. Thomson, What's the magic word? A control theory of
    LLM prompting, arXiv:2310.04444: the plant, reachable outputs, and prompts of up to k tokens.
    A. Zou et al., Universal and transferable adversarial attacks on aligned language models,
    arXiv:2307.15043: greedy coordinate gradient.

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
) -> EditEnvironment:
    """Makes the environment, see `Registration`."""
    from separatrix.envs.language.prompt_environment import EditEnvironment

    system = make_prompt_system(options, num_envs, device, dtype, backend, appends=False)
    return EditEnvironment(system, make_terms(options), horizon)


register(
    "PromptEdit-v0",
    build,
    horizon=20,
    summary="Replace tokens of a prompt until a language model says the target",
    options={**INSTANCES, **PROMPT, **TERMS},
    documented=PromptEdit,
    states=1,
    controls=2,
    backends=("torch",),
)
