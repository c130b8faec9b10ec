"""Texts that a controller and a language model write in turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.number_options import read_number_options
from separatrix.envs.core.registration import register
from separatrix.envs.language.building import INSTANCES, TERMS, make_instances, make_terms
from separatrix.envs.language.checks import read_count

if TYPE_CHECKING:
    from separatrix.envs.language.dialogue import DialogueEnvironment

TEMPERATURE = {"temperature": (1.0, 0.0, 1000.0)}
TURNS = 12
TEXTS = {name: default for name, default in INSTANCES.items() if name != "tolerance"}
"""Options of texts and targets; no target is a distribution."""


class PromptDialogue:
    """Make a language model write a given token, by writing into its text as it goes on.

    ## Description
    The language-model system of Bhargava et al., definition 1: a text grows by one token a step.
    The controller writes it, or yields; then the model writes one that it draws from its own
    distribution at a temperature. What counts is what the model writes: that the controller writes
    the target itself is no solution. The only stochastic one of these environments: a controller
    that looks at what the model has written can do better than one that has made up its mind.

    ## Action space
    One of the candidates, by default all tokens of the vocabulary, or, as the last choice, to
    yield. A token that may not be written, which is one of the target, or no text, yields as well;
    `allowed_actions` of the environment tells which may.

    ## Observation space
    | Num | Name            | Min   | Max  | Unit                                         |
    |-----|-----------------|-------|------|----------------------------------------------|
    | 0   | log probability | -10   | 0.01 | 10 nats, of the target                       |
    | 1   | log rank        | 0     | 2.2  | 5 nats, of the target among all tokens       |
    | 2   | entropy         | -0.01 | 5.4  | 2 nats, of the next token                    |
    | 3   | margin          | -10   | 0.01 | 10 nats, target against the likeliest token  |
    | 4   | divergence      | 0     | 50   | 2 nats, from the next token without control  |
    | 5   | left            | 0     | 1    | share of `turns` that is left                |

    The bounds of 1 and 2 are those of a vocabulary of 49,152; they go with its logarithm. With
    `observation="tokens"` the text and the target follow, each token divided by the size of the
    vocabulary, below 0 where there is none.

    ## Reward
    `gain`: the gain in the logarithm of the target's probability in nats, taken as 0 once the
    target is written, and 1 for that, less the `price` of a token of the controller. `hit`: 1 when
    the target is written, less the price.

    ## Starting state
    A text that begins anywhere in the source, and its target.

    ## Episode end
    Terminated when the last tokens that the model has written, as many as the target has, are the
    target. Truncated after 12 steps. Behind `turns` tokens the last one is replaced.

    ## Metrics
    `hit` (1 when the target is written), `log_probability`, `log_rank`, `entropy`, `margin`,
    `divergence` (as observed, in nats), `written` (1 if the controller wrote), `forward_tokens`
    (that the model read).

    ## Arguments
    Plant: `model` ("character", or "smollm2", or the folder or name of a model of transformers),
    `sink` (token in front of everything: "auto" for the one that the model is used to, None, or a
    token).
    Texts: `texts` ("sentences" of our own, "python" for the documentation of Python's topics, or
    the path of a text file), `text_length` (16 tokens), `fixed_text` (one text for all; None),
    `target` ("top": one of the `target_rank` (20) likeliest but the likeliest; "truth": what
    follows in the source; "uniform": a rank drawn from all; "random": any token),
    `target_length` (1; more for "truth" and "random"), `fixed_target` (None).
    Dialogue: `temperature` (1; 0 for the likeliest token, to 1000), `turns` (12 tokens, at most).
    Terms: `candidates` (how many tokens may be written, drawn once; None for the whole
    vocabulary), `forbid_target` (True: nobody writes the target), `observation` ("features", or
    "tokens" to see the tokens as well), `reward` ("gain", or "hit"), `price` (0, to 1000: reward
    that a written token costs).

    ## References
    A. Bhargava, C. Witkowski, S.-Z. Looi, M. Thomson, What's the magic word? A control theory of
    LLM prompting, arXiv:2310.04444: the plant, reachable outputs, and prompts of up to k tokens.
    Definition 1 is of a text that controls are written into.

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
) -> DialogueEnvironment:
    """Makes the environment, see `Registration`."""
    from separatrix.envs.language.dialogue import DialogueEnvironment, DialogueSystem

    temperature = read_number_options(options, TEMPERATURE)["temperature"]
    instances = make_instances(options, "after", device, dtype, backend)
    if instances.by_distribution:
        raise ValueError("target: got 'distribution'; allowed: tokens, which the model is to write")
    turns = read_count("turns", options.get("turns", TURNS))
    system = DialogueSystem(instances, temperature, turns, num_envs)
    return DialogueEnvironment(system, make_terms(options), horizon)


register(
    "PromptDialogue-v0",
    build,
    horizon=12,
    summary="Write into a text until a language model, drawing its tokens, writes the target",
    options={**TEXTS, "temperature": TEMPERATURE["temperature"][0], "turns": TURNS, **TERMS},
    documented=PromptDialogue,
    states=1,
    controls=1,
    backends=("torch",),
)
