"""The schema of an experiment: which environment, which agent, for how long, evaluated how.

An experiment is data: `configs/experiment/<name>.yaml` holds one, the command line changes it, and
every run folder keeps the resolved one. `separatrix.agents.common.configuration` reads it.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Lt
from pydantic import ConfigDict, Discriminator

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.stable_baselines3.config import ModelFreeConfig
from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.offline.config import OfflineConfig
from separatrix.agents.sindy_rl.config import SindyRLConfig
from separatrix.envs.core.wrappers import Wrapper

OptionValue = bool | int | float | str | list[float] | list[str] | list[list[float]]
"""A system parameter (one number, or one for each environment) or an option of the task."""

AgentConfig = (
    ModelFreeConfig
    | SindyRLConfig
    | AnalyticPolicyConfig
    | HyperCRLConfig
    | OfflineConfig
    | GroupRelativeConfig
)
"""The agents that an experiment can name."""

Wrappers = tuple[Annotated[Wrapper, Discriminator("kind")], ...]
"""Wrappers of `separatrix.envs.core.wrappers`; their `kind` says which ones."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """The environments an agent trains on."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    """Registered id, such as separatrix/Lorenz-v0."""

    num_envs: Annotated[int, Ge(1)] = 1
    """How many environments train side by side."""

    device: str = "cpu"
    """Device of the environments and the networks, such as cpu or cuda."""

    options: dict[str, OptionValue] = field(default_factory=dict)
    """Parameters of the system and options of the task; the rest keeps its default."""

    wrappers: Wrappers = ()
    """What stands between agent and physics, in order; each with its kind, such as action_delay."""

    def arguments(self) -> dict[str, Any]:
        """Arguments of `make_environment` and `gymnasium.make_vec` but for the number."""
        return {"device": self.device, "wrap": self.wrappers, **self.options}


@dataclass(frozen=True)
class EvaluationConfig:
    """How a policy is evaluated, while it trains and afterwards."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    episodes: Annotated[int, Ge(2)] = 32
    """Episodes of each evaluation, run as one batch."""

    every: Annotated[int, Ge(0)] = 0
    """Environment steps, of an offline agent gradient updates, between evaluations during training;
    0 evaluates at the end only."""

    seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    """Seed of the evaluation episodes: runs that share it are compared on the same episodes."""


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that determines a run."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    environment: EnvironmentConfig
    """The environments."""

    agent: Annotated[AgentConfig, Discriminator("algorithm")]
    """The agent; its `algorithm` says which one."""

    total_steps: Annotated[int, Ge(1)]
    """Environment steps to train for, summed over the environments; of an offline agent gradient
    updates."""

    seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    """Seed of the run: networks, exploration and training episodes."""

    checkpoint_every: Annotated[int, Ge(1)] = 50_000
    """Environment steps, of an offline agent gradient updates, between checkpoints; the last step
    always has one."""

    threads: Annotated[int, Ge(1)] = 1
    """Threads of torch on the CPU; networks as small as these train fastest on one."""

    evaluation: EvaluationConfig = EvaluationConfig()
    """How the policy is evaluated."""
