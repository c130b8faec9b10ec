"""Prompts of vectors, moved by continuous actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.number_options import read_number_options
from separatrix.envs.core.registration import register
from separatrix.envs.language.building import INSTANCES, PRICE, make_instances
from separatrix.envs.language.checks import read_count, read_count_or_none, read_word

if TYPE_CHECKING:
    from separatrix.envs.core.environment import ComposedEnvironment

PROMPT_LENGTH = 2
NUMBERS = {**PRICE, "authority": (0.5, 1e-3, 100.0)}
OBSERVATIONS = ("vectors", "features")


class SoftPrompt:
    """Make a language model continue a text with a given token, by vectors in front of it.

    ## Description
    The plant is a frozen language model that says how likely each token is to follow a text. Before
    the text stand vectors where tokens would have their embeddings; an action moves all of them.
    Vectors can do whatever tokens can, so that what they do not reach no prompt of as many tokens
    reaches, and they are differentiable from end to end. It is deterministic.

    ## Action space
    | Num | Name | Min | Max | Unit                                                    |
    |-----|------|-----|-----|---------------------------------------------------------|
    | all | move | -1  | 1   | `authority` times the root mean square of embeddings    |

    One for each component of each vector: 2 times 96 for the default plant. Or, with `directions`,
    one for each of so many principal directions of the embeddings, for each vector.

    ## Observation space
    | Num | Name            | Min   | Max  | Unit                                         |
    |-----|-----------------|-------|------|----------------------------------------------|
    | 0   | log probability | -10   | 0.01 | 10 nats, of the target                       |
    | 1   | log rank        | 0     | 2.2  | 5 nats, of the target among all tokens       |
    | 2   | entropy         | -0.01 | 5.4  | 2 nats, of the next token                    |
    | 3   | margin          | -10   | 0.01 | 10 nats, target against the likeliest token  |
    | 4   | divergence      | 0     | 50   | 2 nats, from the next token without control  |
    | 5 on | vectors        | -100  | 100  | root mean square of embeddings               |

    The bounds of 1 and 2 are those of a vocabulary of 49,152; they go with its logarithm. With
    `observation="features"` the vectors are left out.

    ## Reward
    The gain in the logarithm of the target's probability in nats, and 1 for a hit, less `price`
    times the mean square of the action. A diverged environment gets the lowest.

    ## Starting state
    A text that begins anywhere in the source, its target, and vectors that are the mean of all
    embeddings.

    ## Episode end
    Terminated when the model's likeliest token is the target's, of each token of it, or by
    divergence: a component above 100 times the root mean square of embeddings. Truncated after 20
    steps.

    ## Metrics
    `hit` (1 on a hit), `log_probability`, `log_rank`, `entropy`, `margin`, `divergence` (as
    observed, in nats), `energy` (mean square of the action).

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
    Prompt: `prompt_length` (2 vectors), `directions` (None), `authority` (0.5,
    from 0.001 to 100).
    Terms: `observation` ("vectors", or "features"), `price` (0, to 1000).

    ## References
    A. Bhargava, C. Witkowski, S.-Z. Looi, M. Thomson, What's the magic word? A control theory of
    LLM prompting, arXiv:2310.04444: the plant, reachable outputs, and prompts of up to k tokens.
    B. Lester, R. Al-Rfou, N. Constant, The power of scale for parameter-efficient prompt tuning,
    EMNLP (2021): prompts of vectors.

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
) -> ComposedEnvironment:
    """Makes the environment, see `Registration`."""
    from separatrix.envs.core.environment import ComposedEnvironment
    from separatrix.envs.language.soft_system import SoftPromptSystem, SoftPromptTask, draw_soft

    directions = read_count_or_none("directions", options.get("directions"))
    observation = options.get("observation", OBSERVATIONS[0])
    read_word("observation", observation, OBSERVATIONS)
    length = read_count("prompt_length", options.get("prompt_length", PROMPT_LENGTH))
    numbers = read_number_options(options, NUMBERS)
    system = SoftPromptSystem(
        make_instances(options, "before", device, dtype, backend), length, num_envs
    )
    task = SoftPromptTask(system, directions, numbers["authority"], observation, numbers["price"])
    return ComposedEnvironment(system, task, horizon, draw_soft)


register(
    "SoftPrompt-v0",
    build,
    horizon=20,
    summary="Move vectors in front of a text until a language model says the target",
    options={
        **INSTANCES,
        "prompt_length": PROMPT_LENGTH,
        "directions": None,
        "observation": OBSERVATIONS[0],
        **{name: default for name, (default, _, _) in NUMBERS.items()},
    },
    documented=SoftPrompt,
    states=192,
    controls=192,
    backends=("torch",),
)
